"""Marks and comparisons that tests of both operators share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from calibnet_core.ops import info
from tests.support.deform_attn import (
    FUSED_AT_POINTS,
    FUSED_ON_GRID,
    OPERATORS,
    Operator,
    upstream_of,
)

COMPILED = info().library is not None

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-4, torch.bfloat16: 4e-3}
"""Relative errors where inputs are exact; rounding the answer once makes no more in half types."""


# --- marks --------------------------------------------------------------------------------------


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


each_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
each_fused = pytest.mark.parametrize(
    "operator", [FUSED_AT_POINTS, FUSED_ON_GRID], ids=lambda operator: operator.name
)
each_type = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=type_name
)
each_half_type = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=type_name)
# Says nothing about numbers, so one set of kernels will do.
once = pytest.mark.parametrize("kernels", ["as loaded"], indirect=True)
needs_compiled = pytest.mark.skipif(
    not COMPILED, reason="the eager kernels leave checks to the public functions"
)
RAW = [(operator, backward) for operator in OPERATORS for backward in (False, True)]
each_raw = pytest.mark.parametrize(
    ("operator", "backward"), RAW, ids=[f"{o.name}{'-backward' * b}" for o, b in RAW]
)


# --- comparisons --------------------------------------------------------------------------------


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=0.0, equal_nan=True)


def assert_all_same_bits(actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert_same_bits(one, other)


# --- the raw operators --------------------------------------------------------------------------


def raw_operands(operator: Operator, *, backward: bool, dtype: torch.dtype) -> dict[str, Any]:
    arguments = operator.stored(operator.random([(2, 3)], points=1), dtype)
    operands = operator.raw(arguments)
    if not backward:
        return operands
    return {"grad_output": upstream_of(operator.function(*arguments)), **operands}


def raw_operator(operator: Operator, suffix: str) -> Any:
    name = "ms_deform_attn_fused" if operator.fused else "ms_deform_attn"
    return getattr(torch.ops.calibnet, name + suffix)


def swap_axes_in_memory(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)
