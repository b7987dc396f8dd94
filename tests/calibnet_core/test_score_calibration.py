from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core import Pipeline, PipelineConfig, build_model, save_weights
from calibnet_core.checkpoint import read_score_map, read_state_dict, save_calibrated
from calibnet_core.config import ConfigError, InferenceConfig, InputConfig, ModelConfig
from calibnet_core.evaluation.calibration import ScoreCalibration
from calibnet_core.evaluation.evaluator import evaluate_dataset
from calibnet_core.score_calibration import (
    MAX_KNOTS,
    MIN_DETECTIONS,
    ScoreMap,
    fit_score_map,
    nearest_rising,
)
from calibnet_core.structures import Instances, RgbdFrame, WeightsError
from tests.calibnet_core.evaluation.stand_ins import Oracle, random_dataset

NOTES = {"dataset": "kitchen", "date": "2025-11-21"}
HALVED = ScoreMap(raw=(0.0, 1.0), calibrated=(0.0, 0.5), num_detections=100, **NOTES)


def fit(scores: Any, is_right: Any) -> ScoreMap:
    return fit_score_map(scores, is_right, **NOTES)


def detections(
    seed: int, count: int, *, power: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores spread evenly; one of x is right with probability x to the power."""
    generator = np.random.default_rng(seed)
    scores = generator.random(count)
    return scores, generator.random(count) < scores**power


def expected_error(scores: NDArray[Any], is_right: NDArray[np.bool_]) -> float:
    table = ScoreCalibration()
    table.update(scores, is_right)
    return table.compute().expected_error


# --- fitting


@pytest.mark.skipif(
    not hasattr(scipy.optimize, "isotonic_regression"), reason="needs scipy 1.12 to compare with"
)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 30), levels=st.integers(1, 6))
def test_the_nearest_rising_sequence_is_that_of_scipy(seed: int, count: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, levels, count) / levels
    weights = generator.uniform(0.1, 10.0, count)
    expected = scipy.optimize.isotonic_regression(values, weights=weights).x
    np.testing.assert_allclose(nearest_rising(values, weights), expected, atol=1e-12)


def test_a_fit_worked_by_hand() -> None:
    # A hundred detections of score 0.8 of which 40 are right, and the imagined ones at 0, 0.05, ...
    score_map = fit([0.8] * 100, [True] * 40 + [False] * 60)
    # In the group of 0.8 is also the imagined one at 0.85: a share of (40 + 0.8 + 0.85) / 102. All
    # groups below that are worth more are pooled with it: 0.75, 0.7, ..., 0.4.
    pooled = (40 + 0.8 + 0.85 + 0.75 + 0.7 + 0.65 + 0.6 + 0.55 + 0.5 + 0.45 + 0.4) / 110
    asked = np.array([0.05, 0.2, 0.5, 0.8, 0.9, 0.95])
    # Where nothing was seen the score is believed; a hundredth of it is always in.
    expected = 0.99 * np.array([0.05, 0.2, pooled, pooled, 0.9, 0.95]) + 0.01 * asked
    np.testing.assert_allclose(score_map(asked), expected, atol=0.02)
    np.testing.assert_allclose(score_map(asked[2:4]), expected[2:4], rtol=1e-6)
    assert score_map.num_detections == 100


@given(
    found=st.lists(
        st.tuples(st.floats(0.0, 1.0), st.booleans()),
        min_size=MIN_DETECTIONS,
        max_size=4 * MIN_DETECTIONS,
    ),
    asked=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=20),
)
def test_any_fit_keeps_order_and_range_and_survives_being_written(
    found: list[tuple[float, bool]], asked: list[float]
) -> None:
    score_map = fit(*zip(*found, strict=True))
    assert len(score_map.raw) <= MAX_KNOTS
    scores = np.sort(np.array(asked))
    mapped = score_map(scores)
    assert mapped.dtype == np.float32
    assert ((mapped >= 0.0) & (mapped <= 1.0)).all()
    steps = np.diff(mapped)
    assert (steps >= 0.0).all()
    assert (steps[np.diff(scores) > 1e-5] > 0.0).all()
    assert ScoreMap.from_json(score_map.to_json()) == score_map


def test_scores_that_are_right_already_stay_up_to_noise() -> None:
    score_map = fit(*detections(0, 20_000))
    asked = np.linspace(0.0, 1.0, 101)
    assert np.abs(score_map(asked) - asked).max() < 0.06


@pytest.mark.parametrize("power", [0.4, 3.0])
def test_the_error_on_other_detections_falls(power: float) -> None:
    score_map = fit(*detections(1, 2000, power=power))
    scores, is_right = detections(2, 5000, power=power)
    assert expected_error(scores, is_right) > 15.0
    assert expected_error(score_map(scores), is_right) < 4.0


def test_scores_are_told_apart_where_they_crowd_and_where_they_are_rare() -> None:
    generator = np.random.default_rng(0)
    crowd, rest = generator.uniform(0.0, 0.01, 20_000), generator.uniform(0.0, 1.0, 500)
    scores = np.concatenate((crowd, rest))
    chances = np.select([scores < 0.005, scores < 0.6], [0.0, 0.4], 0.9)
    score_map = fit(scores, generator.random(len(scores)) < chances)
    asked = np.array([0.003, 0.008, 0.5, 0.7])
    np.testing.assert_allclose(score_map(asked), [0.0, 0.4, 0.4, 0.9], atol=0.1)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5] * (MIN_DETECTIONS - 1), "the number of detections is 49; choose a larger set"),
        ([], "calibration needs at least 50"),
        ([0.5] * 99 + [1.1], r"a score is array\(\[1.1\]\); choose scores from 0 to 1"),
        ([0.5] * 99 + [np.nan], "choose scores from 0 to 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(scores: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(scores, [True] * len(scores))


# --- what a file may hold


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw": [0.0, 0.5, 0.5, 1.0], "calibrated": [0.0, 0.1, 0.2, 0.3]}, "rise from 0 to 1"),
        ({"raw": [0.1, 1.0]}, "rise from 0 to 1"),
        ({"raw": [0.0, 2.0]}, "rise from 0 to 1"),
        ({"raw": [0.0, float("nan"), 1.0], "calibrated": [0.0, 0.1, 0.2]}, "rise from 0 to 1"),
        ({"calibrated": [0.5, 0.4]}, "rise within 0 to 1"),
        ({"calibrated": [0.5, 0.5]}, "rise within 0 to 1"),
        ({"calibrated": [-0.1, 0.5]}, "rise within 0 to 1"),
        ({"calibrated": [0.5, 1.1]}, "rise within 0 to 1"),
        ({"calibrated": [0.0, float("nan")]}, "rise within 0 to 1"),
        ({"calibrated": [0.0, 0.5, 1.0]}, "(2, 3); choose the same number twice, from 2 to 32"),
        ({"raw": [0.0], "calibrated": [0.0]}, "from 2 to 32"),
        (
            {"raw": np.linspace(0, 1, 33).tolist(), "calibrated": np.linspace(0, 1, 33).tolist()},
            "33",
        ),
        ({"raw": [0.0, "1"]}, "raw[1] is '1' (str); expected float"),
        ({"raw": [0, 10**400]}, "is no readable JSON"),
        ({"dataset": ""}, "a name of 1 to 300 printable characters"),
        ({"dataset": "\x1b[31m"}, "printable"),
        ({"date": "yesterday"}, "date is 'yesterday'; choose a day as YYYY-MM-DD"),
        ({"date": None}, "date is None"),
        ({"num_detections": -1}, "num_detections is -1"),
        ({"code": "import os"}, "unknown keys ['code']"),
        ({"raw": ...}, "keys ['raw'] are missing"),
    ],
)
def test_a_damaged_map_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    values = dataclasses.asdict(HALVED) | changes
    text = json.dumps({key: value for key, value in values.items() if value is not ...})
    with pytest.raises(ConfigError) as caught:
        ScoreMap.from_json(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 9000, HALVED.to_json() + 20_000 * " ", '"x"', "null"]
)
def test_text_that_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"JSON|expected a mapping|characters"):
        ScoreMap.from_json(text)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that brings its input size along."""
    own = ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=0)
    settings = PipelineConfig(model=own, input=InputConfig(shortest_edge=64, longest_edge=96))
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(build_model(own, seed=0), path, model_name="mine", settings=settings)
    return path


