"""Operators that a CPU computes several times slower in bfloat16 than in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SlowHalvesInFull(TorchFunctionMode):
    """Within it, autocast on a CPU leaves alone what bfloat16 would slow down; on a GPU no effect.

    Convolutions with one filter per channel and a stride, and group norms: their gradients have no
    fast bfloat16 form in the libraries below torch. They take float32, and give the type that their
    input had, so that whatever follows still gains.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `func`, outside of autocast where it is one of the slow ones."""
        kwargs = kwargs or {}
        if not (torch.is_autocast_enabled("cpu") and _is_slow_in_bfloat16(func, args, kwargs)):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            result: Tensor = func(
                *(_in_full(each) for each in args),
                **{name: _in_full(each) for name, each in kwargs.items()},
            )
        return result.to(args[0].dtype)


def _is_slow_in_bfloat16(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    if func is F.group_norm:
        return bool(args[0].is_cpu)
    if func is not F.conv2d or not args[0].is_cpu:
        return False
    stride, _, _, groups = _geometry(*args[2:], **kwargs)
    return max(stride) > 1 and 1 < groups == args[0].shape[1]


def _geometry(
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[tuple[int, ...], Any, Any, int]:
    """What a convolution is told beside image and weight, by place or by name."""
    return (stride,) if isinstance(stride, int) else stride, padding, dilation, groups


def _in_full(value: Any) -> Any:
    is_real = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if is_real else value
