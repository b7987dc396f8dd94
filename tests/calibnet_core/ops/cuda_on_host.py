"""The GPU kernels' device code as a program of the host: building it and calling it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from calibnet_core.ops import eager, ms_deform_attn_reference

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "calibnet_core" / "ops" / "csrc"
FLAGS = [
    *("-std=c++17", "-O1", "-Wall", "-Werror"),
    "-Wno-unknown-pragmas",  # `#pragma unroll`
    "-fno-strict-aliasing",  # device code reads numbers 16 bytes at a time
]
# Not "undefined": its other checks would double the time of compilation.
MEMORY = [
    "-fsanitize=address,alignment,bounds,float-cast-overflow,integer-divide-by-zero,shift,"
    "signed-integer-overflow",
    "-fno-sanitize-recover=all",
]
RACES = ["-fsanitize=thread"]

TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
# Of the largest number that there should be; for half types, little more than rounding it takes.
TOLERANCES = {
    torch.float32: 1e-5,
    torch.float16: 6e-4,
    torch.bfloat16: 4.5e-3,
    torch.float64: 1e-12,
}
LEVELS = [(6, 9), (5, 4), (3, 3), (2, 1), (1, 1)]
LARGEST_SHARED_BYTES = 48 * 1024


# --- building -----------------------------------------------------------------------------------


def cuda_headers() -> Path | None:
    compiler = shutil.which("nvcc")
    folders = [Path("/usr/local/cuda/include")]
    if compiler is not None:
        folders.insert(0, Path(compiler).resolve().parents[1] / "include")
    return next((folder for folder in folders if (folder / "cuda_fp16.h").is_file()), None)


def compile_host(source: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    headers = cuda_headers()
    if shutil.which("g++") is None or headers is None:
        pytest.skip("needs g++ and CUDA's headers (cuda_fp16.h beside nvcc or in /usr/local/cuda)")
    command = ["g++", *FLAGS, f"-I{SOURCES}", f"-isystem{headers}", *flags, str(source)]
    return subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)


def build_program(folder: Path, sanitizer: list[str]) -> Path:
    """The kernels on hard cases as a program; skips where the sanitizer does not work at all."""
    trivial, program = folder / "trivial", folder / "program"
    (folder / "trivial.cpp").write_text("int main() { return 0; }\n")
    attempt = compile_host(folder / "trivial.cpp", trivial, *sanitizer)
    if attempt.returncode == 0:
        attempt = subprocess.run([trivial], capture_output=True, text=True)
    if attempt.returncode != 0:
        pytest.skip(f"no working {sanitizer[0]} here: {attempt.stderr[-200:]}")
    built = compile_host(
        HERE / "cuda_on_host.cpp", program, *sanitizer, "-g1", "-DCALIBNET_HOST_MAIN"
    )
    assert built.returncode == 0, built.stderr
    return program


def execute(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Fibers have stacks of their own, which the option's fake stacks would replace.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0"}
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, env=environment, timeout=200
    )
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the sanitizer does not cope with how the system randomises addresses")
    return done


# --- launching ----------------------------------------------------------------------------------


class Arguments(ctypes.Structure):
    """As in cuda_on_host.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "places", "mixing", "reference")),
        *((name, ctypes.c_void_p) for name in ("output", "grad_output", "grad_value")),
        *((name, ctypes.c_void_p) for name in ("grad_places", "grad_mixing", "level_shapes")),
        *((name, ctypes.c_int64) for name in ("batch", "tokens", "heads", "channels")),
        *((name, ctypes.c_int64) for name in ("queries", "points", "num_levels")),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_int32) for name in ("type", "fused", "backward", "wide")),
    )


class Report(ctypes.Structure):
    """As in cuda_on_host.cpp."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("group", "threads", "shared_bytes", "blocks")),
        *((name, ctypes.c_int32) for name in ("width", "specialised")),
        ("message", ctypes.c_char * 512),
    )


@dataclass(kw_only=True)
class Call:
    """One call of either operator. `places` are locations, or packed where `weights` is None."""

    value: Tensor
    shapes: list[tuple[int, int]]
    places: Tensor
    weights: Tensor | None
    reference: Tensor | None
    points: int
    grad_output: Tensor

    @property
    def flat_shapes(self) -> list[int]:
        return [side for shape in self.shapes for side in shape]


def make_call(
    dtype: torch.dtype,
    *,
    fused: bool,
    shapes: list[tuple[int, int]] = LEVELS[:2],
    batch: int = 2,
    queries: int = 3,
    heads: int = 3,
    channels: int = 32,
    points: int = 4,
    wide: bool = False,
    has_reference: bool = True,
    seed: int = 0,
) -> Call:
    """Random operands whose locations lie inside and outside, but not close to the grid lines.

    Bilinear reading has a kink there, where a rounded location may have another gradient.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)

    real = torch.float64 if dtype == torch.float64 else torch.float32
    flat = [side for shape in shapes for side in shape]
    value = uniform(-1.0, 1.0, batch, sum(h * w for h, w in shapes), heads, channels).to(dtype)
    reference = None
    if fused and has_reference:
        reference = uniform(-0.1, 1.1, batch, queries, 2).to(real)
        looks_from = reference.double()
    elif fused:
        looks_from = eager.grid_centres(flat, value.double()).expand(batch, -1, -1)
        queries = value.shape[1]
    else:
        looks_from = uniform(-0.1, 1.1, batch, queries, 2)
    cells = eager.cell_counts(flat, looks_from)
    start = looks_from.view(batch, queries, 1, 1, 1, 2) * cells - 0.5
    pixels = start + uniform(-3.0, 3.0, batch, queries, heads, len(shapes), points, 2)
    pixels = pixels.floor() + 0.2 + 0.6 * (pixels - pixels.floor())
    weights = None
    if fused:
        logits = uniform(-2.0, 2.0, batch, queries, heads * len(shapes) * points)
        places = torch.cat(((pixels - start).flatten(2), logits), -1).to(real if wide else dtype)
    else:
        places = ((pixels + 0.5) / cells).to(real)
        weights = uniform(-0.5, 1.0, *places.shape[:-1]).to(real)
    grad_output = uniform(-1.0, 1.0, batch, queries, heads * channels).to(dtype)
    return Call(
        value=value,
        shapes=shapes,
        places=places,
        weights=weights,
        reference=reference,
        points=points,
        grad_output=grad_output,
    )


