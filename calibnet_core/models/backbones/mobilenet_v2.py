"""MobileNetV2 from torchvision: a backbone small enough to train without a GPU."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels, NormLayer

_LEVEL_ENDS = (3, 6, 13, 17)


class MobileNetV2(Backbone):
    """Inverted residual blocks up to stride 32, without the classifier's 1x1 convolution.

    There are no published CalibNet weights of it. `features` has torchvision's names, so that its
    ImageNet weights fit.

    Args:
        norm_layer: what normalises after every convolution.
    """

    channels = (24, 32, 96, 320)
    published_keys = ()

    def __init__(self, norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        super().__init__()
        network = torchvision.models.mobilenet_v2(weights=None, norm_layer=norm_layer)
        self.features = network.features[: _LEVEL_ENDS[-1] + 1]

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        features, levels = image, []
        for index, block in enumerate(self.features):
            features = block(features)
            if index in _LEVEL_ENDS:
                levels.append(features)
        return BackboneLevels(*levels)
