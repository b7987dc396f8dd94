"""The encoder of one modality: a backbone, then a deformable transformer over three levels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels
from calibnet_core.models.backbones.mobilenet_v2 import BorrowingMobileNetV2
from calibnet_core.ops import ms_deform_attn_fused

WIDTH = 256
"""Channels C of the published network."""


class EncoderLevels(NamedTuple):
    """Encoder outputs: C2 of C' channels at 1/4; of C, T3 at 1/8, T4 at 1/16 and T5 at 1/32.

    What no part of the network reads may be empty.
    """

    c2: Tensor
    t3: Tensor
    t4: Tensor
    t5: Tensor


class ModalityEncoder(nn.Module):
    """Backbone, projections to C channels and deformable transformer (paper section IV-B).

    The finest level only passes its projection; attention there would cost more than all the rest.

    Args:
        backbone: yields `BackboneLevels`.
        num_layers: deformable layers.
        position: tells every query where it is, see `position.ConstantPosition`.
        width: C.
        fine_width: C', channels of the finest level; None means C.
        c2_trains_only: nothing but auxiliary heads reads C2; inference leaves it empty.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_layers: int,
        position: nn.Module,
        width: int = WIDTH,
        fine_width: int | None = None,
        c2_trains_only: bool = False,
    ) -> None:
        super().__init__()
        self.c2_trains_only = c2_trains_only
        self.backbone = backbone
        widths = (fine_width or width, width, width, width)
        self.project = nn.ModuleDict(
            {
                name: conv_norm_relu(channels, level_width)
                for name, channels, level_width in zip(
                    BackboneLevels._fields, backbone.channels, widths, strict=True
                )
            }
        )
        self.transformer = DeformableTransformer(
            num_layers=num_layers, position=position, width=width
        )

    @property
    def borrows(self) -> bool:
        """Whether layers of the backbone are another encoder's."""
        return isinstance(self.backbone, BorrowingMobileNetV2)

    def forward(self, image: Tensor) -> EncoderLevels:
        """Encode a normalised image (B, 3, H, W)."""
        return self.encode(self.backbone(image))

    def encode(self, levels: BackboneLevels) -> EncoderLevels:
        """Encode what the backbone made of an image."""
        c2, coarse_levels = self.projections(levels)
        t5, t4, t3 = self.transformer(coarse_levels)
        return EncoderLevels(c2=c2, t3=t3, t4=t4, t5=t5)

    def projections(self, levels: BackboneLevels) -> tuple[Tensor, list[Tensor]]:
        """What the transformer passes by, C2, and what it mixes, coarsest first."""
        res5, res4, res3 = (
            self.project[name](getattr(levels, name)) for name in ("res5", "res4", "res3")
        )
        if self.c2_trains_only and not self.training:
            return res3.new_empty(0), [res5, res4, res3]
        return self.project["res2"](levels.res2), [res5, res4, res3]


def backbone_levels(
    rgb_encoder: ModalityEncoder, depth_encoder: ModalityEncoder, rgb: Tensor, depth: Tensor
) -> tuple[BackboneLevels, BackboneLevels]:
    """Each image through its encoder's backbone; layers that both share see one batch."""
    if isinstance(depth_encoder.backbone, BorrowingMobileNetV2):
        return depth_encoder.backbone.with_owner(rgb, depth)
    return rgb_encoder.backbone(rgb), depth_encoder.backbone(depth)


