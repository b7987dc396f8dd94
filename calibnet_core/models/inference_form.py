"""The form of a network that infers fastest without a compiler: same results, fewer passes."""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from calibnet_core.models.backbones.norm_folding import FIXED_NORMS, folded
from calibnet_core.models.calibnet.encoder import ModalityEncoder
from calibnet_core.models.calibnet.finest_transformer import without_unread_levels
from calibnet_core.models.calibnet.mask_branch import MaskBranch
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.models.calibnet.stacked_encoders import stack_encoders
from calibnet_core.models.packed_convolution import pack_convolutions

Network = TypeVar("Network", bound=nn.Module)


def inference_form(model: Network, *, one_batch: bool = False) -> Network:
    """A copy of `model` for inference; the original stays as it is.

    Norms with fixed statistics become part of the convolution before them, encoder levels that no
    branch reads are left out, and tensors are laid out channels last, which is what the convolution
    libraries work in. On a CPU filters are packed once. Results agree up to rounding.

    Args:
        model: the network.
        one_batch: let CalibNet's two transformers run as one batch. It halves the kernels that a
            GPU has to start; a CPU gains nothing and needs twice the working memory at a time.
    """
    fast = copy.deepcopy(model).eval()
    if one_batch and isinstance(fast, CalibNet):
        fast.stacked_encoders = stack_encoders(fast.rgb_encoder, fast.depth_encoder)
    if isinstance(fast, CalibNet) and fast.stacked_encoders is None:
        _leave_out_unread_levels(fast)
    for parent in fast.modules():
        # Only where the order of the children is the order of computation.
        if isinstance(parent, (nn.Sequential, Bottleneck)):
            _fold_norms(parent)
    pack_convolutions(fast)
    return fast.requires_grad_(False).to(memory_format=torch.channels_last)


def _leave_out_unread_levels(model: CalibNet) -> None:
    if isinstance(model.mask_branch, MaskBranch):  # others read more than C2 and T3
        for encoder in (model.rgb_encoder, model.depth_encoder):
            if isinstance(encoder, ModalityEncoder):
                encoder.add_module("transformer", without_unread_levels(encoder.transformer))


@torch.no_grad()
def _fold_norms(parent: nn.Module) -> None:
    children = list(parent.named_children())
    for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
        if type(conv) is nn.Conv2d and isinstance(norm, FIXED_NORMS):
            setattr(parent, conv_name, _folded(conv, norm))
            setattr(parent, norm_name, nn.Identity())


def _folded(conv: nn.Conv2d, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> nn.Conv2d:
    weight, bias = folded(conv, norm)
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv
