from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.evaluation import EvaluationError, evaluate_instances
from tests.calibnet_core.evaluation.coco_sets import SIZE, box_mask, random_set, reference, rle
from tests.support.shared import shared_file

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def truth(**changes: Any) -> dict[str, Any]:
    """One image with one object of 20x30 pixels."""
    return {
        "images": [{"id": 5, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 3, "segmentation": rle(box_mask(9, 9, 20, 30))}
        ],
        "categories": [{"id": 3, "name": "object"}],
    } | changes


def found(mask: np.ndarray | None = None, **changes: Any) -> dict[str, Any]:
    mask = box_mask(9, 9, 20, 30) if mask is None else mask
    return {"image_id": 5, "category_id": 3, "score": 0.5, "segmentation": rle(mask)} | changes


def assert_equal(figures: dict[str, float], expected: dict[str, float], tolerance=1e-6) -> None:
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=tolerance, nan_ok=True), name


def test_the_figures_of_the_published_evaluator_are_reproduced() -> None:
    case = json.loads(shared_file("parity/calibnet_coco_eval_case1.json").read_text())
    figures = evaluate_instances(case["gt"], case["results"])
    expected = case["expected"]
    assert_equal(figures, expected["official_evaluator"])
    assert_equal(
        figures, {name: expected[name] for name in ("AP", "AP50", "AP70", "AP75", "AR100")}
    )
    levels = {f"AP{level[2:]}": value for level, value in expected["per_iou"].items()}
    assert len(levels) == 10
    assert_equal(figures, levels)
    assert math.isnan(figures["APl"])


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), num_categories=st.integers(1, 3))
def test_figures_equal_those_of_pycocotools(seed: int, num_categories: int) -> None:
    gt, results = random_set(seed, num_categories=num_categories)
    if not results:
        return
    figures = evaluate_instances(gt, results)
    for name, value in zip(STATS, reference(gt, results).stats, strict=True):
        expected = math.nan if value < 0 else 100 * value
        assert figures[name] == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True), name


def test_a_detection_that_overlaps_by_72_percent_counts_up_to_the_level_of_70() -> None:
    # 432 of 600 pixels: an overlap of 0.72, so 5 levels of 10.
    figures = evaluate_instances(truth(), [found(box_mask(9, 9, 20, 30) & box_mask(0, 0, 27, 33))])
    assert figures["AP70"] == pytest.approx(100.0)
    assert figures["AP75"] == 0.0
    assert figures["AP"] == pytest.approx(50.0)
    assert figures["AR1"] == pytest.approx(50.0)
    assert figures["APs"] == pytest.approx(50.0)
    assert math.isnan(figures["APm"])


def test_the_inputs_stay_as_they_are_and_nothing_is_printed(capsys) -> None:
    gt, results = random_set(3)
    before = copy.deepcopy((gt, results))
    evaluate_instances(gt, results)
    assert (gt, results) == before
    assert capsys.readouterr() == ("", "")


def test_no_results_at_all_give_zero() -> None:
    figures = evaluate_instances(truth(), [])
    assert (figures["AP"], figures["AR100"]) == (0.0, 0.0)


def test_a_set_without_objects_decides_nothing() -> None:
    figures = evaluate_instances(truth(annotations=[]), [found()])
    assert all(math.isnan(value) for value in figures.values())


def test_an_annotation_with_the_id_0_can_be_found() -> None:
    gt = truth()
    gt["annotations"][0]["id"] = 0
    assert evaluate_instances(gt, [found()])["AP"] == pytest.approx(100.0)


def test_a_box_in_the_results_does_not_decide_the_range_of_area() -> None:
    # A cross whose box is medium and whose mask is small, and no object near.
    cross = box_mask(10, 25, 40, 4) | box_mask(28, 5, 4, 44)
    gt = truth()
    with_box = found(box_mask(50, 40, 10, 10), score=0.9)
    figures = evaluate_instances(gt, [with_box, found(cross, score=0.8, bbox=[5, 10, 44, 40])])
    without = evaluate_instances(gt, [with_box, found(cross, score=0.8)])
    assert_equal(figures, without)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[9.0, 9.0, 39.0, 9.0, 39.0, 29.0, 9.0, 29.0]],
        {"size": list(SIZE), "counts": [9 * 72 + 9, *[20, 52] * 29, 20, 1555]},
    ],
    ids=["polygon", "listed runs"],
)
def test_every_form_of_a_mask_is_read(segmentation: Any) -> None:
    gt = truth()
    gt["annotations"][0]["segmentation"] = segmentation
    assert evaluate_instances(gt, [found()])["AP"] == pytest.approx(100.0)


def twice(name: str) -> dict[str, Any]:
    return truth(**{name: truth()[name] * 2})


def with_annotation(**changes: Any) -> dict[str, Any]:
    return truth(annotations=[truth()["annotations"][0] | changes])


def without(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


@pytest.mark.parametrize(
    ("gt", "results", "words"),
    [
        (twice("images"), [], r"images\[0\] and images\[1\] share the id 5"),
        (twice("annotations"), [], r"annotations\[0\] and annotations\[1\] share the id 1"),
        (twice("categories"), [], r"categories\[0\] and categories\[1\] share the id 3"),
        (with_annotation(image_id=8), [], r"annotations\[0\] belongs to image 8"),
        (with_annotation(category_id=9), [], r"annotations\[0\] \(image 5\) has category 9"),
        (with_annotation(area=math.nan), [], r"annotations\[0\] \(image 5\) 'area' is nan"),
        (without(truth(), "categories"), [], "no list 'categories'"),
        (truth(images=[{"id": 5, "height": 4}]), [], r"images\[0\] \(id 5\) has no 'width'"),
        (truth(images=[{"id": "5"}]), [], r"images\[0\] 'id' is '5'"),
        (truth(), {}, "the results are dict"),
        (truth(), [found(), found(image_id=6)], r"results\[1\] belongs to image 6"),
        (truth(), [found(), found(category_id=1)], r"results\[1\] \(image 5\) has category 1"),
        (truth(), [without(found(), "score")], r"results\[0\] \(image 5\) has no 'score'"),
        (truth(), [found(score=math.nan)], r"results\[0\] \(image 5\) 'score' is nan"),
        (truth(), [found(score="0.5")], r"results\[0\] \(image 5\) 'score' is '0.5'"),
        (truth(), [found(score=True)], r"results\[0\] \(image 5\) 'score' is True"),
        (truth(), [without(found(), "segmentation")], "has no 'segmentation'"),
        (truth(), [found(np.ones((4, 4), bool))], r"results\[0\] \(image 5\): .*size \[4, 4\]"),
        (truth(), [None], r"results\[0\] has no 'image_id'"),
    ],
)
def test_a_bad_entry_is_named(gt: dict[str, Any], results: Any, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        evaluate_instances(gt, results)
