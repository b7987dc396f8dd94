"""The operators on a GPU. What needs none is checked in test_cuda_kernels_on_host.py."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from calibnet_core import ops
from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
from tests.support.deform_attn import (
    PICTURES,
    away_from_kinks,
    cast,
    fused_away_from_kinks,
    fused_reference,
    random_fused_inputs,
    random_inputs,
    relative_error,
    smooth_features,
    value_and_gradients,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(
        not ops.info().cuda.startswith("compiled"), reason="no CUDA kernels in the library"
    ),
]

LIMITS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float64: 1e-12}
SHAPES = [
    [(1, 1)],
    [(7, 1), (1, 6)],
    [(10, 15), (20, 30), (40, 60)],
    [(5, 3), (9, 7), (2, 2), (1, 7)],
    [(9, 7), (5, 4), (3, 2), (2, 1), (1, 1)],
]


def on_gpu(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.cuda() if isinstance(a, Tensor) else a for a in arguments)


def compute_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("channels", [7, 8, 16, 24, 32, 33, 48, 64])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_drop_in_operator_equals_the_processor_in_float64(
    shapes: list[tuple[int, int]], channels: int, dtype: torch.dtype
) -> None:
    value, _, locations, weights = away_from_kinks(
        random_inputs(shapes, queries=37, heads=3, points=4, channels=channels)
    )
    value = smooth_features(shapes, batch=2, heads=3, channels=channels, seed=0).to(dtype)
    locations, weights = (t.to(compute_type(dtype)) for t in (locations, weights))
    given = (value, shapes, locations, weights)
    output, gradients = value_and_gradients(ms_deform_attn, on_gpu(given))
    exact, exact_gradients = value_and_gradients(ms_deform_attn, cast(given, torch.float64))
    for ours, theirs in zip((output, *gradients), (exact, *exact_gradients), strict=True):
        assert relative_error(ours.cpu(), theirs) <= LIMITS[dtype]


@pytest.mark.parametrize("wide", [False, True], ids=["packed_as_value", "packed_wide"])
@pytest.mark.parametrize("grid", [False, True], ids=["reference_points", "grid"])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_fused_operator_equals_the_processor_in_float64(
    shapes: list[tuple[int, int]], dtype: torch.dtype, grid: bool, wide: bool
) -> None:
    _, _, packed, points = fused_away_from_kinks(
        random_fused_inputs(shapes, queries=None if grid else 29, channels=32, heads=8, points=4)
    )
    value = smooth_features(shapes, batch=2, heads=8, channels=32, seed=0).to(dtype)
    packed = packed.to(compute_type(dtype) if wide else dtype)
    points = None if points is None else points.to(compute_type(dtype))
    given = (value, shapes, packed, points)
    output, gradients = value_and_gradients(ms_deform_attn_fused, on_gpu(given))
    exact, exact_gradients = value_and_gradients(fused_reference, cast(given, torch.float64))
    assert relative_error(output.cpu(), exact) <= LIMITS[dtype]
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        assert relative_error(ours.cpu(), theirs) <= 3 * LIMITS[dtype]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_locations_that_are_no_place_read_nothing(bad: float) -> None:
    arguments = random_inputs([(3, 5), (2, 2)], dtype=torch.float32, spread=0.0)
    arguments[2][0, 1, 0, 1, 0] = bad
    output, gradients = value_and_gradients(ms_deform_attn, on_gpu(arguments))
    exact, _ = value_and_gradients(ms_deform_attn, arguments)
    torch.testing.assert_close(output.cpu(), exact)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_it_runs_on_the_current_stream_and_can_be_captured_into_a_graph() -> None:
    shapes = PICTURES["320x480"]
    value, _, packed, _ = on_gpu(
        random_fused_inputs(
            shapes, queries=None, channels=32, heads=8, points=4, dtype=torch.float32
        )
    )
    expected = ms_deform_attn_fused(value, shapes, packed)
    graph = torch.cuda.CUDAGraph()
    static_value = value.clone()
    with torch.cuda.graph(graph):
        captured = ms_deform_attn_fused(static_value, shapes, packed)
    static_value.copy_(2 * value)
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(captured, 2 * expected)


@pytest.mark.usefixtures("deterministic")
def test_gradients_repeat_to_the_bit_when_torch_is_told_to_be_deterministic() -> None:
    given = on_gpu(random_inputs([(4, 4)], queries=5000, dtype=torch.float32, channels=32))
    first, second = (value_and_gradients(ms_deform_attn, given)[1] for _ in range(2))
    for ours, theirs in zip(first, second, strict=True):
        assert torch.equal(ours, theirs)


def test_a_value_on_another_gpu_than_the_current_one_is_served_there() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    arguments = random_inputs([(3, 5)], dtype=torch.float32)
    moved = tuple(a.to("cuda:1") if isinstance(a, Tensor) else a for a in arguments)
    with torch.cuda.device(0):
        output = ms_deform_attn(*moved)
    assert output.device == torch.device("cuda:1")
    torch.testing.assert_close(output.cpu(), ms_deform_attn(*arguments))


def test_a_call_waits_for_nothing_and_reads_nothing_back() -> None:
    arguments = on_gpu(random_inputs([(3, 5), (2, 2)], dtype=torch.float32))
    expected = ms_deform_attn(*arguments)  # the first call looks up torch's stream function
    torch.cuda.set_sync_debug_mode("error")  # waiting raises
    try:
        output = ms_deform_attn(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(output, expected)


@pytest.mark.slow
def test_compute_sanitizer_finds_nothing() -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("needs compute-sanitizer")
    code = """
import torch
from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
torch.manual_seed(0)
shapes = [(5, 3), (2, 2), (1, 7)]
for channels in (7, 8, 32, 64):
    for dtype in (torch.float32, torch.float16):
        value = torch.randn(2, 26, 3, channels, dtype=dtype, device="cuda", requires_grad=True)
        packed = torch.randn(2, 26, 3 * 3 * 3 * 4, dtype=dtype, device="cuda") * 30
        packed[0, :5] = float("inf")
        packed[1, :5] = float("nan")
        ms_deform_attn_fused(value, shapes, packed.requires_grad_()).float().sum().backward()
        locations = torch.rand(2, 9, 3, 3, 4, 2, device="cuda") * 3 - 1
        weights = torch.rand(2, 9, 3, 3, 4, device="cuda")
        ms_deform_attn(value, shapes, locations.requires_grad_(), weights).float().sum().backward()
torch.cuda.synchronize()
"""
    run = subprocess.run(
        [sanitizer, "--error-exitcode", "9", sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(ops.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
