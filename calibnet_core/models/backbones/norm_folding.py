"""A norm with fixed statistics as part of the convolution before it: one pass instead of three."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

FIXED_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)
"""Norms that in evaluation scale and shift every channel by what they know already."""


def folded(conv: nn.Conv2d, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that equals `norm` after `conv`."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = _vector(norm, "weight") * (variance + norm.eps).rsqrt()
    bias = mean.new_zeros(mean.shape) if conv.bias is None else conv.bias
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    return weight, (bias - mean) * scale + _vector(norm, "bias")


def _vector(norm: nn.Module, name: str) -> Tensor:
    value = getattr(norm, name)  # a buffer in a frozen norm, a parameter otherwise
    assert isinstance(value, Tensor)
    return value


class FoldingSequential(nn.Sequential):
    """Modules in turn, with every frozen norm folded into the convolution before it.

    Weights stay what they are and learn as before, and so do their names; what is folded is made
    anew in each pass, which costs nothing beside the two passes over a map that it saves, and the
    third backwards.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Apply all modules."""
        modules = iter(itertools.zip_longest(self, list(self)[1:]))
        for module, following in modules:
            if type(module) is nn.Conv2d and isinstance(following, FrozenBatchNorm2d):
                features = module._conv_forward(features, *folded(module, following))
                next(modules)
            else:
                features = module(features)
        return features


def fold_frozen_norms(network: nn.Module) -> None:
    """Let every `nn.Sequential` inside `network` fold its frozen norms while it computes."""
    for name, child in network.named_children():
        fold_frozen_norms(child)
        if isinstance(child, nn.Sequential):
            setattr(network, name, FoldingSequential(*child))
