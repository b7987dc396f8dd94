from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import calibnet_core
from tests.support.shared import REPOSITORY


def run(script: str) -> str:
    """Output of a fresh interpreter that finds the sources of this repository."""
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_importing_the_package_loads_neither_torch_nor_opencv() -> None:
    script = (
        "import sys, calibnet_core; "
        "print(sorted({'torch', 'torchvision', 'timm', 'cv2', 'rclpy'} & sys.modules.keys()))"
    )
    assert run(script) == "[]"


def test_reading_a_configuration_needs_no_torch() -> None:
    script = (
        "import sys, calibnet_core; calibnet_core.load_config('config/pipeline.yaml'); "
        "print('torch' in sys.modules)"
    )
    assert run(script) == "False"


@pytest.mark.parametrize("name", calibnet_core.__all__)
def test_every_public_name_can_be_reached(name: str) -> None:
    assert getattr(calibnet_core, name) is not None


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Pipeline", "pipeline"),
        ("build_model", "models.build"),
        ("load_weights", "checkpoint"),
        ("save_weights", "checkpoint"),
        ("LoadReport", "checkpoint"),
    ],
)
def test_late_names_are_those_of_their_modules(name: str, module: str) -> None:
    source = importlib.import_module(f"calibnet_core.{module}")
    assert getattr(calibnet_core, name) is getattr(source, name)


def test_a_name_that_is_not_there_is_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'calibnet_core' has no attribute 'Piepline'"):
        _ = calibnet_core.Piepline  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'Piepline'"):
        from calibnet_core import Piepline  # type: ignore[attr-defined] # noqa: F401
