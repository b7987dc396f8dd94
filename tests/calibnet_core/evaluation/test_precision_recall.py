from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.evaluation.image_outcomes import ImageOutcome, match_image, recall_thresholds
from calibnet_core.evaluation.precision_recall import combine, mask_ap_figures
from tests.calibnet_core.evaluation.coco_sets import random_set, reference


def outcomes_by_category(gt: dict[str, Any], results: list[Any]) -> list[list[ImageOutcome]]:
    """Every image on its own, in the order of the file."""

    def of(entries: list[Any], image_id: int, category_id: int) -> list[Any]:
        wanted = (image_id, category_id)
        return [e for e in entries if (e["image_id"], e["category_id"]) == wanted]

    categories = []
    for category in gt["categories"]:
        outcomes = []
        for image in gt["images"]:
            objects = of(gt["annotations"], image["id"], category["id"])
            detections = of(results, image["id"], category["id"])
            outcomes.append(
                match_image(
                    image["id"],
                    objects=[e["segmentation"] for e in objects],
                    is_crowd=[bool(e["iscrowd"]) for e in objects],
                    detections=[e["segmentation"] for e in detections],
                    scores=[e["score"] for e in detections],
                )
            )
        categories.append(outcomes)
    return categories


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), num_categories=st.integers(1, 2))
def test_single_images_combine_to_the_bits_of_pycocotools_over_the_set(
    seed: int, num_categories: int
) -> None:
    gt, results = random_set(seed, num_categories=num_categories)
    if not results:
        return
    curves = combine(outcomes_by_category(gt, results))
    expected = reference(gt, results).eval
    np.testing.assert_array_equal(curves.precision, expected["precision"])
    np.testing.assert_array_equal(curves.recall, expected["recall"])


def test_more_than_100_detections_of_an_image_are_cut_as_pycocotools_cuts_them() -> None:
    gt, results = random_set(4, num_images=2, max_detections=1000)
    per_image = [sum(r["image_id"] == i["id"] for r in results) for i in gt["images"]]
    assert max(per_image) > 110
    curves = combine(outcomes_by_category(gt, results))
    expected = reference(gt, results).eval
    np.testing.assert_array_equal(curves.precision, expected["precision"])
    np.testing.assert_array_equal(curves.recall, expected["recall"])


@given(seed=st.integers(0, 2**32), order=st.randoms())
def test_the_order_of_the_images_is_of_no_account(seed: int, order) -> None:
    (outcomes,) = outcomes_by_category(*random_set(seed, num_images=4))
    shuffled = list(outcomes)
    order.shuffle(shuffled)
    np.testing.assert_array_equal(combine([outcomes]).precision, combine([shuffled]).precision)


@pytest.mark.parametrize("num_categories", [1, 2])
def test_the_curve_of_an_overlap_averages_to_its_ap(num_categories: int) -> None:
    curves = combine(outcomes_by_category(*random_set(1, num_categories=num_categories)))
    figures = mask_ap_figures(curves)
    for level in (0.5, 0.7, 0.95):
        curve = curves.curve(level)
        assert curve.shape == recall_thresholds().shape
        assert 100 * curve.mean() == pytest.approx(figures[f"AP{round(100 * level)}"])


def test_a_curve_without_objects_is_undefined_and_an_unknown_level_refused() -> None:
    curves = combine([[]])
    assert np.isnan(curves.curve(0.5)).all()
    with pytest.raises(ValueError, match=r"overlap 0.72 is not evaluated; choose one of 0.50"):
        curves.curve(0.72)
