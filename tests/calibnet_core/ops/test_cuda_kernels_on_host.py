"""The GPU kernels' device code, compiled as C++ and executed by an emulation (cuda_on_host.h)."""

from __future__ import annotations

import ctypes
import os
import re
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


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    output = tmp_path_factory.mktemp("cuda_on_host") / "library.so"
    # Architecture 9.0 adds four floats at once; the sanitizers run what older ones do.
    flags = ("-DCALIBNET_HOST_ARCH=900", "-shared", "-fPIC")
    built = compile_host(HERE / "cuda_on_host.cpp", output, *flags)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(output))


@pytest.fixture(scope="session")
def memory_checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("memory"), MEMORY)


@pytest.fixture(scope="session")
def race_checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("races"), RACES)


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


def compare(library: ctypes.CDLL, call: Call) -> tuple[Report, Report]:
    """Forward and backward against the definition; returns what was launched."""
    forward, forward_report = run(library, call, backward=False)
    backward, backward_report = run(library, call, backward=True)
    assert_close(forward | backward, expected(call))
    return forward_report, backward_report


def assert_close(results: dict[str, Tensor], correct: dict[str, Tensor]) -> None:
    for name, result in results.items():
        limit = TOLERANCES[result.dtype] * correct[name].abs().max().item()
        error = (result.double() - correct[name]).abs().max().item()
        assert error <= limit, f"{name} is wrong by {error}, more than {limit}"  # also where NaN


# --- values and gradients -----------------------------------------------------------------------

fused_or_not = pytest.mark.parametrize("fused", [False, True], ids=["drop-in", "fused"])
of_any_type = pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: str(dtype)[6:])


@of_any_type
@fused_or_not
@pytest.mark.parametrize("channels", [8, 16, 24, 32, 48, 64, 136, 7, 33])
def test_any_number_of_channels_equals_the_definition(
    library: ctypes.CDLL, channels: int, fused: bool, dtype: torch.dtype
) -> None:
    call = make_call(dtype, fused=fused, channels=channels, points=3)
    per_load = 16 // dtype.itemsize
    for report in compare(library, call):
        assert report.width == (per_load if channels % per_load == 0 else 1)
        assert not report.specialised


@of_any_type
@fused_or_not
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_any_number_of_levels_equals_the_definition(
    library: ctypes.CDLL, levels: int, fused: bool, dtype: torch.dtype
) -> None:
    call = make_call(dtype, fused=fused, shapes=LEVELS[:levels], channels=32, points=4)
    for report in compare(library, call):
        assert report.specialised == (levels in (3, 4) and dtype != torch.float64)


@of_any_type
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("has_reference", [False, True], ids=["tokens", "points"])
@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
def test_packed_of_either_type_from_points_or_the_tokens_themselves_equals_the_definition(
    library: ctypes.CDLL,
    wide: bool,
    has_reference: bool,
    levels: int,
    dtype: torch.dtype,
) -> None:
    call = make_call(
        dtype,
        fused=True,
        shapes=[(4, 3), (1, 5), (2, 2)][:levels],
        heads=2,
        wide=wide,
        has_reference=has_reference,
    )
    compare(library, call)


@of_any_type
@pytest.mark.parametrize("operand", ["value", "output", "grad_output"])
def test_tensors_that_are_not_aligned_are_read_one_number_at_a_time(
    library: ctypes.CDLL, operand: str, dtype: torch.dtype
) -> None:
    call = make_call(dtype, fused=False, shapes=LEVELS[:3])
    for backward in (False, True):
        if operand != ("output" if backward else "grad_output"):
            results, report = run(library, call, backward=backward, shift=operand)
            assert_close(results, expected(call))
            assert (report.width, report.specialised) == (1, 0)


@of_any_type
@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_pairs_fill_blocks_partly_or_just_so(
    library: ctypes.CDLL, spare: int, dtype: torch.dtype
) -> None:
    _, report = run(library, make_call(dtype, fused=False, heads=1), backward=False)
    per_block = report.threads // report.group
    call = make_call(dtype, fused=False, batch=1, heads=1, queries=2 * per_block + spare)
    for report in compare(library, call):
        assert report.blocks == (3 if spare > 0 else 2)


@of_any_type
@fused_or_not
@pytest.mark.parametrize("points", [20, 75, 500])
def test_many_points_take_fewer_threads_and_wider_groups(
    library: ctypes.CDLL, points: int, fused: bool, dtype: torch.dtype
) -> None:
    # 1000 samples are 5000 synchronisations of each lane: few pairs then.
    sizes = {"batch": 1, "queries": 2, "heads": 1} if points == 500 else {}
    call = make_call(
        dtype, fused=fused, shapes=[(3, 5), (2, 2)], channels=8, points=points, **sizes
    )
    for report in compare(library, call):
        lanes = 8 * dtype.itemsize // 16
        assert report.threads < 256
        assert report.group > lanes if points > 20 else report.group == lanes
        entry = 48 if dtype == torch.float64 else 32
        assert report.shared_bytes == report.threads // report.group * (2 * points + 1) * entry


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1535), (torch.float64, 1023)])
def test_more_points_than_shared_memory_holds_are_refused(
    library: ctypes.CDLL, dtype: torch.dtype, most: int
) -> None:
    sizes = {"batch": 1, "queries": 1, "heads": 1, "channels": 8}
    call = make_call(dtype, fused=True, shapes=[(3, 5)], points=most, **sizes)
    output, report = run(library, call, backward=False)
    assert_close(output, expected(call))
    assert (report.group, report.threads) == (32, 32)
    call = make_call(dtype, fused=True, shapes=[(3, 5)], points=most + 1, **sizes)
    with pytest.raises(AssertionError, match="points per query and head are more than the kernels"):
        run(library, call, backward=False)


