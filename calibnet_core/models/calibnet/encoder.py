"""The encoder of one modality: a backbone, then a deformable transformer over three levels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels
from calibnet_core.ops import ms_deform_attn_fused

WIDTH = 256


class EncoderLevels(NamedTuple):
    """Encoder outputs of 256 channels: C2 at 1/4, T3 at 1/8, T4 at 1/16, T5 at 1/32."""

    c2: Tensor
    t3: Tensor
    t4: Tensor
    t5: Tensor


class ModalityEncoder(nn.Module):
    """Backbone, projections to 256 channels and deformable transformer (paper section III-A).

    The finest level only passes its projection; attention there would cost more than all the rest.

    Args:
        backbone: yields `BackboneLevels`.
        num_layers: deformable layers.
        position_vector: (256,) added to every query, see `position.published_position_vector`.
    """

    def __init__(self, backbone: Backbone, *, num_layers: int, position_vector: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.ModuleDict(
            {
                name: conv_norm_relu(channels)
                for name, channels in zip(BackboneLevels._fields, backbone.channels, strict=True)
            }
        )
        self.transformer = DeformableTransformer(
            num_layers=num_layers, position_vector=position_vector
        )

    def forward(self, image: Tensor) -> EncoderLevels:
        """Encode a normalised image (B, 3, H, W)."""
        c2, coarse_levels = self.projections(image)
        t5, t4, t3 = self.transformer(coarse_levels)
        return EncoderLevels(c2=c2, t3=t3, t4=t4, t5=t5)

    def projections(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the transformer passes by, C2, and what it mixes, coarsest first."""
        levels = self.backbone(image)._asdict()
        projected = {name: self.project[name](features) for name, features in levels.items()}
        return projected["res2"], [projected["res5"], projected["res4"], projected["res3"]]


def conv_norm_relu(channels: int, width: int = WIDTH) -> nn.Sequential:
    """3x3 convolution to `width` channels without bias, group norm of 32 groups, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.GroupNorm(32, width),
        nn.ReLU(inplace=True),
    )


class DeformableTransformer(nn.Module):
    """Self-attention across levels: every token looks at a few points of every level.

    Args:
        num_layers: encoder layers.
        position_vector: (256,), the same for every token.
        num_levels: feature levels, coarsest first.
    """

    position_vector: Tensor

    def __init__(self, *, num_layers: int, position_vector: Tensor, num_levels: int = 3) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(num_levels, WIDTH))
        self.layers = nn.ModuleList(
            DeformableLayer(num_levels=num_levels) for _ in range(num_layers)
        )
        self.register_buffer("position_vector", position_vector.clone(), persistent=False)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Mix the levels [(B, 256, h, w), ...], coarsest first; order and shapes stay."""
        shapes = [(level.shape[2], level.shape[3]) for level in features]
        tokens, query_offset = levels_to_tokens(features), self.query_offset(shapes)
        for layer in self.layers:
            tokens = layer(tokens, query_offset, shapes)
        return tokens_to_levels(tokens, shapes)

    def query_offset(self, shapes: list[tuple[int, int]]) -> Tensor:
        """Place and level of every token, (L, 256)."""
        return torch.cat(
            [
                (self.position_vector + embed).expand(height * width, -1)
                for embed, (height, width) in zip(self.level_embed, shapes, strict=True)
            ]
        )


def levels_to_tokens(levels: list[Tensor]) -> Tensor:
    """Lay the cells of all levels [(B, C, h, w), ...] one after the other, (B, L, C)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def tokens_to_levels(tokens: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """The inverse of `levels_to_tokens`."""
    areas = [height * width for height, width in shapes]
    return [
        level.transpose(1, 2).unflatten(-1, shape)
        for level, shape in zip(tokens.split(areas, dim=1), shapes, strict=True)
    ]


class DeformableLayer(nn.Module):
    """One post-norm encoder layer: deformable attention, then a feed-forward block with GELU."""

    def __init__(
        self, *, num_levels: int, num_heads: int = 8, num_points: int = 4, hidden: int = 1024
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            num_levels=num_levels, num_heads=num_heads, num_points=num_points
        )
        self.norm1 = nn.LayerNorm(WIDTH)
        self.linear1 = nn.Linear(WIDTH, hidden)
        self.linear2 = nn.Linear(hidden, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)

    def forward(
        self, tokens: Tensor, query_offset: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Update tokens (B, L, 256), given each one's offset (L, 256)."""
        attended = self.attention(tokens + query_offset, tokens, shapes)
        tokens = self.norm1(tokens + attended)
        updated: Tensor = self.norm2(tokens + self.linear2(F.gelu(self.linear1(tokens))))
        return updated


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention with learned offsets, in cells of each target level."""

    def __init__(self, *, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(WIDTH, samples * 2)
        self.attention_weights = nn.Linear(WIDTH, samples)
        self.value_proj = nn.Linear(WIDTH, WIDTH)
        self.output_proj = nn.Linear(WIDTH, WIDTH)
        self.merged_projection: nn.Module | None = None
        """The first two layers as one, where `stacked_transformer` has prepared it."""

    def forward(self, query: Tensor, tokens: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Attend from `query` to `tokens`, both (B, L, 256); a query looks around its own cell."""
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        attended: Tensor = self.output_proj(
            ms_deform_attn_fused(value, shapes, self.offsets_and_logits(query))
        )
        return attended

    def offsets_and_logits(self, query: Tensor) -> Tensor:
        """What both linear layers say about `query`, from one matrix product (B, L, 288)."""
        if self.merged_projection is not None:
            merged: Tensor = self.merged_projection(query)
            return merged
        layers = (self.sampling_offsets, self.attention_weights)
        weight = torch.cat([layer.weight for layer in layers])
        return F.linear(query, weight, torch.cat([layer.bias for layer in layers]))
