"""The build of the compiled kernels, as any machine with the compilers does it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from calibnet_core.ops import library

SOURCE = Path(library.__file__).resolve().parent
TORCH = Path(torch.__file__).parent

TARGETS = (75, 80, 86, 87, 89, 90, 100, 110, 120)

# The most registers that a kernel of each kind takes on any target: (direction, kind, value type).
# Kinds: `known` sizes, any size in 16-byte `vectors`, any size in `scalars`. More than recorded is
# a step back in how many warps fit on a processor; less is a reason to lower the record.
RECORDED_REGISTERS = {
    ("forward", "known", "float"): 64,
    ("forward", "known", "__half"): 70,
    ("forward", "known", "__nv_bfloat16"): 70,
    ("forward", "vectors", "float"): 64,
    ("forward", "vectors", "__half"): 72,
    ("forward", "vectors", "__nv_bfloat16"): 72,
    ("forward", "vectors", "double"): 72,
    ("forward", "scalars", "float"): 48,
    ("forward", "scalars", "__half"): 48,
    ("forward", "scalars", "__nv_bfloat16"): 48,
    ("forward", "scalars", "double"): 62,
    ("backward", "known", "float"): 92,
    ("backward", "known", "__half"): 102,
    ("backward", "known", "__nv_bfloat16"): 96,
    ("backward", "vectors", "float"): 113,
    ("backward", "vectors", "__half"): 126,
    ("backward", "vectors", "__nv_bfloat16"): 122,
    ("backward", "vectors", "double"): 160,
    ("backward", "scalars", "float"): 97,
    ("backward", "scalars", "__half"): 99,
    ("backward", "scalars", "__nv_bfloat16"): 99,
    ("backward", "scalars", "double"): 122,
}

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("cmake") and shutil.which("c++")),
        reason="building needs CMake and a C++ compiler",
    ),
]
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc to compile for CUDA")


def cmake(build: Path, *options: str, torch_folder: Path = TORCH) -> str:
    """Configure and build in `build`; returns everything that was printed."""
    output = ""
    for step in (
        ["-S", str(SOURCE), "-B", str(build), f"-DCALIBNET_TORCH={torch_folder}", *options],
        ["--build", str(build), "--verbose"],
    ):
        run = subprocess.run(
            ["cmake", *step],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        output += run.stdout
        assert run.returncode == 0, output[-5000:]
    return output


@pytest.fixture(scope="module")
def cpu_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels for the CPU alone, with warnings as errors."""
    build = tmp_path_factory.mktemp("cpu")
    cmake(build, "-DCALIBNET_BUILD_OPS=cpu", "-DCALIBNET_OPS_STRICT=ON")
    return build / library.FILE_NAME


@pytest.fixture(scope="module")
def full_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The kernels for all targets, with warnings as errors; library and the compilers' report."""
    build = tmp_path_factory.mktemp("full")
    output = cmake(build, "-DCALIBNET_OPS_STRICT=ON")
    return build / library.FILE_NAME, output


