"""ResNet-50 and ResNet-101 from torchvision."""

from __future__ import annotations

from collections import OrderedDict

import torchvision
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from calibnet_core.models.backbones import Backbone, BackboneLevels, NormLayer


class ResNet(Backbone):
    """Bottleneck ResNet with the stride in the 3x3 convolutions.

    Args:
        depth: 50 or 101.
        norm_layer: what normalises after every convolution; frozen as published.
    """

    channels = (256, 512, 1024, 2048)
    published_keys = (
        (r"stem\.conv1\.norm\.(\w+)", r"stem.bn1.\1"),
        (r"stem\.conv1\.(\w+)", r"stem.conv1.\1"),
        (r"(res\d\.\d+)\.conv(\d)\.norm\.(\w+)", r"\1.bn\2.\3"),
        (r"(res\d\.\d+)\.conv(\d)\.(\w+)", r"\1.conv\2.\3"),
        (r"(res\d\.0)\.shortcut\.norm\.(\w+)", r"\1.downsample.1.\2"),
        (r"(res\d\.0)\.shortcut\.(\w+)", r"\1.downsample.0.\2"),
    )

    def __init__(self, depth: int, norm_layer: NormLayer = FrozenBatchNorm2d) -> None:
        super().__init__()
        make = {50: torchvision.models.resnet50, 101: torchvision.models.resnet101}[depth]
        network = make(weights=None, norm_layer=norm_layer)
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=network.conv1, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool
            )
        )
        self.res2, self.res3 = network.layer1, network.layer2
        self.res4, self.res5 = network.layer3, network.layer4

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        res2 = self.res2(self.stem(image))
        res3 = self.res3(res2)
        res4 = self.res4(res3)
        return BackboneLevels(res2, res3, res4, self.res5(res4))
