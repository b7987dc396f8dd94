"""Parameters and multiply-adds of a network, counted on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from calibnet_core.config import ModelConfig
from calibnet_core.models.build import build_model

INPUT_SIZE = (320, 480)
"""(height, width) that costs are stated for, the published size of a landscape image."""

_PER_READING = 5
"""Multiply-adds of one sampled value: four bilinear shares, then the attention weight."""


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: trainable numbers, unused ones included.
        multiply_adds: of one image in inference.
    """

    parameters: int
    multiply_adds: int


def measure_cost(config: ModelConfig, size: tuple[int, int] = INPUT_SIZE) -> Cost:
    """Count what the network of `config` costs, without its memory or its time.

    Convolutions, matrix products and deformable attention count; norms, activations and
    interpolation do not, as usual.

    Args:
        config: the network.
        size: (height, width) of the input, multiples of 32.
    """
    with torch.device("meta"):  # shapes without numbers
        model = build_model(config)
        image = torch.empty(1, 3, *size)
    counter = FlopCounterMode(display=False, custom_mapping=attention_formulas())
    with torch.no_grad(), counter:
        model(image, image)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Cost(parameters=parameters, multiply_adds=counter.get_total_flops() // 2)


def attention_formulas() -> dict[Any, Any]:
    """What torch's counter does not know: operations of the attention operators by their shapes."""
    return {
        torch.ops.calibnet.ms_deform_attn: _attention_flops,
        torch.ops.calibnet.ms_deform_attn_fused: _fused_attention_flops,
    }


def _attention_flops(
    value: Sequence[int], shapes: Any, locations: Any, weights: Sequence[int], **_: Any
) -> int:
    """Operations of `ms_deform_attn`, given shapes: weights are (B, Q, M, levels, P)."""
    return 2 * _PER_READING * math.prod(weights) * value[-1]


def _fused_attention_flops(
    value: Sequence[int], shapes: Any, reference_points: Any, packed: Sequence[int], **_: Any
) -> int:
    """The same of `ms_deform_attn_fused`, whose last axis holds 3 numbers a reading."""
    return 2 * _PER_READING * math.prod(packed) // 3 * value[-1]
