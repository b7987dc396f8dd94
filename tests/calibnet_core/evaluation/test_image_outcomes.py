from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.evaluation.coco_masks import encode_masks
from calibnet_core.evaluation.image_outcomes import (
    AREAS,
    ImageOutcome,
    iou_thresholds,
    match_image,
    max_outcome_bytes,
)
from tests.calibnet_core.evaluation.coco_sets import box_mask


def match(objects: list[np.ndarray], detections: list[np.ndarray], scores, **arguments):
    size = (72, 60)
    return match_image(
        7,
        objects=encode_masks(np.array(objects, bool).reshape(-1, *size)),
        is_crowd=arguments.pop("is_crowd", [False] * len(objects)),
        detections=encode_masks(np.array(detections, bool).reshape(-1, *size)),
        scores=scores,
        **arguments,
    )


def test_detections_are_ranked_and_matched_by_overlap() -> None:
    near, far = box_mask(0, 0, 10, 20), box_mask(40, 40, 10, 10)
    outcome = match([near, far], [box_mask(0, 0, 10, 14), far], [0.25, 0.75])
    assert outcome.scores.tolist() == [0.75, 0.25]
    is_matched, is_ignored = outcome.unpacked()[:, 0]
    assert is_matched[:, 0].all()
    # An overlap of 0.7 exactly: matched up to and including that level.
    np.testing.assert_array_equal(is_matched[:, 1], iou_thresholds() <= 0.7)
    assert not is_ignored.any()
    assert dict(zip(AREAS, outcome.num_objects.tolist(), strict=True)) == {
        "all": 2,
        "small": 2,
        "medium": 0,
        "large": 0,
    }


def test_detections_in_a_crowd_are_neither_right_nor_wrong() -> None:
    crowd = box_mask(0, 0, 30, 30)
    inside = [box_mask(0, 0, 5, 5), box_mask(10, 10, 5, 5)]
    outcome = match([crowd], inside, [0.5, 0.4], is_crowd=[True])
    assert outcome.unpacked()[1, 0].all()
    assert outcome.num_objects[0] == 0


def test_given_areas_decide_the_range_instead_of_the_mask() -> None:
    outcome = match([box_mask(0, 0, 10, 10)], [], [], object_areas=[5000.0])
    assert outcome.num_objects.tolist() == [1, 0, 1, 0]


def test_an_image_without_objects_and_detections_keeps_its_number() -> None:
    outcome = match([], [], [])
    assert outcome.image_id == 7
    assert outcome.unpacked().shape == (2, 4, 10, 0)
    assert outcome.num_objects.tolist() == [0, 0, 0, 0]


def outcome_of(masks: np.ndarray, scores: np.ndarray) -> ImageOutcome:
    rles = encode_masks(masks)
    return match_image(
        1, objects=rles[:2], is_crowd=[False] * len(rles[:2]), detections=rles, scores=scores
    )


@pytest.mark.parametrize("side", [8, 1200])
def test_the_bytes_kept_do_not_depend_on_the_size_of_the_masks(side: int) -> None:
    masks = np.random.default_rng(0).random((5, side, side)) < 0.5
    # 5 scores of 8 bytes, 2 x 4 x 10 bits for each, 4 counts of 4 bytes.
    assert outcome_of(masks, np.linspace(0, 1, 5)).nbytes == 5 * 8 + 5 * 10 + 16


@given(num_detections=st.integers(0, 130))
def test_the_bytes_kept_are_bounded(num_detections: int) -> None:
    masks = np.ones((num_detections, 3, 3), bool)
    outcome = outcome_of(masks, np.linspace(0, 1, num_detections))
    assert outcome.nbytes == 18 * min(num_detections, 100) + 16
    assert outcome.nbytes <= max_outcome_bytes() == 1816
