"""Mask branch: weight-sharing fusion (WSF) of colour and depth into shared mask features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.depth_similarity import DepthSimilarity, SimilarityFactory
from calibnet_core.models.calibnet.encoder import EncoderLevels, conv_norm_relu
from calibnet_core.models.calibnet.kernel_branch import coordinate_channels


class WeightSharingFusion(nn.Module):
    """Spatial weights of each modality, refined by an affinity both share (equations 3 to 5).

    Args:
        channels: C.
        similarity: makes the depth similarity assessment.
        non_local: the affinity is between cells (hw x hw) instead of between rows (h x h), for
            table IV. Its memory grows with the fourth power of the side.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        similarity: SimilarityFactory = DepthSimilarity,
        non_local: bool = False,
    ) -> None:
        super().__init__()
        self.non_local = non_local
        self.rgb_attention = SpatialAttention(channels)
        self.depth_attention = SpatialAttention(channels)
        self.similarity = similarity(channels)
        self.rgb_reweight = AffinityReweighting()
        self.depth_reweight = AffinityReweighting()
        self.depth_conv = conv_norm_relu(channels, channels)
        self.output_conv = conv_norm_relu(channels, channels)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Fuse (B, C, h, w) maps of both modalities into one of the same shape."""
        rgb, rgb_weights = self.rgb_attention(rgb)
        depth, depth_weights = self.depth_attention(depth)
        depth = depth * self.similarity(rgb, depth)
        rgb_weights, depth_weights = self._refined(rgb_weights, depth_weights)
        rgb = rgb * rgb_weights.sigmoid()
        depth = depth * depth_weights.sigmoid()
        fused: Tensor = self.output_conv(rgb + self.depth_conv(depth))
        return fused

    def _refined(self, rgb_weights: Tensor, depth_weights: Tensor) -> tuple[Tensor, Tensor]:
        shape = rgb_weights.shape
        if self.non_local:  # every cell is a row of its own
            rgb_weights, depth_weights = (
                weights.reshape(-1, 1, shape[2] * shape[3], 1)
                for weights in (rgb_weights, depth_weights)
            )
        affinity = rgb_weights @ depth_weights.transpose(-1, -2)  # (B, 1, h, h) or (B, 1, hw, hw)
        return (
            self.rgb_reweight(rgb_weights, affinity).view(shape),
            self.depth_reweight(depth_weights, affinity).view(shape),
        )


class MaskBranch(nn.Module):
    """Fuses the 1/8 and the 1/4 level and adds them up at 1/4 (paper section IV-D).

    Args:
        channels: C.
        fine_channels: C' of the 1/4 level and the mask features; None means C.
        fusion: makes the module that fuses one level of both modalities.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        fine_channels: int | None = None,
        fusion: Callable[[int], nn.Module] = WeightSharingFusion,
    ) -> None:
        super().__init__()
        fine = fine_channels or channels
        self.fuse_level3 = fusion(channels)
        self.fuse_level2 = fusion(fine)
        self.norm = nn.BatchNorm2d(channels)
        # A second norm rides along in the published checkpoints; nothing computes with it.
        self.unused_norm = nn.BatchNorm2d(channels)
        self.upsample = nn.ConvTranspose2d(
            channels + 2, fine, 3, stride=2, padding=1, output_padding=1
        )
        self.conv = nn.Conv2d(fine, fine, 3, padding=1)
        self.project = nn.Conv2d(fine, fine, 1)

    def forward(self, rgb: EncoderLevels, depth: EncoderLevels) -> Tensor:
        """Fuse both modalities' C2 and T3 into mask features (B, C', H/4, W/4)."""
        coarse = self.norm(self.fuse_level3(rgb.t3, depth.t3)).relu()
        coarse = self.upsample(torch.cat((coordinate_channels(coarse), coarse), dim=1))
        features: Tensor = self.project(
            self.conv(coarse + self.fuse_level2(rgb.c2, depth.c2)).relu()
        )
        return features


class SpatialAttention(nn.Module):
    """A convolved map and where in it to look, from its mean and maximum over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.weights = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (B, C, h, w) and weights (B, 1, h, w) in (0, 1)."""
        features = self.features(features)
        summary = torch.cat((features.mean(1, keepdim=True), features.amax(1, keepdim=True)), dim=1)
        return features, self.weights(summary).sigmoid()


class AffinityReweighting(nn.Module):
    """One modality's view of the shared affinity, added to its own spatial weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(1, 1, 1)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, weights: Tensor, affinity: Tensor) -> Tensor:
        """Refine (B, 1, h, w) by the affinity (B, 1, h, h), whose softmax runs over all entries."""
        attention = self.scale(affinity).relu().flatten(1).softmax(-1).view_as(affinity)
        refined: Tensor = weights + self.gain * (attention @ weights)
        return refined
