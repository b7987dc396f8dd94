from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.swin_transformer import ShiftedWindowAttention

from calibnet_core.models.backbones import build_backbone
from calibnet_core.models.backbones.swin import AlwaysShiftedWindowAttention, SwinT
from tests.support.parity import PublishedWeights, image_gradient

DEPTHS, HEADS, WIDTHS, WINDOW = (2, 2, 6, 2), (3, 6, 12, 24), (96, 192, 384, 768), 7


def attention_pair(
    shift: int, channels: int = 6, heads: int = 2
) -> tuple[AlwaysShiftedWindowAttention, ShiftedWindowAttention]:
    """Ours and torchvision's window attention with the same weights."""
    torch.manual_seed(shift)
    arguments = (channels, [WINDOW, WINDOW], [shift, shift], heads)
    ours = AlwaysShiftedWindowAttention(*arguments)
    torch.nn.init.normal_(ours.relative_position_bias_table)
    theirs = ShiftedWindowAttention(*arguments)
    theirs.load_state_dict(ours.state_dict())
    return ours.eval(), theirs.eval()


def attention_by_loops(
    features: Tensor, attention: ShiftedWindowAttention, shift: int
) -> NDArray[np.float64]:
    """Masked window attention of (H, W, C), token by token: which tokens meet, and with what bias.

    The map is padded with zeros to whole windows and moved cyclically up and left by `shift`.
    Tokens attend within a window; -100 goes between those that the move brought together from
    opposite edges.
    """
    qkv_weight, qkv_bias, out_weight, out_bias, table = (
        tensor.detach().double().numpy()
        for tensor in (
            attention.qkv.weight,
            attention.qkv.bias,
            attention.proj.weight,
            attention.proj.bias,
            attention.relative_position_bias_table,
        )
    )
    heads = attention.num_heads
    height, width, channels = features.shape
    rows, columns = -(-height // WINDOW) * WINDOW, -(-width // WINDOW) * WINDOW
    padded = np.zeros((rows, columns, channels))
    padded[:height, :width] = features.numpy()
    qkv = (padded @ qkv_weight.T + qkv_bias).reshape(rows, columns, 3, heads, channels // heads)

    def moved(row: int, column: int) -> tuple[int, int]:
        return (row - shift) % rows, (column - shift) % columns

    def came_round(position: int, length: int) -> tuple[bool, bool]:
        """Which part of the moved axis: whole windows, the rest, or what came round the edge."""
        return position >= length - WINDOW, position >= length - shift

    output = np.zeros((height, width, channels))
    for row, column in np.ndindex(height, width):
        here = moved(row, column)
        for head in range(heads):
            logits, values = [], []
            for other_row, other_column in np.ndindex(rows, columns):
                there = moved(other_row, other_column)
                if any(a // WINDOW != b // WINDOW for a, b in zip(here, there, strict=True)):
                    continue
                down, right = here[0] - there[0] + WINDOW - 1, here[1] - there[1] + WINDOW - 1
                bias = table[down * (2 * WINDOW - 1) + right, head]
                if shift and any(
                    came_round(here[axis], length) != came_round(there[axis], length)
                    for axis, length in enumerate((rows, columns))
                ):
                    bias = bias - 100.0
                query, key = qkv[row, column, 0, head], qkv[other_row, other_column, 1, head]
                logits.append(query @ key / np.sqrt(channels // heads) + bias)
                values.append(qkv[other_row, other_column, 2, head])
            weights = np.exp(np.array(logits) - max(logits))
            size = channels // heads
            output[row, column, head * size : (head + 1) * size] = (
                weights @ np.array(values) / weights.sum()
            )
    return output @ out_weight.T + out_bias


@pytest.mark.parametrize("size", [(5, 6), (7, 7), (9, 4), (8, 15)])
@pytest.mark.parametrize("shift", [0, 3])
def test_attention_equals_the_masked_window_attention_by_loops(
    size: tuple[int, int], shift: int
) -> None:
    attention, _ = attention_pair(shift)
    features = torch.randn(1, *size, 6)
    expected = torch.from_numpy(attention_by_loops(features[0], attention, shift)).float()
    torch.testing.assert_close(attention(features)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "shift"),
    [((14, 21), 3), ((8, 15), 3), ((20, 9), 3), ((5, 6), 0), ((7, 30), 0), ((16, 24), 0)],
)
def test_attention_equals_torchvision_where_more_than_one_window_fits(
    size: tuple[int, int], shift: int
) -> None:
    ours, theirs = attention_pair(shift)
    features = torch.randn(2, *size, 6)
    torch.testing.assert_close(ours(features), theirs(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 6), (7, 7), (7, 20), (20, 7)])
def test_attention_shifts_where_torchvision_leaves_the_shift_out(size: tuple[int, int]) -> None:
    ours, theirs = attention_pair(3)
    features = torch.randn(1, *size, 6)
    assert (ours(features) - theirs(features)).abs().max() > 1e-3


def test_images_of_a_batch_do_not_mix() -> None:
    attention, _ = attention_pair(3)
    features = torch.randn(3, 9, 10, 6)
    for index in range(3):
        torch.testing.assert_close(
            attention(features)[index : index + 1],
            attention(features[index : index + 1]),
            rtol=1e-4,
            atol=1e-5,
        )


def reference(image: Tensor, weight: PublishedWeights) -> list[Tensor]:
    """Swin-T with functions alone, under the published names.

    Attention runs over all tokens of the padded map at once; a mask keeps windows apart.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        width = x.shape[-1]
        return F.layer_norm(
            x, (width,), weight(f"{name}.weight", width), weight(f"{name}.bias", width)
        )

    def linear(x: Tensor, name: str, width: int) -> Tensor:
        return F.linear(
            x, weight(f"{name}.weight", width, x.shape[-1]), weight(f"{name}.bias", width)
        )

    def attend(x: Tensor, name: str, heads: int, shift: int) -> Tensor:
        height, width, channels = x.shape[1:]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        rows, columns = x.shape[1:3]
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        row, column = ((row - shift) % rows).flatten(), ((column - shift) % columns).flatten()

        def part(position: Tensor, length: int) -> Tensor:
            return (position >= length - WINDOW).int() + (position >= length - shift).int()

        window = torch.stack((row // WINDOW, column // WINDOW))
        region = torch.stack((part(row, rows), part(column, columns)))
        down = (row.view(-1, 1) - row + WINDOW - 1).clamp(0, 2 * WINDOW - 2)
        right = (column.view(-1, 1) - column + WINDOW - 1).clamp(0, 2 * WINDOW - 2)
        table = weight(f"{name}.relative_position_bias_table", (2 * WINDOW - 1) ** 2, heads)
        bias = table[down * (2 * WINDOW - 1) + right].permute(2, 0, 1)
        if shift:
            bias = bias - 100.0 * (region.unsqueeze(1) != region.unsqueeze(2)).any(0)
        bias = bias.masked_fill((window.unsqueeze(1) != window.unsqueeze(2)).any(0), -torch.inf)
        query, key, value = (
            linear(x.flatten(1, 2), f"{name}.qkv", 3 * channels)
            .unflatten(-1, (3, heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        scale = (channels // heads) ** -0.5
        mixed = (query @ key.transpose(-1, -2) * scale + bias).softmax(-1) @ value
        mixed = linear(mixed.transpose(1, 2).flatten(2), f"{name}.proj", channels)
        return mixed.view(x.shape)[:, :height, :width]

    x = F.conv2d(
        image,
        weight("patch_embed.proj.weight", 96, 3, 4, 4),
        weight("patch_embed.proj.bias", 96),
        4,
    )
    x, levels = norm(x.permute(0, 2, 3, 1), "patch_embed.norm"), []
    for stage, (depth, heads, width) in enumerate(zip(DEPTHS, HEADS, WIDTHS, strict=True)):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            x = x + attend(norm(x, f"{name}.norm1"), f"{name}.attn", heads, 3 * (block % 2))
            hidden = F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1", 4 * width))
            x = x + linear(hidden, f"{name}.mlp.fc2", width)
        levels.append(norm(x, f"norm{stage}").permute(0, 3, 1, 2))
        if stage < 3:
            name = f"layers.{stage}.downsample"
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            phases = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            x = norm(torch.cat(phases, dim=-1), f"{name}.norm")
            x = x @ weight(f"{name}.reduction.weight", 2 * width, 4 * width).T
    return levels


def test_it_computes_what_the_published_layout_says() -> None:
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    weights = PublishedWeights()
    expected = reference(image, weights)
    swin = SwinT()
    weights.load_into(swin)
    levels = swin.eval()(image)
    for ours, theirs in zip(levels, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    ours, theirs = image_gradient(levels, image), image_gradient(expected, image)
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


def test_levels_have_strides_4_to_32_and_the_declared_channels() -> None:
    swin = build_backbone("swin_t").eval()
    assert isinstance(swin, SwinT)
    levels = swin(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (1, 96, 16, 24),
        (1, 192, 8, 12),
        (1, 384, 4, 6),
        (1, 768, 2, 3),
    ]
    assert swin.channels == (96, 192, 384, 768)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    swin = SwinT().eval()  # evaluation mode, as stochastic depth may skip a block in training
    # A plain sum would not do: the layer norms at the end make it constant.
    sum(level[:, 0].sum() for level in swin(torch.randn(1, 3, 64, 64))).backward()
    assert [name for name, p in swin.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_paths_drop_more_often_the_deeper_a_block_is() -> None:
    rates = [block.stochastic_depth.p for stage in list(SwinT().features)[1::2] for block in stage]
    assert rates == pytest.approx(np.linspace(0.0, 0.3, 12))
