from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calibnet_core.models.backbones import Backbone, BackboneLevels
from calibnet_core.models.calibnet import encoder as encoder_module
from calibnet_core.models.calibnet.encoder import WIDTH, ModalityEncoder
from calibnet_core.models.calibnet.position import ConstantPosition, SinePosition
from calibnet_core.models.calibnet.stacked_encoders import StackedEncoders, stack_encoders
from calibnet_core.models.inference_form import inference_form
from tests.support.backbones import PyramidOfMeans


class SmallerPyramid(Backbone):
    """A pyramid whose levels have fewer channels than the other modality's."""

    channels = (1, 1, 1, 1)
    published_keys = ()

    def forward(self, image: Tensor) -> BackboneLevels:
        return BackboneLevels(*(level[:, :1] for level in PyramidOfMeans()(image)))


def encoder(
    seed: int,
    num_layers: int = 2,
    backbone: type[Backbone] = PyramidOfMeans,
    position: nn.Module | None = None,
) -> ModalityEncoder:
    torch.manual_seed(seed)
    position = position or ConstantPosition(torch.randn(WIDTH))
    module = ModalityEncoder(backbone(), num_layers=num_layers, position=position).eval()
    for parameter in module.parameters():  # norms and biases as well
        parameter.data.normal_(std=0.2)
    return module


def images(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    rgb, depth = torch.randn(2, batch, 3, 64, 96, generator=generator)
    return rgb, depth


def stacked(first: nn.Module, second: nn.Module) -> StackedEncoders:
    together = stack_encoders(first, second)
    assert together is not None
    return together


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("backbone", [PyramidOfMeans, SmallerPyramid])
@torch.no_grad()
def test_both_at_once_give_what_each_gives_alone(batch: int, backbone: type[Backbone]) -> None:
    rgb_encoder, depth_encoder = encoder(0), encoder(1, backbone=backbone)
    rgb, depth = images(batch)
    pairs = zip(
        stacked(rgb_encoder, depth_encoder)(rgb, depth),
        (rgb_encoder(rgb), depth_encoder(depth)),
        strict=True,
    )
    for together, alone in pairs:
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_sine_encoding_survives_stacking() -> None:
    rgb_encoder, depth_encoder = (encoder(seed, position=SinePosition(WIDTH)) for seed in (0, 1))
    rgb, depth = images(2)
    pairs = zip(
        stacked(rgb_encoder, depth_encoder)(rgb, depth),
        (rgb_encoder(rgb), depth_encoder(depth)),
        strict=True,
    )
    for together, alone in pairs:
        torch.testing.assert_close(together.t3, alone.t3, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_no_images_give_empty_levels() -> None:
    together = stacked(encoder(0), encoder(1)).transformer
    pyramid = [torch.zeros(0, WIDTH, *shape) for shape in ((2, 3), (4, 6), (8, 12))]
    for levels in together([pyramid, pyramid]):
        assert [level.shape for level in levels] == [level.shape for level in pyramid]


@torch.no_grad()
def test_a_layer_of_both_asks_the_attention_operator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    operator = encoder_module.ms_deform_attn_fused

    def counted(value: Tensor, *others: Any) -> Tensor:
        batches.append(value.shape[0])
        return operator(value, *others)

    monkeypatch.setattr(encoder_module, "ms_deform_attn_fused", counted)
    stacked(encoder(0), encoder(1))(*images(2))
    assert batches == [4, 4]


@torch.no_grad()
def test_stacking_copies_the_weights_and_leaves_the_encoders_as_they_were() -> None:
    rgb_encoder, depth_encoder = encoder(0), encoder(1)
    rgb, depth = images(1)
    alone = rgb_encoder(rgb)
    together = stacked(rgb_encoder, depth_encoder)
    torch.testing.assert_close(rgb_encoder(rgb).t3, alone.t3, rtol=0, atol=0)
    for parameter in rgb_encoder.transformer.parameters():
        parameter.zero_()
    torch.testing.assert_close(together(rgb, depth)[0].t3, alone.t3, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in together.transformer.parameters())


@pytest.mark.parametrize(
    "other", [encoder(1, num_layers=1), nn.Identity()], ids=["other_depth", "other_kind"]
)
def test_what_differs_in_shape_is_not_stacked(other: nn.Module) -> None:
    assert stack_encoders(encoder(0), other) is None
    assert stack_encoders(other, encoder(0)) is None


def test_the_inference_form_stacks_only_when_asked(published_r50: nn.Module) -> None:
    assert inference_form(published_r50).stacked_encoders is None
    assert isinstance(
        inference_form(published_r50, one_batch=True).stacked_encoders, StackedEncoders
    )
    assert published_r50.stacked_encoders is None
