"""Fusions that the paper compares with weight sharing (tables IX and XI).

Each turns maps of both modalities, (B, C, h, w), into one. The paper only names them, so each has
the simplest layout that fits its description; `docs/ablations.md` says what was assumed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.depth_similarity import DepthSimilarity, SimilarityFactory
from calibnet_core.models.calibnet.encoder import conv_norm_relu
from calibnet_core.models.calibnet.mask_branch import SpatialAttention


class PlainFusion(nn.Module):
    """Sum of both modalities and a 1x1 convolution: the RGB-D baseline of table XI."""

    def __init__(
        self, channels: int = 256, similarity: SimilarityFactory = DepthSimilarity
    ) -> None:
        super().__init__()
        self.similarity = similarity(channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Fuse (B, C, h, w) maps of both modalities into one of the same shape."""
        fused: Tensor = self.conv(rgb + depth * self.similarity(rgb, depth))
        return fused


class Concatenation(nn.Module):
    """Both modalities as channels of one map: the start of early fusion (table III)."""

    def __init__(
        self, channels: int = 256, similarity: SimilarityFactory = DepthSimilarity
    ) -> None:
        super().__init__()
        self.similarity = similarity(channels)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Join (B, C, h, w) maps into (B, 2C, h, w), colour first."""
        return torch.cat((rgb, depth * self.similarity(rgb, depth)), dim=1)


class ColourOnly(nn.Module):
    """No fusion: the RGB baseline of table XI."""

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The colour map as it is; `depth` may be anything."""
        return rgb


class CascadeFusion(nn.Module):
    """Weight-sharing fusion whose shared affinity is a map compressed from both modalities.

    Everything but the affinity is as in `mask_branch.WeightSharingFusion`.
    """

    def __init__(
        self, channels: int = 256, similarity: SimilarityFactory = DepthSimilarity
    ) -> None:
        super().__init__()
        self.rgb_attention = SpatialAttention(channels)
        self.depth_attention = SpatialAttention(channels)
        self.similarity = similarity(channels)
        self.compress = nn.Conv2d(2 * channels, 1, 1)
        self.rgb_reweight = MapReweighting()
        self.depth_reweight = MapReweighting()
        self.depth_conv = conv_norm_relu(channels, channels)
        self.output_conv = conv_norm_relu(channels, channels)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Fuse (B, C, h, w) maps of both modalities into one of the same shape."""
        rgb, rgb_weights = self.rgb_attention(rgb)
        depth, depth_weights = self.depth_attention(depth)
        depth = depth * self.similarity(rgb, depth)
        shared = self.compress(torch.cat((rgb, depth), dim=1))  # (B, 1, h, w)
        rgb = rgb * self.rgb_reweight(rgb_weights, shared).sigmoid()
        depth = depth * self.depth_reweight(depth_weights, shared).sigmoid()
        fused: Tensor = self.output_conv(rgb + self.depth_conv(depth))
        return fused


class MapReweighting(nn.Module):
    """One modality's view of the shared map, multiplied cell by cell with its spatial weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(1, 1, 1)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, weights: Tensor, shared: Tensor) -> Tensor:
        """Refine weights (B, 1, h, w) by the shared map (B, 1, h, w)."""
        refined: Tensor = weights + self.gain * self.scale(shared).sigmoid() * weights
        return refined


class RelationFusion(nn.Module):
    """Total, shared and differential information of both modalities, as RMFF regards them.

    The relations are those that the paper names for Huang et al., "Middle-level feature fusion for
    lightweight RGB-D salient object detection"; the layout around them is our own.
    """

    def __init__(
        self, channels: int = 256, similarity: SimilarityFactory = DepthSimilarity
    ) -> None:
        super().__init__()
        self.rgb_conv = conv_norm_relu(channels, channels)
        self.depth_conv = conv_norm_relu(channels, channels)
        self.similarity = similarity(channels)
        self.relate = nn.Conv2d(3 * channels, channels, 1)
        self.output_conv = conv_norm_relu(channels, channels)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Fuse (B, C, h, w) maps of both modalities into one of the same shape."""
        rgb, depth = self.rgb_conv(rgb), self.depth_conv(depth)
        depth = depth * self.similarity(rgb, depth)
        relations = torch.cat((rgb + depth, rgb * depth, (rgb - depth).abs()), dim=1)
        fused: Tensor = self.output_conv(self.relate(relations))
        return fused
