from __future__ import annotations

import subprocess
import sys

import pytest

from calibnet_core import __version__, cli
from calibnet_core.config import ConfigError
from calibnet_core.data.bags import BagError
from calibnet_core.structures import FrameError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_lists_the_commands_without_loading_what_is_slow() -> None:
    done = run_python(
        "import sys\n"
        "from calibnet_core.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'torchvision', 'cv2', 'rosbags', 'rich', 'PIL', 'pycocotools'}\n"
        "print('loaded', sorted(slow & sys.modules.keys()))"
    )
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout
    assert "convert-weights" in done.stdout
    assert "loaded []" in done.stdout


def test_the_version_is_that_of_the_package(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == f"calibnet {__version__}"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["predict"], ["predict", "a", "--speed"]])
def test_wrong_usage_ends_with_code_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: calibnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        FrameError("frame; mend it"),
        BagError("bag; mend it"),
        ConfigError("key; mend it"),
    ],
)
def test_expected_errors_are_one_line_and_code_2(monkeypatch, capsys, error: Exception) -> None:
    monkeypatch.setattr("calibnet_core.commands.predict.run", _raising(error))
    assert cli.main(["predict", "x", "-o", "y"]) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_operating_system_errors_name_the_file(monkeypatch, capsys) -> None:
    error = PermissionError(13, "Permission denied", "/results/a.png")
    monkeypatch.setattr("calibnet_core.commands.predict.run", _raising(error))
    assert cli.main(["predict", "x", "-o", "y"]) == 2
    assert "error: /results/a.png: Permission denied; check" in capsys.readouterr().err


def test_faults_of_the_program_keep_their_traceback(monkeypatch) -> None:
    monkeypatch.setattr("calibnet_core.commands.predict.run", _raising(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["predict", "x", "-o", "y"])


def test_an_interruption_is_no_traceback(monkeypatch, capsys) -> None:
    monkeypatch.setattr("calibnet_core.commands.predict.run", _raising(KeyboardInterrupt()))
    assert cli.main(["predict", "x", "-o", "y"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def _raising(error: BaseException):
    def run(args: object) -> int:
        raise error

    return run
