"""Under autocast on a CPU, what bfloat16 would slow down runs in float32; nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calibnet_core.training.slow_halves import SlowHalvesInFull
from tests.support.listening import InputTypes

CHANNELS = 8
Operator = Callable[[Tensor, Tensor, Tensor], Tensor]


def halving(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution with one filter per channel and a stride."""
    return F.conv2d(image, weight, bias, (2, 2), (1, 1), (1, 1), CHANNELS)


def halving_by_name(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same, otherwise called."""
    return F.conv2d(image, weight, bias=bias, stride=2, padding=1, groups=CHANNELS)


def norm(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A group norm, of four groups."""
    return F.group_norm(image, 4, weight[:, 0, 0, 0], bias)


def keeping_size(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution with one filter per channel and no stride."""
    return F.conv2d(image, weight, bias, padding=1, groups=CHANNELS)


def mixing(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution with a stride that mixes all channels."""
    return F.conv2d(image, weight.repeat(1, CHANNELS, 1, 1), bias, stride=2)


def of_one_channel(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of a single channel: one group, and not one filter per channel."""
    return F.conv2d(image[:, :1], weight, bias, stride=2)


SLOW = [halving, halving_by_name, norm]
FAST = [keeping_size, mixing, of_one_channel]


@pytest.fixture
def operands() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, CHANNELS, 9, 7, generator=generator).bfloat16()
    weight = torch.randn(CHANNELS, 1, 3, 3, generator=generator).requires_grad_()
    bias = torch.randn(CHANNELS, generator=generator).requires_grad_()
    return image, weight, bias


@pytest.mark.parametrize("operator", SLOW)
def test_a_slow_operator_takes_float32_and_gives_the_type_it_was_given(
    operator: Operator, operands: tuple[Tensor, Tensor, Tensor]
) -> None:
    image, weight, bias = operands
    expected = operator(image.float(), weight, bias).bfloat16()
    watched = F.group_norm if operator is norm else F.conv2d
    half = torch.autocast("cpu", dtype=torch.bfloat16)
    with half, InputTypes(watched) as inputs, SlowHalvesInFull():
        result = operator(image, weight, bias)
    assert inputs.types == {torch.float32}
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected)


@pytest.mark.parametrize("operator", FAST)
def test_every_other_operator_stays_as_autocast_has_it(
    operator: Operator, operands: tuple[Tensor, Tensor, Tensor]
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = operator(*operands)
        with SlowHalvesInFull():
            result = operator(*operands)
    assert result.dtype == expected.dtype
    assert torch.equal(result, expected)


@pytest.mark.parametrize("operator", SLOW)
def test_without_autocast_nothing_is_changed(
    operator: Operator, operands: tuple[Tensor, Tensor, Tensor]
) -> None:
    half = [operand.detach().bfloat16() for operand in operands]
    watched = F.group_norm if operator is norm else F.conv2d
    with InputTypes(watched) as inputs, SlowHalvesInFull():
        operator(half[0], half[1], half[2])
    assert inputs.types == {torch.bfloat16}


@pytest.mark.parametrize("operator", SLOW)
def test_gradients_are_those_of_float32(
    operator: Operator, operands: tuple[Tensor, Tensor, Tensor]
) -> None:
    image, weight, bias = operands
    operator(image.float(), weight, bias).sum().backward()
    assert weight.grad is not None
    expected, weight.grad = weight.grad, None
    with torch.autocast("cpu", dtype=torch.bfloat16), SlowHalvesInFull():
        operator(image, weight, bias).sum().backward()
    torch.testing.assert_close(weight.grad, expected)
