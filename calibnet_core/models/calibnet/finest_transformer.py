"""A deformable transformer for inference, of whose output only the finest level is read."""

from __future__ import annotations

from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import (
    DeformableTransformer,
    cell_centres,
    levels_to_tokens,
    query_offset,
    tokens_to_levels,
)

Shapes = tuple[tuple[int, int], ...]
_MAX_KNOWN = 4
"""Image sizes whose places are kept: a camera has one, a set of images a few."""


class FinestTransformer(nn.Module):
    """The layers of a transformer, without what nothing reads.

    The last layer answers for the tokens of the finest level alone, and what tokens are told of
    their places is computed once for every size of an image.

    Args:
        transformer: at least one layer; its layers are used, and its other weights copied: what
            is loaded or trained later has no effect.
    """

    level_embed: Tensor

    def __init__(self, transformer: DeformableTransformer) -> None:
        super().__init__()
        self.layers, self.position = transformer.layers, transformer.position
        embed = transformer.level_embed.detach().clone()
        self.register_buffer("level_embed", embed, persistent=False)
        self._known: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Mix the levels [(B, C, h, w), ...], coarsest first; all but the last come out empty."""
        shapes = tuple((level.shape[2], level.shape[3]) for level in features)
        tokens = levels_to_tokens(features)
        offset, centres = self._places(shapes)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, offset, list(shapes))
        finest = self.layers[-1](tokens, offset, list(shapes), only_last=centres)
        (level,) = tokens_to_levels(finest, [shapes[-1]])
        return [tokens.new_empty(0)] * (len(features) - 1) + [level]

    def _places(self, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Offsets of all tokens, and centres of the finest level's cells."""
        key = (shapes, self.level_embed.device, self.level_embed.dtype)
        if key not in self._known:
            while len(self._known) >= _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
            offset = query_offset(self.position, self.level_embed, list(shapes))
            self._known[key] = offset, cell_centres(*shapes[-1], self.level_embed)
        return self._known[key]


def without_unread_levels(transformer: nn.Module) -> nn.Module:
    """The same for inference, where nothing reads any level but the finest."""
    if isinstance(transformer, DeformableTransformer) and len(transformer.layers):
        return FinestTransformer(transformer)
    return transformer