def test_a_calibrated_file_has_the_same_weights_and_notes(weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "calibrated.safetensors"
    assert read_score_map(weights) is None
    save_calibrated(weights, target, HALVED)
    assert read_score_map(target) == HALVED
    before, after = read_state_dict(weights), read_state_dict(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    with safetensors.safe_open(weights, "pt") as old, safetensors.safe_open(target, "pt") as new:
        assert new.metadata() == {**old.metadata(), "score_map": HALVED.to_json()}
    # Calibrating anew replaces, also in place.
    again = dataclasses.replace(HALVED, dataset="drawer")
    save_calibrated(target, target, again)
    assert read_score_map(target) == again


def test_a_file_with_a_damaged_map_is_not_used(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    with safetensors.safe_open(weights, "pt") as file:
        metadata = {**file.metadata(), "score_map": "{}"}
    safetensors.torch.save_file(read_state_dict(weights), path, metadata)
    with pytest.raises(
        WeightsError, match=r"score calibration cannot be used: keys \['raw'"
    ) as hit:
        Pipeline.from_weights(path)
    assert str(hit.value).startswith(f"{path}: ")
    assert "make it anew with `calibnet calibrate`" in str(hit.value)


@pytest.mark.parametrize("names", [("a.pth", "b.safetensors"), ("a.safetensors", "b.pth")])
def test_only_safetensors_can_be_calibrated(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(WeightsError, match=r"\.pth: weights are saved as \.safetensors"):
        save_calibrated(tmp_path / names[0], tmp_path / names[1], HALVED)


# --- what a map does to predictions


def frame() -> RgbdFrame:
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (64, 96, 3), np.uint8)
    return RgbdFrame(rgb=rgb, depth_m=generator.uniform(0.5, 5.0, (64, 96)).astype(np.float32))


def test_the_pipeline_applies_the_map_of_its_weights(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibrated.safetensors"
    save_calibrated(weights, path, HALVED)
    published, everything = InferenceConfig.published(), InferenceConfig(score_threshold=0.0)
    plain = Pipeline.from_weights(weights, inference=published)
    calibrated = Pipeline.from_weights(path, inference=published)
    assert (plain.model_info.calibration_set, plain.model_info.calibration_date) == ("", "")
    assert calibrated.model_info.calibration_set == "kitchen"
    assert calibrated.model_info.calibration_date == "2025-11-21"

    for inference in (published, everything):
        theirs = plain.predict(frame(), inference=inference)
        ours = calibrated.predict(frame(), inference=inference)
        assert len(ours) > 10
        np.testing.assert_array_equal(theirs.raw_scores, theirs.scores)
        np.testing.assert_array_equal(ours.scores, theirs.scores / 2)
        # Everything else, and with it order and number, stays as it was.
        for name in ("raw_scores", "masks", "boxes_xyxy", "mask_quality", "kernel_indices"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), name)

    # The threshold looks at calibrated scores.
    between = float(np.median(theirs.scores))
    chosen = InferenceConfig(score_threshold=between / 2)
    np.testing.assert_array_equal(
        calibrated.predict(frame(), inference=chosen).raw_scores,
        theirs.raw_scores[theirs.raw_scores > between],
    )


def test_average_precision_does_not_change() -> None:
    dataset = random_dataset(3)
    oracle, score_map = Oracle(dataset), fit(*detections(0, 60, power=3.0))

    def calibrated(shown: RgbdFrame) -> Instances:
        found = oracle(shown)
        return dataclasses.replace(found, scores=score_map(found.scores))

    before, after = evaluate_dataset(dataset, oracle), evaluate_dataset(dataset, calibrated)
    assert before.mask_ap["AP"] > 1.0
    assert after.mask_ap == pytest.approx(before.mask_ap, rel=0, abs=0, nan_ok=True)
    assert after.calibration != before.calibration
