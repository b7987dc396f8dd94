from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import EncoderLevels
from calibnet_core.models.calibnet.mask_branch import MaskBranch
from calibnet_core.models.calibnet.model import assemble_mask_logits
from calibnet_core.models.calibnet.pyramid_mask_branch import PyramidMaskBranch

NOTHING = torch.empty(0)


class Plus(nn.Module):
    """Stands in for a fusion."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.7))

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return rgb + self.scale * depth


def levels(*names: str) -> tuple[EncoderLevels, EncoderLevels]:
    """Both modalities of a 32x64 image with what is asked for; the rest is empty."""
    generator = torch.Generator().manual_seed(2)
    sides = {"c2": (8, 16), "t3": (4, 8), "t4": (2, 4), "t5": (1, 2)}
    rgb, depth = (
        {n: torch.randn(2, 32, *s, generator=generator) for n, s in sides.items() if n in names}
        for _ in "ab"
    )
    return tuple(  # type: ignore[return-value]
        EncoderLevels(**{name: modality.get(name, NOTHING) for name in sides})
        for modality in (rgb, depth)
    )


def branch(*names: str) -> PyramidMaskBranch:
    torch.manual_seed(0)
    module = PyramidMaskBranch({name: Plus() for name in names}, 32).eval()
    for lift in module.lifts.values():
        nn.init.normal_(lift.norm.running_mean)
    return module


@torch.no_grad()
def test_two_levels_give_what_the_published_branch_gives() -> None:
    pyramid, published = branch("c2", "t3"), MaskBranch(32, fusion=Plus).eval()
    lift = pyramid.lifts["t3"]
    published.norm.load_state_dict(lift.norm.state_dict())
    published.upsample.load_state_dict(lift.upsample.state_dict())
    published.conv.load_state_dict(pyramid.conv.state_dict())
    published.project.load_state_dict(pyramid.project.state_dict())
    rgb, depth = levels("c2", "t3")
    assert torch.equal(pyramid(rgb, depth), published(rgb, depth))


@torch.no_grad()
def test_every_finer_level_is_added_to_what_was_lifted_from_the_coarser_ones() -> None:
    module = branch("c2", "t3", "t4", "t5")
    rgb, depth = levels("c2", "t3", "t4", "t5")
    assert list(module.fusions) == ["t5", "t4", "t3", "c2"]
    assert list(module.lifts) == ["t5", "t4", "t3"]
    total = rgb.t5 + 0.7 * depth.t5
    for name, fine_rgb, fine_depth in (
        ("t5", rgb.t4, depth.t4),
        ("t4", rgb.t3, depth.t3),
        ("t3", rgb.c2, depth.c2),
    ):
        norm, upsample = module.lifts[name].norm, module.lifts[name].upsample
        hidden = F.relu((total - norm.running_mean.view(-1, 1, 1)) / (1 + 1e-5) ** 0.5)
        height, width = hidden.shape[2:]
        x = torch.linspace(-1, 1, width).expand(2, 1, height, width)
        y = torch.linspace(-1, 1, height).view(-1, 1).expand(2, 1, height, width)
        lifted = upsample(torch.cat((x, y, hidden), dim=1))
        total = lifted + fine_rgb + 0.7 * fine_depth
    expected = module.project(module.conv(total).relu())
    torch.testing.assert_close(module(rgb, depth), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [("t3",), ("t3", "t4", "t5")])
@torch.no_grad()
def test_without_c2_kernels_act_as_at_an_eighth(names: tuple[str, ...]) -> None:
    module = branch(*names)
    coarse = []
    module.project.register_forward_hook(lambda _, __, output: coarse.append(output))
    features = module(*levels(*names))
    assert (features.shape, coarse[0].shape) == ((2, 32, 8, 16), (2, 32, 4, 8))
    kernels = torch.randn(2, 5, 32)
    enlarged = F.interpolate(
        assemble_mask_logits(kernels, coarse[0]), (8, 16), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(assemble_mask_logits(kernels, features), enlarged)


def test_t3_alone_has_no_transposed_convolution() -> None:
    module = branch("t3")
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in module.modules())


def test_gradients_reach_every_parameter() -> None:
    module = branch("c2", "t3", "t4", "t5").train()
    module(*levels("c2", "t3", "t4", "t5")).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []
