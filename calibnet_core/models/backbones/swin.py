"""Swin-T from torchvision, with a layer norm on every stage's output."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import (
    ShiftedWindowAttention,
    SwinTransformer,
    SwinTransformerBlock,
)

from calibnet_core.models.backbones import Backbone, BackboneLevels


class SwinT(Backbone):
    """Swin-T: depths 2, 2, 6, 2, heads 3, 6, 12, 24, window 7.

    Each output has its own layer norm; the next stage continues from the map before it.
    """

    channels = (96, 192, 384, 768)
    published_keys = (
        (r"patch_embed\.proj\.(\w+)", r"features.0.0.\1"),
        (r"patch_embed\.norm\.(\w+)", r"features.0.2.\1"),
        *(
            rule
            for stage in range(4)
            for rule in (
                (
                    rf"layers\.{stage}\.blocks\.(\d+)\.mlp\.fc1\.(\w+)",
                    rf"features.{2 * stage + 1}.\1.mlp.0.\2",
                ),
                (
                    rf"layers\.{stage}\.blocks\.(\d+)\.mlp\.fc2\.(\w+)",
                    rf"features.{2 * stage + 1}.\1.mlp.3.\2",
                ),
                (rf"layers\.{stage}\.blocks\.(.+)", rf"features.{2 * stage + 1}.\1"),
                (rf"layers\.{stage}\.downsample\.(.+)", rf"features.{2 * stage + 2}.\1"),
            )
        ),
        (r"norm(\d)\.(\w+)", r"norms.\1.\2"),
    )

    def __init__(self) -> None:
        super().__init__()
        network = SwinTransformer(
            patch_size=[4, 4],
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=[7, 7],
            stochastic_depth_prob=0.3,
            norm_layer=nn.LayerNorm,
            block=partial(SwinTransformerBlock, attn_layer=AlwaysShiftedWindowAttention),
        )
        self.features = network.features
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        tokens, levels = image, []
        for index, stage in enumerate(self.features):
            tokens = stage(tokens)
            if index % 2 == 1:  # patch embedding and merging stand before each of the four stages
                levels.append(self.norms[index // 2](tokens).permute(0, 3, 1, 2).contiguous())
        return BackboneLevels(*levels)


class AlwaysShiftedWindowAttention(ShiftedWindowAttention):
    """Window attention that shifts even where one window covers the map, as published.

    torchvision leaves the shift out there, which changes results for inputs below 256 pixels on a
    side.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Attend within shifted windows; x and the result are (B, H, W, C)."""
        batch, height, width, channels = x.shape
        window, shift = self.window_size[0], self.shift_size[0]
        padded = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = padded.shape[1] // window, padded.shape[2] // window
        if shift:
            padded = padded.roll((-shift, -shift), dims=(1, 2))
        windows = padded.view(batch, rows, window, columns, window, channels).transpose(2, 3)
        tokens = windows.reshape(batch * rows * columns, window * window, channels)

        qkv = self.qkv(tokens).view(*tokens.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.get_relative_position_bias()  # (1, heads, window^2, window^2)
        if shift:
            mask = _region_mask(rows, columns, window, shift, x)  # (windows, 1, window^2, window^2)
            bias = (bias + mask).repeat(batch, 1, 1, 1)
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        tokens = self.proj(mixed.transpose(1, 2).reshape(tokens.shape))

        windows = tokens.view(batch, rows, columns, window, window, channels).transpose(2, 3)
        padded = windows.reshape(batch, rows * window, columns * window, channels)
        if shift:
            padded = padded.roll((shift, shift), dims=(1, 2))
        attended: Tensor = padded[:, :height, :width].contiguous()
        return attended


def _region_mask(rows: int, columns: int, window: int, shift: int, like: Tensor) -> Tensor:
    """-100 between tokens that the cyclic shift brought together from afar, else 0."""

    def region(length: int) -> Tensor:
        position = torch.arange(length, device=like.device)
        return (position >= length - window).long() + (position >= length - shift).long()

    label = region(rows * window).view(-1, 1) * 3 + region(columns * window)
    label = label.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
    differs = label.unsqueeze(1) != label.unsqueeze(2)
    return differs.to(like.dtype).mul_(-100.0).unsqueeze(1)
