from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from calibnet_core.models.calibnet import CalibNet
from calibnet_core.models.calibnet.encoder import EncoderLevels
from calibnet_core.models.calibnet.model import assemble_mask_logits


class StandInEncoder(nn.Module):
    """Four levels that tell where they come from: `offset` plus 2, 3, 4 or 5."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, image: Tensor) -> EncoderLevels:
        batch, _, height, width = image.shape
        return EncoderLevels(
            *(
                torch.full((batch, 1, height >> level, width >> level), self.offset + level)
                for level in (2, 3, 4, 5)
            )
        )


class StandInMaskBranch(nn.Module):
    """Two channels: C2 of colour and C2 of depth."""

    def forward(self, rgb: EncoderLevels, depth: EncoderLevels) -> Tensor:
        return torch.cat((rgb.c2, depth.c2), dim=1)


class StandInKernelBranch(nn.Module):
    """Three kernels (1, n), with scores and objectness that tell which inputs came."""

    def forward(self, rgb: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch = rgb.shape[0]
        kernels = torch.stack((torch.ones(3), torch.arange(3.0)), dim=1).expand(batch, 3, 2)
        scores, objectness = (
            level.mean((1, 2, 3)).view(-1, 1).expand(-1, 3) for level in (rgb, depth)
        )
        return kernels, scores, objectness


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        return self.factor * features


def tiny_model() -> CalibNet:
    heads = {"rgb_t3": 1.0, "depth_t3": 2.0, "rgb_c2": 3.0, "depth_d2": 4.0}
    return CalibNet(
        rgb_encoder=StandInEncoder(10.0),
        depth_encoder=StandInEncoder(20.0),
        mask_branch=StandInMaskBranch(),
        kernel_branch=StandInKernelBranch(),
        auxiliary_heads={name: Times(factor) for name, factor in heads.items()},
    )


def test_the_parts_are_joined_as_in_the_figure() -> None:
    raw = tiny_model().eval()(torch.zeros(2, 3, 32, 64), torch.zeros(2, 3, 32, 64))
    assert raw.mask_logits.shape == (2, 3, 8, 16)
    for n in range(3):  # kernel (1, n) on features (12, 22)
        assert raw.mask_logits[:, n].unique().tolist() == [12.0 + 22.0 * n]
    assert raw.score_logits.tolist() == [[13.0] * 3] * 2
    assert raw.objectness_logits.tolist() == [[23.0] * 3] * 2
    assert raw.kernels.shape == (2, 3, 2)


def test_training_adds_the_region_logits_and_evaluation_does_not() -> None:
    image = torch.zeros(1, 3, 32, 64)
    assert tiny_model().eval()(image, image).auxiliary_logits == {}
    logits = tiny_model().train()(image, image).auxiliary_logits
    assert {name: (tuple(t.shape), t.unique().tolist()) for name, t in logits.items()} == {
        "rgb_t3": ((1, 1, 4, 8), [13.0]),
        "depth_t3": ((1, 1, 4, 8), [46.0]),
        "rgb_c2": ((1, 1, 8, 16), [36.0]),
        "depth_d2": ((1, 1, 8, 16), [88.0]),
    }


@pytest.mark.parametrize(
    ("rgb", "depth"),
    [
        ((1, 3, 32, 33), (1, 3, 32, 33)),
        ((1, 3, 31, 32), (1, 3, 31, 32)),
        ((1, 3, 32, 32), (1, 3, 32, 64)),
        ((1, 3, 32, 32), (2, 3, 32, 32)),
        ((1, 1, 32, 32), (1, 1, 32, 32)),
        ((1, 3, 32, 32), (1, 1, 32, 32)),
        ((3, 32, 32), (3, 32, 32)),
    ],
)
def test_other_shapes_are_refused(rgb: tuple[int, ...], depth: tuple[int, ...]) -> None:
    message = (
        f"rgb is {rgb} and depth {depth}; expected both (B, 3, H, W) with H and W multiples of 32"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_model()(torch.zeros(rgb), torch.zeros(depth))


def test_mask_logits_equal_the_sum_over_channels_by_loops() -> None:
    kernels, features = torch.randn(2, 3, 4), torch.randn(2, 4, 2, 5)
    logits = assemble_mask_logits(kernels, features)
    assert logits.shape == (2, 3, 2, 5)
    for b in range(2):
        for n in range(3):
            expected = sum(kernels[b, n, c] * features[b, c] for c in range(4))
            torch.testing.assert_close(logits[b, n], expected)


@given(
    batch=st.integers(0, 3),
    count=st.integers(0, 4),
    channels=st.integers(1, 5),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    factor=st.sampled_from([2.0, -1.0, 0.0, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_doubled_kernels_give_doubled_mask_logits(
    batch: int, count: int, channels: int, height: int, width: int, factor: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    kernels = torch.randn(batch, count, channels, generator=generator)
    features = torch.randn(batch, channels, height, width, generator=generator)
    logits = assemble_mask_logits(kernels, features)
    assert logits.shape == (batch, count, height, width)
    # Powers of two change no digit.
    torch.testing.assert_close(
        assemble_mask_logits(factor * kernels, features), factor * logits, rtol=0, atol=0
    )
