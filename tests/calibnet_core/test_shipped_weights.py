"""The weights that come with the package: what they are, what they cost, what they find."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.compact_model import AS_IN_THE_NODE, CARD, RECORD, with_record
from calibnet_core import Pipeline
from calibnet_core.ablation.cost import measure_cost
from calibnet_core.checkpoint import read_score_map, read_settings, read_state_dict, sha256_of
from calibnet_core.config import MODELS, InferenceConfig, load_config
from calibnet_core.data.datasets import open_dataset
from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, evaluate_dataset
from calibnet_core.models.build import build_model
from calibnet_core.shipped_weights import SHIPPED_MODEL, SHIPPED_WEIGHTS, default_weights
from calibnet_core.training.config import TrainConfig
from tests.support.shared import REPOSITORY, shared_file

COMPACT = MODELS[SHIPPED_MODEL]
NOT_LABELLED = "a keyboard and other things that lie there without a label are found as well"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_weights(inference=AS_IN_THE_NODE)


def test_they_stand_in_where_no_weights_and_no_other_network_are_named() -> None:
    for asked in (None, SHIPPED_MODEL, COMPACT):
        assert default_weights(asked) == SHIPPED_WEIGHTS
    for other in ("calibnet_r50", replace(COMPACT, num_kernels=31)):
        assert default_weights(other) is None


def test_they_are_small_finite_and_say_what_they_are_of() -> None:
    assert SHIPPED_WEIGHTS.stat().st_size <= 20e6
    state = read_state_dict(SHIPPED_WEIGHTS)
    assert all(bool(value.isfinite().all()) for value in state.values())
    settings = read_settings(SHIPPED_WEIGHTS)
    assert settings is not None
    assert settings.model == COMPACT
    score_map = read_score_map(SHIPPED_WEIGHTS)
    assert score_map is not None
    assert score_map.dataset == "calibration"


def test_the_network_has_few_parameters_and_a_tenth_of_the_sums_of_resnet_50() -> None:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_model(COMPACT).parameters())
    assert parameters <= 6e6
    compact, large = (
        measure_cost(MODELS[name], (320, 448)) for name in (SHIPPED_MODEL, "calibnet_r50")
    )
    assert large.multiply_adds >= 10 * compact.multiply_adds


@pytest.mark.parametrize("part", ["coarse", "fine"])
def test_the_recipe_trains_the_network_of_that_name(part: str) -> None:
    path = REPOSITORY / "config" / "train" / f"compact_{part}.yaml"
    assert load_config(path, TrainConfig).model == COMPACT


def test_the_card_is_about_this_file() -> None:
    text = CARD.read_text()
    assert sha256_of(SHIPPED_WEIGHTS) in text
    assert "Apache-2.0" in text
    assert re.search(r"\b[0-9a-f]{40}\b", text)  # the commit


def test_the_cards_tables_are_those_of_the_record_and_the_record_is_about_this_file() -> None:
    record = json.loads(RECORD.read_text())
    assert record["weights_sha256"] == sha256_of(SHIPPED_WEIGHTS)
    assert with_record(CARD.read_text(), record) == CARD.read_text()


def test_they_find_the_objects_of_scenes_that_training_has_not_seen(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pytest.importorskip("mujoco", reason="rendered scenes are not installed")
    pytest.importorskip("embreex", reason="rendered scenes are not installed")
    from calibnet_core.data.scenes.rendered_set import render_set

    render_set(tmp_path / "unseen", 16, seed=2)
    evaluation = evaluate_dataset(
        open_dataset(tmp_path / "unseen"),
        pipeline.predict,
        settings=EvaluationSettings(gallery_size=0),
    )
    assert evaluation.failures == ()
    assert evaluation.mask_ap["AP50"] > 50.0


@functools.cache
def evaluation_on_real_tables(pipeline: Pipeline, begin: str) -> Evaluation:
    real = open_dataset(shared_file("data/rgbd_instances/annotations.json").parent)
    evaluation = evaluate_dataset(
        real.where(lambda record: record.scene.startswith(begin)),
        pipeline.predict,
        settings=EvaluationSettings(gallery_size=0),
    )
    assert evaluation.overlap.num_objects > 0
    return evaluation


@pytest.mark.parametrize("begin", ["osd_", "ycbv_"])
def test_they_find_the_objects_on_real_tables(pipeline: Pipeline, begin: str) -> None:
    assert evaluation_on_real_tables(pipeline, begin).mask_ap["AP50"] > 60.0


@pytest.mark.parametrize(
    "begin",
    ["osd_", pytest.param("ycbv_", marks=pytest.mark.xfail(strict=True, reason=NOT_LABELLED))],
)
def test_they_cover_the_objects_on_real_tables_and_nothing_else(
    pipeline: Pipeline, begin: str
) -> None:
    overlap = evaluation_on_real_tables(pipeline, begin).overlap
    assert overlap.per_image.overlap_f > 70.0


def test_the_card_tells_what_is_found_without_a_label() -> None:
    figures = json.loads(RECORD.read_text())["figures"]
    all_found, on_labels = (figures[name] for name in ("YCB-Video", "YCB-Video, on labels"))
    assert all_found["overlap P"] < on_labels["overlap P"]
    assert "A keyboard" in CARD.read_text()


def test_an_empty_table_is_empty(pipeline: Pipeline) -> None:
    from calibnet_core.structures import RgbdFrame

    rows = np.arange(240, dtype=np.float32)[:, None]
    depth_m = np.broadcast_to(1.6 - 0.003 * rows, (240, 320)).astype(np.float32)
    rgb = np.full((240, 320, 3), 140, np.uint8)
    found = pipeline.predict(RgbdFrame(rgb=rgb, depth_m=depth_m), inference=InferenceConfig())
    assert len(found) == 0
