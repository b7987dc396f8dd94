from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibnet_core.models.backbones import build_backbone
from calibnet_core.models.backbones.p2t import P2TLarge, _PooledAttention
from tests.support.parity import PublishedWeights, image_gradient

DEPTHS, HEADS, WIDTHS, MLP_RATIOS = (3, 8, 27, 3), (1, 2, 5, 8), (64, 128, 320, 640), (8, 8, 4, 4)
# Pooled sizes of a 64x96 image, whose stages are 16x24, 8x12, 4x6 and 2x3, worked by hand from the
# ratios (12, 16, 20, 24), (6, 8, 10, 12), (3, 4, 5, 6), (1, 2, 3, 4).
STAGE_1 = [(1, 2), (1, 2), (1, 1), (1, 1)]
POOLED = (STAGE_1, STAGE_1, STAGE_1, [(2, 3), (1, 2), (1, 1), (1, 1)])


@pytest.fixture(scope="module")
def p2t() -> P2TLarge:
    torch.manual_seed(0)
    return P2TLarge().eval()


def reference(image: Tensor, weight: PublishedWeights) -> list[Tensor]:
    """P2T-Large with functions alone, under the published names."""

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

    def attend(x: Tensor, name: str, stage: int, size: tuple[int, int]) -> Tensor:
        width, heads = x.shape[-1], HEADS[stage]
        pooled = []
        for index, output in enumerate(POOLED[stage]):
            pool = F.adaptive_avg_pool2d(x.transpose(1, 2).unflatten(2, size), output)
            depthwise = convolve(pool, f"d_convs{stage + 1}.{index}", width, 3, 1, width)
            pooled.append(tokens_of(pool + depthwise))
        context = norm(torch.cat(pooled, dim=1), f"{name}.norm", 1e-5)
        query = linear(x, f"{name}.q.0", width).unflatten(-1, (heads, -1)).transpose(1, 2)
        key, value = (
            linear(context, f"{name}.kv.0", 2 * width)
            .unflatten(-1, (2, heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return linear(mixed, f"{name}.proj", width)

    def transform(x: Tensor, name: str, ratio: int, size: tuple[int, int]) -> Tensor:
        width = x.shape[-1]
        hidden = convolve(x.transpose(1, 2).unflatten(2, size), f"{name}.fc1", ratio * width, 1, 1)
        hidden = hidden * (hidden + 3.0).clamp(0.0, 6.0) / 6.0
        hidden = convolve(hidden, f"{name}.conv", ratio * width, 3, 1, ratio * width)
        hidden = hidden * (hidden + 3.0).clamp(0.0, 6.0) / 6.0
        return tokens_of(convolve(hidden, f"{name}.fc2", width, 1, 1))

    features, levels = image, []
    for stage, (depth, width, ratio) in enumerate(zip(DEPTHS, WIDTHS, MLP_RATIOS, strict=True)):
        kernel, stride = (7, 4) if stage == 0 else (3, 2)
        embedded = convolve(features, f"patch_embed{stage + 1}.proj", width, kernel, stride)
        size = (embedded.shape[2], embedded.shape[3])
        x = norm(tokens_of(embedded), f"patch_embed{stage + 1}.norm", 1e-5)
        for block in range(depth):
            name = f"block{stage + 1}.{block}"
            x = x + attend(norm(x, f"{name}.norm1", 1e-6), f"{name}.attn", stage, size)
            x = x + transform(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp", ratio, size)
        features = x.transpose(1, 2).unflatten(2, size)
        levels.append(features)
    return levels


def test_it_computes_what_the_published_layout_says() -> None:
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    weights = PublishedWeights()
    expected = reference(image, weights)
    p2t = P2TLarge()
    weights.load_into(p2t)
    levels = p2t.eval()(image)
    for ours, theirs in zip(levels, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.std().item())
    ours, theirs = image_gradient(levels, image), image_gradient(expected, image)
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


class SizeRecorder(nn.Module):
    """Stands in for a pooling convolution and notes the size of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, pooled: Tensor) -> Tensor:
        self.sizes.append(tuple(pooled.shape[2:]))
        return pooled


@pytest.mark.parametrize(
    ("size", "ratios", "expected"),
    [
        ((80, 120), (12, 16, 20, 24), [(7, 10), (5, 8), (4, 6), (3, 5)]),  # 7.5 rounds to 8
        ((40, 60), (6, 8, 10, 12), [(7, 10), (5, 8), (4, 6), (3, 5)]),
        ((20, 30), (6, 8, 10, 12), [(3, 5), (2, 4), (2, 3), (2, 2)]),  # 20 / 8 and 30 / 12 are 2.5
        ((14, 10), (3, 4, 5, 6), [(5, 3), (4, 2), (3, 2), (2, 2)]),  # 3.5 rounds up, 2.5 down
        ((2, 3), (1, 2, 3, 4), [(2, 3), (1, 2), (1, 1), (1, 1)]),  # 0.5 would be 0; 1 is the least
        ((1, 1), (1, 2, 3, 4), [(1, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)
def test_pooled_sizes_round_ties_to_even_and_never_vanish(
    size: tuple[int, int], ratios: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    recorders = nn.ModuleList(SizeRecorder() for _ in ratios)
    attention = _PooledAttention(8, 2, ratios)
    tokens = torch.randn(2, size[0] * size[1], 8)
    assert attention(tokens, size, recorders).shape == tokens.shape
    assert [recorder.sizes for recorder in recorders] == [[entry] for entry in expected]


def test_levels_have_strides_4_to_32_and_the_declared_channels(p2t: P2TLarge) -> None:
    levels = p2t(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (1, 64, 16, 24),
        (1, 128, 8, 12),
        (1, 320, 4, 6),
        (1, 640, 2, 3),
    ]
    assert p2t.channels == (64, 128, 320, 640)


def test_gradients_reach_every_parameter_but_the_classifier(p2t: P2TLarge) -> None:
    p2t.zero_grad()
    sum(level[:, 0].sum() for level in p2t(torch.randn(1, 3, 64, 64))).backward()
    untouched = [name for name, p in p2t.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == ["unused_head.weight", "unused_head.bias"]


def test_paths_drop_more_often_the_deeper_a_block_is(p2t: P2TLarge) -> None:
    rates = [block.drop_path.p for stage in p2t.stages.values() for block in stage.children()]
    assert rates == pytest.approx([0.3 * index / 40 for index in range(41)])


def test_it_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        assert next(build_backbone("p2t_large").parameters()).is_meta
