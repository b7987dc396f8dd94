"""Configuration goes in, a network of plain modules comes out."""

from __future__ import annotations

import torch
from torch import nn

from calibnet_core.config import MODELS, ConfigError, ModelConfig
from calibnet_core.models.backbones import Backbone, borrowing_backbone, build_backbone
from calibnet_core.models.calibnet.auxiliary_head import AuxiliaryHead
from calibnet_core.models.calibnet.depth_similarity import (
    BorrowedSimilarity,
    DepthSimilarity,
    FullTrust,
    SimilarityFactory,
)
from calibnet_core.models.calibnet.encoder import ModalityEncoder, NoEncoder
from calibnet_core.models.calibnet.fused_kernel_branch import FusedKernelBranch
from calibnet_core.models.calibnet.fusions import (
    CascadeFusion,
    ColourOnly,
    Concatenation,
    PlainFusion,
    RelationFusion,
)
from calibnet_core.models.calibnet.initialisation import initialise
from calibnet_core.models.calibnet.kernel_branch import KernelBranch
from calibnet_core.models.calibnet.mask_branch import MaskBranch, WeightSharingFusion
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.models.calibnet.position import (
    ConstantPosition,
    SinePosition,
    published_position_vector,
)
from calibnet_core.models.calibnet.pyramid_mask_branch import PyramidMaskBranch


def build_model(model: str | ModelConfig = "calibnet_r50", *, seed: int | None = None) -> CalibNet:
    """Build a CalibNet with random weights, in evaluation mode.

    Args:
        model: a name from `config.MODELS`, or a configuration of one's own.
        seed: makes the random weights repeatable; torch's global generator is left as it was.

    Raises:
        ConfigError: the name is unknown.
    """
    config = model_config(model)
    # torch.manual_seed also seeds the GPUs, where any are in use.
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus, enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        network = _build(config).eval()
        initialise(network)
        return network


def model_config(model: str | ModelConfig) -> ModelConfig:
    """Look a model's configuration up by name; a configuration passes through.

    Raises:
        ConfigError: the name is unknown.
    """
    if isinstance(model, ModelConfig):
        return model
    if model not in MODELS:
        raise ConfigError(f"unknown model '{model}'; use one of {sorted(MODELS)}")
    return MODELS[model]


def _build(config: ModelConfig) -> CalibNet:
    sees_depth = config.modalities == "rgbd"
    backbone = build_backbone(config.backbone, trains_norms=config.trains_backbone_norms)
    rgb_encoder = _encoder(config, backbone, config.num_transformer_layers)
    depth_encoder = (
        _encoder(config, _depth_backbone(config, backbone), config.depth_layers)
        if sees_depth
        else NoEncoder()
    )
    similarity = _similarity(config)
    heads = ("rgb_t3", "depth_t3", "rgb_c2", "depth_d2") if sees_depth else ("rgb_t3", "rgb_c2")
    return CalibNet(
        rgb_encoder=rgb_encoder,
        depth_encoder=depth_encoder,
        mask_branch=_mask_branch(config, similarity),
        kernel_branch=_kernel_branch(config, similarity),
        auxiliary_heads={
            name: AuxiliaryHead(width, hidden=width // 2)
            for name in heads
            for width in [config.width if name.endswith("t3") else config.fine_width]
        },
    )


def _depth_backbone(config: ModelConfig, of_colour: Backbone) -> Backbone:
    if config.shares_backbone:
        return borrowing_backbone(of_colour, trains_norms=config.trains_backbone_norms)
    return build_backbone(config.backbone, trains_norms=config.trains_backbone_norms)


def _encoder(config: ModelConfig, backbone: Backbone, num_layers: int) -> ModalityEncoder:
    if config.position == "sine":
        position: nn.Module = SinePosition(config.width)
    else:
        position = ConstantPosition(published_position_vector(config.width))
    return ModalityEncoder(
        backbone,
        num_layers=num_layers,
        position=position,
        width=config.width,
        fine_width=config.fine_width,
        c2_trains_only="c2" not in config.mask_levels,
    )


def _similarity(config: ModelConfig) -> SimilarityFactory:
    if config.depth_similarity == "separate":
        return DepthSimilarity
    if config.depth_similarity == "none":
        return lambda channels: FullTrust()
    made: list[DepthSimilarity] = []

    def share(channels: int) -> nn.Module:
        if made:
            return BorrowedSimilarity(made[0])
        made.append(DepthSimilarity(channels))
        return made[0]

    return share


def _mask_branch(config: ModelConfig, similarity: SimilarityFactory) -> nn.Module:
    def fusion(channels: int) -> nn.Module:
        if config.modalities == "rgb":
            return ColourOnly()
        if config.mask_fusion == "wsf":
            return WeightSharingFusion(
                channels, similarity=similarity, non_local=config.affinity == "non_local"
            )
        kinds = {"cascade": CascadeFusion, "rmff": RelationFusion, "plain": PlainFusion}
        return kinds[config.mask_fusion](channels, similarity)

    if config.mask_levels == "c2_t3":
        return MaskBranch(config.width, fine_channels=config.fine_width, fusion=fusion)
    levels = config.mask_levels.split("_")
    return PyramidMaskBranch({name: fusion(config.width) for name in levels}, config.width)


def _kernel_branch(config: ModelConfig, similarity: SimilarityFactory) -> nn.Module:
    count, width, fine = config.num_kernels, config.width, config.fine_width

    def fused(join: nn.Module, in_channels: int) -> FusedKernelBranch:
        return FusedKernelBranch(
            join, count, in_channels=in_channels, channels=width, kernel_channels=fine
        )

    if config.modalities == "rgb":
        return fused(ColourOnly(), width)
    if config.kernel_fusion == "plain":
        return fused(PlainFusion(width, similarity), width)
    if config.kernel_fusion == "early":
        return fused(Concatenation(width, similarity), 2 * width)
    return KernelBranch(count, width, kernel_channels=fine, similarity=similarity)
