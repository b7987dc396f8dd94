from __future__ import annotations

import torch
import torch.nn.functional as F

from calibnet_core.models.calibnet.auxiliary_head import AuxiliaryHead


def test_it_is_a_convolution_a_group_norm_a_gelu_and_one_logit_per_cell() -> None:
    torch.manual_seed(0)
    head = AuxiliaryHead(channels=4, hidden=64)
    for parameter in (head.norm.weight, head.norm.bias):
        torch.nn.init.normal_(parameter)
    features = torch.randn(2, 4, 5, 3)

    hidden = F.conv2d(features, head.conv1.weight, head.conv1.bias, padding=1)
    groups = hidden.view(2, 32, -1)
    mean = groups.mean(-1, keepdim=True)
    variance = groups.var(-1, unbiased=False, keepdim=True)
    hidden = ((groups - mean) / (variance + 1e-5).sqrt()).view(2, 64, 5, 3)
    hidden = hidden * head.norm.weight.view(-1, 1, 1) + head.norm.bias.view(-1, 1, 1)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # the exact GELU, not its tanh form
    weight = head.conv2.weight.view(-1, 1, 1)
    expected = (hidden * weight).sum(1, keepdim=True) + head.conv2.bias

    torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-5)


def test_it_has_the_published_size() -> None:
    head = AuxiliaryHead()
    assert sum(parameter.numel() for parameter in head.parameters()) == 295_425
    assert head(torch.randn(1, 256, 2, 3)).shape == (1, 1, 2, 3)


def test_gradients_reach_every_parameter() -> None:
    head = AuxiliaryHead(channels=4, hidden=64)
    head(torch.randn(2, 4, 5, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
