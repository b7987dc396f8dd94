"""What the deformable encoder is told of a token's place: one constant (published), or sines."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_COORDINATE = -3141592.75


class ConstantPosition(nn.Module):
    """The same vector for every token.

    Args:
        vector: (C,); copied, no part of the weights.
    """

    vector: Tensor

    def __init__(self, vector: Tensor) -> None:
        super().__init__()
        self.register_buffer("vector", vector.clone(), persistent=False)

    def forward(self, height: int, width: int) -> Tensor:
        """Encoding of all cells of a (height, width) level, (1, C)."""
        return self.vector.unsqueeze(0)


class SinePosition(nn.Module):
    """Sines and cosines of a cell's row and column (Carion et al., DETR, appendix A.4).

    The centre of a cell at 0..1 of the level's height and width becomes an angle of 0..2 pi; a
    quarter of the channels each are its sines and cosines, at wavelengths that grow up to 10000
    times. Channels are ordered as in the published vector: row before column, pairs of sine and
    cosine.

    Args:
        channels: C, a multiple of 4.
    """

    frequencies: Tensor

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        frequencies = 1.0 / wavelengths(channels // 4).float()
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, height: int, width: int) -> Tensor:
        """Encoding of all cells of a (height, width) level, row by row, (height * width, C)."""
        row, column = self._axis(height), self._axis(width)
        rows = row.unsqueeze(1).expand(-1, width, -1)
        columns = column.unsqueeze(0).expand(height, -1, -1)
        return torch.cat((rows, columns), dim=-1).flatten(0, 1)

    def _axis(self, length: int) -> Tensor:
        cells = torch.arange(length, device=self.frequencies.device, dtype=self.frequencies.dtype)
        angles = ((cells + 0.5) * (2.0 * math.pi / length)).unsqueeze(1) * self.frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def published_position_vector(channels: int = 256) -> Tensor:
    """The (C,) float32 vector that the published network adds to every query, whatever its place.

    The intended sine encoding normalises coordinates by the size of the unpadded area, which the
    published code takes to be zero. Every location then gets (0 - 0.5) / (0 + 1e-6) * 2 pi on both
    axes. Trained weights depend on the resulting vector, so it is reproduced to the bit:
    denominators and arguments in float32, sines in float64.

    Args:
        channels: C, a multiple of 4; 256 as published.
    """
    denominators = wavelengths(channels // 4).float()
    angles = (torch.tensor(_COORDINATE, dtype=torch.float32) / denominators).double()
    axis = torch.stack((angles.sin(), angles.cos()), dim=1).flatten()
    return torch.cat((axis, axis)).float()


def wavelengths(count: int) -> Tensor:
    """From 1 to below 10000 in equal ratios, (count,) float64."""
    return torch.pow(10000.0, torch.arange(count, dtype=torch.float64) / count)
