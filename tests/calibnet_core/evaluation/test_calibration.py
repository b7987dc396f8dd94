from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.evaluation.calibration import ScoreCalibration
from calibnet_core.evaluation.errors import EvaluationError

DETECTIONS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40)


def calibrate(detections: list[tuple[float, bool]], num_bins: int = 10):
    calibration = ScoreCalibration(num_bins=num_bins)
    calibration.update([score for score, _ in detections], [right for _, right in detections])
    return calibration.compute()


def test_a_worked_case() -> None:
    # Bin [0.6, 0.8): scores 0.6 and 0.7, one right: |0.65 - 0.5| = 0.15, weight 2 of 5.
    # Bin [0.8, 1]: 0.9, 0.9 and 1.0, all right: |0.9333 - 1| = 0.0667, weight 3 of 5.
    figures = calibrate([(0.6, True), (0.7, False), (0.9, True), (0.9, True), (1.0, True)], 5)
    assert figures.expected_error == pytest.approx(100 * (2 * 0.15 + 3 * (1 - 2.8 / 3)) / 5)
    assert figures.max_error == pytest.approx(15.0)
    assert [entry.count for entry in figures.bins] == [0, 0, 0, 2, 3]
    assert figures.num_detections == 5
    assert figures.bins[3].mean_score == pytest.approx(0.65)
    assert figures.bins[3].share_right == 0.5
    assert math.isnan(figures.bins[0].share_right)


def test_a_score_on_an_edge_belongs_to_the_bin_above() -> None:
    for edge in range(10):
        (index,) = [i for i, e in enumerate(calibrate([(edge / 10, True)]).bins) if e.count]
        assert index == edge
    assert calibrate([(1.0, True)]).bins[-1].count == 1


def test_scores_that_tell_the_truth_have_no_error() -> None:
    figures = calibrate([(0.75, True)] * 3 + [(0.75, False)] + [(0.25, True)] + [(0.25, False)] * 3)
    assert figures.expected_error == pytest.approx(0.0)


def test_without_detections_there_is_no_error_to_tell() -> None:
    figures = ScoreCalibration().compute()
    assert math.isnan(figures.expected_error)
    assert math.isnan(figures.max_error)
    assert figures.num_detections == 0


@given(detections=DETECTIONS, num_bins=st.integers(1, 20))
def test_the_error_equals_that_of_a_loop_over_the_bins(detections, num_bins: int) -> None:
    figures = calibrate(detections, num_bins)
    error = 0.0
    for number in range(num_bins):
        low, high = number / num_bins, (number + 1) / num_bins
        is_last = number == num_bins - 1
        inside = [d for d in detections if low <= d[0] and (d[0] < high or is_last)]
        assert figures.bins[number].count == len(inside)
        if inside:
            error += abs(sum(s for s, _ in inside) - sum(right for _, right in inside))
    if detections:
        assert figures.expected_error == pytest.approx(100 * error / len(detections), abs=1e-9)


@given(first=DETECTIONS, second=DETECTIONS)
def test_two_updates_are_one_and_reset_forgets(first, second) -> None:
    calibration = ScoreCalibration()
    for part in (first, second):
        calibration.update([s for s, _ in part], [r for _, r in part])
    together = calibrate(first + second)
    assert calibration.compute().expected_error == pytest.approx(
        together.expected_error, nan_ok=True
    )
    calibration.reset()
    assert calibration.compute().num_detections == 0


@pytest.mark.parametrize(
    ("scores", "right", "words"),
    [
        ([0.5, math.nan], [True, True], "a detection has score nan"),
        ([1.5], [True], "a detection has score 1.5"),
        ([0.5], [True, False], "1 scores for 2 detections"),
    ],
)
def test_bad_scores_are_refused(scores, right, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        ScoreCalibration().update(np.array(scores), np.array(right))


def test_a_table_needs_a_bin() -> None:
    with pytest.raises(EvaluationError, match="0 bins of scores; choose a number from 1"):
        ScoreCalibration(num_bins=0)
