from __future__ import annotations

import pytest
import torch

from calibnet_core.config import MODELS, ConfigError, ModelConfig
from calibnet_core.models.backbones.p2t import P2TLarge
from calibnet_core.models.backbones.pvtv2 import PVTv2B2Li
from calibnet_core.models.backbones.resnet import ResNet
from calibnet_core.models.backbones.swin import SwinT
from calibnet_core.models.build import build_model, model_config
from calibnet_core.models.calibnet import CalibNet

SMALL = ModelConfig(num_kernels=6, num_transformer_layers=1)


@pytest.fixture(scope="module")
def small() -> CalibNet:
    return build_model(SMALL, seed=1)


def test_names_stand_for_configurations() -> None:
    assert model_config("calibnet_swin_t") == ModelConfig(backbone="swin_t")
    assert model_config(SMALL) is SMALL


@pytest.mark.parametrize("name", ["", "resnet50", "CALIBNET_R50"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown model '{name}'; use one of .*calibnet_r50"):
        build_model(name)


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("calibnet_r50", ResNet),
        ("calibnet_r101", ResNet),
        ("calibnet_swin_t", SwinT),
        ("calibnet_pvtv2_b2_li", PVTv2B2Li),
        ("calibnet_p2t_large", P2TLarge),
    ],
)
def test_every_model_can_be_built_without_memory(name: str, backbone: type) -> None:
    with torch.device("meta"):
        model = build_model(name, seed=0)
    assert name in MODELS
    assert isinstance(model.rgb_encoder.backbone, backbone)
    assert isinstance(model.depth_encoder.backbone, backbone)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_configuration_sets_kernels_and_layers(small: CalibNet) -> None:
    assert len(small.rgb_encoder.transformer.layers) == 1
    with torch.inference_mode():
        raw = small(torch.randn(2, 3, 64, 32), torch.randn(2, 3, 64, 32))
    assert raw.score_logits.shape == raw.objectness_logits.shape == (2, 6)
    assert raw.kernels.shape == (2, 6, 256)
    assert raw.mask_logits.shape == (2, 6, 16, 8)
    assert raw.auxiliary_logits == {}


def test_models_come_in_evaluation_mode(small: CalibNet) -> None:
    assert not any(module.training for module in small.modules())


def test_equal_seeds_give_equal_weights_and_others_do_not(small: CalibNet) -> None:
    torch.manual_seed(7)
    again, other = build_model(SMALL, seed=1).state_dict(), build_model(SMALL, seed=2).state_dict()
    state = small.state_dict()
    assert [key for key in state if not torch.equal(state[key], again[key])] == []
    key = "rgb_encoder.backbone.res5.2.conv3.weight"
    assert not torch.equal(state[key], other[key])


def test_a_seed_leaves_the_global_generator_as_it_was() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_model(SMALL, seed=1)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_without_a_seed_the_global_generator_decides() -> None:
    torch.manual_seed(7)
    one = build_model(SMALL).kernel_branch.embed.weight
    two = build_model(SMALL).kernel_branch.embed.weight
    torch.manual_seed(7)
    three = build_model(SMALL).kernel_branch.embed.weight
    assert not torch.equal(one, two)
    assert torch.equal(one, three)


def test_no_weight_is_shared_between_parts(small: CalibNet) -> None:
    with_repeats = list(small.named_parameters(remove_duplicate=False))
    assert len(with_repeats) == len(list(small.parameters()))
    similarities = {name for name, _ in with_repeats if ".similarity.project_rgb.weight" in name}
    assert similarities == {
        "kernel_branch.similarity.project_rgb.weight",
        "mask_branch.fuse_level2.similarity.project_rgb.weight",
        "mask_branch.fuse_level3.similarity.project_rgb.weight",
    }


def test_training_reaches_every_parameter_but_the_unused_norm() -> None:
    torch.manual_seed(0)
    model = build_model(SMALL).train()
    for reweight in model.mask_branch.modules():
        if hasattr(reweight, "gain"):  # or the ReLU behind the affinity may be shut
            torch.nn.init.ones_(reweight.scale.weight)
    raw = model(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64))
    outputs = [
        raw.score_logits,
        raw.objectness_logits,
        raw.mask_logits,
        *raw.auxiliary_logits.values(),
    ]
    sum(output.square().mean() for output in outputs).backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert untouched == ["mask_branch.unused_norm.weight", "mask_branch.unused_norm.bias"]
    assert all(
        bool(parameter.grad.isfinite().all())
        for parameter in model.parameters()
        if parameter.grad is not None
    )
