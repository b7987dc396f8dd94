"""Auxiliary region predictor, which training supervises with the union of all instances."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """3x3 convolution, group norm, GELU, 1x1 convolution to one logit per cell."""

    def __init__(self, channels: int = 256, hidden: int = 128) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(32, hidden), hidden)
        self.conv2 = nn.Conv2d(hidden, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Region logits (B, 1, h, w) of features (B, C, h, w)."""
        logits: Tensor = self.conv2(F.gelu(self.norm(self.conv1(features))))
        return logits
