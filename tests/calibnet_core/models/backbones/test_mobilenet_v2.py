from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from calibnet_core.models.backbones import borrowing_backbone, build_backbone
from calibnet_core.models.backbones.mobilenet_v2 import BorrowingMobileNetV2, MobileNetV2
from calibnet_core.models.inference_form import inference_form

# Expansion, channels, blocks and stride of each stage (Sandler et al., MobileNetV2, table 2).
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def randomised(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if value.dim() == 1:
            drawn = torch.rand(value.shape, generator=generator)
            value.copy_(drawn + 0.5 if key.endswith(("weight", "running_var")) else drawn - 0.5)
    return network.eval()


def reference(image: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
    """MobileNetV2 with functions alone, taking its weights in the order of computation."""
    convolutions = [key for key, value in state.items() if value.dim() == 4]
    position = 0

    def convolve(x: Tensor, stride: int = 1, groups: int = 1, *, relu: bool = True) -> Tensor:
        nonlocal position
        key = convolutions[position]
        position += 1
        keys = list(state)
        start = keys.index(key) + 1
        norm = {name.rpartition(".")[2]: state[name] for name in keys[start : start + 4]}
        kernel = state[key]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2, groups=groups)
        gain, offset, mean, var = (
            norm[part].view(-1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        x = (x - mean) / (var + 1e-5).sqrt() * gain + offset
        return x.clamp(0.0, 6.0) if relu else x

    x, levels = convolve(image, 2), []
    for expansion, channels, blocks, stride in STAGES:
        if stride == 2:
            levels.append(x)
        for block in range(blocks):
            source, step = x, stride if block == 0 else 1
            if expansion > 1:
                x = convolve(x)
            x = convolve(convolve(x, step, groups=x.shape[1]), relu=False)
            if step == 1 and source.shape[1] == channels:
                x = x + source
    return [*levels[1:], x]


@pytest.mark.parametrize("trains_norms", [False, True])
@torch.no_grad()
def test_it_computes_what_the_papers_table_says(trains_norms: bool) -> None:
    backbone = randomised(build_backbone("mobilenet_v2", trains_norms=trains_norms))
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    expected = reference(image, backbone.state_dict())
    assert [tuple(level.shape[1:]) for level in expected] == [
        (24, 16, 24),
        (32, 8, 12),
        (96, 4, 6),
        (320, 2, 3),
    ]
    for ours, theirs in zip(backbone(image), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.std()))


def test_the_declared_channels_are_those_of_the_levels() -> None:
    backbone = MobileNetV2().eval()
    levels = backbone(torch.randn(1, 3, 32, 32))
    assert tuple(level.shape[1] for level in levels) == backbone.channels


@pytest.mark.parametrize(
    ("trains_norms", "kind"), [(False, FrozenBatchNorm2d), (True, nn.BatchNorm2d)]
)
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_batch_norms_train_or_are_frozen_as_said(
    name: str, trains_norms: bool, kind: type[nn.Module]
) -> None:
    backbone = build_backbone(name, trains_norms=trains_norms).train()
    norms = [m for m in backbone.modules() if isinstance(m, (FrozenBatchNorm2d, nn.BatchNorm2d))]
    assert {type(norm) for norm in norms} == {kind}
    before = [norm.get_buffer("running_mean").clone() for norm in norms]
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    moved = [
        not torch.equal(norm.get_buffer("running_mean"), mean)
        for norm, mean in zip(norms, before, strict=True)
    ]
    assert moved == [trains_norms] * len(norms)
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []


def pair() -> tuple[MobileNetV2, BorrowingMobileNetV2]:
    owner = randomised(MobileNetV2())
    assert isinstance(owner, MobileNetV2)
    borrower = borrowing_backbone(owner, trains_norms=True).eval()
    assert isinstance(borrower, BorrowingMobileNetV2)
    return owner, borrower


@torch.no_grad()
def test_a_borrowing_network_is_the_owner_on_half_the_image_with_one_step_less() -> None:
    owner, borrower = pair()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    own = borrower.state_dict()
    borrower.load_state_dict({name: owner.state_dict()[name] for name in own})
    expected = copy.deepcopy(owner)
    expected.features[2].conv[1][0].stride = (1, 1)
    half = image.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3))
    for ours, theirs in zip(borrower(image), expected(half), strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_owner_and_borrower_together_compute_what_each_does_alone() -> None:
    owner, borrower = pair()
    images = torch.randn(2, 2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    both = borrower.with_owner(*images)
    for ours, theirs in zip(both, (owner(images[0]), borrower(images[1])), strict=True):
        assert [level.shape for level in ours] == [level.shape for level in theirs]
        for level, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(level, expected)


def test_a_borrowing_network_owns_the_layers_up_to_a_quarter_of_the_size() -> None:
    owner = MobileNetV2()
    borrower = borrowing_backbone(owner)
    blocks = {name.split(".")[1] for name, _ in borrower.named_parameters()}
    assert blocks == {"0", "1", "2", "3"}
    levels = borrower(torch.randn(2, 3, 64, 64))
    levels.res5.sum().backward()
    assert owner.features[17].conv[0][0].weight.grad is not None
    assert owner.features[3].conv[0][0].weight.grad is None


@torch.no_grad()
def test_inference_folds_every_norm() -> None:
    backbone = randomised(MobileNetV2())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    fast = inference_form(backbone)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    for ours, theirs in zip(fast(image), backbone(image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
