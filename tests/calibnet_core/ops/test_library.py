from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from calibnet_core import ops
from calibnet_core.ops import library

REPORT = """
import json, logging, sys
logging.basicConfig(format="%(levelname)s %(message)s")
logging.getLogger("calibnet_core.ops").setLevel("INFO")
from calibnet_core import ops
info = ops.info()
print(json.dumps([str(info.library), info.cpu, info.cuda, info.reason]))
"""

needs_library = pytest.mark.skipif(
    library.find() is None, reason="the compiled kernels were not built"
)


def fresh_process(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Report from a process that finds the package in `folder` first."""
    clean = {name: value for name, value in os.environ.items() if name != library.SWITCH}
    return subprocess.run(
        [sys.executable, "-c", REPORT],
        env=clean | {"PYTHONPATH": str(folder)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy_of_package(tmp_path: Path) -> Path:
    """The library's Python alone, in a folder of its own."""
    source = Path(library.__file__).resolve().parents[1]
    shutil.copytree(
        source, tmp_path / "calibnet_core", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    return tmp_path


def place_library(folder: Path, content: Path | bytes) -> Path:
    target = folder / "calibnet_core" / "ops" / library.FILE_NAME
    if isinstance(content, Path):
        shutil.copy2(content, target)
    else:
        target.write_bytes(content)
    return target


@needs_library
def test_the_installed_kernels_run_and_say_what_they_are() -> None:
    info = ops.info()
    assert info.library is not None
    assert info.library.name == library.FILE_NAME
    assert info.cpu in {f"compiled ({isa})" for isa in ("AVX-512", "AVX2", "baseline")}
    assert str(info).startswith(f"deformable attention: CPU {info.cpu}, CUDA {info.cuda}")


@needs_library
@pytest.mark.parametrize(
    "operator",
    [
        "ms_deform_attn",
        "ms_deform_attn_backward",
        "ms_deform_attn_fused",
        "ms_deform_attn_fused_backward",
    ],
)
def test_every_operator_has_a_compiled_kernel_for_each_device_of_the_library(operator: str) -> None:
    def has_kernel(name: str, key: str) -> bool:
        return torch._C._dispatch_has_kernel_for_dispatch_key(f"calibnet::{name}", key)

    assert has_kernel(operator, "CPU")
    assert has_kernel(operator, "CUDA") == ops.info().cuda.startswith("compiled")


def test_the_deterministic_gradients_are_never_compiled() -> None:
    for operator in ("ms_deform_attn", "ms_deform_attn_fused"):
        for key in ("CPU", "CUDA"):
            assert not torch._C._dispatch_has_kernel_for_dispatch_key(
                f"calibnet::{operator}_backward_deterministic", key
            )


def test_the_switch_leaves_the_compiled_kernels_out(copy_of_package: Path) -> None:
    place_library(copy_of_package, b"not even looked at")
    run = fresh_process(copy_of_package, CALIBNET_OPS="eager")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [
        "None",
        "eager",
        "eager",
        "CALIBNET_OPS=eager leaves the compiled kernels out",
    ]
    assert "INFO deformable attention: CPU eager" in run.stderr


@needs_library
def test_an_empty_switch_is_none(copy_of_package: Path) -> None:
    found = library.find()
    assert found is not None
    target = place_library(copy_of_package, found)
    run = fresh_process(copy_of_package, CALIBNET_OPS="")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)[0] == str(target)


def test_an_unknown_value_of_the_switch_is_refused(copy_of_package: Path) -> None:
    run = fresh_process(copy_of_package, CALIBNET_OPS="fast")
    assert "CALIBNET_OPS is 'fast'; set it to 'eager' or leave it unset" in run.stderr


def test_a_library_that_does_not_load_is_an_error_that_says_how_to_mend_it(
    copy_of_package: Path,
) -> None:
    target = place_library(copy_of_package, b"no library")
    run = fresh_process(copy_of_package)
    assert run.returncode != 0
    assert f"ImportError: {target} does not load under torch {torch.__version__}" in run.stderr
    assert "Reinstall calibnet_ros in this environment, or set CALIBNET_OPS=eager" in run.stderr


@needs_library
def test_a_library_of_other_sources_is_refused(copy_of_package: Path) -> None:
    built = library.find()
    assert built is not None
    place_library(copy_of_package, built)
    source = copy_of_package / "calibnet_core" / "ops" / "library.py"
    text = source.read_text()
    source.write_text(text.replace(f"REVISION = {library.REVISION}", "REVISION = 99"))
    run = fresh_process(copy_of_package)
    assert f"built from other sources (revision {library.REVISION}, expected 99)" in run.stderr


@needs_library
def test_the_library_beside_the_sources_comes_before_an_installed_one(
    copy_of_package: Path,
) -> None:
    built = library.find()
    assert built is not None
    target = place_library(copy_of_package, built)
    run = fresh_process(copy_of_package)
    assert json.loads(run.stdout)[0] == str(target)
    assert "INFO deformable attention: CPU compiled" in run.stderr


def test_without_a_library_one_warning_says_that_the_eager_kernels_run(
    copy_of_package: Path,
) -> None:
    # Any installed copy has to be out of sight of the search alone, not of Python.
    source = copy_of_package / "calibnet_core" / "ops" / "library.py"
    source.write_text(source.read_text().replace("for entry in sys.path", "for entry in ()"))
    run = fresh_process(copy_of_package)
    assert run.returncode == 0, run.stderr
    library_path, cpu, cuda, reason = json.loads(run.stdout)
    assert (library_path, cpu, cuda) == ("None", "eager", "eager")
    assert "was not built" in reason
    warnings = [line for line in run.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert (
        "Reinstall where a C++ compiler, CMake and torch 2.11 or newer are present" in warnings[0]
    )


@needs_library
def test_the_library_asks_torch_for_its_stream_by_a_name_that_is_there() -> None:
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA")
    loaded = ctypes.CDLL("libtorch_cuda.so", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    assert loaded.aoti_torch_get_current_cuda_stream is not None
