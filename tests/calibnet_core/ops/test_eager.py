from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from calibnet_core.ops import eager, info
from tests.support.deform_attn import (
    FUSED_AT_POINTS,
    OPERATORS,
    Operator,
    centres_by_loops,
    flat,
    random_fused_inputs,
    tensors_of,
    unfused,
    upstream_of,
    value_and_gradients,
)
from tests.support.shared import REPOSITORY

SHAPES = [(3, 4), (2, 2), (1, 5)]


@pytest.mark.slow
@pytest.mark.skipif(info().library is None, reason="they ran with them already")
def test_all_tests_of_the_operators_pass_with_the_eager_kernels_too() -> None:
    tests = REPOSITORY / "tests/calibnet_core/ops/ms_deform_attn"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", tests],
        cwd=REPOSITORY,
        env=os.environ | {"CALIBNET_OPS": "eager"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]


each_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)


def _run_both_kernels(operator: Operator, arguments: tuple[Any, ...]) -> list[Tensor]:
    """The output, then the gradients of value and of what follows it, without the dispatcher."""
    forward: Callable[..., Tensor] = eager.fused_forward if operator.fused else eager.forward
    backward: Callable[..., tuple[Tensor, ...]] = (
        eager.fused_backward if operator.fused else eager.backward
    )
    operands = operator.raw(arguments)
    output = forward(**operands)
    return [output, *backward(upstream_of(output), **operands)]


@each_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_kernels_agree_with_the_registered_ones(operator: Operator, dtype: torch.dtype) -> None:
    arguments = operator.stored(operator.away_from_kinks(operator.random(SHAPES)), dtype)
    output, gradients = value_and_gradients(operator.function, arguments)
    eagerly = _run_both_kernels(operator, arguments)
    for result, expected in zip(eagerly, [output, *gradients], strict=False):  # reference points
        torch.testing.assert_close(result, expected)


@each_operator
def test_kernels_leave_their_arguments_alone(operator: Operator) -> None:
    arguments = operator.random(SHAPES)
    before = copy.deepcopy(arguments)
    _run_both_kernels(operator, arguments)
    for tensor, untouched in zip(tensors_of(arguments), tensors_of(before), strict=True):
        assert torch.equal(tensor, untouched)


def test_the_fused_operator_is_unpacked_into_locations_and_weights() -> None:
    value, shapes, packed, points = random_fused_inputs(SHAPES)
    expected = unfused(value, shapes, packed, points)[2:]
    for result, expectation in zip(
        eager.unpack(value, flat(shapes), points, packed), expected, strict=True
    ):
        torch.testing.assert_close(result, expectation)


def test_the_fused_operator_is_unpacked_in_its_written_order() -> None:
    # 1 query, 2 heads, 2 levels, 1 point. Number 10 * i is the i-th pair of offsets.
    offsets = torch.tensor([(10.0 * i, 10.0 * i + 1.0) for i in range(4)])
    logits = torch.tensor([0.0, 1.0, 2.0, 4.0])
    packed = torch.cat((offsets.flatten(), logits)).view(1, 1, 12)
    value, levels = torch.zeros(1, 10, 2, 1), [1, 2, 2, 4]
    locations, weights = eager.unpack(value, levels, torch.zeros(1, 1, 2), packed)
    assert locations.flatten(0, -2).tolist() == [
        [0.0 / 2, 1.0 / 1],
        [10.0 / 4, 11.0 / 2],
        [20.0 / 2, 21.0 / 1],
        [30.0 / 4, 31.0 / 2],
    ]
    small, large = 1 / (1 + np.e), 1 / (1 + np.e**2)
    assert weights.flatten().tolist() == pytest.approx([small, 1 - small, large, 1 - large])


