"""MobileNetV2 from torchvision: a backbone small enough to train without a GPU."""

from __future__ import annotations

from collections.abc import Iterable

import torchvision
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels, NormLayer
from calibnet_core.models.backbones.norm_folding import fold_frozen_norms

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
        fold_frozen_norms(self)

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        return _levels(self.features, image)


class BorrowingMobileNetV2(Backbone):
    """The layers up to 1/4 of the image's size are its own, all others those of another network.

    What a lens or a depth sensor puts into single pixels differs between modalities; what follows
    from there are shapes, of which most of the weights know.

    Args:
        owner: where the weights of the other layers are. They stay its own: no second name of them
            gets into a state dictionary, whose files cannot hold one tensor under two names.
        norm_layer: what normalises after every convolution.
    """

    channels = MobileNetV2.channels
    published_keys = ()

    def __init__(self, owner: MobileNetV2, norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        super().__init__()
        self.features = MobileNetV2(norm_layer).features[: _LEVEL_ENDS[0] + 1]
        self._owner = (owner,)  # inside a tuple no submodule; a copy of the network copies both

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        borrowed = list(self._owner[0].features)[len(self.features) :]
        return _levels([*self.features, *borrowed], image)


def _levels(blocks: Iterable[nn.Module], image: Tensor) -> BackboneLevels:
    features, levels = image, []
    for index, block in enumerate(blocks):
        features = block(features)
        if index in _LEVEL_ENDS:
            levels.append(features)
    return BackboneLevels(*levels)
