"""Depth similarity assessment (DSA): how far the depth features of an image can be trusted."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

SimilarityFactory = Callable[[int], nn.Module]
"""Makes an assessment, called as `DepthSimilarity` is, for maps of that many channels."""


class DepthSimilarity(nn.Module):
    """One trust score per image from the agreement of both modalities (paper section IV-E).

    The published network has three of these, none shared: one in the kernel branch and one in each
    fusion of the mask branch.
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


class BorrowedSimilarity(nn.Module):
    """The assessment of another part of the network, for the sharing of table V.

    Args:
        owner: where the weights are. They stay its own: no second name of them gets into a state
            dictionary, whose files cannot hold one tensor under two names.
    """

    def __init__(self, owner: DepthSimilarity) -> None:
        super().__init__()
        self._owner = (owner,)  # inside a tuple no submodule; a copy of the network copies both

    @property
    def owner(self) -> DepthSimilarity:
        """The part whose weights are used."""
        return self._owner[0]

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """As `DepthSimilarity.forward`."""
        score: Tensor = self.owner(rgb, depth)
        return score


class FullTrust(nn.Module):
    """No assessment: depth counts as it is, for the rows of table XI without DSA."""

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Ones, (B, 1, 1, 1)."""
        return depth.new_ones(depth.shape[0], 1, 1, 1)
