"""What the operators refuse, and in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
from tests.support.deform_attn import (
    Operator,
    random_fused_inputs,
    random_inputs,
    tensors_of,
    with_tensors,
)
from tests.support.deform_attn_marks import (
    RAW,
    each_operator,
    each_raw,
    needs_compiled,
    once,
    raw_operands,
    raw_operator,
    swap_axes_in_memory,
)

# --- what the raw operators refuse --------------------------------------------------------------


@once
@needs_compiled
@each_raw
def test_a_raw_operator_refuses_tensors_that_are_not_contiguous(
    operator: Operator, backward: bool
) -> None:
    operands = raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if isinstance(operand, Tensor):
            changed = operands | {name: swap_axes_in_memory(operand)}
            with pytest.raises(RuntimeError, match=rf"{name} is not contiguous; call contiguous"):
                raw_operator(operator, "_backward" * backward)(**changed)


@once
@needs_compiled
@each_raw
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool, torch.complex64])
def test_a_raw_operator_refuses_a_tensor_of_another_type(
    operator: Operator, backward: bool, dtype: torch.dtype
) -> None:
    operands = raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if isinstance(operand, Tensor):
            with pytest.raises(RuntimeError, match=r"must (be|have)|no floating type"):
                raw_operator(operator, "_backward" * backward)(
                    **operands | {name: operand.to(dtype)}
                )


@once
@needs_compiled
@each_raw
def test_a_raw_operator_wants_float32_places_beside_half_precision(
    operator: Operator, backward: bool
) -> None:
    operands = raw_operands(operator, backward=backward, dtype=torch.bfloat16)
    wide = [
        name
        for name, operand in operands.items()
        if isinstance(operand, Tensor) and operand.dtype == torch.float32
    ]
    others = [(name, torch.bfloat16) for name in wide] + [(name, torch.float16) for name in wide]
    others += [("packed", torch.float16)] * operator.fused
    for name, dtype in others:
        with pytest.raises(RuntimeError, match=rf"{name}.* must (be|have)"):
            raw_operator(operator, "_backward" * backward)(
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
    operands = raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if not isinstance(operand, Tensor):
            continue
        changed = change(operand)
        if name == "value" and not backward and changed.shape[:-1] == operand.shape[:-1]:
            continue  # fewer channels are as good
        with pytest.raises(RuntimeError, match="ms_deform_attn") as refusal:
            raw_operator(operator, "_backward" * backward)(**operands | {name: changed})
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
    operands = raw_operands(operator, backward=backward, dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"level|tokens|does not belong"):
        raw_operator(operator, "_backward" * backward)(**operands | {"level_shapes": level_shapes})


@once
@each_raw
def test_a_raw_operator_refuses_tensors_on_several_devices(
    operator: Operator, backward: bool
) -> None:
    operands = raw_operands(operator, backward=backward, dtype=torch.float32)
    for name, operand in operands.items():
        if isinstance(operand, Tensor):
            with pytest.raises((RuntimeError, ValueError), match="device"):
                raw_operator(operator, "_backward" * backward)(
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
        result = raw_operator(operator, "_backward" * backward)(**operands)
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
    [[], [(0, 3), (2, 3)], [(2, 3), (3, 0)], [(-2, -3)], [(2.0, 3.0)], [(2, 3, 1)], [2, 3], None],
    ids=str,
)
def test_levels_that_are_none_are_refused(operator: Operator, shapes: Any) -> None:
    value, _, *rest = operator.random([(2, 3)])
    with pytest.raises(ValueError, match="level_shapes are"):
        operator.function(value, shapes, *rest)


@once
@each_operator
@pytest.mark.parametrize(
    "of_list", [torch.tensor, np.array, iter], ids=lambda function: function.__name__
)
def test_levels_are_a_list_of_numbers_on_the_host(
    operator: Operator, of_list: Callable[[Any], Any]
) -> None:
    value, shapes, *rest = operator.random([(2, 3)])
    with pytest.raises(ValueError, match=r"expected a list with \(height, width\) of each level"):
        operator.function(value, of_list(shapes), *rest)


@once
@each_operator
def test_a_forward_mode_derivative_is_refused(operator: Operator) -> None:
    arguments = operator.random([(2, 3)])
    tensors = tuple(tensors_of(arguments))

    def function(*tensors: Tensor) -> Tensor:
        return operator.function(*with_tensors(arguments, tensors))

    with pytest.raises(RuntimeError, match="no forward-mode derivative; use reverse mode, or"):
        torch.func.jvp(function, tensors, tensors)


@once
def test_without_heads_nothing_can_be_packed() -> None:
    value = torch.zeros(1, 6, 0, 4)
    assert ms_deform_attn_fused(value, [(2, 3)], torch.zeros(1, 6, 0)).shape == (1, 6, 0)
    with pytest.raises(ValueError, match=r"packed is \(1, 6, 24\); expected \(1, Q, 0 \* P\)"):
        ms_deform_attn_fused(value, [(2, 3)], torch.zeros(1, 6, 24))


@once
@each_operator
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_numbers_that_are_not_floating_are_refused(operator: Operator, dtype: torch.dtype) -> None:
    value, shapes, third, fourth = operator.random([(2, 3)])
    fourth = None if fourth is None else fourth.to(dtype)
    with pytest.raises(ValueError, match=rf"{dtype}.*use one floating type"):
        operator.function(value.to(dtype), shapes, third.to(dtype), fourth)
