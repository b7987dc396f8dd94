"""Dynamic interactive kernels (DIK): where both modalities look makes the instances' kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.depth_similarity import DepthSimilarity, SimilarityFactory

GROUPS = 4
"""Attention maps of a candidate in each modality."""


def coordinate_channels(features: Tensor) -> Tensor:
    """Column and row of every cell, (B, 2, h, w), x then y, -1 at the first, 1 at the last."""
    batch, _, height, width = features.shape
    x = torch.linspace(-1.0, 1.0, width, device=features.device, dtype=features.dtype)
    y = torch.linspace(-1.0, 1.0, height, device=features.device, dtype=features.dtype)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1]).expand(batch, -1, -1, -1)


class KernelBranch(nn.Module):
    """N instance kernels with their scores from T3 of both modalities (paper section IV-C).

    Args:
        num_kernels: N.
        channels: C of the inputs and the pooled features.
        kernel_channels: of the kernels; None means C.
        similarity: makes the depth similarity assessment.
    """

    def __init__(
        self,
        num_kernels: int,
        channels: int = 256,
        *,
        kernel_channels: int | None = None,
        similarity: SimilarityFactory = DepthSimilarity,
    ) -> None:
        super().__init__()
        self.num_kernels = num_kernels
        self.similarity = similarity(channels)
        self.rgb_conv = nn.Conv2d(channels + 2, channels, 3, padding=1)
        self.depth_conv = nn.Conv2d(channels + 2, channels, 3, padding=1)
        maps = GROUPS * num_kernels
        self.rgb_maps = nn.Conv2d(channels, maps, 3, padding=1, groups=GROUPS)
        self.depth_maps = nn.Conv2d(channels, maps, 3, padding=1, groups=GROUPS)
        self.merge_maps = nn.Linear(2 * num_kernels, num_kernels)
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
        depth = depth * self.similarity(rgb, depth)
        coordinates = coordinate_channels(rgb)
        rgb_features = self.rgb_conv(torch.cat((rgb, coordinates), dim=1)).relu()
        depth_features = self.depth_conv(torch.cat((depth, coordinates), dim=1)).relu()
        attention = torch.cat(
            (
                normalised_maps(self.rgb_maps(rgb_features)),
                normalised_maps(self.depth_maps(depth_features)),
            ),
            dim=1,
        )
        # Both modalities say where to look; what is found there comes from colour alone.
        pooled = attention @ rgb_features.flatten(2).transpose(
            1, 2
        )  # (B, 8N, C), colour maps first
        # Maps g*N + n hold group g of candidate n. Row r of the result joins maps r and 2N + r of
        # each modality.
        batch, _, channels = pooled.shape
        grouped = pooled.view(batch, GROUPS, 2 * self.num_kernels, channels)
        rows = grouped.transpose(1, 2).reshape(batch, 2 * self.num_kernels, GROUPS * channels)
        merged = self.merge_maps(rows.transpose(1, 2)).transpose(1, 2).relu()
        embedding = self.embed(merged).relu()
        return (
            self.kernel(embedding),
            self.score(embedding).squeeze(-1),
            self.objectness(embedding).squeeze(-1),
        )


def normalised_maps(logits: Tensor) -> Tensor:
    """Attention maps (B, K, h*w) that sum to 1 over space, from logits (B, K, h, w)."""
    maps = logits.sigmoid().flatten(2)
    return maps / maps.sum(-1, keepdim=True).clamp_min(1e-6)