# --- hard operands ------------------------------------------------------------------------------


@fused_or_not
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30])
def test_a_place_that_is_no_number_or_far_away_reads_nothing_and_has_no_gradient(
    library: ctypes.CDLL, bad: float, fused: bool
) -> None:
    call = make_call(torch.float32, fused=fused, shapes=LEVELS[:3])
    places = call.places if not fused else call.places[..., : 2 * call.places.shape[-1] // 3]
    everywhere = places.view(*call.grad_output.shape[:2], -1)
    everywhere[:, ::2, ::7] = bad
    everywhere[:, 1] = bad  # a query that sees nothing at all
    compare(library, call)

    output, _ = run(library, call, backward=False)
    assert not output["output"][:, 1].any()
    gradients, _ = run(library, call, backward=True)
    found = gradients["grad_places"][..., : places.shape[-1]].reshape(everywhere.shape)
    assert not found[:, ::2, ::7].any()
    assert not found[:, 1].any()


@fused_or_not
@pytest.mark.parametrize("edge", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_values_at_and_beyond_the_borders_equal_the_definition(
    library: ctypes.CDLL, edge: float, fused: bool
) -> None:
    # Powers of two, so that every operand is exact.
    call = make_call(torch.float32, fused=fused, shapes=[(4, 8), (2, 1)], queries=4)
    corners = torch.tensor([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    cells = eager.cell_counts(call.flat_shapes, corners)
    inwards = edge * (1.0 - 2.0 * corners).view(1, 4, 1, 1, 1, 2)
    if fused:
        call.reference = corners.expand(2, -1, -1).contiguous()
        offsets = inwards.expand(2, -1, 3, 2, 4, -1).flatten(2)
        call.places[..., : offsets.shape[-1]] = offsets
    else:
        call.places.copy_(corners.view(1, 4, 1, 1, 1, 2) + inwards / cells)
    output, _ = run(library, call, backward=False)
    assert_close(output, expected(call))


def test_logits_may_be_large_or_minus_infinity(library: ctypes.CDLL) -> None:
    call = make_call(torch.float32, fused=True, shapes=LEVELS[:3])
    logits = call.places[..., 2 * call.places.shape[-1] // 3 :]
    logits[:, 0] *= 1e4
    logits[:, 1] += torch.tensor([[500.0], [-500.0]])
    logits[:, 2, ::5] = float("-inf")  # the first of a head among them
    compare(library, call)


@of_any_type
@fused_or_not
def test_the_order_of_lanes_warps_and_blocks_does_not_matter(
    library: ctypes.CDLL, fused: bool, dtype: torch.dtype
) -> None:
    call = make_call(dtype, fused=fused, shapes=LEVELS[:3], queries=9)
    correct = expected(call)
    first, _ = run(library, call, backward=False)
    for seed in range(2, 6):
        output, _ = run(library, call, backward=False, seed=seed)
        assert output["output"].equal(first["output"])
        gradients, _ = run(library, call, backward=True, seed=seed)
        assert_close(gradients, correct)


# --- memory -------------------------------------------------------------------------------------


def execute(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Fibers have stacks of their own, which the option's fake stacks would replace.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0"}
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, env=environment, timeout=200
    )
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the sanitizer does not cope with how the system randomises addresses")
    return done


@pytest.mark.slow
def test_no_memory_beyond_the_operands_is_touched(memory_checker: Path) -> None:
    done = execute(memory_checker, "every", "1")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "buffer",
    [
        *("value", "places", "mixing", "reference", "output"),
        *("grad_output", "grad_value", "grad_places", "grad_mixing"),
    ],
)
def test_the_memory_checker_notices_a_buffer_that_is_one_number_short(
    memory_checker: Path, buffer: str
) -> None:
    done = execute(memory_checker, "shortened", buffer)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


@pytest.mark.slow
def test_lanes_do_not_race_for_memory(race_checker: Path) -> None:
    done = execute(race_checker, "every", "3")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_race_checker_notices_a_missing_barrier(race_checker: Path) -> None:
    done = execute(race_checker, "wrong", "without_barrier")
    assert done.returncode != 0
    assert "data race" in done.stderr


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("lanes_elsewhere", r"lane 0 is at __syncwarp .*, lane 1 at __shfl_xor_sync"),
        ("lanes_gone", r"lane 0 is at __syncwarp .*, lane 7 at the kernel's end"),
        ("misaligned", r"__ldg of uint4 is not aligned"),
    ],
)
def test_the_emulation_notices_what_a_device_leaves_undefined(
    library: ctypes.CDLL, kernel: str, message: str
) -> None:
    report = Report()
    assert library.calibnet_run_wrong_kernel(kernel.encode(), ctypes.byref(report)) == 1
    assert re.search(message, report.message.decode())
