from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops.misc import FrozenBatchNorm2d

from calibnet_core.models.backbones import build_backbone
from calibnet_core.models.backbones.resnet import ResNet
from tests.support.parity import PublishedWeights, image_gradient

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@pytest.fixture(scope="module")
def resnet50() -> ResNet:
    torch.manual_seed(0)
    return ResNet(50)


def reference(depth: int, image: Tensor, weight: PublishedWeights) -> list[Tensor]:
    """ResNet written down with functions alone, under the published names."""

    def convolve(x: Tensor, name: str, width: int, kernel: int, stride: int = 1) -> Tensor:
        x = F.conv2d(
            x,
            weight(f"{name}.weight", width, x.shape[1], kernel, kernel),
            stride=stride,
            padding=kernel // 2,
        )
        names = ("weight", "bias", "running_mean", "running_var")
        gain, offset, mean, var = (
            weight(f"{name}.norm.{part}", width).view(1, -1, 1, 1) for part in names
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + offset

    x = F.max_pool2d(convolve(image, "stem.conv1", 64, 7, 2).relu(), 3, stride=2, padding=1)
    levels = []
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"res{stage + 2}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = convolve(x, f"{name}.shortcut", 4 * width, 1, stride) if block == 0 else x
            x = convolve(x, f"{name}.conv1", width, 1).relu()
            x = convolve(x, f"{name}.conv2", width, 3, stride).relu()
            x = (convolve(x, f"{name}.conv3", 4 * width, 1) + shortcut).relu()
        levels.append(x)
    return levels


@pytest.mark.parametrize("depth", [50, 101])
def test_it_computes_what_the_published_layout_says(depth: int) -> None:
    image = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    weights = PublishedWeights()
    expected = reference(depth, image, weights)
    resnet = ResNet(depth)
    weights.load_into(resnet)
    levels = resnet.eval()(image)
    for ours, theirs in zip(levels, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.std().item())
    ours, theirs = image_gradient(levels, image), image_gradient(expected, image)
    # A ReLU next to its kink may open on one side only.
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


def test_levels_have_strides_4_to_32_and_the_declared_channels(resnet50: ResNet) -> None:
    levels = resnet50(torch.randn(1, 3, 64, 96))
    assert levels._fields == ("res2", "res3", "res4", "res5")
    assert [tuple(level.shape) for level in levels] == [
        (1, 256, 16, 24),
        (1, 512, 8, 12),
        (1, 1024, 4, 6),
        (1, 2048, 2, 3),
    ]
    assert resnet50.channels == (256, 512, 1024, 2048)


def test_norms_are_frozen_and_every_convolution_trains() -> None:
    resnet = ResNet(50).train()
    before = {name: buffer.clone() for name, buffer in resnet.named_buffers()}
    sum(level.square().mean() for level in resnet(torch.randn(2, 3, 32, 32))).backward()

    assert all(
        ".bn" not in name and "downsample.1" not in name for name, _ in resnet.named_parameters()
    )
    assert {name for name, _ in resnet.named_parameters()} == {
        f"{name}.weight"
        for name, module in resnet.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    }
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
        for parameter in resnet.parameters()
    )
    # Training mode leaves the running statistics alone.
    assert len(before) == 4 * sum(isinstance(m, FrozenBatchNorm2d) for m in resnet.modules())
    for name, buffer in resnet.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)


def test_images_of_a_batch_do_not_mix(resnet50: ResNet) -> None:
    images = torch.randn(2, 3, 64, 32)
    together, alone = resnet50(images), resnet50(images[1:])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one, rtol=1e-3, atol=1e-3)


def test_an_unknown_backbone_is_refused_with_the_names_to_choose_from() -> None:
    with pytest.raises(
        ValueError, match="unknown backbone 'vgg16'; use resnet50, resnet101, swin_t"
    ):
        build_backbone("vgg16")


@pytest.mark.parametrize(("name", "blocks"), [("resnet50", 6), ("resnet101", 23)])
def test_the_name_chooses_the_depth(name: str, blocks: int) -> None:
    backbone = build_backbone(name)
    assert isinstance(backbone, ResNet)
    assert len(backbone.res4) == blocks