def test_half_precision_is_unpacked_to_float32() -> None:
    value, shapes, packed, points = FUSED_AT_POINTS.stored(
        random_fused_inputs(SHAPES), torch.bfloat16
    )
    unpacked = eager.unpack(value, flat(shapes), points, packed)
    widened = eager.unpack(value.float(), flat(shapes), points, packed.float())
    for result, expected in zip(unpacked, widened, strict=True):
        assert result.dtype == torch.float32
        assert torch.equal(result, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grid_centres_are_the_middles_of_all_cells(dtype: torch.dtype) -> None:
    centres = eager.grid_centres(flat(SHAPES), torch.zeros(0, dtype=dtype))
    torch.testing.assert_close(centres, centres_by_loops(SHAPES).to(dtype))
    assert centres.dtype == dtype


def test_cell_counts_are_widths_and_heights() -> None:
    counts = eager.cell_counts(flat(SHAPES), torch.zeros(0, dtype=torch.float64))
    assert counts.tolist() == [[[4.0, 3.0]], [[2.0, 2.0]], [[5.0, 1.0]]]
    assert counts.dtype == torch.float64


@pytest.mark.parametrize(
    ("value", "computing"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_half_types_compute_in_float32(value: torch.dtype, computing: torch.dtype) -> None:
    assert eager.compute_type(torch.zeros(0, dtype=value)) == computing


# --- the index table ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "integer"), [(2**21 - 1, torch.int32), (2**21, torch.int64)], ids=["int32", "int64"]
)
def test_table_rows_take_as_many_bits_as_the_table_needs(tokens: int, integer: torch.dtype) -> None:
    heads, height = 1024, 1
    # Expanded, so that the huge table takes no memory.
    value = torch.zeros(1).expand(1, tokens, heads, 1)
    last = torch.full((heads, 1), float(tokens - 1))
    first = torch.zeros(heads, 1)
    inside = torch.ones(heads, 1, dtype=torch.bool)
    x = eager._Axis(index=(first, last), share=(first, first), inside=(inside, inside))
    y = eager._Axis(index=(first, first), share=(first, first), inside=(inside, inside))

    rows = eager._table_rows(value, (height, tokens), x, y, points=1)

    head = torch.arange(heads)
    assert rows.dtype == integer
    for corner, token in enumerate((0, tokens - 1, 0, tokens - 1)):
        torch.testing.assert_close(rows[:, corner, 0].long(), token * heads + head)


def test_table_rows_are_exact_beyond_what_float32_counts_to() -> None:
    shapes = [4096, 4096, 3, 3]
    tokens = 2**24 + 9
    value = torch.zeros(1).expand(1, tokens, 1, 1)  # takes no memory
    locations = torch.full((1, 1, 1, 2, 1, 2), 0.5)  # column 0, line 1 of the small map
    locations[:, :, :, 1] = torch.tensor([0.5 / 3 + 0.01, 1.5 / 3 + 0.01])
    rows = eager._table_rows(value, shapes, *eager._axes(shapes, locations), points=1)
    assert rows[0, :, 1].tolist() == [2**24 + token for token in (3, 4, 6, 7)]


def test_table_rows_count_through_images_tokens_and_heads() -> None:
    batch, queries, heads, points = 2, 3, 2, 2
    value = torch.zeros(batch, 5 * 7 + 2 * 3, heads, 1)
    # All points look into the cell whose upper left corner is (row 1, column 0) of their level.
    locations = torch.empty(batch, queries, heads, 2, points, 2)
    for level, (height, width) in enumerate([(5, 7), (2, 3)]):
        top = 1.0 if height > 2 else 0.0
        locations[:, :, :, level] = torch.tensor([(0.0 + 0.75) / width, (top + 0.75) / height])
    x, y = eager._axes([5, 7, 2, 3], locations)
    rows = eager._table_rows(value, [5, 7, 2, 3], x, y, points)
    first_level, second_level = [7, 8, 14, 15], [35, 36, 38, 39]
    for bag, (image, _, head) in enumerate(np.ndindex(batch, queries, heads)):
        for level, tokens in enumerate((first_level, second_level)):
            expected = [(image * 41 + token) * heads + head for token in tokens]
            for point in range(points):
                assert rows[bag, :, level * points + point].tolist() == expected


@pytest.mark.parametrize(
    ("pixel", "lower", "upper", "shares", "inside"),
    [
        (1.25, 1, 2, (0.75, 0.25), (True, True)),
        (0.0, 0, 1, (1.0, 0.0), (True, True)),
        (-0.25, 0, 0, (0.0, 0.75), (False, True)),
        (2.25, 2, 2, (0.75, 0.0), (True, False)),
        (-1.25, 0, 0, (0.0, 0.0), (False, False)),
        (3.25, 2, 2, (0.0, 0.0), (False, False)),
        (1e30, 2, 2, (0.0, 0.0), (False, False)),
        (-1e30, 0, 0, (0.0, 0.0), (False, False)),
        (np.inf, 2, 2, (0.0, 0.0), (False, False)),
        (-np.inf, 0, 0, (0.0, 0.0), (False, False)),
        (np.nan, 0, 0, (0.0, 0.0), (False, False)),
    ],
)
def test_the_lines_around_a_coordinate_are_in_the_map_and_share_it(
    pixel: float,
    lower: int,
    upper: int,
    shares: tuple[float, float],
    inside: tuple[bool, bool],
) -> None:
    coordinate = torch.tensor((pixel + 0.5) / 3, dtype=torch.float64).view(1, 1, 1, 1, 1)
    axis = eager._neighbours(coordinate, [3])
    assert [index.item() for index in axis.index] == [lower, upper]
    assert [share.item() for share in axis.share] == pytest.approx(shares, abs=1e-12)
    assert tuple(line.item() for line in axis.inside) == inside
