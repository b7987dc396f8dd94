"""Feature extractors. Each takes (B, 3, H, W) and yields the same four named levels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

Channels = tuple[int, int, int, int]
NormLayer = Callable[[int], nn.Module]
"""Makes the norm that follows a convolution, given its number of channels."""
KeyRules = tuple[tuple[str, str], ...]
"""Pairs (pattern, replacement) that turn a published key of one backbone into the key used here."""


class BackboneLevels(NamedTuple):
    """Feature maps at strides 4, 8, 16 and 32: (B, C_i, ceil(H/s), ceil(W/s))."""

    res2: Tensor
    res3: Tensor
    res4: Tensor
    res5: Tensor


class Backbone(nn.Module, ABC):
    """What every feature extractor offers.

    Attributes:
        channels: of res2 to res5.
        published_keys: how keys of the published checkpoints (without their `backbone.` prefix) map
            to the keys of this module; the first pattern that matches a whole key is used.
    """

    channels: Channels
    published_keys: KeyRules
    __call__: Callable[..., BackboneLevels]

    @abstractmethod
    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the levels of a normalised image (B, 3, H, W), both sides multiples of 32."""


def build_backbone(name: str, *, trains_norms: bool = False) -> Backbone:
    """Build a feature extractor with random weights.

    Args:
        name: see `config.ModelConfig.backbone`.
        trains_norms: batch norms learn and follow the statistics of the batches; False freezes
            them, as published. Backbones with layer norms train those either way.

    Raises:
        ValueError: the name is unknown.
    """
    norm_layer: NormLayer = nn.BatchNorm2d if trains_norms else FrozenBatchNorm2d
    if name in ("resnet50", "resnet101"):
        from calibnet_core.models.backbones.resnet import ResNet

        return ResNet(depth=int(name.removeprefix("resnet")), norm_layer=norm_layer)
    if name == "mobilenet_v2":
        from calibnet_core.models.backbones.mobilenet_v2 import MobileNetV2

        return MobileNetV2(norm_layer)
    if name == "swin_t":
        from calibnet_core.models.backbones.swin import SwinT

        return SwinT()
    if name == "pvtv2_b2_li":
        from calibnet_core.models.backbones.pvtv2 import PVTv2B2Li

        return PVTv2B2Li()
    if name == "p2t_large":
        from calibnet_core.models.backbones.p2t import P2TLarge

        return P2TLarge()
    raise ValueError(
        f"unknown backbone '{name}'; use resnet50, resnet101, swin_t, pvtv2_b2_li, p2t_large or "
        "mobilenet_v2"
    )


def borrowing_backbone(owner: Backbone, *, trains_norms: bool = False) -> Backbone:
    """A feature extractor whose layers are `owner`'s, but for the first ones.

    Args:
        owner: a MobileNetV2.
        trains_norms: as in `build_backbone`.
    """
    from calibnet_core.models.backbones.mobilenet_v2 import BorrowingMobileNetV2, MobileNetV2

    assert isinstance(owner, MobileNetV2)
    return BorrowingMobileNetV2(owner, nn.BatchNorm2d if trains_norms else FrozenBatchNorm2d)
