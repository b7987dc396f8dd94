from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.fusions import (
    CascadeFusion,
    ColourOnly,
    Concatenation,
    MapReweighting,
    PlainFusion,
    RelationFusion,
)

FUSIONS = [PlainFusion, CascadeFusion, RelationFusion]
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            positive = name.endswith(("weight", "running_var", "gain"))
            tensor.data.copy_(
                torch.rand_like(tensor) + 0.5 if positive else torch.randn_like(tensor)
            )
    return module.eval()


def maps(batch: int = 2) -> tuple[Tensor, Tensor]:
    rgb, depth = torch.randn(2, batch, 32, 3, 5, generator=torch.Generator().manual_seed(1))
    return rgb, depth


def factor(module: nn.Module, rgb: Tensor, depth: Tensor, image: int) -> float:
    """The trust in the depth of one image, from the cosine of its two projections."""
    flat = [
        (layer.weight.view(-1, 1, 1) * x[image]).sum(0).flatten() + layer.bias
        for layer, x in (
            (module.similarity.project_rgb, rgb),
            (module.similarity.project_depth, depth),
        )
    ]
    cosine = float(flat[0] @ flat[1]) / math.sqrt(
        float(flat[0] @ flat[0]) * float(flat[1] @ flat[1])
    )
    return (1 + cosine) / 2


@torch.no_grad()
def test_plain_fusion_mixes_the_channels_of_the_sum() -> None:
    module, (rgb, depth) = randomised(PlainFusion(32)), maps()
    fused = module(rgb, depth)
    for image in range(2):
        total = rgb[image] + depth[image] * factor(module, rgb, depth, image)
        expected = torch.einsum("oi,ihw->ohw", module.conv.weight[:, :, 0, 0], total)
        torch.testing.assert_close(fused[image], expected + module.conv.bias.view(-1, 1, 1))


@torch.no_grad()
def test_concatenation_puts_colour_first() -> None:
    module, (rgb, depth) = Concatenation(32), maps()
    joined = module(rgb, depth)
    assert torch.equal(joined[:, :32], rgb)
    for image in range(2):
        expected = depth[image] * factor(module, rgb, depth, image)
        torch.testing.assert_close(joined[image, 32:], expected)


def test_colour_only_does_not_look_at_depth() -> None:
    rgb, _ = maps()
    assert ColourOnly()(rgb, torch.empty(0)) is rgb


@torch.no_grad()
def test_cascade_fusion_reweights_by_one_map_made_of_both_modalities() -> None:
    module, (rgb, depth) = randomised(CascadeFusion(32)), maps()
    fused = module(rgb, depth)
    rgb, rgb_weights = module.rgb_attention(rgb)
    depth, depth_weights = module.depth_attention(depth)
    trusted = torch.stack([depth[i] * factor(module, rgb, depth, i) for i in range(2)])
    kernel = module.compress.weight.view(2, 32)
    shared = torch.einsum("c,bchw->bhw", kernel[0], rgb)
    shared = shared + torch.einsum("c,bchw->bhw", kernel[1], trusted) + module.compress.bias

    def reweighted(x: Tensor, weights: Tensor, by: MapReweighting) -> Tensor:
        view = 1 / (1 + (-(by.scale.weight.item() * shared + by.scale.bias.item())).exp())
        total = weights[:, 0] * (1 + by.gain.item() * view)
        return x * (1 / (1 + (-total).exp())).unsqueeze(1)

    rgb = reweighted(rgb, rgb_weights, module.rgb_reweight)
    depth = module.depth_conv(reweighted(trusted, depth_weights, module.depth_reweight))
    torch.testing.assert_close(fused, module.output_conv(rgb + depth), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_relation_fusion_sees_total_shared_and_differential_information() -> None:
    module, (rgb, depth) = randomised(RelationFusion(32)), maps()
    seen = []
    module.relate.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    fused = module(rgb, depth)
    rgb, depth = module.rgb_conv(rgb), module.depth_conv(depth)
    depth = torch.stack([depth[i] * factor(module, rgb, depth, i) for i in range(2)])
    for part, expected in zip(
        seen[0].split(32, dim=1), (rgb + depth, rgb * depth, (rgb - depth).abs()), strict=True
    ):
        torch.testing.assert_close(part, expected)
    torch.testing.assert_close(fused, module.output_conv(module.relate(seen[0])))


@every_fusion
def test_gradients_reach_every_parameter(fusion: Callable[[int], nn.Module]) -> None:
    module = fusion(32).train()
    module(*maps()).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_fusion
def test_no_image_gives_no_map(fusion: Callable[[int], nn.Module]) -> None:
    assert fusion(32).eval()(*maps(batch=0)).shape == (0, 32, 3, 5)
