from __future__ import annotations

import functools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from calibnet_core.ablation import cost
from calibnet_core.ablation.cost import measure_cost
from calibnet_core.ablation.rows import ROWS, AblationRow
from calibnet_core.config import ModelConfig
from calibnet_core.models.build import build_model
from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused

measured = functools.cache(measure_cost)


def test_the_published_network_costs_what_was_measured_of_it() -> None:
    published = measured(ModelConfig())
    assert published.parameters == 78_901_550
    assert 99.9e9 <= published.multiply_adds <= 100.4e9


@pytest.mark.parametrize("row", [r for r in ROWS if r.paper.parameters_m], ids=lambda row: row.key)
def test_parameters_are_the_papers(row: AblationRow) -> None:
    assert abs(measured(row.model).parameters / 1e6 - row.paper.parameters_m) < 0.055


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if r.paper.multiply_adds_g and r.key != "IV:non_local"],
    ids=lambda row: row.key,
)
def test_multiply_adds_are_the_papers_up_to_the_size_of_its_images(row: AblationRow) -> None:
    # The paper averages over images, most of them smaller than 320x480: one factor fits all rows.
    factor = 90.2e9 / measured(ModelConfig()).multiply_adds
    ours_g = measured(row.model).multiply_adds * factor / 1e9
    assert abs(ours_g - row.paper.multiply_adds_g) < 0.15


def test_both_attention_operators_count_five_multiply_adds_a_sampled_value() -> None:
    batch, queries, heads, channels, points = 2, 6, 4, 8, 3
    shapes = [(2, 2), (1, 2)]
    value = torch.randn(batch, queries, heads, channels)
    locations = torch.rand(batch, queries, heads, 2, points, 2)
    weights = torch.rand(batch, queries, heads, 2, points)
    packed = torch.randn(batch, queries, 3 * heads * 2 * points)
    expected = 5 * channels * batch * queries * heads * 2 * points
    for call in (
        lambda: ms_deform_attn(value, shapes, locations, weights),
        lambda: ms_deform_attn_fused(value, shapes, packed),
    ):
        with FlopCounterMode(display=False, custom_mapping=cost.attention_formulas()) as counter:
            call()
        assert counter.get_total_flops() == 2 * expected


def test_costs_follow_the_size_of_the_image_and_parameters_do_not() -> None:
    config = ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=1)
    small, large = measure_cost(config, (64, 64)), measure_cost(config, (128, 128))
    assert small.parameters == large.parameters
    assert 3.5 < large.multiply_adds / small.multiply_adds < 4.0


def test_only_trainable_parameters_count() -> None:
    config = ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=1)
    model = build_model(config)
    assert measure_cost(config, (32, 32)).parameters == sum(p.numel() for p in model.parameters())
