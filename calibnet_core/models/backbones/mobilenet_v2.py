"""MobileNetV2 from torchvision: a backbone small enough to train without a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels, NormLayer
from calibnet_core.models.backbones.norm_folding import fold_frozen_norms

_LEVEL_ENDS = (3, 6, 13, 17)
_NUM_FINE = _LEVEL_ENDS[0] + 1
_SECOND_STEP = "2.conv.1.0"
"""The convolution of `features` that halves its map for the second time."""


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
        res2 = self.finest(image)
        return BackboneLevels(res2, *self.coarser(res2))

    def finest(self, image: Tensor) -> Tensor:
        """Level res2 of a normalised image (B, 3, H, W)."""
        return _through(list(self.features)[:_NUM_FINE], image)

    def coarser(self, res2: Tensor) -> list[Tensor]:
        """The other three levels, which follow from res2."""
        blocks, levels = list(self.features), [res2]
        for previous, end in itertools.pairwise(_LEVEL_ENDS):
            levels.append(_through(blocks[previous + 1 : end + 1], levels[-1]))
        return levels[1:]


class BorrowingMobileNetV2(Backbone):
    """The layers up to 1/4 of the image's size are its own, all others those of another network.

    What a depth sensor puts into single pixels is not what a lens does; what follows from there are
    shapes, of which most of the weights know. Depth is blurred beside colour, so the image enters
    at half its size, and the layers that are its own cost a quarter.

    Args:
        owner: where the weights of the other layers are. They stay its own: no second name of them
            gets into a state dictionary, whose files cannot hold one tensor under two names.
        norm_layer: what normalises after every convolution.
    """

    channels = MobileNetV2.channels
    published_keys = ()

    def __init__(self, owner: MobileNetV2, norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        super().__init__()
        self.features = MobileNetV2(norm_layer).features[:_NUM_FINE]
        # The second of the steps to 1/4 is made already.
        self.features.get_submodule(_SECOND_STEP).stride = (1, 1)
        self._owner = (owner,)  # inside a tuple no submodule; a copy of the network copies both

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        res2 = self._finest(image)
        return BackboneLevels(res2, *self._owner[0].coarser(res2))

    def with_owner(
        self, owners_image: Tensor, image: Tensor
    ) -> tuple[BackboneLevels, BackboneLevels]:
        """Levels of the owner's image and of one's own (B, 3, H, W); shared layers run once."""
        (owner,) = self._owner
        res2 = owner.finest(owners_image), self._finest(image)
        pairs = [level.chunk(2) for level in owner.coarser(torch.cat(res2))]
        of_owner, own = (BackboneLevels(*levels) for levels in zip(res2, *pairs, strict=True))
        return of_owner, own

    def _finest(self, image: Tensor) -> Tensor:
        finest: Tensor = self.features(F.avg_pool2d(image, 2))
        return finest


def _through(blocks: Sequence[nn.Module], features: Tensor) -> Tensor:
    for block in blocks:
        features = block(features)
    return features
