from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from calibnet_core import build_model
from calibnet_core.models.calibnet.published_keys import own_key
from calibnet_core.training.config import OptimisationConfig
from calibnet_core.training.optimisation import (
    averaged,
    build_optimizer,
    lr_factor,
    not_decayed,
    set_learning_rate,
)
from tests.support.parity import published_entries

KEYS = {
    "calibnet_r50": "r50",
    "calibnet_r101": "r101",
    "calibnet_swin_t": "swint",
    "calibnet_pvtv2_b2_li": "pvt",
    "calibnet_p2t_large": "p2t",
}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_published_choice_spares_what_its_names_say(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name)
    rules = model.rgb_encoder.backbone.published_keys
    parameters = {key for key, _ in model.named_parameters()}
    by_name = {
        own_key(entry["key"], rules)
        for entry in published_entries(KEYS[name])
        if any(word in entry["key"] for word in ("norm", "patch_embed", "cls_token"))
    }
    assert not_decayed(model, "published") == by_name & parameters


def test_of_340_tensors_of_resnet_50_the_published_choice_spares_32() -> None:
    with torch.device("meta"):
        model = build_model("calibnet_r50")
    assert len(list(model.named_parameters())) == 340
    assert len(not_decayed(model, "published")) == 32


def test_the_common_choice_spares_everything_of_one_dimension() -> None:
    with torch.device("meta"):
        model = build_model("calibnet_r50")
    spared = not_decayed(model, "one_dimensional")
    for name, parameter in model.named_parameters():
        assert (name in spared) == (parameter.dim() <= 1 or "level_embed" in name)


def test_every_trainable_parameter_is_in_one_group() -> None:
    with torch.device("meta"):
        model = build_model("calibnet_r50")
    model.mask_branch.unused_norm.requires_grad_(False)  # type: ignore[union-attr]
    config = OptimisationConfig(backbone_factor=0.1)
    optimizer = build_optimizer(model, config)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(map(id, trainable))
    backbone = {id(p) for name, p in model.named_parameters() if ".backbone." in name}
    set_learning_rate(optimizer, 1.0)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == (0.1 if id(parameter) in backbone else 1.0)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 1e-4}


def test_the_published_schedule_at_its_corners() -> None:
    config = OptimisationConfig()

    def factor(iteration: int) -> float:
        return lr_factor(iteration, 100_000, config)

    assert factor(0) == pytest.approx(0.001)
    assert factor(500) == pytest.approx(0.5005)
    assert factor(999) == pytest.approx(0.999001)
    assert factor(1000) == factor(69_999) == 1.0
    assert factor(70_000) == factor(89_999) == pytest.approx(0.1)
    assert factor(90_000) == factor(99_999) == pytest.approx(0.01)


def test_a_cosine_ends_at_zero() -> None:
    config = OptimisationConfig(schedule="cosine", warmup_iterations=0)
    factors = [lr_factor(iteration, 100, config) for iteration in range(101)]
    assert factors[0] == 1.0
    assert factors[50] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
    assert factors == sorted(factors, reverse=True)


def test_the_average_forgets_its_start_and_keeps_the_buffers() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    mean = averaged(model, 0.9)
    expected = 1.0
    for step in range(40):
        with torch.no_grad():
            model[0].weight.fill_(float(step))
            model[1].running_mean.fill_(float(step))
        mean.update_parameters(model)
        # The first update copies; afterwards t updates have been averaged.
        decay = min(0.9, (1 + step) / (10 + step))
        expected = float(step) if step == 0 else decay * expected + (1 - decay) * step
        assert float(mean.module[0].weight.detach()) == pytest.approx(expected, rel=1e-5)
        assert float(mean.module[1].running_mean) == step
    assert math.isfinite(expected)
