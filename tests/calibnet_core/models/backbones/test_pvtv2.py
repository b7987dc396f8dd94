from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calibnet_core.models.backbones import build_backbone
from calibnet_core.models.backbones.pvtv2 import PVTv2B2Li
from tests.support.parity import PublishedWeights, image_gradient

DEPTHS, HEADS, WIDTHS, MLP_RATIOS = (3, 4, 6, 3), (1, 2, 5, 8), (64, 128, 320, 512), (8, 8, 4, 4)


@pytest.fixture(scope="module")
def pvt() -> PVTv2B2Li:
    torch.manual_seed(0)
    return PVTv2B2Li().eval()


def reference(image: Tensor, weight: PublishedWeights) -> list[Tensor]:
    """PVTv2-B2-Li with functions alone, under the published names."""

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        width = x.shape[-1]
        parts = weight(f"{name}.weight", width), weight(f"{name}.bias", width)
        return F.layer_norm(x, (width,), *parts, eps=eps)

    def linear(x: Tensor, name: str, width: int) -> Tensor:
        return F.linear(
            x, weight(f"{name}.weight", width, x.shape[-1]), weight(f"{name}.bias", width)
        )

    def convolve(
        x: Tensor, name: str, width: int, kernel: int, stride: int, groups: int = 1
    ) -> Tensor:
        matrix = weight(f"{name}.weight", width, x.shape[1] // groups, kernel, kernel)
        bias = weight(f"{name}.bias", width)
        return F.conv2d(x, matrix, bias, stride, padding=kernel // 2, groups=groups)

    def tokens_of(x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def attend(x: Tensor, name: str, heads: int, size: tuple[int, int]) -> Tensor:
        width = x.shape[-1]
        pooled = F.adaptive_avg_pool2d(x.transpose(1, 2).unflatten(2, size), 7)
        context = tokens_of(convolve(pooled, f"{name}.sr", width, 1, 1))
        context = F.gelu(norm(context, f"{name}.norm", 1e-5))
        query = linear(x, f"{name}.q", width).unflatten(-1, (heads, -1)).transpose(1, 2)
        key, value = (
            linear(context, f"{name}.kv", 2 * width)
            .unflatten(-1, (2, heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return linear(mixed, f"{name}.proj", width)

    def transform(x: Tensor, name: str, ratio: int, size: tuple[int, int]) -> Tensor:
        width = x.shape[-1]
        hidden = linear(x, f"{name}.fc1", ratio * width).relu()
        hidden = hidden.transpose(1, 2).unflatten(2, size)
        groups = ratio * width
        hidden = tokens_of(convolve(hidden, f"{name}.dwconv.dwconv", groups, 3, 1, groups))
        return linear(F.gelu(hidden), f"{name}.fc2", width)

    features, levels = image, []
    for index, (depth, heads, width, ratio) in enumerate(
        zip(DEPTHS, HEADS, WIDTHS, MLP_RATIOS, strict=True), start=1
    ):
        kernel, stride = (7, 4) if index == 1 else (3, 2)
        embedded = convolve(features, f"patch_embed{index}.proj", width, kernel, stride)
        size = (embedded.shape[2], embedded.shape[3])
        x = norm(tokens_of(embedded), f"patch_embed{index}.norm", 1e-5)
        for block in range(depth):
            name = f"block{index}.{block}"
            x = x + attend(norm(x, f"{name}.norm1", 1e-6), f"{name}.attn", heads, size)
            x = x + transform(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp", ratio, size)
        features = norm(x, f"norm{index}", 1e-6).transpose(1, 2).unflatten(2, size)
        levels.append(features)
    return levels


def test_it_computes_what_the_published_layout_says() -> None:
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    weights = PublishedWeights()
    expected = reference(image, weights)
    pvt = PVTv2B2Li()
    weights.load_into(pvt)
    levels = pvt.eval()(image)
    for ours, theirs in zip(levels, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    ours, theirs = image_gradient(levels, image), image_gradient(expected, image)
    # A ReLU next to its kink may open on one side only.
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


def test_levels_have_strides_4_to_32_and_the_declared_channels(pvt: PVTv2B2Li) -> None:
    levels = pvt(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (1, 64, 16, 24),
        (1, 128, 8, 12),
        (1, 320, 4, 6),
        (1, 512, 2, 3),
    ]
    assert pvt.channels == (64, 128, 320, 512)


def test_gradients_reach_every_parameter(pvt: PVTv2B2Li) -> None:
    pvt.zero_grad()
    sum(level[:, 0].sum() for level in pvt(torch.randn(1, 3, 64, 64))).backward()
    assert [name for name, p in pvt.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_name_builds_it() -> None:
    assert isinstance(build_backbone("pvtv2_b2_li"), PVTv2B2Li)
