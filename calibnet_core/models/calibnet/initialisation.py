"""Random weights as training starts from, part by part as published."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.auxiliary_head import AuxiliaryHead
from calibnet_core.models.calibnet.depth_similarity import BorrowedSimilarity, DepthSimilarity
from calibnet_core.models.calibnet.encoder import (
    DeformableAttention,
    DeformableLayer,
    ModalityEncoder,
)
from calibnet_core.models.calibnet.fused_kernel_branch import FusedKernelBranch
from calibnet_core.models.calibnet.fusions import PlainFusion, RelationFusion
from calibnet_core.models.calibnet.kernel_branch import KernelBranch
from calibnet_core.models.calibnet.mask_branch import MaskBranch, SpatialAttention
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.models.calibnet.pyramid_mask_branch import Lift, PyramidMaskBranch

_RARE = -math.log(99.0)
"""Bias that starts a sigmoid at 0.01: most candidates are no instance."""


@torch.no_grad()
def initialise(model: CalibNet) -> None:
    """Draw the weights outside the backbones; depth starts from the backbone weights of colour.

    What is not named here keeps PyTorch's defaults, the convolutions around the affinity of the
    weight-sharing fusion among them. Draws from torch's global generator.
    """
    if isinstance(model.depth_encoder, ModalityEncoder):
        copy_backbone(model)
    for module in model.modules():
        if isinstance(module, ModalityEncoder):
            for projection in module.project.values():
                nn.init.kaiming_uniform_(_conv(projection).weight, a=1)
        elif isinstance(module, DeformableLayer):
            for linear in (module.linear1, module.linear2):
                nn.init.xavier_uniform_(linear.weight)
        elif isinstance(module, DeformableAttention):
            _initialise_attention(module)
        elif isinstance(module, KernelBranch):
            _initialise_kernel_branch(module)
        elif isinstance(module, FusedKernelBranch):
            _initialise_fused_kernel_branch(module)
        elif isinstance(module, SpatialAttention):
            for convolution in (_conv(module.features), module.weights):
                _kaiming_normal(convolution, mode="fan_in")
        elif isinstance(module, MaskBranch):
            for layer in (module.upsample, module.conv, module.project):
                _kaiming_normal(layer, mode="fan_out")
        elif isinstance(module, PyramidMaskBranch):
            for layer in (module.conv, module.project):
                _kaiming_normal(layer, mode="fan_out")
        elif isinstance(module, Lift):
            _kaiming_normal(module.upsample, mode="fan_out")
        elif isinstance(module, RelationFusion):
            _kaiming_normal(module.relate, mode="fan_out")
        elif isinstance(module, PlainFusion):
            _kaiming_normal(module.conv, mode="fan_out")
        elif isinstance(module, AuxiliaryHead):
            for layer in (module.conv1, module.conv2):
                nn.init.xavier_uniform_(layer.weight)
                _zero_bias(layer)


def copy_backbone(model: CalibNet) -> None:
    """Give the depth backbone the weights of colour's, as far as it has weights of its own."""
    of_colour = model.rgb_encoder.get_submodule("backbone").state_dict()
    of_depth = model.depth_encoder.get_submodule("backbone")
    of_depth.load_state_dict({name: of_colour[name] for name in of_depth.state_dict()})


def sampling_star(heads: int, levels: int, points: int) -> Tensor:
    """Offsets that attention starts from, (heads * levels * points * 2,), in cells.

    Each head looks in a direction of its own, 45 degrees apart for eight heads, with unit largest
    component; point p is p + 1 steps away, on every level alike.
    """
    angle = torch.arange(heads) * (2.0 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1, dtype=direction.dtype).view(1, 1, -1, 1)
    return (direction.view(heads, 1, 1, 2) * steps).expand(-1, levels, -1, -1).flatten()


def _initialise_attention(attention: DeformableAttention) -> None:
    star = sampling_star(attention.num_heads, attention.num_levels, attention.num_points)
    nn.init.zeros_(attention.sampling_offsets.weight)
    attention.sampling_offsets.bias.copy_(star)
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.zeros_(attention.attention_weights.bias)
    for linear in (attention.value_proj, attention.output_proj):
        nn.init.xavier_uniform_(linear.weight)
        _zero_bias(linear)


def _initialise_kernel_branch(branch: KernelBranch) -> None:
    for layer in (branch.rgb_conv, branch.depth_conv):
        _kaiming_normal(layer, mode="fan_out")
    if isinstance(branch.similarity, BorrowedSimilarity):
        _initialise_similarity(branch.similarity.owner)
    elif isinstance(branch.similarity, DepthSimilarity):
        _initialise_similarity(branch.similarity)
    for rare in (branch.rgb_maps, branch.depth_maps, branch.score):
        _expect_little(rare)
    nn.init.normal_(branch.kernel.weight, std=0.01)
    _zero_bias(branch.kernel)
    for linear in (branch.embed, branch.merge_maps):
        nn.init.kaiming_uniform_(linear.weight, a=1)
        _zero_bias(linear)


def _initialise_fused_kernel_branch(branch: FusedKernelBranch) -> None:
    _kaiming_normal(branch.conv, mode="fan_out")
    for rare in (branch.maps, branch.score):
        _expect_little(rare)
    nn.init.normal_(branch.kernel.weight, std=0.01)
    _zero_bias(branch.kernel)
    nn.init.kaiming_uniform_(branch.embed.weight, a=1)
    _zero_bias(branch.embed)


def _initialise_similarity(similarity: DepthSimilarity) -> None:
    for layer in (similarity.project_rgb, similarity.project_depth):
        _kaiming_normal(layer, mode="fan_in")


def _expect_little(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(_bias(layer), _RARE)


def _kaiming_normal(layer: nn.Module, mode: str) -> None:
    weight = layer.get_parameter("weight")
    nn.init.kaiming_normal_(weight, mode=mode, nonlinearity="relu")  # type: ignore[arg-type]
    _zero_bias(layer)


def _zero_bias(layer: nn.Module) -> None:
    nn.init.zeros_(_bias(layer))


def _bias(layer: nn.Module) -> nn.Parameter:
    return layer.get_parameter("bias")


def _conv(sequence: nn.Module) -> nn.Conv2d:
    convolution = sequence.get_submodule("0")
    assert isinstance(convolution, nn.Conv2d)
    return convolution
