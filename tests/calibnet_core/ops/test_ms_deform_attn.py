"""Both operators against their definitions, and as torch knows them.

Every test runs once with each set of kernels that this processor can run, except those marked
`once`. `test_eager.py` runs the file again without the compiled library.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from calibnet_core.ops import (
    info,
    library,
    ms_deform_attn,
    ms_deform_attn_fused,
)
from tests.support.deform_attn import (
    DROP_IN,
    FUSED_AT_POINTS,
    FUSED_ON_GRID,
    OPERATORS,
    PICTURES,
    Operator,
    Shapes,
    centres_by_loops,
    count_tokens,
    fresh_leaves,
    random_fused_inputs,
    random_inputs,
    relative_error,
    smooth_features,
    tensors_of,
    unfused,
    upstream_of,
    value_and_gradients,
)

COMPILED = info().library is not None
ISAS = ("baseline", "AVX2", "AVX-512")

each_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
each_fused = pytest.mark.parametrize(
    "operator", [FUSED_AT_POINTS, FUSED_ON_GRID], ids=lambda operator: operator.name
)
each_type = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=lambda t: str(t)[6:]
)
# Says nothing about numbers, so one set of kernels will do.
once = pytest.mark.parametrize("kernels", ["as loaded"], indirect=True)
needs_compiled = pytest.mark.skipif(
    not COMPILED, reason="the eager kernels leave checks to the public functions"
)


@pytest.fixture(scope="module", params=ISAS if COMPILED else ["as loaded"], autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run with one set of kernels; `as loaded` are the best there are."""
    if not COMPILED or request.param == "as loaded":
        yield
        return
    assert library._loaded is not None
    limit = library._loaded[1].calibnet_ops_limit_cpu_isa
    limit(ISAS.index(request.param))
    try:
        if info().cpu != f"compiled ({request.param})":
            pytest.skip(f"this processor has no {request.param}")
        yield
    finally:
        limit(len(ISAS) - 1)


@pytest.fixture(scope="module")
def seed() -> int:
    """Another one in every run; pytest shows it where a test fails."""
    fresh = random.SystemRandom().randrange(2**31)
    print(f"seed {fresh}")
    return fresh


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


restores_threads = pytest.mark.usefixtures("_threads")


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=0.0, equal_nan=True)


