"""Where a kernel's object is: a mask fades with the distance from there, so twins stay apart.

Mask features tell what a pixel looks like, and hardly where it is; a kernel that finds its object
by looks finds pieces of others that look alike. This is an improvement, no part of the published
network: instance-wise convolutions that know their place are due to Tian et al., Conditional
Convolutions for Instance Segmentation (2020), who give them relative coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEEPEST = 8.0


def distance_from(place: Tensor, height: int, width: int) -> Tensor:
    """What is taken off the mask logits of candidates at every cell.

    It is a (x - x0)^2 + b (y - y0)^2, with x and y from -1 at the first to 1 at the last column and
    row. Cells about a place are left as they are.

    Args:
        place: (B, N, 4): x0, y0, and the logarithms of a and b, which count as 8 at most.
        height: of the masks.
        width: of the masks.

    Returns:
        (B, N, height, width) float32, at least 0.
    """
    # In half precision there would be steps of several cells.
    x0, y0, log_a, log_b = place.float().unsqueeze(-2).unbind(-1)
    x = torch.linspace(-1.0, 1.0, width, device=place.device)
    y = torch.linspace(-1.0, 1.0, height, device=place.device)
    across = log_a.clamp(max=_STEEPEST).exp() * (x - x0) ** 2
    down = log_b.clamp(max=_STEEPEST).exp() * (y - y0) ** 2
    return across.unsqueeze(-2) + down.unsqueeze(-1)
