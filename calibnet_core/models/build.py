"""Configuration goes in, a network of plain modules comes out."""

from __future__ import annotations

import torch

from calibnet_core.config import MODELS, ConfigError, ModelConfig
from calibnet_core.models.backbones import build_backbone
from calibnet_core.models.calibnet.auxiliary_head import AuxiliaryHead
from calibnet_core.models.calibnet.encoder import ModalityEncoder
from calibnet_core.models.calibnet.initialisation import initialise
from calibnet_core.models.calibnet.kernel_branch import KernelBranch
from calibnet_core.models.calibnet.mask_branch import MaskBranch
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.models.calibnet.position import published_position_vector


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
    def encoder() -> ModalityEncoder:
        return ModalityEncoder(
            build_backbone(config.backbone),
            num_layers=config.num_transformer_layers,
            position_vector=published_position_vector(),
        )

    return CalibNet(
        rgb_encoder=encoder(),
        depth_encoder=encoder(),
        mask_branch=MaskBranch(),
        kernel_branch=KernelBranch(config.num_kernels),
        auxiliary_heads={
            name: AuxiliaryHead() for name in ("rgb_t3", "depth_t3", "rgb_c2", "depth_d2")
        },
    )
