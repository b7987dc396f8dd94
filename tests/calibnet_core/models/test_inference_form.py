from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from calibnet_core.models.inference_form import inference_form
from tests.support.random_weights import randomised


def num_norms(module: nn.Module) -> int:
    return sum(isinstance(m, (FrozenBatchNorm2d, nn.BatchNorm2d)) for m in module.modules())


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_after_a_convolution_becomes_part_of_it(norm: type[nn.Module], bias: bool) -> None:
    network = randomised(nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), norm(5), nn.ReLU()))
    image = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    fast = inference_form(network)
    assert num_norms(fast) == 0
    torch.testing.assert_close(fast(image), network(image), rtol=1e-5, atol=1e-5)


def test_the_bottlenecks_of_a_resnet_lose_their_norms() -> None:
    shortcut = nn.Sequential(nn.Conv2d(6, 16, 1, bias=False), FrozenBatchNorm2d(16))
    block = randomised(Bottleneck(6, 4, downsample=shortcut, norm_layer=FrozenBatchNorm2d))
    image = torch.randn(1, 6, 7, 7, generator=torch.Generator().manual_seed(1))
    fast = inference_form(block)
    assert num_norms(fast) == 0
    torch.testing.assert_close(fast(image), block(image), rtol=1e-5, atol=1e-4)


def test_the_original_stays_as_it_is() -> None:
    network = randomised(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    inference_form(network)
    assert network.training
    assert num_norms(network) == 1
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_norm_whose_place_in_the_computation_is_unknown_stays() -> None:
    class NormFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, image: Tensor) -> Tensor:
            output: Tensor = self.conv(self.norm(image))
            return output

    network = randomised(NormFirst())
    image = torch.ones(1, 3, 4, 4)
    fast = inference_form(network)
    assert num_norms(fast) == 1
    torch.testing.assert_close(fast(image), network(image))


def test_a_network_without_such_norms_computes_the_same() -> None:
    network = randomised(nn.Sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(32, 32)))
    image = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(inference_form(network)(image), network(image), rtol=1e-4, atol=1e-4)