def loaded_from(path: Path, folder: Path) -> list[str]:
    """What a fresh process says that has this library beside the package's sources."""
    package = folder / "calibnet_core"
    shutil.copytree(SOURCE.parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy2(path, package / "ops" / library.FILE_NAME)
    code = (
        "import json; from calibnet_core import ops; "
        "print(json.dumps([ops.info().cpu, ops.info().cuda]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer: list[str] = json.loads(run.stdout)
    return answer


@pytest.mark.slow
def test_the_cpu_kernels_build_without_warnings_and_without_nvcc(
    cpu_build: Path, tmp_path: Path
) -> None:
    cpu, cuda = loaded_from(cpu_build, tmp_path)
    assert cpu.startswith("compiled (")
    assert cuda == "eager"


@pytest.mark.slow
def test_the_library_needs_nothing_of_python_or_cuda(cpu_build: Path) -> None:
    needed = set(re.findall(r"NEEDED.*\[(\S+?)\]", readelf("-d", cpu_build)))
    assert needed <= {
        "libtorch_cpu.so",
        "libc10.so",
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libm.so.6",
        "libc.so.6",
        "ld-linux-x86-64.so.2",
    }
    # The stable interface is plain C; a C++ symbol of torch's would tie the library to one version.
    undefined = re.findall(r"UND (\S+)", readelf("-sW", cpu_build))
    assert [name for name in undefined if re.match(r"_ZNK?(2at|3c10|5torch)", name)] == []


def readelf(option: str, path: Path) -> str:
    return subprocess.run(
        ["readelf", option, str(path)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
@needs_nvcc
def test_cuda_kernels_build_for_every_target_without_spilling(full_build: tuple[Path, str]) -> None:
    _, output = full_build
    known = subprocess.run(
        ["nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {target for target in TARGETS if f"compute_{target}" in known}
    kernels = kernel_report(output)
    assert {target for _, target, _ in kernels} == wanted
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", output)
    assert len(spills) == len(kernels)
    assert set(spills) == {("0", "0")}
    assert f"compute_{max(wanted)},code=[compute_{max(wanted)}]" in output  # PTX for later devices


@pytest.mark.slow
@needs_nvcc
def test_no_cuda_kernel_takes_more_registers_than_recorded(full_build: tuple[Path, str]) -> None:
    most: dict[tuple[str, str, str], int] = {}
    for kind, _, registers in kernel_report(full_build[1]):
        most[kind] = max(most.get(kind, 0), registers)
    assert most.keys() == RECORDED_REGISTERS.keys()
    assert {k: n for k, n in most.items() if n > RECORDED_REGISTERS[k]} == {}


def kernel_report(output: str) -> list[tuple[tuple[str, str, str], int, int]]:
    """Kind, target and registers of every kernel that ptxas compiled."""
    entries = re.findall(
        r"Compiling entry function '(\S+)' for 'sm_(\d+)'.*?Used (\d+) registers", output, re.DOTALL
    )
    demangled = subprocess.run(
        ["c++filt"],
        input="\n".join(name for name, _, _ in entries),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    report = []
    for (_, target, registers), name in zip(entries, demangled, strict=True):
        parts = re.search(r"(forward|backward)_kernel<\w+, (\d+), \d+, \d+, (\d+), (\w+)", name)
        assert parts is not None, name
        direction, levels, width, value = parts.groups()
        kind = "known" if levels != "0" else "scalars" if width == "1" else "vectors"
        report.append(((direction, kind, value), int(target), int(registers)))
    return report


@pytest.mark.slow
@needs_nvcc
def test_the_full_library_loads_without_a_gpu_and_has_its_cuda_kernels(
    full_build: tuple[Path, str], tmp_path: Path
) -> None:
    cpu, cuda = loaded_from(full_build[0], tmp_path)
    assert cpu.startswith("compiled (")
    assert cuda.startswith("compiled (sm_75 ")
    assert re.search(r"PTX \d+\)$", cuda)


@pytest.mark.parametrize(
    ("option", "version", "said"),
    [
        ("off", "2.15.0", "switched off"),
        ("auto", "2.10.1+cpu", "torch 2.10 lacks the stable interface of 2.11"),
        ("auto", None, "no torch found, the eager kernels will run"),
    ],
)
def test_where_the_kernels_cannot_be_built_the_build_says_so_and_goes_on(
    tmp_path: Path, option: str, version: str | None, said: str
) -> None:
    fake_torch = tmp_path / "torch"
    fake_torch.mkdir()
    if version is not None:
        (fake_torch / "version.py").write_text(f"__version__ = '{version}'\n")
    output = cmake(tmp_path / "build", f"-DCALIBNET_BUILD_OPS={option}", torch_folder=fake_torch)
    assert said in " ".join(output.split())
    assert not (tmp_path / "build" / library.FILE_NAME).exists()


def test_an_old_nvcc_is_left_alone_and_the_build_says_so(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.0, V12.0.140'\n")
    nvcc.chmod(0o755)
    output = cmake(tmp_path / "build", f"-DCMAKE_CUDA_COMPILER={nvcc}")
    assert "is of CUDA '12.0', which lacks the atomic additions of 12.1" in " ".join(output.split())
    assert "calibnet_ops: CPU kernels" in output
    assert (tmp_path / "build" / library.FILE_NAME).exists()


def test_an_unknown_choice_of_kernels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        AssertionError, match="CALIBNET_BUILD_OPS is 'gpu'; choose auto, cpu or off"
    ):
        cmake(tmp_path, "-DCALIBNET_BUILD_OPS=gpu")


NASTY_CASES = """
import ctypes, itertools, math, sys, torch
functions = ctypes.CDLL(sys.argv[1])
from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
torch.manual_seed(0)
sizes = itertools.product(
    ([(1, 1)], [(3, 5)], [(7, 1), (1, 6)], [(5, 3), (2, 2), (1, 7), (3, 3), (1, 1)]),
    (1, 3, 8, 17, 33, 64),
    (torch.float32, torch.float64, torch.bfloat16, torch.float16),
)
bad = [math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**31), -1.0, 2.0, 0.0, 1.0]
for shapes, channels, dtype in sizes:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tokens = sum(h * w for h, w in shapes)
    value = torch.randn(2, tokens, 3, channels).to(dtype).requires_grad_()
    locations = torch.rand(2, tokens, 3, len(shapes), 2, 2).to(wide)
    flat = locations.view(-1)
    flat[torch.randint(flat.numel(), (flat.numel() // 2,))] = bad[channels % len(bad)]
    flat[: len(bad)] = torch.tensor(bad, dtype=wide)[: flat.numel()]
    weights = torch.rand(2, tokens, 3, len(shapes), 2).to(wide)
    packed = torch.cat((locations.flatten(2) * 50, weights.flatten(2)), -1)
    for tensor in (locations, weights, packed):
        tensor.requires_grad_()
    for isa in (2, 1, 0):
        functions.calibnet_ops_limit_cpu_isa(isa)
        for output in (
            ms_deform_attn(value, shapes, locations, weights),
            ms_deform_attn_fused(value, shapes, packed),
        ):
            assert output.isfinite().all()
            output.float().sum().backward()
print("every case survived")
"""


@pytest.mark.slow
def test_sanitizers_find_nothing_in_the_cpu_kernels(tmp_path: Path) -> None:
    runtime = subprocess.run(
        ["c++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("this compiler has no AddressSanitizer")
    cmake(tmp_path, "-DCALIBNET_BUILD_OPS=cpu", "-DCALIBNET_OPS_SANITIZE=ON")
    run = subprocess.run(
        [sys.executable, "-c", NASTY_CASES, str(tmp_path / library.FILE_NAME)],
        env=os.environ
        | {
            "PYTHONPATH": str(SOURCE.parents[1]),
            "CALIBNET_OPS": "eager",  # this build's kernels take their place
            "LD_PRELOAD": runtime,
            # Python leaks by design; torch catches bad allocations itself.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    assert run.stdout.strip() == "every case survived"
