"""Every network of the paper's ablation tables, made small: it trains, infers and counts right."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from calibnet_core.ablation.rows import ROWS
from calibnet_core.checkpoint import load_weights
from calibnet_core.config import ModelConfig
from calibnet_core.models.backbones.mobilenet_v2 import MobileNetV2
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet import CalibNet, encoder
from calibnet_core.models.calibnet.depth_similarity import DepthSimilarity
from calibnet_core.models.calibnet.mask_branch import AffinityReweighting
from calibnet_core.models.calibnet.model import RawPrediction
from calibnet_core.models.inference_form import inference_form
from calibnet_core.ops import eager


def small(config: ModelConfig) -> ModelConfig:
    shape: dict[str, Any] = {"backbone": "mobilenet_v2", "width": 64, "num_kernels": 6}
    return dataclasses.replace(config, **shape)


# Rows that differ from others in numbers or combine what others have are left out: time is short.
KEYS = (
    *("III:early", "IV:non_local", "V:shared", "V:separate", "VI:c2_t3_t4_t5", "VI:t3"),
    *("VI:t3_t4_t5", "VIII:3-0", "VIII:6-1", "IX:cascade", "IX:rmff"),
    *("XI:rgb", "XI:rgbd", "XI:dik", "XI:dsa"),
)
VARIANTS = {small(row.model): row.key for row in ROWS if row.key in KEYS}
VARIANTS[small(ModelConfig(position="sine"))] = "sine"
VARIANTS[small(ModelConfig(kernel_fusion="early", depth_similarity="shared"))] = "early, shared"
VARIANTS[dataclasses.replace(small(ModelConfig()), trains_backbone_norms=True)] = "batch norms"
SLIM: dict[str, Any] = {"shares_backbone": True, "mask_width": 32}
VARIANTS[dataclasses.replace(small(ModelConfig()), **SLIM)] = "shared backbone, thin masks"
VARIANTS[dataclasses.replace(small(ModelConfig(kernel_fusion="early")), **SLIM)] = "thin, early"
every_variant = pytest.mark.parametrize("config", VARIANTS, ids=VARIANTS.values())


def images(batch: int = 2) -> tuple[Tensor, Tensor]:
    rgb, depth = torch.randn(2, batch, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    return rgb, depth


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are too small for more, and threads of a busy machine wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def awake(config: ModelConfig) -> CalibNet:
    """The network, with the ReLU behind every affinity open. Do not change."""
    model = build_model(config, seed=0)
    for module in model.modules():
        if isinstance(module, AffinityReweighting):
            nn.init.ones_(module.scale.weight)
    return model


def everything(raw: RawPrediction) -> list[Tensor]:
    return [
        raw.score_logits,
        raw.objectness_logits,
        raw.mask_logits,
        *raw.auxiliary_logits.values(),
    ]


def computes_nothing(name: str, config: ModelConfig) -> bool:
    return name.startswith("mask_branch.unused_norm") or (
        name == "depth_encoder.transformer.level_embed" and config.depth_layers == 0
    )


@every_variant
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_training_reaches_every_parameter_that_computes(config: ModelConfig, half: bool) -> None:
    model = copy.deepcopy(awake(config)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        raw = model(*images())
    sum(output.float().square().mean() for output in everything(raw)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [
        name
        for name, gradient in gradients.items()
        if (gradient is None) != computes_nothing(name, config)
    ] == []
    assert all(bool(g.isfinite().all()) for g in gradients.values() if g is not None)
    # A softmax over all entries does not feel an offset of all of them, and attention starts
    # without looking at the query.
    still = ["scale.bias", "level_embed"]
    if config.depth_layers == 0:  # nothing mixes its coarse levels into those that are read
        still += [name for name in gradients if name.startswith("depth_encoder")]
    silent = [name for name, g in gradients.items() if g is not None and not g.any()]
    assert [name for name in silent if not name.endswith(tuple(still))] == []


@every_variant
@torch.inference_mode()
def test_shapes_are_those_of_the_published_network(config: ModelConfig) -> None:
    model = awake(config)
    raw = model(*images())
    assert raw.score_logits.shape == raw.objectness_logits.shape == (2, 6)
    assert raw.kernels.shape == (2, 6, config.fine_width)
    assert raw.mask_logits.shape == (2, 6, 16, 24)
    heads = {"rgb_t3": (8, 12), "rgb_c2": (16, 24)}
    if config.modalities == "rgbd":
        heads |= {"depth_t3": (8, 12), "depth_d2": (16, 24)}
    assert {
        name: tuple(logits.shape[2:])
        for name, logits in copy.deepcopy(model).train()(*images()).auxiliary_logits.items()
    } == heads


@every_variant
@pytest.mark.parametrize("one_batch", [False, True], ids=["two_calls", "one_batch"])
@torch.inference_mode()
def test_the_inference_form_computes_the_same(config: ModelConfig, one_batch: bool) -> None:
    model = awake(config)
    raw, fast = model(*images()), inference_form(model, one_batch=one_batch)(*images())
    for ours, theirs in zip(everything(fast), everything(raw), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@every_variant
@torch.inference_mode()
def test_the_eager_operator_computes_the_same(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = awake(config)
    raw = model(*images())

    def eager_fused(value: Tensor, shapes: list[tuple[int, int]], packed: Tensor) -> Tensor:
        return eager.fused_forward(value, [side for pair in shapes for side in pair], None, packed)

    monkeypatch.setattr(encoder, "ms_deform_attn_fused", eager_fused)
    for ours, theirs in zip(everything(model(*images())), everything(raw), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"depth_similarity": "shared"},
        {"depth_similarity": "shared", "mask_levels": "t3_t4_t5", "kernel_fusion": "early"},
        {"mask_fusion": "cascade", "position": "sine", "trains_backbone_norms": True},
        {"backbone": "mobilenet_v2", **SLIM},
    ],
    ids=str,
)
def test_weights_can_be_written_and_read(settings: dict[str, Any]) -> None:
    config = small(ModelConfig(**settings))
    model, other = awake(config), build_model(config, seed=1)
    content = safetensors.torch.save(model.state_dict())  # refuses one tensor under two names
    load_weights(other, safetensors.torch.load(content))
    theirs = other.state_dict()
    assert [k for k, v in model.state_dict().items() if not torch.equal(v, theirs[k])] == []


@every_variant
@torch.inference_mode()
def test_depth_matters_unless_the_network_sees_colour_alone(config: ModelConfig) -> None:
    model = awake(config)
    rgb, depth = images()
    one, two = (model(rgb, other).mask_logits for other in (depth, depth.flip(-1)))
    assert torch.equal(one, two) == (config.modalities == "rgb")


def parameters_m(**settings: Any) -> float:
    with torch.device("meta"):
        model = build_model(ModelConfig(**settings))
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize(
    ("settings", "published_m"),
    [
        ({"num_kernels": 10}, 78.7),
        ({"num_kernels": 20}, 78.8),
        ({"num_kernels": 50}, 78.9),
        ({"num_kernels": 100}, 79.2),  # 79.15: the one figure that the paper rounds up
        ({"num_transformer_layers": 3, "num_depth_transformer_layers": 0}, 76.7),
        ({"num_transformer_layers": 3, "num_depth_transformer_layers": 1}, 77.4),
        ({"num_transformer_layers": 3, "num_depth_transformer_layers": 3}, 78.9),
        ({"num_transformer_layers": 6, "num_depth_transformer_layers": 1}, 79.6),
        ({"num_transformer_layers": 6, "num_depth_transformer_layers": 3}, 81.1),
        ({"num_transformer_layers": 6, "num_depth_transformer_layers": 6}, 83.3),
        ({"mask_levels": "t3"}, 75.9),
        ({"mask_levels": "t3", "affinity": "non_local"}, 75.9),
        ({"mask_levels": "c2_t3"}, 78.9),
        ({"mask_levels": "c2_t3_t4"}, 81.9),
        ({"mask_levels": "t3_t4_t5"}, 81.9),
        ({"mask_levels": "c2_t3_t4_t5"}, 84.8),
    ],
    ids=str,
)
def test_parameters_are_those_that_the_paper_counts(
    settings: dict[str, Any], published_m: float
) -> None:
    assert abs(parameters_m(**settings) - published_m) < 0.055


def test_without_a_setting_depth_has_as_many_layers_as_colour() -> None:
    model = build_model(small(ModelConfig(num_transformer_layers=2)))
    other = build_model(
        small(ModelConfig(num_transformer_layers=2, num_depth_transformer_layers=1))
    )
    assert [len(m.rgb_encoder.transformer.layers) for m in (model, other)] == [2, 2]
    assert [len(m.depth_encoder.transformer.layers) for m in (model, other)] == [2, 1]


def similarities(model: CalibNet) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, DepthSimilarity)]


@pytest.mark.parametrize(("setting", "count"), [("separate", 3), ("shared", 1), ("none", 0)])
def test_the_assessments_have_as_many_sets_of_weights_as_said(setting: Any, count: int) -> None:
    model = build_model(small(ModelConfig(depth_similarity=setting)))
    assert len(similarities(model)) == count
    assert sum(".similarity.project_rgb.weight" in key for key in model.state_dict()) == count


@torch.inference_mode()
def test_a_shared_assessment_is_asked_by_all_and_copied_as_one() -> None:
    model = copy.deepcopy(build_model(small(ModelConfig(depth_similarity="shared")), seed=0))
    calls = []
    similarities(model)[0].register_forward_hook(lambda *_: calls.append(1))
    model(*images())
    assert len(calls) == 3


@torch.inference_mode()
def test_c2_is_not_computed_where_nobody_reads_it() -> None:
    asked = []
    for levels in ("t3", "c2_t3"):
        model = build_model(small(ModelConfig(mask_levels=levels)))  # type: ignore[arg-type]
        model.rgb_encoder.project.res2.register_forward_hook(
            lambda *_, levels=levels: asked.append(levels)
        )
        model(*images())
        model.train()(*images())
    assert asked == ["t3", "c2_t3", "c2_t3"]


@pytest.mark.parametrize("width", [64, 96, 160])
@torch.inference_mode()
def test_the_width_reaches_every_part(width: int) -> None:
    config = dataclasses.replace(small(ModelConfig(mask_levels="c2_t3_t4_t5")), width=width)
    model = build_model(config, seed=0)
    assert model(*images()).kernels.shape == (2, 6, width)
    layer = model.rgb_encoder.transformer.layers[0]
    assert (layer.linear1.in_features, layer.linear1.out_features) == (width, 4 * width)
    assert model.auxiliary_heads["rgb_t3"].conv1.out_channels == width // 2


@torch.inference_mode()
def test_a_shared_backbone_is_copied_as_one() -> None:
    config = dataclasses.replace(small(ModelConfig()), **SLIM)
    model = build_model(config, seed=0)
    twin = copy.deepcopy(model)
    before = model.encode(*images())[1].t3
    for parameter in model.rgb_encoder.backbone.features[17].parameters():
        parameter.mul_(2.0)
    assert torch.equal(twin.encode(*images())[1].t3, before)
    assert not torch.equal(model.encode(*images())[1].t3, before)


def test_a_shared_backbone_and_thin_masks_save_what_they_promise() -> None:
    shape: dict[str, Any] = {
        "backbone": "mobilenet_v2",
        "width": 96,
        "num_kernels": 30,
        "num_transformer_layers": 1,
    }
    whole, shared = parameters_m(**shape), parameters_m(**shape, shares_backbone=True)
    thin = parameters_m(**shape, shares_backbone=True, mask_width=32)
    borrowed = MobileNetV2().features[4:]
    norms = sum(2 * m.num_features for m in borrowed.modules() if isinstance(m, nn.BatchNorm2d))
    weights = sum(parameter.numel() for parameter in borrowed.parameters()) - norms
    assert whole - shared == pytest.approx(weights / 1e6)  # a frozen norm has no parameters
    assert thin == pytest.approx(3.71, abs=0.01)
    assert shared - thin > 0.5


def test_a_compact_network_has_a_few_million_parameters() -> None:
    count = parameters_m(
        backbone="mobilenet_v2", width=64, num_kernels=20, num_transformer_layers=1
    )
    assert 3.0 < count < 6.0
