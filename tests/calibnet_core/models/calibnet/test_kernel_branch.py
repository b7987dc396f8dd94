from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from calibnet_core.models.calibnet.kernel_branch import (
    KernelBranch,
    coordinate_channels,
    normalised_maps,
)

GROUPS = 4


def branch(num_kernels: int = 3, channels: int = 8) -> KernelBranch:
    torch.manual_seed(0)
    return KernelBranch(num_kernels, channels).double()


def attention_maps(module: KernelBranch, rgb: Tensor, depth: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Colour features (C, h, w) of one image, and both modalities' maps as (group, n) -> (h, w)."""
    _, height, width = rgb.shape
    depth = depth * module.similarity(rgb[None], depth[None])[0]
    place = torch.empty(2, height, width, dtype=rgb.dtype)
    for i in range(height):
        for j in range(width):
            place[0, i, j], place[1, i, j] = -1 + 2 * j / (width - 1), -1 + 2 * i / (height - 1)
    features, maps = [], []
    for source, convolution, to_maps in (
        (rgb, module.rgb_conv, module.rgb_maps),
        (depth, module.depth_conv, module.depth_maps),
    ):
        hidden = convolution(torch.cat((source, place))[None]).relu()[0]
        features.append(hidden)
        # A grouped convolution is one convolution per slice of the channels.
        size = hidden.shape[0] // GROUPS
        grouped = []
        for group in range(GROUPS):
            rows = slice(group * module.num_kernels, (group + 1) * module.num_kernels)
            part = hidden[None, group * size : (group + 1) * size]
            logits = F.conv2d(part, to_maps.weight[rows], to_maps.bias[rows], padding=1)[0]
            grouped.append(logits.sigmoid())
        maps.append(torch.stack(grouped))
    return features[0], maps


def kernels_by_loops(module: KernelBranch, rgb: Tensor, depth: Tensor) -> list[Tensor]:
    """Kernels, score and objectness logits of one image, map by map and row by row."""
    features, maps = attention_maps(module, rgb, depth)
    count = module.num_kernels

    def pooled(modality: int, number: int) -> Tensor:
        """What map `number` of a modality, group after group, gathers from the colour features."""
        attention = maps[modality][number // count, number % count]
        return (features * (attention / attention.sum())).sum((1, 2))

    # Row r joins maps r and 2N + r of each modality, colour first.
    rows = torch.stack(
        [
            torch.cat(
                [pooled(0, r), pooled(0, 2 * count + r), pooled(1, r), pooled(1, 2 * count + r)]
            )
            for r in range(2 * count)
        ]
    )
    answers: list[list[Tensor]] = [[], [], []]
    for n in range(count):
        merged = module.merge_maps.bias[n] + sum(
            module.merge_maps.weight[n, r] * rows[r] for r in range(2 * count)
        )
        embedding = module.embed(merged.relu()).relu()
        for answer, head in zip(
            answers, (module.kernel, module.score, module.objectness), strict=True
        ):
            answer.append(head(embedding))
    return [torch.stack(answers[0]), torch.cat(answers[1]), torch.cat(answers[2])]


@pytest.mark.parametrize("num_kernels", [1, 2, 3, 5])
def test_kernels_equal_the_grouping_by_loops(num_kernels: int) -> None:
    module = branch(num_kernels)
    rgb, depth = (torch.randn(2, 8, 4, 6, dtype=torch.float64) for _ in "ab")
    answers = module(rgb, depth)
    assert [tuple(answer.shape) for answer in answers] == [
        (2, num_kernels, 8),
        (2, num_kernels),
        (2, num_kernels),
    ]
    for image in range(2):
        expected = kernels_by_loops(module, rgb[image], depth[image])
        for answer, reference in zip(answers, expected, strict=True):
            torch.testing.assert_close(answer[image], reference)


def test_depth_says_where_to_look_but_not_what_is_there() -> None:
    module = branch()
    rgb, depth = (torch.randn(1, 8, 4, 6, dtype=torch.float64) for _ in "ab")
    # Attention without preference: the depth branch now only contributes uniform maps.
    torch.nn.init.zeros_(module.depth_maps.weight)
    flat = module(rgb, depth)
    for answer, other in zip(flat, module(rgb, torch.randn_like(depth)), strict=True):
        torch.testing.assert_close(answer, other)


def test_coordinates_run_from_minus_1_to_1_x_before_y() -> None:
    coordinates = coordinate_channels(torch.zeros(2, 7, 3, 5))
    assert coordinates.shape == (2, 2, 3, 5)
    for image in range(2):
        assert coordinates[image, 0].tolist() == [[-1.0, -0.5, 0.0, 0.5, 1.0]] * 3
        assert coordinates[image, 1].tolist() == [[-1.0] * 5, [0.0] * 5, [1.0] * 5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_coordinates_take_type_and_place_of_the_features(dtype: torch.dtype) -> None:
    coordinates = coordinate_channels(torch.zeros(1, 4, 2, 2, dtype=dtype, device="meta"))
    assert (coordinates.dtype, coordinates.is_meta) == (dtype, True)


@given(
    seed=st.integers(0, 2**31),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    scale=st.floats(0.1, 2.0),  # at 8, a map may be fainter than the limit
)
def test_attention_maps_sum_to_1_over_space(
    seed: int, height: int, width: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = normalised_maps(scale * torch.randn(2, 3, height, width, generator=generator))
    assert maps.shape == (2, 3, height * width)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3))


def test_a_map_that_looks_nowhere_stays_finite() -> None:
    maps = normalised_maps(torch.full((1, 1, 2, 3), -200.0))
    assert maps.flatten().tolist() == [0.0] * 6


def test_a_faint_map_is_divided_by_at_least_a_millionth() -> None:
    logit = torch.tensor(1e-8, dtype=torch.float64).logit()
    maps = normalised_maps(logit.expand(1, 1, 2, 2))
    torch.testing.assert_close(maps, torch.full((1, 1, 4), 1e-2, dtype=torch.float64))


def test_gradients_reach_every_parameter() -> None:
    module = branch()
    outputs = module(*(torch.randn(1, 8, 4, 6, dtype=torch.float64) for _ in "ab"))
    sum(output.square().sum() for output in outputs).backward()
    assert [
        name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()
    ] == []


def test_no_image_gives_no_kernels() -> None:
    module = branch()
    empty = torch.zeros(0, 8, 4, 6, dtype=torch.float64)
    assert [tuple(output.shape) for output in module(empty, empty)] == [(0, 3, 8), (0, 3), (0, 3)]
