"""Both operators against their definitions, and worked cases."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
from tests.support.deform_attn import (
    DROP_IN,
    FUSED_AT_POINTS,
    FUSED_ON_GRID,
    PICTURES,
    Operator,
    Shapes,
    centres_by_loops,
    fresh_leaves,
    random_fused_inputs,
    random_inputs,
    relative_error,
    smooth_features,
    tensors_of,
    unfused,
    upstream_of,
    value_and_gradients,
    with_tensors,
)
from tests.support.deform_attn_marks import (
    ROUNDING,
    assert_all_same_bits,
    assert_same_bits,
    each_fused,
    each_operator,
    each_type,
    type_name,
)

# --- values and gradients -----------------------------------------------------------------------

ODD_SHAPES: list[Shapes] = [
    [(1, 1)],
    [(3, 5)],
    [(7, 1), (1, 6)],
    [(2, 3), (4, 6), (8, 12)],
    [(5, 3), (2, 2), (1, 7), (3, 3)],
    [(9, 7), (5, 4), (3, 2), (2, 1), (1, 1)],
]

LIMITS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Relative errors that the requirements allow."""


@each_operator
@pytest.mark.parametrize("shapes", ODD_SHAPES, ids=str)
def test_values_equal_the_definition_by_loops(operator: Operator, shapes: Shapes) -> None:
    arguments = operator.random(shapes)
    expected = torch.from_numpy(operator.by_loops(*arguments))
    torch.testing.assert_close(operator.function(*arguments), expected)
    torch.testing.assert_close(operator.reference(*arguments), expected)


@each_operator
@settings(max_examples=25)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
    batch=st.integers(1, 3),
    queries=st.integers(1, 40),
    heads=st.integers(1, 8),
    channels=st.integers(1, 40),
    points=st.integers(1, 8),
    seed=st.integers(0, 2**31),
    reach=st.integers(0, 2),
)
def test_values_and_gradients_equal_the_reference(
    operator: Operator, shapes: Shapes, reach: int, **sizes: int
) -> None:
    arguments = operator.random(shapes, spread=operator.spreads[reach], **sizes)
    ours, our_gradients = value_and_gradients(operator.function, arguments)
    theirs, their_gradients = value_and_gradients(operator.reference, arguments)
    torch.testing.assert_close(ours, theirs)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient)


# One case for each number of channels; together they have all numbers of levels, heads and points.
CHANNELS_AND_SIZES = {
    1: {"shapes": [(6, 9)], "batch": 1, "heads": 1, "points": 1},
    7: {"shapes": [(7, 5), (3, 2)], "batch": 3, "heads": 2, "points": 2},
    8: {"shapes": [(8, 3), (4, 2), (2, 2)], "batch": 2, "heads": 3, "points": 3},
    16: {"shapes": [(4, 6), (8, 12), (9, 1)], "batch": 1, "heads": 4, "points": 4},
    24: {"shapes": [(5, 3), (2, 2), (3, 7), (3, 3)], "batch": 2, "heads": 5, "points": 5},
    32: {"shapes": [(10, 15), (5, 8), (3, 4)], "batch": 2, "heads": 8, "points": 4},
    33: {"shapes": [(9, 7), (5, 4), (3, 2), (2, 3), (1, 1)], "batch": 1, "heads": 6, "points": 6},
    48: {"shapes": [(11, 13)], "batch": 3, "heads": 7, "points": 7},
    64: {"shapes": [(6, 5), (3, 3)], "batch": 1, "heads": 8, "points": 8},
    100: {"shapes": [(4, 4), (7, 3), (2, 2)], "batch": 3, "heads": 1, "points": 3},
}


@each_operator
@each_type
@pytest.mark.parametrize("channels", CHANNELS_AND_SIZES)
def test_any_number_of_channels_comes_out_exact_but_for_rounding(
    operator: Operator, dtype: torch.dtype, channels: int, seed: int
) -> None:
    sizes = CHANNELS_AND_SIZES[channels]
    arguments = operator.random(**sizes, channels=channels, queries=37, seed=seed)
    stored = operator.stored(operator.away_from_kinks(arguments), dtype)
    _assert_exact_but_for_rounding(operator, stored, _by_reference(operator, stored))


@each_operator
@pytest.mark.parametrize("picture", PICTURES)
@each_type
def test_at_picture_sizes_values_and_gradients_are_exact_but_for_rounding(
    operator: Operator, dtype: torch.dtype, picture: str, seed: int
) -> None:
    stored, expected = _picture_case(operator, dtype, picture, seed)
    _assert_exact_but_for_rounding(operator, stored, expected)


@cache  # for all sets of kernels
def _picture_case(
    operator: Operator, dtype: torch.dtype, picture: str, seed: int
) -> tuple[tuple[Any, ...], tuple[Tensor, list[Tensor]]]:
    sizes = {"batch": 1, "queries": 1000, "heads": 2, "channels": 32, "points": 4}
    arguments = operator.random(PICTURES[picture], **sizes, seed=seed)
    stored = operator.stored(operator.away_from_kinks(arguments), dtype)
    return stored, _by_reference(operator, stored)


def _by_reference(operator: Operator, stored: tuple[Any, ...]) -> tuple[Tensor, list[Tensor]]:
    """Output and gradients in float64 of arguments and an upstream gradient as they are stored."""
    leaves = fresh_leaves(
        tuple(entry.double() if isinstance(entry, Tensor) else entry for entry in stored)
    )
    output = operator.reference(*leaves)
    upstream = upstream_of(output.to(stored[0].dtype)).double()
    return output.detach(), list(torch.autograd.grad(output, tensors_of(leaves), upstream))


def _assert_exact_but_for_rounding(
    operator: Operator, stored: tuple[Any, ...], expected: tuple[Tensor, list[Tensor]]
) -> None:
    output, gradients = value_and_gradients(operator.function, stored)
    assert output.dtype == stored[0].dtype
    assert relative_error(output, expected[0]) <= ROUNDING[output.dtype]
    for argument, gradient, exact in zip(tensors_of(stored), gradients, expected[1], strict=True):
        assert gradient.dtype == argument.dtype
        assert relative_error(gradient, exact) <= ROUNDING[output.dtype]


@pytest.mark.parametrize("operator", [DROP_IN, FUSED_ON_GRID], ids=lambda operator: operator.name)
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("dtype", LIMITS, ids=type_name)
def test_low_precision_costs_little_on_smooth_features(
    operator: Operator, dtype: torch.dtype, picture: str, seed: int
) -> None:
    # Rounding of the inputs counts here, as opposed to the tests above.
    arguments, exact = _smooth_case(operator, picture, seed)
    output = operator.function(*operator.stored(arguments, dtype))
    assert relative_error(output, exact) <= LIMITS[dtype]


@cache
def _smooth_case(operator: Operator, picture: str, seed: int) -> tuple[tuple[Any, ...], Tensor]:
    shapes, sizes = PICTURES[picture], {"batch": 1, "heads": 4, "channels": 32}
    value = smooth_features(shapes, **sizes, seed=seed)
    # Both look where an encoder looks: around each token's own place.
    fused = (value, *FUSED_ON_GRID.random(shapes, **sizes, points=4, seed=seed)[1:])
    arguments = fused if operator.fused else unfused(*fused)
    return arguments, operator.reference(*arguments)


@each_operator
@pytest.mark.parametrize("shapes", [[(3, 4)], [(2, 3), (4, 1)]], ids=str)
def test_gradients_equal_finite_differences(operator: Operator, shapes: Shapes) -> None:
    leaves = fresh_leaves(operator.away_from_kinks(operator.random(shapes)))
    assert torch.autograd.gradcheck(
        lambda *tensors: operator.function(*with_tensors(leaves, tensors)), tensors_of(leaves)
    )


def test_reference_points_may_be_the_same_for_all_images() -> None:
    value, shapes, packed, points = FUSED_AT_POINTS.away_from_kinks(
        random_fused_inputs([(3, 4), (2, 2)], batch=2)
    )
    leaf = points[0].clone().requires_grad_()
    same, twice = (
        ms_deform_attn_fused(value, shapes, packed, p) for p in (leaf, leaf.expand(2, -1, -1))
    )
    assert_same_bits(same, twice)
    once_through, through_copies = (
        torch.autograd.grad(output, leaf, upstream_of(output))[0] for output in (same, twice)
    )
    assert once_through.shape == (3, 2)
    torch.testing.assert_close(once_through, through_copies)


def test_gradients_equal_finite_differences_at_reference_points_of_all_images() -> None:
    value, shapes, packed, points = random_fused_inputs([(3, 4), (2, 2)])
    points = points[:1].expand(2, -1, -1)
    value, _, packed, points = fresh_leaves(
        FUSED_AT_POINTS.away_from_kinks((value, shapes, packed, points))
    )
    points = points.detach()[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, p, r: ms_deform_attn_fused(v, shapes, p, r), (value, packed, points)
    )


