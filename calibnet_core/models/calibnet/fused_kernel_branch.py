"""Kernel branches that see one map: early fusion (table III) and the baselines of table XI."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.kernel_branch import (
    GROUPS,
    coordinate_channels,
    normalised_maps,
)


class FusedKernelBranch(nn.Module):
    """N instance kernels from both modalities' T3, joined before anything else happens.

    The steps behind the join are those of one modality of `kernel_branch.KernelBranch`; without a
    second set of maps, the four groups of a candidate make its row, and nothing is left to merge.

    Args:
        join: (rgb, depth) maps to one map of `in_channels`.
        num_kernels: N.
        in_channels: of the joined map.
        channels: C of the pooled features.
        kernel_channels: of the kernels; None means C.
    """

    def __init__(
        self,
        join: nn.Module,
        num_kernels: int,
        *,
        in_channels: int = 256,
        channels: int = 256,
        kernel_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.num_kernels = num_kernels
        self.join = join
        self.conv = nn.Conv2d(in_channels + 2, channels, 3, padding=1)
        self.maps = nn.Conv2d(channels, GROUPS * num_kernels, 3, padding=1, groups=GROUPS)
        hidden = GROUPS * channels
        self.embed = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1)
        self.kernel = nn.Linear(hidden, kernel_channels or channels)
        self.objectness = nn.Linear(hidden, 1)

    def forward(self, rgb: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict kernels from T3 of each modality, (B, C, h, w).

        Returns:
            kernels (B, N, kernel_channels), score logits (B, N), objectness logits (B, N).
        """
        joined = self.join(rgb, depth)
        features = self.conv(torch.cat((joined, coordinate_channels(joined)), dim=1)).relu()
        attention = normalised_maps(self.maps(features))
        pooled = attention @ features.flatten(2).transpose(1, 2)  # (B, 4N, C)
        rows = pooled.unflatten(1, (GROUPS, self.num_kernels)).transpose(1, 2).flatten(2)
        embedding = self.embed(rows).relu()
        return (
            self.kernel(embedding),
            self.score(embedding).squeeze(-1),
            self.objectness(embedding).squeeze(-1),
        )
