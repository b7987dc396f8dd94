from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calibnet_core.config import ModelConfig
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet import CalibNet
from calibnet_core.models.calibnet.initialisation import sampling_star

RARE = -math.log(99.0)


@pytest.fixture(scope="module")
def model() -> CalibNet:
    return build_model("calibnet_r50", seed=0)


def parameters(model: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    layer = model.get_submodule(name)
    return layer.get_parameter("weight").detach(), layer.get_parameter("bias").detach()


def test_eight_heads_look_in_eight_directions_and_their_points_go_outwards() -> None:
    star = sampling_star(heads=8, levels=3, points=4).view(8, 3, 4, 2)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, direction in enumerate(directions):
        for point in range(4):
            expected = torch.tensor(direction, dtype=torch.float32) * (point + 1)
            for level in range(3):
                assert torch.allclose(star[head, level, point], expected, atol=1e-5)


def test_attention_starts_from_the_star_with_equal_weights(model: CalibNet) -> None:
    name = "rgb_encoder.transformer.layers.1.attention"
    weight, bias = parameters(model, f"{name}.sampling_offsets")
    assert not weight.any()
    assert torch.equal(bias, sampling_star(8, 3, 4))
    for part in parameters(model, f"{name}.attention_weights"):
        assert not part.any()


@pytest.mark.parametrize("name", ["rgb_maps", "depth_maps", "score"])
def test_few_candidates_are_expected_at_first(model: CalibNet, name: str) -> None:
    weight, bias = parameters(model, f"kernel_branch.{name}")
    assert torch.allclose(bias, torch.full_like(bias, RARE))
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)


def test_kernels_start_small_and_unbiased(model: CalibNet) -> None:
    weight, bias = parameters(model, "kernel_branch.kernel")
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)
    assert not bias.any()


@pytest.mark.parametrize("level", ["res2", "res3", "res4", "res5"])
def test_projections_are_uniform_within_the_bound_of_their_fan_in(
    model: CalibNet, level: str
) -> None:
    weight = model.get_submodule(f"depth_encoder.project.{level}.0").get_parameter("weight")
    bound = math.sqrt(3.0 / weight[0].numel())
    assert 0.99 * bound < float(weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("name", ["upsample", "conv", "project"])
def test_the_mask_branchs_layers_keep_the_variance_of_their_fan_out(
    model: CalibNet, name: str
) -> None:
    weight, bias = parameters(model, f"mask_branch.{name}")
    fan_out = weight.shape[0] * weight[0, 0].numel()
    assert float(weight.std()) == pytest.approx(math.sqrt(2.0 / fan_out), rel=0.05)
    assert not bias.any()


def test_depth_starts_from_the_backbone_weights_of_colour(model: CalibNet) -> None:
    rgb = model.rgb_encoder.get_submodule("backbone").state_dict()
    depth = model.depth_encoder.get_submodule("backbone").state_dict()
    assert all(torch.equal(rgb[key], depth[key]) for key in rgb)


def test_gains_of_the_affinity_start_at_one(model: CalibNet) -> None:
    for name in ("rgb_reweight", "depth_reweight"):
        gain = model.get_submodule(f"mask_branch.fuse_level3.{name}").get_parameter("gain")
        assert gain.tolist() == [1.0]


def variant(**settings: Any) -> CalibNet:
    return build_model(
        ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=1, **settings), seed=0
    )


@pytest.mark.parametrize("fusion", ["early", "plain"])
def test_one_stream_of_kernels_starts_like_two(fusion: Any) -> None:
    model = variant(kernel_fusion=fusion)
    for name in ("maps", "score"):
        weight, bias = parameters(model, f"kernel_branch.{name}")
        assert torch.allclose(bias, torch.full_like(bias, RARE))
        assert float(weight.std()) == pytest.approx(0.01, rel=0.15)
    weight, bias = parameters(model, "kernel_branch.kernel")
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)
    assert not bias.any()
    assert not parameters(model, "kernel_branch.embed")[1].any()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"mask_levels": "c2_t3_t4_t5"}, "mask_branch.lifts.t4.upsample"),
        ({"mask_levels": "t3"}, "mask_branch.conv"),
        ({"mask_levels": "t3"}, "mask_branch.project"),
        ({"mask_fusion": "rmff"}, "mask_branch.fuse_level3.relate"),
        ({"mask_fusion": "plain"}, "mask_branch.fuse_level2.conv"),
        ({"kernel_fusion": "plain"}, "kernel_branch.join.conv"),
        ({"kernel_fusion": "early"}, "kernel_branch.conv"),
    ],
)
def test_layers_of_other_variants_keep_the_variance_of_their_fan_out_too(
    settings: dict[str, Any], name: str
) -> None:
    weight, bias = parameters(variant(**settings), name)
    fan_out = weight.shape[0] * weight[0, 0].numel()
    assert float(weight.std()) == pytest.approx(math.sqrt(2.0 / fan_out), rel=0.05)
    assert not bias.any()


@pytest.mark.parametrize("setting", ["separate", "shared"])
def test_the_kernel_branchs_assessment_starts_unbiased_wherever_its_weights_are(
    setting: Any,
) -> None:
    branch = variant(depth_similarity=setting).kernel_branch
    similarity = branch.similarity if setting == "separate" else branch.similarity.owner
    weight, bias = parameters(similarity, "project_rgb")
    assert not bias.any()
    assert float(weight.std()) == pytest.approx(math.sqrt(2.0 / 64), rel=0.3)