def expected(call: Call) -> dict[str, Tensor]:
    """Output and gradients by the definition, in float64; what is no number counts as far away."""
    value, places = (tensor.double().requires_grad_() for tensor in (call.value, call.places))
    leaves = {"grad_value": value, "grad_places": places}
    if call.weights is None:
        reference = None if call.reference is None else call.reference.double()
        # Unpacking must meet finite numbers only, lest autograd multiplies zero by infinity.
        offsets = 2 * places.shape[-1] // 3
        far = torch.zeros_like(places, dtype=torch.bool)
        far[..., :offsets] = ~(places[..., :offsets].abs() < 1e6)
        shift = torch.where(far, -1e6, places)
        locations, weights = eager.unpack(value, call.flat_shapes, reference, shift)
    else:
        weights = call.weights.double().requires_grad_()
        leaves["grad_mixing"] = weights
        locations = torch.where(places.abs() < 1e6, places, -1e6)
    output = ms_deform_attn_reference(value, call.shapes, locations, weights)
    gradients = torch.autograd.grad(output, list(leaves.values()), call.grad_output.double())
    return {"output": output.detach(), **dict(zip(leaves, gradients, strict=True))}


def run(
    library: ctypes.CDLL, call: Call, *, backward: bool, seed: int = 1, shift: str = ""
) -> tuple[dict[str, Tensor], Report]:
    """What one launch wrote, which is NaN where it wrote nothing, and what was launched.

    The tensor called `shift` does not start at a multiple of 16 bytes.
    """
    batch, tokens, heads, channels = call.value.shape
    real = eager.compute_type(call.value)
    written = {}
    if backward:
        written["grad_value"] = torch.zeros_like(call.value, dtype=real)
        written["grad_places"] = torch.full_like(call.places, torch.nan)
        if call.weights is not None:
            written["grad_mixing"] = torch.full_like(call.weights, torch.nan)
    else:
        written["output"] = torch.full_like(call.grad_output, torch.nan)
    operands = {"value": call.value, "places": call.places, "reference": call.reference}
    operands["mixing"] = call.weights
    if backward:
        operands["grad_output"] = call.grad_output
    tensors = {
        name: shifted(tensor) if name == shift else tensor
        for name, tensor in {**operands, **written}.items()
        if tensor is not None
    }
    level_shapes = torch.tensor(call.flat_shapes, dtype=torch.int32)
    arguments = Arguments(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        level_shapes=level_shapes.data_ptr(),
        batch=batch,
        tokens=tokens,
        heads=heads,
        channels=channels,
        queries=call.grad_output.shape[1],
        points=call.points,
        num_levels=len(call.shapes),
        seed=seed,
        type=TYPES.index(call.value.dtype),
        fused=call.weights is None,
        backward=backward,
        wide=call.places.dtype != call.value.dtype,
    )
    report = Report()
    code = library.calibnet_launch_on_host(ctypes.byref(arguments), ctypes.byref(report))
    assert code == 0, report.message.decode()
    assert report.shared_bytes <= LARGEST_SHARED_BYTES
    return {name: tensors[name] for name in written}, report


def shifted(tensor: Tensor) -> Tensor:
    place = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:].view_as(tensor)
    assert place.data_ptr() % 16 != 0
    return place.copy_(tensor)


def assert_as_defined(library: ctypes.CDLL, call: Call) -> tuple[Report, Report]:
    """Check forward and backward against the definition; returns what was launched."""
    forward, forward_report = run(library, call, backward=False)
    backward, backward_report = run(library, call, backward=True)
    assert_close(forward | backward, expected(call))
    return forward_report, backward_report


def assert_close(results: dict[str, Tensor], correct: dict[str, Tensor]) -> None:
    for name, result in results.items():
        limit = TOLERANCES[result.dtype] * correct[name].abs().max().item()
        error = (result.double() - correct[name]).abs().max().item()
        assert error <= limit, f"{name} is wrong by {error}, more than {limit}"  # also where NaN
