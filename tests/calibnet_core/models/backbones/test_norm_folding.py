from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from calibnet_core.models.backbones.norm_folding import FoldingSequential, fold_frozen_norms
from tests.support.random_weights import randomised

IMAGE = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(1))


def gradients(network: nn.Module, image: Tensor) -> list[Tensor]:
    image = image.clone().requires_grad_()
    network.zero_grad()
    network(image).square().sum().backward()
    return [image.grad, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize("bias", [True, False])
def test_folding_changes_neither_results_nor_gradients(bias: bool) -> None:
    plain = randomised(
        nn.Sequential(
            *(nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=bias), FrozenBatchNorm2d(6), nn.ReLU6()),
            *(nn.Conv2d(6, 6, 3, groups=6, bias=bias), FrozenBatchNorm2d(6)),
        )
    )
    folding = FoldingSequential(*plain)
    torch.testing.assert_close(folding(IMAGE), plain(IMAGE), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(folding, IMAGE), gradients(plain, IMAGE), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_folded_norm_does_no_pass_of_its_own() -> None:
    folding, passes = FoldingSequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4)), []
    folding[1].register_forward_hook(lambda *_: passes.append(1))
    folding(IMAGE)
    assert passes == []


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(FrozenBatchNorm2d(3), nn.Conv2d(3, 4, 1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), FrozenBatchNorm2d(4)),
    ],
    ids=["before", "learning", "apart"],
)
def test_other_norms_do_as_before(network: nn.Sequential) -> None:
    randomised(network).train()
    folding = FoldingSequential(*network)
    torch.testing.assert_close(folding(IMAGE), network(IMAGE))


def test_names_of_weights_stay_at_every_depth() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4))
    network = nn.Sequential(nn.Sequential(inner, nn.ReLU()))
    before = list(network.state_dict())
    fold_frozen_norms(network)
    assert list(network.state_dict()) == before
    assert isinstance(network[0][0], FoldingSequential)
