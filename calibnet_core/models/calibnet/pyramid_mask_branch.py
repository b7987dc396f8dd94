"""A mask branch of any levels, coarse to fine: the combinations of table VI."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import EncoderLevels
from calibnet_core.models.calibnet.kernel_branch import coordinate_channels

LEVELS = ("t5", "t4", "t3", "c2")
"""Names of `EncoderLevels`, coarsest first; each has half the stride of the one before."""


class PyramidMaskBranch(nn.Module):
    """Fuses every level and adds them up top-down, as `mask_branch.MaskBranch` does with its two.

    Where C2 takes no part the sum ends at 1/8, and the mask features are enlarged bilinearly. A
    kernel applied to them gives what it would give at 1/8, enlarged: both are linear.

    Args:
        fusions: neighbouring levels of `LEVELS` with a fusion each, in any order, t3 among them.
        channels: C.
    """

    def __init__(self, fusions: Mapping[str, nn.Module], channels: int = 256) -> None:
        super().__init__()
        names = [name for name in LEVELS if name in fusions]
        self.fusions = nn.ModuleDict({name: fusions[name] for name in names})
        self.lifts = nn.ModuleDict({name: Lift(channels) for name in names[:-1]})
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, rgb: EncoderLevels, depth: EncoderLevels) -> Tensor:
        """Fuse both modalities' levels into mask features (B, C, H/4, W/4)."""
        lifted: Tensor | None = None
        for name, fuse in self.fusions.items():
            fused = fuse(getattr(rgb, name), getattr(depth, name))
            if lifted is not None:
                fused = lifted + fused
            if name in self.lifts:
                lifted = self.lifts[name](fused)
        features: Tensor = self.project(self.conv(fused).relu())
        if "c2" not in self.fusions:
            features = F.interpolate(
                features, scale_factor=2.0, mode="bilinear", align_corners=False
            )
        return features


class Lift(nn.Module):
    """Norm, ReLU and a transposed convolution with coordinates, to twice the size."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.upsample = nn.ConvTranspose2d(
            channels + 2, channels, 3, stride=2, padding=1, output_padding=1
        )

    def forward(self, features: Tensor) -> Tensor:
        """Enlarge (B, C, h, w) to (B, C, 2h, 2w)."""
        features = self.norm(features).relu()
        lifted: Tensor = self.upsample(torch.cat((coordinate_channels(features), features), dim=1))
        return lifted
