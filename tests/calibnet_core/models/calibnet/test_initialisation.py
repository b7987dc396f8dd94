from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

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
