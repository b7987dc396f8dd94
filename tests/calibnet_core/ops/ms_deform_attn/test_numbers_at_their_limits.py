"""Numbers that are none, that are huge, and that half precision rounds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
from tests.support.deform_attn import (
    Operator,
    random_fused_inputs,
    relative_error,
    value_and_gradients,
    with_tensors,
)
from tests.support.deform_attn_marks import (
    ROUNDING,
    assert_all_same_bits,
    assert_same_bits,
    each_half_type,
    each_operator,
    each_type,
)

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
    as_arguments = with_tensors(spoilt, tuple(gradients))
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
@pytest.mark.parametrize("beyond", [0.5, 0.999, 1.001, 1.5, 3.0])
@pytest.mark.parametrize("side", ["left", "right", "above", "below"])
def test_points_outside_by_less_than_a_cell_fade_and_others_have_no_gradient(
    operator: Operator, side: str, beyond: float
) -> None:
    width, height = 5, 3
    pixel = torch.tensor([1.2, 1.2], dtype=torch.float64)
    axis, last = (0, width - 1) if side in ("left", "right") else (1, height - 1)
    pixel[axis] = -beyond if side in ("left", "above") else last + beyond
    arguments = operator.random([(height, width)], heads=1, points=1)
    operator.look_at(arguments, pixel)
    output, gradients = value_and_gradients(operator.function, arguments)
    expected, expected_gradients = value_and_gradients(operator.reference, arguments)
    torch.testing.assert_close(output, expected)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)
    assert any(bool(result.any()) for result in (output, *gradients)) == (beyond < 1.0)


# --- rounding and summing -----------------------------------------------------------------------


@each_half_type
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


@each_half_type
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
