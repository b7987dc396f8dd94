"""PVTv2-B2-Li from timm."""

from __future__ import annotations

import timm
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels


class PVTv2B2Li(Backbone):
    """Pyramid vision transformer v2, size B2, with keys and values pooled to 7x7."""

    channels = (64, 128, 320, 512)
    published_keys = (
        (r"patch_embed1\.(.+)", r"patch_embed.\1"),
        (r"patch_embed2\.(.+)", r"stages.1.downsample.\1"),
        (r"patch_embed3\.(.+)", r"stages.2.downsample.\1"),
        (r"patch_embed4\.(.+)", r"stages.3.downsample.\1"),
        *(
            rule
            for stage in range(4)
            for rule in (
                (
                    rf"block{stage + 1}\.(.+)\.dwconv\.dwconv\.(\w+)",
                    rf"stages.{stage}.blocks.\1.dwconv.\2",
                ),
                (rf"block{stage + 1}\.(.+)", rf"stages.{stage}.blocks.\1"),
                (rf"norm{stage + 1}\.(\w+)", rf"stages.{stage}.norm.\1"),
            )
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        network = timm.create_model(
            "pvt_v2_b2_li", pretrained=False, num_classes=0, drop_path_rate=0.1
        )
        self.patch_embed: nn.Module = network.get_submodule("patch_embed")
        self.stages = nn.ModuleList(network.get_submodule("stages").children())

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        features, levels = self.patch_embed(image), []
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        return BackboneLevels(*levels)
