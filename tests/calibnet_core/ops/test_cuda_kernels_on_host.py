"""The GPU kernels' device code, compiled as C++ and executed by an emulation (cuda_on_host.h)."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
import torch

from calibnet_core.ops import eager
from tests.calibnet_core.ops.cuda_on_host import (
    HERE,
    LEVELS,
    MEMORY,
    RACES,
    TYPES,
    Report,
    assert_as_defined,
    assert_close,
    build_program,
    compile_host,
    execute,
    expected,
    make_call,
    run,
)


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
    for report in assert_as_defined(library, call):
        assert report.width == (per_load if channels % per_load == 0 else 1)
        assert not report.specialised


@of_any_type
@fused_or_not
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_any_number_of_levels_equals_the_definition(
    library: ctypes.CDLL, levels: int, fused: bool, dtype: torch.dtype
) -> None:
    call = make_call(dtype, fused=fused, shapes=LEVELS[:levels], channels=32, points=4)
    for report in assert_as_defined(library, call):
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
    assert_as_defined(library, call)


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
    for report in assert_as_defined(library, call):
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
    for report in assert_as_defined(library, call):
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
    assert_as_defined(library, call)

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
    assert_as_defined(library, call)


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