@each_operator
def test_one_argument_may_be_differentiated_alone(operator: Operator) -> None:
    arguments = operator.random([(3, 4), (2, 2)])
    _, expected = value_and_gradients(operator.function, arguments)
    for leaf, gradient in zip(tensors_of(arguments), expected, strict=True):
        leaf.requires_grad_()
        output = operator.function(*arguments)
        assert_same_bits(torch.autograd.grad(output, leaf, upstream_of(output))[0], gradient)
        leaf.requires_grad_(False)
    assert not operator.function(*arguments).requires_grad


# --- hand-worked cases --------------------------------------------------------------------------


def test_a_location_at_a_cell_centre_reads_that_cell() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)
    centre = torch.tensor([(1 + 0.5) / 3, (1 + 0.5) / 2]).view(1, 1, 1, 1, 1, 2)
    weight = torch.ones(1, 1, 1, 1, 1)
    assert ms_deform_attn(value, [(2, 3)], centre, weight).item() == pytest.approx(4.0)


def test_the_corner_of_a_map_reads_a_quarter_of_its_cell() -> None:
    value, weight = torch.full((1, 4, 1, 1), 8.0), torch.ones(1, 1, 1, 1, 1)
    for corner in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        location = torch.tensor(corner).view(1, 1, 1, 1, 1, 2)
        assert ms_deform_attn(value, [(2, 2)], location, weight).item() == 2.0


def test_without_offsets_every_token_reads_itself_and_the_same_place_of_other_levels() -> None:
    # Cell (i, j) of the coarse level lies in the middle of four fine cells.
    coarse, fine = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 3.0, 5.0, 7.0]] * 2)
    value = torch.cat((coarse.flatten(), fine.flatten())).view(1, 10, 1, 1)
    packed = torch.zeros(1, 10, 2 * 3)  # 2 levels of 1 point; equal logits
    output = ms_deform_attn_fused(value, [(1, 2), (2, 4)], packed).flatten()
    assert output[:2].tolist() == [(1.0 + 2.0) / 2, (2.0 + 6.0) / 2]
    # The first fine cell lies a quarter cell above and left of the first coarse one, half outside.
    assert output[2].item() == pytest.approx((1.0 + 0.75 * 0.75 * 1.0) / 2)


# --- the fused operator in terms of the other ---------------------------------------------------


@each_fused
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fused_operator_is_the_drop_in_one_after_softmax_and_division(
    operator: Operator, dtype: torch.dtype
) -> None:
    arguments = operator.stored(operator.random([(4, 6), (8, 3)], queries=37), dtype)
    value, shapes, locations, weights = unfused(*arguments)
    expected = ms_deform_attn(value, shapes, locations.to(dtype), weights.to(dtype))
    torch.testing.assert_close(operator.function(*arguments), expected)


def test_no_reference_points_stand_for_the_centres_of_all_cells() -> None:
    shapes = [(5, 3), (1, 7), (4, 4)]
    value, _, packed, _ = FUSED_ON_GRID.away_from_kinks(FUSED_ON_GRID.random(shapes))
    at_centres = partial(ms_deform_attn_fused, reference_points=centres_by_loops(shapes))
    on_grid, grid_gradients = value_and_gradients(ms_deform_attn_fused, (value, shapes, packed))
    given, given_gradients = value_and_gradients(at_centres, (value, shapes, packed))
    torch.testing.assert_close(on_grid, given, rtol=1e-12, atol=1e-12)
    for on, at in zip(grid_gradients, given_gradients, strict=True):
        torch.testing.assert_close(on, at, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=type_name)
def test_the_gradient_of_points_is_summed_before_it_is_rounded(
    dtype: torch.dtype, seed: int
) -> None:
    value, shapes, packed, points = FUSED_AT_POINTS.stored(
        FUSED_AT_POINTS.random([(4, 6), (2, 3)], seed=seed), dtype
    )
    _, (*_, of_packed, of_points) = value_and_gradients(
        ms_deform_attn_fused, (value, shapes, packed, points)
    )
    _, (*_, of_wide, expected) = value_and_gradients(
        ms_deform_attn_fused, (value, shapes, packed.float(), points)
    )
    assert (of_packed.dtype, of_wide.dtype) == (dtype, torch.float32)
    assert_same_bits(of_points, expected)
    assert_same_bits(of_packed, of_wide.to(dtype))


