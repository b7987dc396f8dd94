"""Error and F of saliency maps, against the definitions written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibnet_core.evaluation import EvaluationError
from calibnet_core.evaluation.saliency import SaliencyMaps


def f_curve(saliency: np.ndarray, truth: np.ndarray) -> np.ndarray:
    curve = []
    for level in range(256):
        taken = saliency >= level
        right = (taken & truth).sum()
        precision = right / taken.sum() if taken.any() else 0.0
        recall = right / truth.sum()
        total = 0.3 * precision + recall
        curve.append(1.3 * precision * recall / total if total else 0.0)
    return np.array(curve)


def test_figures_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    maps, errors, curves = SaliencyMaps(), [], []
    for _ in range(4):
        truth = rng.random((9, 11)) < 0.4
        saliency = np.where(truth, rng.integers(40, 256, (9, 11)), rng.integers(0, 160, (9, 11)))
        saliency = saliency.astype(np.uint8)
        maps.update(saliency, truth)
        errors.append(np.abs(saliency / 255.0 - truth).mean())
        curves.append(f_curve(saliency, truth))
    figures = maps.compute()
    assert figures.mae == pytest.approx(np.mean(errors), abs=1e-12)
    assert figures.max_f == pytest.approx(np.mean(curves, axis=0).max(), abs=1e-12)
    assert figures.num_images == 4


def test_a_perfect_map_has_no_error_and_an_empty_image_no_f() -> None:
    maps, truth = SaliencyMaps(), np.eye(6, dtype=bool)
    maps.update(truth.astype(np.uint8) * np.uint8(255), truth)
    assert (maps.compute().mae, maps.compute().max_f) == (0.0, 1.0)
    maps.update(np.full((6, 6), 51, np.uint8), np.zeros((6, 6), bool))
    assert maps.compute().mae == pytest.approx(0.1)  # the mean of 0 and 51 / 255
    assert maps.compute().max_f == 1.0


def test_pixels_outside_count_for_nothing() -> None:
    maps, truth, outside = SaliencyMaps(), np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    truth[0], outside[3] = True, True
    saliency = np.zeros((4, 4), np.uint8)
    saliency[0], saliency[3] = 255, 255
    maps.update(saliency, truth, is_outside=outside)
    assert (maps.compute().mae, maps.compute().max_f) == (0.0, 1.0)
    maps.update(saliency, truth, is_outside=np.ones((4, 4), bool))
    assert maps.compute().num_images == 1


def test_nothing_decides_nothing_and_sizes_must_agree() -> None:
    maps = SaliencyMaps()
    assert math.isnan(maps.compute().mae)
    assert math.isnan(maps.compute().max_f)
    with pytest.raises(EvaluationError, match=r"\(4, 4\) but its truth \(4, 5\)"):
        maps.update(np.zeros((4, 4), np.uint8), np.zeros((4, 5), bool))
