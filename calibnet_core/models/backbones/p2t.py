"""P2T-Large, the pyramid pooling transformer (Wu et al., TPAMI 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from calibnet_core.models.backbones import Backbone, BackboneLevels

_DEPTHS = (3, 8, 27, 3)
_HEADS = (1, 2, 5, 8)
_MLP_RATIOS = (8, 8, 4, 4)
_POOL_RATIOS = ((12, 16, 20, 24), (6, 8, 10, 12), (3, 4, 5, 6), (1, 2, 3, 4))
_DROP_PATH = 0.3


class P2TLarge(Backbone):
    """Four stages of transformer blocks whose keys and values are pooled at four scales."""

    channels = (64, 128, 320, 640)
    published_keys = (
        (r"patch_embed(\d)\.(.+)", r"patch_embeds.\1.\2"),
        (r"d_convs(\d)\.(.+)", r"pool_convs.\1.\2"),
        (r"block(\d)\.(.+)\.attn\.(q|kv)\.0\.(\w+)", r"stages.\1.\2.attn.\3.\4"),
        (r"block(\d)\.(.+)\.mlp\.conv\.(\w+)", r"stages.\1.\2.mlp.depthwise.\3"),
        (r"block(\d)\.(.+)", r"stages.\1.\2"),
        (r"head\.(\w+)", r"unused_head.\1"),
    )

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *self.channels[:-1])
        last = sum(_DEPTHS) - 1
        rates = [_DROP_PATH * block / last for block in range(last + 1)]
        # Keyed "1" to "4", as the stages are numbered wherever the network is described.
        self.patch_embeds, self.pool_convs, self.stages = (
            nn.ModuleDict(),
            nn.ModuleDict(),
            nn.ModuleDict(),
        )
        for index, (source, width) in enumerate(zip(inputs, self.channels, strict=True)):
            name, first = str(index + 1), sum(_DEPTHS[:index])
            kernel, stride = (7, 4) if index == 0 else (3, 2)
            self.patch_embeds[name] = _PatchEmbedding(source, width, kernel, stride)
            self.pool_convs[name] = nn.ModuleList(
                nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in _POOL_RATIOS[index]
            )
            self.stages[name] = nn.ModuleList(
                _Block(width, _HEADS[index], _POOL_RATIOS[index], _MLP_RATIOS[index], rate)
                for rate in rates[first : first + _DEPTHS[index]]
            )
        # The ImageNet classifier rides along in the published checkpoints; nothing here computes
        # with it.
        self.unused_head = nn.Linear(self.channels[-1], 1000)

    def forward(self, image: Tensor) -> BackboneLevels:
        """Extract the four levels of a normalised image (B, 3, H, W)."""
        features, levels = image, []
        for name, stage in self.stages.items():
            tokens, size = self.patch_embeds[name](features)
            for block in stage.children():
                tokens = block(tokens, size, self.pool_convs[name])
            features = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)
            levels.append(features)
        return BackboneLevels(*levels)


class _PatchEmbedding(nn.Module):
    def __init__(self, inputs: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
        features = self.proj(features)
        height, width = features.shape[-2:]
        return self.norm(features.flatten(2).transpose(1, 2)), (height, width)


class _PooledAttention(nn.Module):
    """Attention of all tokens to a short sequence pooled from the same map at four scales."""

    def __init__(self, width: int, heads: int, pool_ratios: tuple[int, ...]) -> None:
        super().__init__()
        self.heads, self.pool_ratios = heads, pool_ratios
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, size: tuple[int, int], pool_convs: nn.ModuleList) -> Tensor:
        batch, count, width = tokens.shape
        features = tokens.transpose(1, 2).reshape(batch, width, *size)
        pooled = []
        for ratio, conv in zip(self.pool_ratios, pool_convs, strict=True):
            # round() takes ties to even, as published; below one ratio a side of 1 keeps small
            # inputs defined.
            output = (max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio)))
            pool = F.adaptive_avg_pool2d(features, output)
            pooled.append((pool + conv(pool)).flatten(2))
        context = self.norm(torch.cat(pooled, dim=2).transpose(1, 2))
        query = self.q(tokens).view(batch, count, self.heads, -1).transpose(1, 2)
        key, value = (
            self.kv(context).view(batch, context.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        output_tokens: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return output_tokens


class _ConvolutionalMlp(nn.Module):
    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        hidden = width * ratio
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        features = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)
        features = F.hardswish(self.depthwise(F.hardswish(self.fc1(features))))
        output: Tensor = self.fc2(features).flatten(2).transpose(1, 2)
        return output


class _Block(nn.Module):
    def __init__(
        self, width: int, heads: int, pool_ratios: tuple[int, ...], mlp_ratio: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _PooledAttention(width, heads, pool_ratios)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _ConvolutionalMlp(width, mlp_ratio)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, tokens: Tensor, size: tuple[int, int], pool_convs: nn.ModuleList) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), size, pool_convs))
        output: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens), size))
        return output
