"""Which parameters are decayed, how the learning rate goes, and the average of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from calibnet_core.models.backbones import Backbone
from calibnet_core.models.calibnet.auxiliary_head import AuxiliaryHead
from calibnet_core.training.config import NoDecay, OptimisationConfig

_WARMUP_START = 1e-3
_STEP = 0.1


def build_optimizer(model: nn.Module, config: OptimisationConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in groups by decay and by learning rate.

    Every group remembers its share of the learning rate as `lr_factor`; see `set_learning_rate`.
    """
    spared = not_decayed(model, config.no_decay)
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name in spared, ".backbone." in f".{name}")
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": 0.0 if is_spared else config.weight_decay,
                "lr_factor": config.backbone_factor if is_backbone else 1.0,
            }
            for (is_spared, is_backbone), parameters in groups.items()
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
    )


def not_decayed(model: nn.Module, rule: NoDecay) -> set[str]:
    """Names of the parameters that weight decay spares.

    `published` spares what the published code finds by the words `norm` and `patch_embed` in its
    own parameter names: layer norms, the norms of the auxiliary heads, and patch embeddings. Other
    group norms, batch norms and biases it decays. `one_dimensional` spares norms, biases and
    gains of every kind, as is common today.
    """
    if rule == "one_dimensional":
        return {
            name
            for name, parameter in model.named_parameters()
            if parameter.dim() <= 1 or name.endswith("level_embed")
        }
    spared: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            spared |= {f"{name}.{entry}" for entry, _ in module.named_parameters()}
        elif isinstance(module, AuxiliaryHead):
            spared |= {f"{name}.norm.{entry}" for entry, _ in module.norm.named_parameters()}
        elif isinstance(module, Backbone):
            spared |= {f"{name}.{entry}" for entry in _patch_embeddings(module)}
    return spared


def _patch_embeddings(backbone: Backbone) -> Iterator[str]:
    """Parameters that the published code calls `patch_embed...`, found through its key rules."""
    for published, own in backbone.published_keys:
        if "patch_embed" in published:
            pattern = re.compile(r"(.+)".join(map(re.escape, re.split(r"\\\d", own))))
            for name, _ in backbone.named_parameters():
                if pattern.fullmatch(name):
                    yield name


def lr_factor(iteration: int, total: int, config: OptimisationConfig) -> float:
    """Share of the learning rate at an iteration counted from 0, of `total`."""
    warmup = 1.0
    if iteration < config.warmup_iterations:
        warmup = _WARMUP_START + (1.0 - _WARMUP_START) * iteration / config.warmup_iterations
    if config.schedule == "cosine":
        return warmup * 0.5 * (1.0 + math.cos(math.pi * iteration / total))
    return float(warmup * _STEP ** sum(iteration >= step for step in config.steps))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights; buffers are those of the model.

    The decay starts low, (1 + t) / (10 + t), so that the random start is soon forgotten.
    """

    def average(means: Any, currents: Any, num_averaged: Tensor | int) -> None:
        t = float(num_averaged)
        torch._foreach_lerp_(means, currents, 1.0 - min(decay, (1.0 + t) / (10.0 + t)))

    return AveragedModel(model, multi_avg_fn=average)
