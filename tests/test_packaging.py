"""Ways to build the package other than the wheel, which the tests run from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from tests.support.shared import REPOSITORY

NOT_SOURCES = (".*", "build", "install", "log", "*.egg-info", "*.so", "__pycache__", "demo_output")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the sources, for builds that write among them."""
    copy = tmp_path / "sources"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    return copy


def run(*command: str | Path, folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=clean | {"CALIBNET_BUILD_OPS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-5000:]
    return finished.stdout


def test_a_source_distribution_holds_all_that_the_build_reads(sources: Path) -> None:
    run(sys.executable, "setup.py", "-q", "sdist", folder=sources)
    (archive,) = (sources / "dist").iterdir()
    with tarfile.open(archive) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    folders = ("calibnet_core", "calibnet_ros", "config", "launch", "msg")
    needed = [path for folder in folders for path in (sources / folder).rglob("*")]
    needed += [sources / name for name in ("CMakeLists.txt", "package.xml", "setup.py")]
    assert {str(path.relative_to(sources)) for path in needed if path.is_file()} <= held


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")),
    reason="building needs CMake and a C++ compiler",
)
def test_an_editable_installation_has_the_compiled_kernels(sources: Path, tmp_path: Path) -> None:
    # In an environment that shows another one's packages, torch and pip among them.
    environment = tmp_path / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/*/site-packages")
    (packages / "shown.pth").write_text(sysconfig.get_path("purelib"))
    install = ["-m", "pip", "install", "--no-build-isolation", "--no-deps", "--ignore-installed"]
    run(python, *install, "-e", ".", folder=sources)
    report = "from calibnet_core.ops import info; print(info().library, info().cpu)"
    told = run(python, "-c", report, folder=sources)
    assert told.startswith(str(sources / "calibnet_core" / "ops" / "libcalibnet_ops.so"))
    assert "compiled" in told