class NoEncoder(nn.Module):
    """Stands in for the encoder of a modality that the network does not look at."""

    def forward(self, image: Tensor) -> EncoderLevels:
        """Empty levels, whatever the image."""
        return EncoderLevels(*(image.new_empty(0) for _ in EncoderLevels._fields))


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
        position: (height, width) of a level to encodings (height * width or 1, C) of its cells.
        num_levels: feature levels, coarsest first.
        width: C.
    """

    def __init__(
        self, *, num_layers: int, position: nn.Module, num_levels: int = 3, width: int = WIDTH
    ) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(num_levels, width))
        self.layers = nn.ModuleList(
            DeformableLayer(num_levels=num_levels, width=width) for _ in range(num_layers)
        )
        self.position = position

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Mix the levels [(B, C, h, w), ...], coarsest first; order and shapes stay."""
        shapes = [(level.shape[2], level.shape[3]) for level in features]
        tokens = levels_to_tokens(features)
        offset = query_offset(self.position, self.level_embed, shapes)
        for layer in self.layers:
            tokens = layer(tokens, offset, shapes)
        return tokens_to_levels(tokens, shapes)


def query_offset(position: nn.Module, level_embed: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Place and level of every token, (L, C).

    Args:
        position: (height, width) of a level to encodings of its cells, as `DeformableTransformer`
            takes it.
        level_embed: (levels, C).
        shapes: (height, width) of each level.
    """
    return torch.cat(
        [
            (position(height, width) + embed).expand(height * width, -1)
            for embed, (height, width) in zip(level_embed, shapes, strict=True)
        ]
    )


def cell_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Where the cells of a level are in the image, row by row, (height * width, 2), x then y.

    In 0..1, on the device of `like` and in its type, float32 at least.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    y, x = (
        (torch.arange(size, device=like.device, dtype=dtype) + 0.5) / size
        for size in (height, width)
    )
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1)


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
        self, *, num_levels: int, num_heads: int = 8, num_points: int = 4, width: int = WIDTH
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            num_levels=num_levels, num_heads=num_heads, num_points=num_points, width=width
        )
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self,
        tokens: Tensor,
        offset: Tensor,
        shapes: list[tuple[int, int]],
        *,
        only_last: Tensor | None = None,
    ) -> Tensor:
        """Update tokens by what they see of each other.

        Args:
            tokens: (B, L, C).
            offset: (L, C), what tells each token its place.
            shapes: (height, width) of each level.
            only_last: (Q, 2), where the last Q tokens are in the image; only these are updated and
                returned, (B, Q, C). None updates all.
        """
        queries = tokens
        if only_last is not None:
            first = tokens.shape[1] - only_last.shape[0]
            queries, offset = tokens[:, first:], offset[first:]
        attended = self.attention(queries + offset, tokens, shapes, only_last)
        tokens = self.norm1(queries + attended)
        updated: Tensor = self.norm2(tokens + self.linear2(F.gelu(self.linear1(tokens))))
        return updated


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention with learned offsets, in cells of each target level."""

    def __init__(
        self, *, num_levels: int, num_heads: int, num_points: int, width: int = WIDTH
    ) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(width, samples * 2)
        self.attention_weights = nn.Linear(width, samples)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.merged_projection: nn.Module | None = None
        """The first two layers as one, where `stacked_transformer` has prepared it."""

    def forward(
        self,
        query: Tensor,
        tokens: Tensor,
        shapes: list[tuple[int, int]],
        places: Tensor | None = None,
    ) -> Tensor:
        """Attend from `query` (B, Q, C) to `tokens` (B, L, C).

        A query looks around its own cell, or from `places` (Q, 2), x then y in 0..1.
        """
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        packed = self.offsets_and_logits(query)
        if places is None:
            sampled = ms_deform_attn_fused(value, shapes, packed)
        else:
            sampled = ms_deform_attn_fused(value, shapes, packed, places)
        attended: Tensor = self.output_proj(sampled)
        return attended

    def offsets_and_logits(self, query: Tensor) -> Tensor:
        """What both linear layers say about `query`, from one matrix product (B, L, 288)."""
        if self.merged_projection is not None:
            merged: Tensor = self.merged_projection(query)
            return merged
        layers = (self.sampling_offsets, self.attention_weights)
        weight = torch.cat([layer.weight for layer in layers])
        return F.linear(query, weight, torch.cat([layer.bias for layer in layers]))