@each_fused
@each_type
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_without_softmax_spoils_its_query_and_head_only(
    operator: Operator, dtype: torch.dtype, bad: float
) -> None:
    arguments = operator.stored(operator.random([(4, 6), (2, 3)], channels=19), dtype)
    clean = operator.function(*arguments).unflatten(2, (2, 19))
    for point in ((0, 0), (1, 1)):  # first and last of the head
        spoilt = copy.deepcopy(arguments)
        operator.shares(spoilt)[1, 2, 0][point] = bad
        output = operator.function(*spoilt).unflatten(2, (2, 19))
        assert output[1, 2, 0].isnan().all()
        output[1, 2, 0] = clean[1, 2, 0]
        assert_same_bits(output, clean)


@each_fused
@each_type
def test_logits_may_be_huge(operator: Operator, dtype: torch.dtype, seed: int) -> None:
    arguments = operator.away_from_kinks(
        operator.random([(4, 6), (2, 3)], queries=20, points=4, seed=seed)
    )
    logits = operator.shares(arguments)
    signs = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)).sub(0.5).sign()
    logits += 1e4 * signs
    logits[:, 0] = 1e4
    logits[:, 1] = -1e4
    stored = operator.stored(arguments, dtype)
    _assert_exact_but_for_rounding(operator, stored, _by_reference(operator, stored))


@each_fused
@each_type
def test_a_logit_of_minus_infinity_takes_its_point_out(
    operator: Operator, dtype: torch.dtype
) -> None:
    arguments = operator.stored(operator.random([(4, 6), (2, 3)]), dtype)
    operator.shares(arguments)[:, :, :, 1, 0] = -torch.inf
    stored = copy.deepcopy(arguments)
    operator.shares(arguments)[:, :, :, 1, 0] = -1e4
    output, gradients = value_and_gradients(operator.function, stored)
    expected, expected_gradients = value_and_gradients(operator.function, arguments)
    assert_same_bits(output, expected)
    assert_all_same_bits(gradients, expected_gradients)
    operator.shares(stored)[:, 0, 0] = -torch.inf  # nothing is left of this softmax
    nothing_left = operator.function(*stored).unflatten(2, (2, 3))
    assert nothing_left[:, 0, 0].isnan().all()
    assert nothing_left[:, 0, 1].isfinite().all()


@each_fused
@each_type
def test_nothing_is_left_of_a_point_taken_out_however_large_its_value(
    operator: Operator, dtype: torch.dtype
) -> None:
    value, *rest = operator.stored(operator.random([(4, 6), (2, 3)]), dtype)
    operator.shares((value, *rest))[:, :, :, 1] = -torch.inf
    value[:, 24:] = 0.0
    expected = operator.function(value, *rest)
    value[:, 24:] = 6e4 if dtype == torch.float16 else 1e38
    assert_same_bits(operator.function(value, *rest), expected)


def test_small_weights_are_as_accurate_as_large_ones() -> None:
    logits = torch.linspace(-87.0, 0.0, 100_001)
    value = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    packed = torch.zeros(1, logits.numel(), 2 * 3)  # 2 points: the one cell, then the other
    packed[..., 2], packed[..., 5] = 1.0, logits
    left_cell = torch.tensor([0.25, 0.5]).expand(logits.numel(), 2)
    output = ms_deform_attn_fused(value, [(1, 2)], packed, left_cell).flatten()
    exact = logits.double().sigmoid()
    assert ((output - exact) / exact).abs().max() < 2.2e-7


def test_beside_half_precision_values_offsets_may_keep_float32() -> None:
    arguments, exact = _smooth_case(FUSED_ON_GRID, "480x640", 0)
    value, shapes, packed, _ = arguments
    half, kept = (
        ms_deform_attn_fused(value.bfloat16(), shapes, packed.to(dtype))
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert kept.dtype == half.dtype == torch.bfloat16
    assert relative_error(kept, exact) < 0.9 * relative_error(half, exact)
    _, gradients = value_and_gradients(
        ms_deform_attn_fused, (value.bfloat16(), shapes, packed.float())
    )
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32]


def test_locations_in_half_precision_are_taken_for_what_they_are() -> None:
    value, shapes, locations, weights = random_inputs([(4, 6), (2, 3)], dtype=torch.bfloat16)
    output, gradients = value_and_gradients(ms_deform_attn, (value, shapes, locations, weights))
    wide = (value, shapes, locations.float(), weights.float())
    expected, expected_gradients = value_and_gradients(ms_deform_attn, wide)
    assert_same_bits(output, expected)
    assert_all_same_bits(gradients, [gradient.bfloat16() for gradient in expected_gradients])
