"""Laws of deformable attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.ops import ms_deform_attn
from tests.support.deform_attn import (
    DROP_IN,
    FUSED_AT_POINTS,
    Operator,
    random_inputs,
    value_and_gradients,
    with_tensors,
)
from tests.support.deform_attn_marks import each_fused, each_operator

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
    grad_logits = operator.shares(with_tensors(arguments, tuple(gradients)))
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
    sizes = torch.tensor([width, height], dtype=torch.float64)
    inner = torch.rand(
        operator.places(arguments).shape,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    pixels = margin + inner * (sizes - 1 - 2 * margin)
    operator.look_at(arguments, pixels)
    before = operator.function(*arguments)
    operator.look_at(arguments, pixels + torch.tensor([right, down]))
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
