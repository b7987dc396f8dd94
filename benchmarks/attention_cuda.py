"""Timing the operator on a GPU, and compiling the algorithm that it is compared with.

Calls are captured into a CUDA graph, so that launching them costs next to nothing, and timed with
events around its replays. They take turns on copies of the operands that together fill the second
level cache twice over; a second graph stays on one copy, as in a network, where the value tensor
has just been written. Clocks are left as they are and reported.
"""

from __future__ import annotations

import functools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.attention_cases import Operands
from benchmarks.measure import Run

SOURCE = Path(__file__).resolve().parent / "csrc" / "channel_per_thread.cu"
CALLS = 40
"""Calls in a graph, at least."""

Answer = Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class Prepared:
    """A contender ready to be timed.

    Attributes:
        cold: takes turns on the copies of the operands.
        warm: always works on the same copy.
        answer: what it computes, from memory that held no answer before.
    """

    cold: Run
    warm: Run
    answer: Answer


def event_stopwatch(execute: Callable[[], object]) -> dict[str, float]:
    """Time on the GPU between two events, in seconds."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    execute()
    end.record()
    end.synchronize()
    return {"gpu": start.elapsed_time(end) / 1e3}


def copies_beyond_cache(operands: Operands, device: torch.device) -> int:
    """How many copies of the operands fill the second level cache twice, also in a half type."""
    smallest = 2 * (operands.value.numel() + operands.packed.numel())
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(2, math.ceil(2 * cache / smallest))


def prepare(makers: Sequence[Callable[[], Callable[[], Answer]]], *, capturable: bool) -> Prepared:
    """Make a contender ready.

    Args:
        makers: one for each copy of the operands; makes the function that is timed.
        capturable: whether a graph can hold its calls; otherwise launches are timed as well.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # autograd goes back on the stream that it came on
        calls = [maker() for maker in makers]
        for call in calls:
            answer = call()
    torch.cuda.synchronize()
    turns = [calls[i % len(calls)] for i in range(CALLS + -CALLS % len(calls))]
    if not capturable:
        return Prepared(_plain(turns), _plain(turns[:1] * CALLS), answer)
    warm, _ = _capture(turns[:1] * CALLS, stream)
    cold, answer = _capture(turns, stream)
    for tensor in [answer] if isinstance(answer, Tensor) else answer:
        tensor.fill_(math.nan)
    cold.execute()
    torch.cuda.synchronize()
    return Prepared(cold, warm, answer)


def _plain(calls: Sequence[Callable[[], Answer]]) -> Run:
    def execute() -> None:
        for call in calls:
            call()

    return Run(execute, len(calls))


def _capture(
    calls: Sequence[Callable[[], Answer]], stream: torch.cuda.Stream
) -> tuple[Run, Answer]:
    """A graph of all calls, and the memory that the last one's answer will be in."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for call in calls:
            answer = call()
    return Run(functools.partial(_replay, graph, calls), len(calls)), answer


def _replay(graph: torch.cuda.CUDAGraph, calls: Sequence[Callable[[], Answer]]) -> None:
    """Replay a graph of `calls`, which hold the memory that it reads."""
    graph.replay()


def describe_device(device: torch.device) -> dict[str, str | int]:
    """The GPU, its driver, and the clocks it happened to have."""
    properties = torch.cuda.get_device_properties(device)
    described: dict[str, str | int] = {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_cache_bytes": properties.L2_cache_size,
        "cuda": str(torch.version.cuda),
    }
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    answers = ["unknown"] * len(fields)
    if shutil.which(command[0]):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode == 0:
            answers = [answer.strip() for answer in finished.stdout.split(",")]
    return described | dict(zip(fields, answers, strict=False)) | {"clocks": "left as they were"}


# --- the reference algorithm ----------------------------------------------------------------------


def find_nvcc() -> str | None:
    """CUDA's compiler, on the path or where CUDA installs itself."""
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def load_reference_algorithm(device: torch.device) -> str:
    """Compile and load it for the GPU at hand; returns why it cannot be, or nothing."""
    nvcc = find_nvcc()
    if nvcc is None:
        return "nvcc was not found"
    major, minor = torch.cuda.get_device_capability(device)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libchannel_per_thread.so"
        compile_reference_algorithm(nvcc, library, [10 * major + minor])
        torch.ops.load_library(str(library))
    return ""


def compile_reference_algorithm(nvcc: str, library: Path, architectures: Sequence[int]) -> None:
    """Compile `SOURCE` against the torch installed here, every warning an error.

    Raises:
        RuntimeError: the compiler refused; says what it said.
    """
    torch_folder = Path(torch.__file__).parent
    needed = ("torch_cuda", "torch_cpu", "c10")  # a torch for the CPU lacks the first
    command = [
        nvcc,
        *("-std=c++17", "-O3", "-shared", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall"),
        *("-Werror", "all-warnings", "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
        *("-isystem", str(torch_folder / "include"), f"-L{torch_folder / 'lib'}"),
        *(f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures),
        *("--threads", "0", "-o", str(library), str(SOURCE)),
        *(f"-l{name}" for name in needed if (torch_folder / "lib" / f"lib{name}.so").exists()),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(
            f"{SOURCE.name} does not compile: {(finished.stderr or finished.stdout)[-2000:]}"
        )
