"""The encoders of both modalities with their transformers as one batch, for inference.

The transformers have the same layers with different weights. With these stacked, one batched
matrix product serves both, and one call of the attention operator; that halves the number of
kernels that a GPU has to start.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import (
    DeformableLayer,
    DeformableTransformer,
    EncoderLevels,
    ModalityEncoder,
    backbone_levels,
    levels_to_tokens,
    query_offset,
    tokens_to_levels,
)


class StackedEncoders(nn.Module):
    """Two encoders whose transformers have the same layers.

    Args:
        rgb_encoder, depth_encoder: used as they are but for their transformers, whose weights are
            copied: what is loaded or trained later has no effect.
    """

    def __init__(self, rgb_encoder: ModalityEncoder, depth_encoder: ModalityEncoder) -> None:
        super().__init__()
        self.rgb_encoder, self.depth_encoder = rgb_encoder, depth_encoder
        self.transformer = StackedTransformer([rgb_encoder.transformer, depth_encoder.transformer])

    def forward(self, rgb: Tensor, depth: Tensor) -> tuple[EncoderLevels, EncoderLevels]:
        """Encode two normalised images (B, 3, H, W), each by its encoder."""
        of_rgb, of_depth = backbone_levels(self.rgb_encoder, self.depth_encoder, rgb, depth)
        rgb_c2, rgb_levels = self.rgb_encoder.projections(of_rgb)
        depth_c2, depth_levels = self.depth_encoder.projections(of_depth)
        mixed_rgb, mixed_depth = self.transformer([rgb_levels, depth_levels])
        return EncoderLevels(rgb_c2, *mixed_rgb[::-1]), EncoderLevels(depth_c2, *mixed_depth[::-1])


def stack_encoders(rgb_encoder: nn.Module, depth_encoder: nn.Module) -> StackedEncoders | None:
    """Both as one, or None where they are of another kind or their transformers differ in shape."""
    if not isinstance(rgb_encoder, ModalityEncoder) or not isinstance(
        depth_encoder, ModalityEncoder
    ):
        return None
    shapes = [
        {name: entry.shape for name, entry in encoder.transformer.state_dict().items()}
        for encoder in (rgb_encoder, depth_encoder)
    ]
    return StackedEncoders(rgb_encoder, depth_encoder) if shapes[0] == shapes[1] else None


class StackedTransformer(nn.Module):
    """S transformers of one shape; frozen copies of their weights.

    Args:
        transformers: what to stack.
    """

    level_embed: Tensor

    def __init__(self, transformers: Sequence[DeformableTransformer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            stack_layers(layers) for layers in zip(*(t.layers for t in transformers), strict=True)
        )
        self.positions = nn.ModuleList(copy.deepcopy(t.position) for t in transformers)
        embeds = [t.level_embed.detach() for t in transformers]
        self.register_buffer("level_embed", torch.stack(embeds), persistent=False)

    def forward(self, pyramids: Sequence[list[Tensor]]) -> list[list[Tensor]]:
        """Mix the levels of S pyramids [[(B, C, h, w), ...], ...], each by its transformer."""
        shapes = [(level.shape[2], level.shape[3]) for level in pyramids[0]]
        batch = pyramids[0][0].shape[0]
        tokens = torch.cat([levels_to_tokens(levels) for levels in pyramids])  # (S * B, L, C)
        offsets = [
            query_offset(position, embed, shapes)
            for position, embed in zip(self.positions, self.level_embed, strict=True)
        ]
        each_offset = torch.stack(offsets).repeat_interleave(batch, dim=0)
        for layer in self.layers:
            tokens = layer(tokens, each_offset, shapes)
        parts = tokens.unflatten(0, (len(pyramids), batch)).unbind()
        return [tokens_to_levels(part, shapes) for part in parts]


class StackedLinear(nn.Module):
    """S linear layers; the batch holds the first one's tokens, then the second one's, and so on."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        super().__init__()
        self.weight = frozen(torch.stack([weight.mT for weight in weights]))  # (S, in, out)
        self.bias = frozen(torch.stack(list(biases)).unsqueeze(1))  # (S, 1, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply each to its part of the tokens (S * B, L, in)."""
        parts = in_parts(tokens, len(self.weight))
        return torch.baddbmm(self.bias, parts, self.weight).view(
            *tokens.shape[:-1], self.weight.shape[-1]
        )


class StackedLayerNorm(nn.Module):
    """S layer norms over the last axis, on a batch as `StackedLinear` has it."""

    def __init__(self, norms: Sequence[nn.LayerNorm]) -> None:
        super().__init__()
        self.eps = norms[0].eps
        self.weight = frozen(torch.stack([norm.weight for norm in norms]).unsqueeze(1))
        self.bias = frozen(torch.stack([norm.bias for norm in norms]).unsqueeze(1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply each to its part of the tokens (S * B, L, C)."""
        normalised = F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)
        parts = in_parts(normalised, len(self.weight))
        return torch.addcmul(self.bias, parts, self.weight).view_as(tokens)


def in_parts(tokens: Tensor, number: int) -> Tensor:
    """Tokens (S * B, L, C) as (S, B * L, C); B and L may be 0."""
    return tokens.reshape(number, tokens.shape[0] // number * tokens.shape[1], tokens.shape[2])


def stack_layers(layers: Sequence[DeformableLayer]) -> DeformableLayer:
    """A layer that computes all of `layers`, each on its part of the batch."""
    stacked = copy.deepcopy(layers[0])
    for name in ("linear1", "linear2"):
        stacked.add_module(name, stack_linears([getattr(layer, name) for layer in layers]))
    for name in ("norm1", "norm2"):
        stacked.add_module(name, StackedLayerNorm([getattr(layer, name) for layer in layers]))
    attentions = [layer.attention for layer in layers]
    for name in ("value_proj", "output_proj"):
        stacked.attention.add_module(name, stack_linears([getattr(a, name) for a in attentions]))
    queried = [(a.sampling_offsets, a.attention_weights) for a in attentions]
    stacked.attention.merged_projection = StackedLinear(
        [torch.cat([part.weight for part in parts]) for parts in queried],
        [torch.cat([part.bias for part in parts]) for parts in queried],
    )
    del stacked.attention.sampling_offsets, stacked.attention.attention_weights
    return stacked


def stack_linears(linears: Sequence[nn.Linear]) -> StackedLinear:
    """Stack linear layers of one shape."""
    return StackedLinear([layer.weight for layer in linears], [layer.bias for layer in linears])


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that holds a copy and takes no gradient."""
    return nn.Parameter(tensor.detach().clone().contiguous(), requires_grad=False)
