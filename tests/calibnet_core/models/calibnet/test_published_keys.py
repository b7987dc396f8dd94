from __future__ import annotations

import pytest
import torch

from calibnet_core import build_model, load_weights
from calibnet_core.models.backbones.resnet import ResNet
from calibnet_core.models.calibnet import CalibNet
from calibnet_core.models.calibnet.published_keys import own_key
from tests.support.parity import published_entries

# File of names, model, entries, millions of parameters.
PUBLISHED = [
    ("r50", "calibnet_r50", 782, 78.9),
    ("r101", "calibnet_r101", 1292, 116.8),
    ("swint", "calibnet_swin_t", 630, 76.0),
    ("pvt", "calibnet_pvtv2_b2_li", 940, 63.1),
    ("p2t", "calibnet_p2t_large", 1828, 128.6),
]


@pytest.fixture(scope="module", params=PUBLISHED, ids=lambda row: row[0])
def published(request: pytest.FixtureRequest) -> tuple[CalibNet, str, int, float]:
    """A model with what its checkpoint should hold; one at a time, as they are large."""
    file, name, entries, millions = request.param
    return build_model(name), file, entries, millions


def test_every_published_entry_finds_its_place_and_none_is_missing(
    published: tuple[CalibNet, str, int, float],
) -> None:
    model, file, count, _ = published
    entries = published_entries(file)
    assert len(entries) == count
    # Expanded from one number, so that zeros of every shape take no memory.
    weights = {
        entry["key"]: torch.zeros((), dtype=getattr(torch, entry["dtype"])).expand(entry["shape"])
        for entry in entries
    }

    report = load_weights(model, weights)

    assert (report.format, report.loaded) == ("published", count)
    assert report.missing == []
    assert report.unexpected == []
    state = {
        k: v for k, v in model.state_dict().items() if not k.endswith("relative_position_index")
    }
    assert [key for key, value in state.items() if value.any()] == []


def test_no_two_published_names_share_a_place(
    published: tuple[CalibNet, str, int, float],
) -> None:
    model, file, count, _ = published
    rules = model.rgb_encoder.backbone.published_keys
    assert len({own_key(entry["key"], rules) for entry in published_entries(file)}) == count


def test_the_model_has_the_published_number_of_parameters(
    published: tuple[CalibNet, str, int, float],
) -> None:
    model, _, _, millions = published
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert counted == pytest.approx(millions, abs=0.05)


def test_r50_has_every_parameter_of_the_published_model() -> None:
    with torch.device("meta"):
        model = build_model("calibnet_r50")
    assert sum(parameter.numel() for parameter in model.parameters()) == 78_901_550


@pytest.mark.parametrize(
    ("published_key", "own"),
    [
        ("backbone.stem.conv1.weight", "rgb_encoder.backbone.stem.conv1.weight"),
        ("backbone.res2.0.shortcut.norm.bias", "rgb_encoder.backbone.res2.0.downsample.1.bias"),
        ("backbonedepth.res5.2.conv3.norm.weight", "depth_encoder.backbone.res5.2.bn3.weight"),
        ("encoder.input_convs.0.0.weight", "rgb_encoder.project.res5.0.weight"),
        ("encoder.input_convs.2.1.bias", "rgb_encoder.project.res3.1.bias"),
        ("encoder_depth.res2_conv.0.weight", "depth_encoder.project.res2.0.weight"),
        ("encoder_depth.trans_encoder.level_embed", "depth_encoder.transformer.level_embed"),
        (
            "encoder.trans_encoder.encoder.layers.2.self_attn.value_proj.bias",
            "rgb_encoder.transformer.layers.2.attention.value_proj.bias",
        ),
        (
            "encoder.trans_encoder.encoder.layers.0.norm2.weight",
            "rgb_encoder.transformer.layers.0.norm2.weight",
        ),
        ("fusion_decoder.fusion_module.g1", "mask_branch.fuse_level3.rgb_reweight.gain"),
        ("fusion_decoder.fusion_module_res2.g2", "mask_branch.fuse_level2.depth_reweight.gain"),
        (
            "fusion_decoder.fusion_module.depth_input.0.weight",
            "mask_branch.fuse_level3.similarity.project_depth.weight",
        ),
        ("fusion_decoder.bn2.running_var", "mask_branch.unused_norm.running_var"),
        ("decoder.rgb_input.0.bias", "kernel_branch.similarity.project_rgb.bias"),
        ("decoder.inst_branch.mask_linear.weight", "kernel_branch.kernel.weight"),
        ("predictor_depth_d2.conv2.bias", "auxiliary_heads.depth_d2.conv2.bias"),
    ],
)
def test_a_published_name_maps_to_the_part_of_that_meaning(published_key: str, own: str) -> None:
    assert own_key(published_key, ResNet.published_keys) == own


@pytest.mark.parametrize(
    "key",
    [
        "",
        "backbone",
        "backbone.",
        "backbone.res2.0.conv1",
        "backbone.fc.weight",
        "module.backbone.stem.conv1.weight",
        "encoder.input_convs.3.0.weight",
        "fusion_decoder.g1",
        "fusion_decoder.fusion_module_res3.g1",
        "decoder.inst_branch.squeeze.weight.extra",
        "predictor.conv1.weight",
        "rgb_encoder.backbone.stem.conv1.weight",
    ],
)
def test_a_name_of_another_origin_maps_to_nothing(key: str) -> None:
    assert own_key(key, ResNet.published_keys) is None