def assert_all_same_bits(actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert_same_bits(one, other)


# --- values and gradients -----------------------------------------------------------------------

ODD_SHAPES: list[Shapes] = [
    [(1, 1)],
    [(3, 5)],
    [(7, 1), (1, 6)],
    [(2, 3), (4, 6), (8, 12)],
    [(5, 3), (2, 2), (1, 7), (3, 3)],
    [(9, 7), (5, 4), (3, 2), (2, 1), (1, 1)],
]

LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Relative errors that the requirements allow; float64 is for checks like these."""

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-4, torch.bfloat16: 3e-3}
"""Relative errors where inputs are exact and only the answer is rounded."""


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
@each_type
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
        lambda *tensors: operator.function(*_with(leaves, tensors)), tensors_of(leaves)
    )


def _with(arguments: tuple[Any, ...], tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """`arguments` with other tensors in the same places."""
    remaining = iter(tensors)
    return tuple(
        next(remaining) if isinstance(argument, Tensor) else argument for argument in arguments
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


def test_only_the_gradients_that_are_asked_for_come_back() -> None:
    for operator in OPERATORS:
        arguments = operator.random([(3, 4), (2, 2)])
        _, expected = value_and_gradients(operator.function, arguments)
        for index, leaf in enumerate(tensors_of(arguments)):
            leaf.requires_grad_()
            output = operator.function(*arguments)
            (gradient,) = torch.autograd.grad(output, leaf, upstream_of(output))
            assert_same_bits(gradient, expected[index])
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


# --- numbers that are none ----------------------------------------------------------------------


BAD_NUMBERS = (np.nan, np.inf, -np.inf, 1e30, -1e30)


@each_operator
@each_type
def test_places_that_are_no_number_or_far_away_read_nothing(
    operator: Operator, dtype: torch.dtype
) -> None:
    sizes = {"queries": 10, "heads": 3, "channels": 19}
    arguments = operator.stored(operator.random([(3, 5), (2, 2)], **sizes), dtype)
    beyond, spoilt = copy.deepcopy(arguments), copy.deepcopy(arguments)
    touched = torch.zeros(operator.shares(arguments).shape, dtype=torch.bool)
    for query, bad in enumerate(2 * BAD_NUMBERS):  # one axis, then the other
        index = (query % 2, query, 1, query % 2, 1)
        operator.places(beyond)[index][query // 5] = 100.0
        operator.places(spoilt)[index][query // 5] = bad
        touched[index] = True
    output, gradients = value_and_gradients(operator.function, spoilt)

    # Beyond the map nothing is read, by definition; a bad number must be the same.
    expected, expected_gradients = value_and_gradients(operator.function, beyond)
    assert_same_bits(output, expected)
    assert_all_same_bits(gradients, expected_gradients)
    by_loops = torch.from_numpy(operator.by_loops(*beyond))
    assert relative_error(output, by_loops) <= ROUNDING[dtype]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    as_arguments = _with(spoilt, tuple(gradients))
    assert not operator.places(as_arguments)[touched].any()
    if not operator.fused:
        assert not operator.shares(as_arguments)[touched].any()

    clean = operator.function(*arguments).unflatten(2, (3, 19))
    elsewhere = ~touched.flatten(3).any(-1)
    assert_same_bits(output.unflatten(2, (3, 19))[elsewhere], clean[elsewhere])


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_a_reference_point_that_is_no_number_reads_nothing(bad: float) -> None:
    arguments = random_fused_inputs([(3, 5), (2, 2)], dtype=torch.float32)
    clean = ms_deform_attn_fused(*arguments)
    points = arguments[3]
    assert points is not None
    points[1, 2, 0] = bad
    output, gradients = value_and_gradients(ms_deform_attn_fused, arguments)
    assert not output[1, 2].any()
    assert not any(bool(gradient[1, 2].any()) for gradient in gradients[1:])
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    output[1, 2] = clean[1, 2]
    assert_same_bits(output, clean)


@each_operator
def test_points_outside_by_less_than_a_cell_fade_and_beyond_have_no_gradient(
    operator: Operator,
) -> None:
    arguments = operator.random([(3, 5)], heads=1, points=1)
    places, (value, *_) = operator.places(arguments), arguments
    for axis, size in ((0, 5), (1, 3)):
        for beyond in (-0.5, -0.999, -1.001, -1.5, -3.0):
            for pixel in (beyond, size - 1.0 - beyond):
                looks_at = torch.full((2,), 1.2, dtype=torch.float64)
                looks_at[axis] = pixel
                if not operator.fused:
                    places[:] = (looks_at + 0.5) / torch.tensor([5.0, 3.0])
                else:
                    points = (
                        arguments[3] if arguments[3] is not None else centres_by_loops([(3, 5)])
                    )
                    origin = points * torch.tensor([5.0, 3.0]) - 0.5
                    places[:] = (looks_at - origin)[..., None, None, None, :]
                output, gradients = value_and_gradients(operator.function, arguments)
                theirs, their_gradients = value_and_gradients(operator.reference, arguments)
                torch.testing.assert_close(output, theirs)
                for gradient, their_gradient in zip(gradients, their_gradients, strict=True):
                    torch.testing.assert_close(gradient, their_gradient)
                if beyond < -1.0:
                    assert not output.any()
                    assert not any(bool(gradient.any()) for gradient in gradients)
    assert value.isfinite().all()


# --- rounding and summing -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_answers_are_rounded_to_the_nearest(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (20_000,), generator=generator).int()
    ties = torch.arange(2**15 - 2**7, dtype=torch.int32) * 2**16 + 2**15  # between two bfloat16
    weights = torch.cat(
        (bits.view(torch.float32), ties.view(torch.float32), torch.tensor([np.nan]))
    )
    weights = weights[~weights.isinf()]
    channels = 37  # a remainder after vectors of every width
    output = ms_deform_attn(
        torch.ones(1, 1, 1, channels, dtype=dtype),
        [(1, 1)],
        torch.full((1, len(weights), 1, 1, 1, 2), 0.5),
        weights.view(1, -1, 1, 1, 1),
    )
    assert_same_bits(output[0], weights.to(dtype).unsqueeze(1).expand(-1, channels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_longer_than_half_precision_can_count(dtype: torch.dtype) -> None:
    value = torch.ones(1, 1, 1, 19, dtype=dtype, requires_grad=True)
    centre = torch.full((1, 3000, 1, 1, 1, 2), 0.5)
    weights = torch.full((1, 3000, 1, 1, 1), 1.0, requires_grad=True)
    output = ms_deform_attn(value, [(1, 1)], centre, weights)
    grad_value, grad_weights = torch.autograd.grad(output.sum(), (value, weights))
    assert_same_bits(grad_value, torch.full_like(value, 3000.0))
    assert_same_bits(grad_weights, torch.full_like(weights, 19.0))
    points = torch.full((1, 1, 1, 1, 3000, 2), 0.5)
    summed = ms_deform_attn(value, [(1, 1)], points, torch.ones(points.shape[:-1]))
    assert_same_bits(summed, torch.full_like(summed, 3000.0))


# --- order, threads, memory ---------------------------------------------------------------------


def _many(operator: Operator, dtype: torch.dtype) -> tuple[Any, ...]:
    """Enough queries, images and heads for two threads."""
    sizes = {"batch": 3, "queries": 203, "heads": 3, "channels": 24}
    return operator.stored(operator.random([(10, 15), (7, 9)], **sizes), dtype)


@each_operator
@each_type
@restores_threads
def test_results_depend_neither_on_the_run_nor_on_the_number_of_threads(
    operator: Operator, dtype: torch.dtype
) -> None:
    arguments = _many(operator, dtype)
    torch.set_num_threads(1)
    output, gradients = value_and_gradients(operator.function, arguments)
    for threads in (1, 2, 2, 2, 3):
        torch.set_num_threads(threads)
        again, gradients_again = value_and_gradients(operator.function, arguments)
        assert_same_bits(again, output)
        assert_all_same_bits(gradients_again, gradients)


@each_operator
@each_type
def test_an_image_comes_out_the_same_alone_and_in_a_batch(
    operator: Operator, dtype: torch.dtype
) -> None:
    arguments = _many(operator, dtype)
    output, gradients = _with_flat_upstream(operator, arguments)
    for image in range(3):
        alone = tuple(
            argument[image : image + 1] if isinstance(argument, Tensor) else argument
            for argument in arguments
        )
        output_alone, gradients_alone = _with_flat_upstream(operator, alone)
        assert_same_bits(output_alone[0], output[image])
        for gradient_alone, gradient in zip(gradients_alone, gradients, strict=True):
            assert_same_bits(gradient_alone[0], gradient[image])


def _with_flat_upstream(
    operator: Operator, arguments: tuple[Any, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = fresh_leaves(arguments)
    output = operator.function(*leaves)
    return output.detach(), torch.autograd.grad(output.sum(), tensors_of(leaves))


@each_operator
@each_type
def test_nothing_of_uninitialised_memory_comes_out(operator: Operator, dtype: torch.dtype) -> None:
    arguments = _many(operator, dtype)
    output, gradients = value_and_gradients(operator.function, arguments)
    assert output.isfinite().all()
    torch.use_deterministic_algorithms(True)  # then torch fills new memory with NaN
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        again, gradients_again = value_and_gradients(operator.function, arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_bits(again, output)
    assert_all_same_bits(gradients_again, gradients)


def _swap_axes_in_memory(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def _every_other_number(tensor: Tensor) -> Tensor:
    return torch.stack((tensor, torch.full_like(tensor, np.nan)), dim=-1).flatten(-2)[..., ::2]


def _amid_nan(tensor: Tensor) -> Tensor:
    nan = tensor.new_full((13,), np.nan)
    return torch.cat((nan, tensor.flatten(), nan))[13:-13].view_as(tensor)


@each_operator
@each_type
@pytest.mark.parametrize(
    "lay_out",
    [_swap_axes_in_memory, _every_other_number, _amid_nan],
    ids=lambda function: function.__name__[1:],
)
def test_how_arguments_lie_in_memory_makes_no_difference(
    operator: Operator, dtype: torch.dtype, lay_out: Callable[[Tensor], Tensor]
) -> None:
    arguments = operator.stored(operator.random([(4, 5), (3, 2)], channels=21), dtype)
    laid_out = [lay_out(tensor) for tensor in tensors_of(arguments)]
    contiguous = [tensor.is_contiguous() for tensor in laid_out]
    aligned = [tensor.data_ptr() % 64 == 0 for tensor in laid_out]
    assert not any(aligned if lay_out is _amid_nan else contiguous)
    expected, expected_gradients = value_and_gradients(operator.function, arguments)

    def through_layout(*leaves: Any) -> Tensor:
        return operator.function(*_with(leaves, tuple(map(lay_out, tensors_of(leaves)))))

    output, gradients = value_and_gradients(through_layout, arguments)
    assert_same_bits(output, expected)
    assert_all_same_bits(gradients, expected_gradients)


@each_operator
def test_expanded_arguments_count_as_copies(operator: Operator) -> None:
    arguments = operator.random([(4, 5), (3, 2)], batch=1)

    def expanded(*leaves: Any) -> Tensor:
        views = (leaf.expand(3, *leaf.shape[1:]) for leaf in tensors_of(leaves))
        return operator.function(*_with(leaves, tuple(views)))

    def repeated(*leaves: Any) -> Tensor:
        copies = (torch.cat([leaf] * 3) for leaf in tensors_of(leaves))
        return operator.function(*_with(leaves, tuple(copies)))

    output, gradients = value_and_gradients(expanded, arguments)
    expected, expected_gradients = value_and_gradients(repeated, arguments)
    assert_same_bits(output, expected)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


@each_operator
def test_upstream_gradients_need_not_be_contiguous(operator: Operator) -> None:
    leaves = fresh_leaves(operator.random([(4, 5), (3, 2)]))
    output = operator.function(*leaves)
    ramp, scalar = upstream_of(output), torch.tensor(1.5, dtype=output.dtype)
    for strided in (_swap_axes_in_memory(ramp), _amid_nan(ramp), scalar.expand(output.shape)):
        gradients, expected = (
            list(torch.autograd.grad(output, tensors_of(leaves), upstream, retain_graph=True))
            for upstream in (strided, strided.clone(memory_format=torch.contiguous_format))
        )
        assert_all_same_bits(gradients, expected)


# --- nothing to do ------------------------------------------------------------------------------


@once
@each_operator
@each_type
@pytest.mark.parametrize("missing", ["batch", "queries", "heads", "channels", "points"])
def test_nothing_to_do_gives_an_empty_or_zero_answer(
    operator: Operator, dtype: torch.dtype, missing: str
) -> None:
    if operator is FUSED_ON_GRID and missing == "queries":
        pytest.skip("every level has a cell, and every cell is a query")
    sizes = {"batch": 2, "queries": 3, "heads": 2, "channels": 3, "points": 2} | {missing: 0}
    shapes = [(2, 3), (1, 2)]
    arguments = operator.stored(operator.random(shapes, **sizes), dtype)
    queries = count_tokens(shapes) if operator is FUSED_ON_GRID else sizes["queries"]
    output, gradients = value_and_gradients(operator.function, arguments)
    assert output.shape == (sizes["batch"], queries, sizes["heads"] * sizes["channels"])
    assert output.dtype == dtype
    assert not output.any()
    for gradient, argument in zip(gradients, tensors_of(arguments), strict=True):
        assert (gradient.shape, gradient.dtype) == (argument.shape, argument.dtype)
        assert not gradient.any()


# --- laws ---------------------------------------------------------------------------------------

LAW = settings(max_examples=10)


@each_operator
@LAW
@given(seed=st.integers(0, 2**31), factor=st.floats(-10.0, 10.0), other=st.floats(-10.0, 10.0))
def test_values_enter_linearly(operator: Operator, seed: int, factor: float, other: float) -> None:
    one, *rest = operator.random([(4, 4), (2, 3)], seed=seed)
    two = operator.random([(4, 4), (2, 3)], seed=seed + 1)[0]
    of_sum = operator.function(factor * one + other * two, *rest)
    sum_of = factor * operator.function(one, *rest) + other * operator.function(two, *rest)
    torch.testing.assert_close(of_sum, sum_of)


@LAW
@given(seed=st.integers(0, 2**31), factor=st.floats(-10.0, 10.0), other=st.floats(-10.0, 10.0))
def test_weights_enter_linearly(seed: int, factor: float, other: float) -> None:
    *rest, one = random_inputs([(4, 4), (2, 3)], seed=seed)
    two = random_inputs([(4, 4), (2, 3)], seed=seed + 1)[3]
    of_sum = ms_deform_attn(*rest, factor * one + other * two)
    sum_of = factor * ms_deform_attn(*rest, one) + other * ms_deform_attn(*rest, two)
    torch.testing.assert_close(of_sum, sum_of)


@each_fused
@LAW
@given(seed=st.integers(0, 2**31), shift=st.floats(-50.0, 50.0))
def test_a_number_added_to_all_logits_changes_nothing(
    operator: Operator, seed: int, shift: float
) -> None:
    arguments = operator.random([(4, 4), (2, 3)], seed=seed)
    output, gradients = value_and_gradients(operator.function, arguments)
    grad_logits = operator.shares(_with(arguments, tuple(gradients)))
    torch.testing.assert_close(
        grad_logits.sum((-2, -1)), torch.zeros(grad_logits.shape[:3], dtype=torch.float64)
    )
    operator.shares(arguments)[:] += shift
    torch.testing.assert_close(operator.function(*arguments), output)


@pytest.mark.parametrize("operator", [DROP_IN, FUSED_AT_POINTS], ids=lambda operator: operator.name)
@LAW
@given(seed=st.integers(0, 2**31), down=st.integers(-3, 3), right=st.integers(-3, 3))
def test_shifting_a_map_by_whole_cells_shifts_where_to_look(
    operator: Operator, seed: int, down: int, right: int
) -> None:
    height, width, margin = 11, 13, 4  # from which no shift leads out of the map
    arguments = operator.random([(height, width)], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    places, sizes = operator.places(arguments), torch.tensor([width, height]).double()
    inner = torch.rand(places.shape, generator=generator, dtype=torch.float64)
    pixels = margin + inner * (sizes - 1 - 2 * margin)
    if operator.fused:
        arguments[3].fill_(0.5)
        places[:] = pixels - (0.5 * sizes - 0.5)
    else:
        places[:] = (pixels + 0.5) / sizes
    before = operator.function(*arguments)
    step = torch.tensor([right, down], dtype=torch.float64)
    places += step if operator.fused else step / sizes
    maps = arguments[0].unflatten(1, (height, width)).roll((down, right), dims=(1, 2))
    after = operator.function(maps.flatten(1, 2), *arguments[1:])
    torch.testing.assert_close(after, before)


@each_operator
@LAW
@given(seed=st.integers(0, 2**31), order=st.permutations(range(5)))
def test_points_of_a_level_have_no_order(operator: Operator, seed: int, order: list[int]) -> None:
    arguments = operator.random([(4, 4), (2, 3)], points=5, seed=seed)
    before = operator.function(*arguments)
    operator.places(arguments)[:] = operator.places(arguments)[..., order, :].clone()
    operator.shares(arguments)[:] = operator.shares(arguments)[..., order].clone()
    torch.testing.assert_close(operator.function(*arguments), before)


@LAW
@given(seed=st.integers(0, 2**31), constant=st.floats(-5.0, 5.0))
def test_a_constant_map_yields_the_sum_of_the_weights_inside(seed: int, constant: float) -> None:
    shapes = [(5, 4), (3, 6)]
    value, _, locations, weights = random_inputs(shapes, points=6, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(weights.shape, generator=generator) < 0.5
    sizes = torch.tensor([(width, height) for height, width in shapes]).view(-1, 1, 2)
    places = torch.rand(locations.shape, generator=generator, dtype=torch.float64)
    between_outer_centres = (0.5 + places * (sizes - 1)) / sizes
    beyond = 1.0 + (1.0 + places) / sizes
    locations = torch.where(inside.unsqueeze(-1), between_outer_centres, beyond)
    output = ms_deform_attn(torch.full_like(value, constant), shapes, locations, weights)
    expected = constant * (weights * inside).sum((-2, -1))
    torch.testing.assert_close(
        output.unflatten(2, (2, 3)), expected.unsqueeze(-1).expand(-1, -1, -1, 3)
    )


# --- as torch knows the operators ---------------------------------------------------------------


def _raw_operands(operator: Operator, *, backward: bool, dtype: torch.dtype) -> dict[str, Any]:
    arguments = operator.stored(operator.random([(2, 3)], points=1), dtype)
    operands = operator.raw(arguments)
    if not backward:
        return operands
    return {"grad_output": upstream_of(operator.function(*arguments)), **operands}


def _raw_operator(operator: Operator, suffix: str) -> Any:
    name = "ms_deform_attn_fused" if operator.fused else "ms_deform_attn"
    return getattr(torch.ops.calibnet, name + suffix)


RAW = [(operator, backward) for operator in OPERATORS for backward in (False, True)]
each_raw = pytest.mark.parametrize(
    ("operator", "backward"), RAW, ids=[f"{o.name}{'-backward' * b}" for o, b in RAW]
)


@once
@each_operator
@each_type
@pytest.mark.parametrize("suffix", ["", "_backward", "_backward_deterministic"])
def test_an_operator_keeps_the_contract_of_custom_operators(
    operator: Operator, dtype: torch.dtype, suffix: str
) -> None:
    operands = _raw_operands(operator, backward=suffix != "", dtype=dtype)
    if not suffix:
        operands = {
            name: operand.requires_grad_() if isinstance(operand, Tensor) else operand
            for name, operand in operands.items()
        }
    torch.library.opcheck(_raw_operator(operator, suffix).default, tuple(operands.values()))


@once
@each_operator
@each_type
def test_the_deterministic_backward_operators_compute_the_same(
    operator: Operator, dtype: torch.dtype
) -> None:
    operands = _raw_operands(operator, backward=True, dtype=dtype)
    usual, deterministic = (
        _raw_operator(operator, f"_backward{suffix}")(**operands)
        for suffix in ("", "_deterministic")
    )
    for one, other in zip(usual, deterministic, strict=True):
        assert one.dtype == other.dtype
        assert relative_error(one, other.double()) <= ROUNDING[dtype]


@once
@each_raw
@each_type
def test_fake_tensors_carry_shape_and_type_without_memory(
    operator: Operator, backward: bool, dtype: torch.dtype
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=dtype)
    on_meta = {
        name: operand.to("meta") if isinstance(operand, Tensor) else operand
        for name, operand in operands.items()
    }
    call = _raw_operator(operator, "_backward" * backward)
    results, fakes = call(**operands), call(**on_meta)
    if not backward:
        results, fakes = (results,), (fakes,)
    for result, fake in zip(results, fakes, strict=True):
        assert fake.is_meta
        assert (fake.shape, fake.dtype, fake.stride()) == (
            result.shape,
            result.dtype,
            result.stride(),
        )


@once
@each_operator
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_graph_holds_an_operator_whole(operator: Operator, dynamic: bool) -> None:
    torch._dynamo.reset()

    def doubled(*arguments: Any) -> Tensor:
        return 2.0 * operator.function(*arguments)

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for queries in (3, 5):
        arguments = operator.random([(3, 4), (2, 2)], queries=queries)
        expected, expected_gradients = value_and_gradients(doubled, arguments)
        output, gradients = value_and_gradients(compiled, arguments)
        torch.testing.assert_close(output, expected)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient)


class _Attention(nn.Module):
    """A layer as models have it: level shapes come from the maps."""

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value, self.packed = nn.Linear(16, 16), nn.Linear(16, 3 * 4 * levels * 2)

    def forward(self, maps: list[Tensor]) -> Tensor:
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        value = self.value(tokens).unflatten(-1, (4, 4))
        return ms_deform_attn_fused(value, shapes, self.packed(tokens))


def _maps(batch: int, *shapes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 16, *shape, generator=generator) for shape in shapes]


@once
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_layer_trains_at_several_sizes(backend: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    layer = _Attention()
    compiled = torch.compile(layer, fullgraph=True, backend=backend, dynamic=dynamic)
    for maps in (_maps(2, (3, 4), (6, 8)), _maps(3, (5, 3), (9, 6))):
        expected = layer(maps)
        expected_gradients = torch.autograd.grad(
            expected, list(layer.parameters()), upstream_of(expected)
        )
        output = compiled(maps)
        gradients = torch.autograd.grad(output, list(layer.parameters()), upstream_of(output))
        torch.testing.assert_close(output, expected)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@once
def test_exported_programs_hold_the_operators_and_give_the_same() -> None:
    class Both(nn.Module):
        def forward(
            self, value: Tensor, locations: Tensor, weights: Tensor, packed: Tensor
        ) -> Tensor:
            shapes = [(3, 4), (2, 2)]
            dropped_in = ms_deform_attn(value, shapes, locations, weights)
            return dropped_in + ms_deform_attn_fused(value, shapes, packed)

    shapes = [(3, 4), (2, 2)]
    value, _, locations, weights = random_inputs(shapes, queries=16, dtype=torch.float32)
    packed = FUSED_ON_GRID.random(shapes, dtype=torch.float32)[2]
    arguments = (value, locations, weights, packed)
    exported = torch.export.export(Both(), arguments)
    targets = {node.target for node in exported.graph.nodes}
    assert torch.ops.calibnet.ms_deform_attn.default in targets
    assert torch.ops.calibnet.ms_deform_attn_fused.default in targets
    assert_same_bits(exported.module()(*arguments), Both()(*arguments))


@once
def test_autocast_trains_a_layer_in_bfloat16() -> None:
    layer, maps = _Attention(), _maps(2, (3, 4), (6, 8))
    expected = layer(maps)
    expected_gradients = torch.autograd.grad(
        expected, list(layer.parameters()), upstream_of(expected)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(maps)
    assert output.dtype == torch.bfloat16
    assert relative_error(output, expected.detach().double()) < 0.05
    gradients = torch.autograd.grad(output, list(layer.parameters()), upstream_of(output))
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert relative_error(gradient, expected_gradient.double()) < 0.2


@once
@each_operator
def test_a_second_derivative_is_refused(operator: Operator) -> None:
    leaves = tensors_of(arguments := fresh_leaves(operator.random([(3, 4)])))
    output = operator.function(*arguments)
    gradients = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
    penalty = sum(gradient.square().sum() for gradient in gradients)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(penalty, leaves, allow_unused=True)


# --- what the raw operators refuse --------------------------------------------------------------


@once
@needs_compiled
@each_raw
def test_a_raw_operator_refuses_tensors_that_are_not_contiguous(
    operator: Operator, backward: bool
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if isinstance(operand, Tensor):
            changed = operands | {name: _swap_axes_in_memory(operand)}
            with pytest.raises(RuntimeError, match=rf"{name} is not contiguous; call contiguous"):
                _raw_operator(operator, "_backward" * backward)(**changed)


@once
@needs_compiled
@each_raw
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool, torch.complex64])
def test_a_raw_operator_refuses_a_tensor_of_another_type(
    operator: Operator, backward: bool, dtype: torch.dtype
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if isinstance(operand, Tensor):
            with pytest.raises(RuntimeError, match=r"must (be|have)|no floating type"):
                _raw_operator(operator, "_backward" * backward)(
                    **operands | {name: operand.to(dtype)}
                )


@once
@needs_compiled
@each_raw
def test_a_raw_operator_wants_float32_places_beside_half_precision(
    operator: Operator, backward: bool
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=torch.bfloat16)
    wide = [
        name
        for name, operand in operands.items()
        if isinstance(operand, Tensor) and operand.dtype == torch.float32
    ]
    others = [(name, torch.bfloat16) for name in wide] + [(name, torch.float16) for name in wide]
    others += [("packed", torch.float16)] * operator.fused
    for name, dtype in others:
        with pytest.raises(RuntimeError, match=rf"{name}.* must (be|have)"):
            _raw_operator(operator, "_backward" * backward)(
                **operands | {name: operands[name].to(dtype)}
            )


@once
@needs_compiled
@each_raw
@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor[:1],
        lambda tensor: tensor[:, :-1].contiguous(),
        lambda tensor: tensor[..., :-1].contiguous(),
        lambda tensor: tensor.unsqueeze(0),
        lambda tensor: tensor.flatten(),
        lambda tensor: tensor[0, 0, 0].clone(),
        lambda tensor: tensor.new_empty(0),
    ],
    ids=["batch", "queries", "last", "more axes", "flat", "few axes", "empty"],
)
def test_a_raw_operator_refuses_a_tensor_of_another_shape(
    operator: Operator, backward: bool, change: Callable[[Tensor], Tensor]
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if not isinstance(operand, Tensor):
            continue
        changed = change(operand)
        if name == "value" and not backward and changed.shape[:-1] == operand.shape[:-1]:
            continue  # fewer channels are as good
        with pytest.raises(RuntimeError, match="ms_deform_attn") as refusal:
            _raw_operator(operator, "_backward" * backward)(**operands | {name: changed})
        assert re.search(r"does not belong|axes; expected|tokens", str(refusal.value))


@once
@each_raw
@pytest.mark.parametrize(
    "level_shapes",
    [
        [],
        [6],
        [2, 3, 1],
        [2, 4],
        [2, 2],
        [0, 6],
        [2, 0],
        [-2, -3],
        [2, -3],
        [1, 3, 1, 3],
        [2, 3, 1, 1],
        [2, 3, 0, 0],
        [2, 3, -1, -1],
        [2**31, 2**31],
        [2**40, 2**40],
        [2**62, 4],
        [2**63 - 1, 2**63 - 1],
        [-(2**63), 1],
        [6.0, 1.0],
        [2**64, 1],
        [None, 6],
    ],
    ids=str,
)
@needs_compiled
def test_a_raw_operator_refuses_levels_that_are_not_the_values(
    operator: Operator, backward: bool, level_shapes: list[Any]
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"level|tokens|does not belong"):
        _raw_operator(operator, "_backward" * backward)(**operands | {"level_shapes": level_shapes})


@once
@each_raw
def test_a_raw_operator_refuses_tensors_on_several_devices(
    operator: Operator, backward: bool
) -> None:
    operands = _raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if isinstance(operand, Tensor):
            with pytest.raises((RuntimeError, ValueError), match="device"):
                _raw_operator(operator, "_backward" * backward)(
                    **operands | {name: operand.to("meta")}
                )


@once
@needs_compiled
@settings(max_examples=150)
@given(data=st.data())
def test_raw_operators_given_anything_refuse_it_or_answer_in_the_right_shape(
    data: st.DataObject,
) -> None:
    small = st.integers(0, 3)
    dtypes = st.sampled_from([torch.float32] * 6 + [torch.float64, torch.bfloat16, torch.int64])
    operator, backward = data.draw(st.sampled_from(RAW))
    sizes = {size: data.draw(small) for size in ("batch", "queries", "heads", "channels", "points")}
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=3))
    operands = operator.raw(operator.random(shapes or [(1, 1)], **sizes, dtype=torch.float32))
    if backward:
        queries = operands["packed" if operator.fused else "locations"].shape[1]
        width = sizes["heads"] * sizes["channels"]
        operands = {"grad_output": torch.zeros(sizes["batch"], queries, width)} | operands
    for _ in range(data.draw(st.integers(0, 2))):  # faults
        name = data.draw(st.sampled_from(list(operands)))
        operand = operands[name]
        if isinstance(operand, Tensor):
            axis = data.draw(st.integers(0, operand.dim() - 1))
            size = list(operand.shape)
            size[axis] = data.draw(small)
            operands[name] = torch.rand(size).to(data.draw(dtypes))
        elif isinstance(operand, list):
            operands[name] = data.draw(st.lists(st.integers(-3, 9), max_size=6))
    try:
        result = _raw_operator(operator, "_backward" * backward)(**operands)
    except RuntimeError as refusal:
        assert "ms_deform_attn" in str(refusal)  # noqa: PT017
        return
    value = operands["value"]
    if backward:
        inputs = [
            value,
            *(operands[name] for name in ("locations", "weights", "packed") if name in operands),
        ]
        assert [gradient.shape for gradient in result] == [tensor.shape for tensor in inputs]
        return
    queries = operands["packed" if operator.fused else "locations"].shape[1]
    assert result.shape == (value.shape[0], queries, value.shape[2] * value.shape[3])
    assert result.isfinite().all()


# --- what the public functions refuse -----------------------------------------------------------


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": torch.zeros(2, 6, 3)}, "value is (2, 6, 3); expected (B, L, M, D)"),
        (
            {"weights": torch.zeros(2, 3, 2, 1, 4)},
            "value (2, 6, 2, 3), locations (2, 3, 2, 1, 2, 2), weights (2, 3, 2, 1, 4) do not "
            "belong together on 1 levels; expected locations (2, 3, 2, 1, 2, 2) and weights "
            "(2, 3, 2, 1, 2)",
        ),
        ({"locations": torch.zeros(2, 3, 2, 1, 2, 3)}, "expected locations (2, 3, 2, 1, 2, 2)"),
        ({"locations": torch.zeros(2, 3, 2, 1, 2)}, "expected locations (B, Q, M, levels, P, 2)"),
        ({"weights": torch.zeros(2, 3, 2, 2)}, "and weights (B, Q, M, levels, P)"),
        ({"shapes": [(2, 3), (1, 1)]}, "hold 7 tokens, value has 6"),
        ({"shapes": [(1, 3), (1, 3)]}, "do not belong together on 2 levels"),
        ({"shapes": [(2, 4)]}, "level_shapes [(2, 4)] hold 8 tokens, value has 6"),
        (
            {"weights": torch.zeros(2, 3, 2, 1, 2, device="meta")},
            "value is on cpu, weights on meta; move them to one device",
        ),
        (
            {"value": torch.zeros(2, 6, 2, 3, dtype=torch.float64)},
            "value is torch.float64, locations torch.float32; use one floating type",
        ),
        (
            {"weights": torch.zeros(2, 3, 2, 1, 2, dtype=torch.float64)},
            "value is torch.float32, weights torch.float64; use one floating type",
        ),
        (
            {"locations": torch.zeros(2, 3, 2, 1, 2, 2, dtype=torch.float16)},
            "value is torch.float32, locations torch.float16; use one floating type, or float32 "
            "beside a half-precision value",
        ),
    ],
)
def test_the_drop_in_operator_refuses_what_does_not_fit_with_its_shapes(
    changes: dict[str, Any], message: str
) -> None:
    value, shapes, locations, weights = random_inputs([(2, 3)], dtype=torch.float32)
    fitting = {"value": value, "shapes": shapes, "locations": locations, "weights": weights}
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        ms_deform_attn(*(fitting | changes).values())
    assert str(refusal.value).startswith("ms_deform_attn: ")


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": torch.zeros(2, 6, 3)}, "value is (2, 6, 3); expected (B, L, M, D)"),
        (
            {"packed": torch.zeros(2, 3, 13)},
            "packed is (2, 3, 13); expected (2, Q, 6 * P) beside value (2, 6, 2, 3) on 1 levels",
        ),
        ({"packed": torch.zeros(1, 3, 12)}, "packed is (1, 3, 12); expected (2, Q, 6 * P)"),
        ({"packed": torch.zeros(3, 12)}, "packed is (3, 12); expected (2, Q, 6 * P)"),
        (
            {"packed": torch.zeros(2, 5, 12)},
            "reference_points are (2, 3, 2); expected (5, 2) or (2, 5, 2)",
        ),
        (
            {"points": torch.zeros(3, 3)},
            "reference_points are (3, 3); expected (3, 2) or (2, 3, 2)",
        ),
        ({"points": torch.zeros(1, 3, 2)}, "reference_points are (1, 3, 2)"),
        (
            {"points": None},
            "packed has 3 queries and value 6 tokens; give reference_points where the queries are "
            "not the tokens",
        ),
        ({"shapes": [(2, 4)]}, "level_shapes [(2, 4)] hold 8 tokens, value has 6"),
        (
            {"packed": torch.zeros(2, 3, 12, device="meta")},
            "value is on cpu, packed on meta; move them to one device",
        ),
        (
            {"points": torch.zeros(3, 2, device="meta")},
            "value is on cpu, reference_points on meta; move them to one device",
        ),
        (
            {"packed": torch.zeros(2, 3, 12, dtype=torch.bfloat16)},
            "value is torch.float32, packed torch.bfloat16; use one floating type",
        ),
        (
            {"packed": torch.zeros(2, 3, 12, dtype=torch.float64)},
            "value is torch.float32, packed torch.float64; use one floating type",
        ),
        (
            {"value": torch.zeros(2, 6, 2, 3, dtype=torch.float64)},
            "value is torch.float64, packed torch.float32; use one floating type",
        ),
        (
            {"points": torch.zeros(3, 2, dtype=torch.float64)},
            "value is torch.float32, reference_points torch.float64; use one floating type",
        ),
    ],
)
def test_the_fused_operator_refuses_what_does_not_fit_with_its_shapes(
    changes: dict[str, Any], message: str
) -> None:
    value, shapes, packed, points = random_fused_inputs([(2, 3)], dtype=torch.float32)
    fitting = {"value": value, "shapes": shapes, "packed": packed, "points": points}
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        ms_deform_attn_fused(*(fitting | changes).values())
    assert str(refusal.value).startswith("ms_deform_attn_fused: ")


@once
@each_operator
@pytest.mark.parametrize(
    "shapes",
    [[], [(0, 3), (2, 3)], [(2, 3), (3, 0)], [(-2, -3)], [(2.0, 3.0)], [(2, 3, 1)], [2, 3]],
    ids=str,
)
def test_levels_that_are_none_are_refused(operator: Operator, shapes: Any) -> None:
    value, _, *rest = operator.random([(2, 3)])
    with pytest.raises((ValueError, TypeError, RuntimeError)) as refusal:
        operator.function(value, shapes, *rest)
    assert "level" in str(refusal.value)


@once
@each_operator
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_numbers_that_are_not_floating_are_refused(operator: Operator, dtype: torch.dtype) -> None:
    value, shapes, third, fourth = operator.random([(2, 3)])
    fourth = None if fourth is None else fourth.to(dtype)
    with pytest.raises(ValueError, match=rf"{dtype}.*use one floating type"):
        operator.function(value.to(dtype), shapes, third.to(dtype), fourth)
