from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import (
    WIDTH,
    DeformableAttention,
    DeformableLayer,
    DeformableTransformer,
    ModalityEncoder,
    NoEncoder,
    conv_norm_relu,
    query_offset,
)
from calibnet_core.models.calibnet.position import ConstantPosition, SinePosition
from tests.support.backbones import PyramidOfMeans

SHAPES = [(1, 2), (2, 3), (4, 5)]
LENGTH = sum(height * width for height, width in SHAPES)


def attention_by_loops(
    module: DeformableAttention, query: Tensor, tokens: Tensor
) -> NDArray[np.float64]:
    """Deformable attention of one image (L, 256), reading by reading, from the definition."""

    def linear(layer: nn.Linear, x: Tensor) -> NDArray[np.float64]:
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        return x.double().numpy() @ weight.T + bias

    heads, levels, points = module.num_heads, module.num_levels, module.num_points
    value = linear(module.value_proj, tokens).reshape(LENGTH, heads, WIDTH // heads)
    offsets = linear(module.sampling_offsets, query).reshape(LENGTH, heads, levels, points, 2)
    logits = linear(module.attention_weights, query).reshape(LENGTH, heads, levels * points)
    weights = np.exp(logits)
    weights = (weights / weights.sum(-1, keepdims=True)).reshape(LENGTH, heads, levels, points)
    centres = [
        ((j + 0.5) / width, (i + 0.5) / height)
        for height, width in SHAPES
        for i in range(height)
        for j in range(width)
    ]
    output = np.zeros((LENGTH, heads, WIDTH // heads))
    for token, head, level, point in np.ndindex(LENGTH, heads, levels, points):
        height, width = SHAPES[level]
        start = sum(rows * columns for rows, columns in SHAPES[:level])
        offset = offsets[token, head, level, point]
        column = centres[token][0] * width + offset[0] - 0.5  # offsets count cells of that level
        row = centres[token][1] * height + offset[1] - 0.5
        for r in (math.floor(row), math.floor(row) + 1):
            for c in (math.floor(column), math.floor(column) + 1):
                if 0 <= r < height and 0 <= c < width:
                    share = (1 - abs(row - r)) * (1 - abs(column - c))
                    reading = value[start + r * width + c, head]
                    output[token, head] += share * weights[token, head, level, point] * reading
    return linear(module.output_proj, torch.from_numpy(output.reshape(LENGTH, WIDTH)))


@torch.no_grad()
def test_attention_equals_the_definition_by_loops() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(num_levels=3, num_heads=8, num_points=4)
    module.sampling_offsets.bias.normal_(std=1.5)
    tokens = torch.randn(2, LENGTH, WIDTH)
    query = tokens + torch.randn(LENGTH, WIDTH)
    attended = module(query, tokens, SHAPES)
    for image in range(2):
        expected = torch.from_numpy(attention_by_loops(module, query[image], tokens[image]))
        torch.testing.assert_close(attended[image].double(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_layer_adds_then_normalises_twice() -> None:
    torch.manual_seed(0)
    layer = DeformableLayer(num_levels=3)
    for norm in (layer.norm1, layer.norm2):
        norm.weight.normal_()
        norm.bias.normal_()
    tokens, offset = torch.randn(2, LENGTH, WIDTH), torch.randn(LENGTH, WIDTH)

    def normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / deviation * norm.weight + norm.bias

    # Only the query knows its place; what is read and what is kept does not.
    x = normalised(tokens + layer.attention(tokens + offset, tokens, SHAPES), layer.norm1)
    hidden = layer.linear1(x)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = normalised(x + layer.linear2(hidden), layer.norm2)
    torch.testing.assert_close(layer(tokens, offset, SHAPES), expected, rtol=1e-4, atol=1e-5)


def transformer(num_layers: int = 2, position: Tensor | None = None) -> DeformableTransformer:
    torch.manual_seed(0)
    if position is None:
        position = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    return DeformableTransformer(num_layers=num_layers, position=ConstantPosition(position)).eval()


@torch.no_grad()
def test_the_transformer_gives_every_layer_position_and_level_anew() -> None:
    module = transformer()
    levels = [torch.randn(2, WIDTH, *shape) for shape in SHAPES]
    tokens = torch.cat([level.flatten(2).mT for level in levels], dim=1)
    embeds = [
        embed.expand(h * w, -1) for embed, (h, w) in zip(module.level_embed, SHAPES, strict=True)
    ]
    offset = torch.cat(embeds) + module.position.vector
    for layer in module.layers:
        tokens = layer(tokens, offset, SHAPES)

    first = 0
    for (height, width), mixed in zip(SHAPES, module(levels), strict=True):
        assert mixed.shape == (2, WIDTH, height, width)
        for i in range(height):
            for j in range(width):
                expected = tokens[:, first + i * width + j]
                torch.testing.assert_close(mixed[:, :, i, j], expected, rtol=1e-4, atol=1e-5)
        first += height * width


@torch.no_grad()
def test_without_layers_the_levels_pass_unchanged() -> None:
    levels = [torch.randn(2, WIDTH, *shape) for shape in SHAPES]
    for mixed, level in zip(transformer(num_layers=0)(levels), levels, strict=True):
        torch.testing.assert_close(mixed, level, rtol=0, atol=0)


def test_the_position_vector_is_no_part_of_the_weights_but_moves_with_the_module() -> None:
    module = transformer()
    assert not [key for key in module.state_dict() if "position" in key]
    assert module.double().position.vector.dtype == torch.float64


def test_the_module_keeps_its_own_copy_of_the_position_vector() -> None:
    position = torch.zeros(WIDTH)
    module = transformer(position=position)
    position.fill_(1.0)
    assert not module.position.vector.any()


@torch.no_grad()
def test_a_projection_is_a_convolution_a_group_norm_and_a_relu() -> None:
    torch.manual_seed(0)
    projection = conv_norm_relu(5)
    assert projection[0].bias is None
    features = torch.randn(2, 5, 3, 4)
    hidden = F.conv2d(features, projection[0].weight, padding=1).view(2, 32, -1)
    centred = hidden - hidden.mean(-1, keepdim=True)
    hidden = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = hidden.view(2, WIDTH, 3, 4).clamp_min(0.0)
    torch.testing.assert_close(projection(features), expected, rtol=1e-4, atol=1e-5)


def encoder(num_layers: int = 1) -> ModalityEncoder:
    torch.manual_seed(0)
    return ModalityEncoder(
        PyramidOfMeans(), num_layers=num_layers, position=ConstantPosition(torch.zeros(WIDTH))
    ).eval()


@torch.no_grad()
def test_the_encoder_projects_every_level_and_mixes_all_but_the_finest() -> None:
    module = encoder()
    image = torch.randn(2, 3, 64, 96)
    levels = module(image)
    assert [tuple(level.shape) for level in levels] == [
        (2, WIDTH, 16, 24),
        (2, WIDTH, 8, 12),
        (2, WIDTH, 4, 6),
        (2, WIDTH, 2, 3),
    ]
    raw = module.backbone(image)
    projected = {name: module.project[name](level) for name, level in raw._asdict().items()}
    torch.testing.assert_close(levels.c2, projected["res2"])
    mixed = module.transformer([projected["res5"], projected["res4"], projected["res3"]])
    for ours, theirs in zip((levels.t5, levels.t4, levels.t3), mixed, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(32, 32), (32, 64)])
def test_the_smallest_images_can_be_encoded(size: tuple[int, int]) -> None:
    levels = encoder()(torch.randn(1, 3, *size))
    assert levels.t5.shape == (1, WIDTH, size[0] // 32, size[1] // 32)


def test_gradients_reach_every_parameter() -> None:
    module = encoder(num_layers=2)
    levels = module(torch.randn(1, 3, 64, 64))
    sum(level[:, 0].square().sum() for level in levels).backward()
    assert [
        name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()
    ] == []


@torch.no_grad()
def test_c2_that_only_training_needs_stays_empty_in_inference() -> None:
    torch.manual_seed(0)
    constant = ConstantPosition(torch.zeros(64))
    module = ModalityEncoder(
        PyramidOfMeans(), num_layers=1, position=constant, width=64, c2_trains_only=True
    )
    image = torch.randn(1, 3, 64, 96)
    training, inference = module.train()(image), module.eval()(image)
    assert (training.c2.shape, inference.c2.numel()) == ((1, 64, 16, 24), 0)
    torch.testing.assert_close(inference.t3, training.t3, rtol=0, atol=0)


def test_no_encoder_gives_empty_levels_of_the_images_type() -> None:
    levels = NoEncoder()(torch.zeros(2, 3, 32, 32, dtype=torch.float64))
    assert [(level.numel(), level.dtype) for level in levels] == [(0, torch.float64)] * 4


@torch.no_grad()
def test_a_sine_encoding_gives_every_token_its_place() -> None:
    torch.manual_seed(0)
    module = DeformableTransformer(num_layers=1, position=SinePosition(64), width=64)
    offset = query_offset(module.position, module.level_embed, SHAPES)
    parts = [
        module.position(h, w) + e for e, (h, w) in zip(module.level_embed, SHAPES, strict=True)
    ]
    assert torch.equal(offset, torch.cat(parts))
    assert torch.cdist(offset, offset).fill_diagonal_(1.0).min() > 1e-2
