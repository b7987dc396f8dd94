from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calibnet_core.models.calibnet.fused_kernel_branch import FusedKernelBranch
from calibnet_core.models.calibnet.fusions import ColourOnly, Concatenation

GROUPS = 4


def branch(num_kernels: int, *, early: bool) -> FusedKernelBranch:
    torch.manual_seed(0)
    join = Concatenation(8) if early else ColourOnly()
    return FusedKernelBranch(join, num_kernels, in_channels=16 if early else 8, channels=8).double()


def maps(batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rgb, depth = torch.randn(2, batch, 8, 4, 6, generator=generator, dtype=torch.float64)
    return rgb, depth


def kernels_by_loops(module: FusedKernelBranch, joined: Tensor) -> list[Tensor]:
    """Kernels, score and objectness logits of one image (C, h, w), map by map."""
    place = torch.empty(2, 4, 6, dtype=joined.dtype)
    for i in range(4):
        for j in range(6):
            place[0, i, j], place[1, i, j] = -1 + 2 * j / 5, -1 + 2 * i / 3
    features = module.conv(torch.cat((joined, place))[None]).relu()[0]
    count = module.num_kernels
    answers: list[list[Tensor]] = [[], [], []]
    for n in range(count):
        parts = []
        for group in range(GROUPS):
            size, number = features.shape[0] // GROUPS, group * count + n
            weight, bias = module.maps.weight[number], module.maps.bias[number]
            source = features[None, group * size : (group + 1) * size]
            attention = F.conv2d(source, weight[None], bias[None], padding=1)[0, 0].sigmoid()
            parts.append((features * (attention / attention.sum())).sum((1, 2)))
        embedding = module.embed(torch.cat(parts)).relu()
        for answer, head in zip(
            answers, (module.kernel, module.score, module.objectness), strict=True
        ):
            answer.append(head(embedding))
    return [torch.stack(answers[0]), torch.cat(answers[1]), torch.cat(answers[2])]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("num_kernels", [1, 3])
def test_kernels_equal_the_grouping_by_loops(num_kernels: int, early: bool) -> None:
    module = branch(num_kernels, early=early)
    rgb, depth = maps()
    answers, joined = module(rgb, depth), module.join(rgb, depth)
    for image in range(2):
        expected = kernels_by_loops(module, joined[image])
        for answer, reference in zip(answers, expected, strict=True):
            torch.testing.assert_close(answer[image], reference)


@pytest.mark.parametrize("early", [True, False])
def test_gradients_reach_every_parameter(early: bool) -> None:
    module = branch(3, early=early)
    sum(output.square().sum() for output in module(*maps())).backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_no_image_gives_no_kernels() -> None:
    outputs = branch(3, early=True)(*maps(batch=0))
    assert [tuple(output.shape) for output in outputs] == [(0, 3, 8), (0, 3), (0, 3)]
