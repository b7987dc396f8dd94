"""Depth similarity assessment (DSA): how far the depth features of an image can be trusted."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class DepthSimilarity(nn.Module):
    """One trust score per image from the agreement of both modalities (paper section III-D).

    The network has three of these, none shared: one in the kernel branch and one in each fusion of
    the mask branch.
    """

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.project_rgb = nn.Conv2d(channels, 1, 1)
        self.project_depth = nn.Conv2d(channels, 1, 1)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Compare (B, C, h, w) maps; returns (B, 1, 1, 1) in [0, 1], the factor for the depth map.

        The cosine similarity c of the two projections becomes 1 - (1 - c) / 2.
        """
        cosine = F.cosine_similarity(
            self.project_rgb(rgb).flatten(1), self.project_depth(depth).flatten(1), eps=1e-8
        )
        return (1.0 - (1.0 - cosine) / 2.0).view(-1, 1, 1, 1)
