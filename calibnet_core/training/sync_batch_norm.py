"""Batch norm over the batch of all processes, on any device.

torch's own synchronised batch norm runs on GPUs only; a run on CPUs would then compute something
else than the same run on GPUs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, h, w), B being this process's share of the batch."""
        if not (self.training and torch.distributed.is_initialized()):
            return super().forward(input)
        features = input if input.dtype == torch.float64 else input.float()
        count = features.new_tensor(features.numel() // features.shape[1])
        torch.distributed.all_reduce(count)
        # Two passes: the difference of large sums would lose the variance of distant features.
        mean = _sum_over_processes(features.sum((0, 2, 3))) / count
        centred = features - mean.view(1, -1, 1, 1)
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1.0).clamp_min(1.0))
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronise_batch_norms(model: nn.Module) -> None:
    """Make every trainable batch norm of `model` a synchronised one; weights and names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d


def _sum_over_processes(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total
