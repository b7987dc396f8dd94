"""Stand-ins for backbones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from calibnet_core.models.backbones import Backbone, BackboneLevels


class PyramidOfMeans(Backbone):
    """Every level is the image, averaged down to its size."""

    channels = (3, 3, 3, 3)
    published_keys = ()

    def forward(self, image: Tensor) -> BackboneLevels:
        return BackboneLevels(*(F.avg_pool2d(image, stride) for stride in (4, 8, 16, 32)))
