"""The position vector of the deformable encoder: one constant, as the published network has it."""

from __future__ import annotations

import torch
from torch import Tensor

_COORDINATE = -3141592.75


def published_position_vector() -> Tensor:
    """The (256,) float32 vector that the published network adds to every query, whatever its place.

    The intended sine encoding normalises coordinates by the size of the unpadded area, which the
    published code takes to be zero. Every location then gets (0 - 0.5) / (0 + 1e-6) * 2 pi on both
    axes. Trained weights depend on the resulting vector, so it is reproduced to the bit:
    denominators and arguments in float32, sines in float64.
    """
    exponents = torch.arange(64, dtype=torch.float64) / 64.0
    denominators = torch.pow(10000.0, exponents).float()
    angles = (torch.tensor(_COORDINATE, dtype=torch.float32) / denominators).double()
    axis = torch.stack((angles.sin(), angles.cos()), dim=1).flatten()
    return torch.cat((axis, axis)).float()
