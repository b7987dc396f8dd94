"""What is kept of one image: how its detections fared, in a few bytes each, and no masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval, Params

from calibnet_core.data.datasets.rle import Rle
from calibnet_core.evaluation.coco_masks import area as area_of

MAX_DETECTIONS = 100
"""Detections of one image and category that count, the best scored ones."""

AREAS = ("all", "small", "medium", "large")
"""Ranges of mask area: all, below 32², up to 96² and above, in pixels of the image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageOutcome:
    """How the detections of one category fared in one image.

    Attributes:
        image_id: number of the image.
        scores: (D,) float64, best first, D at most `MAX_DETECTIONS`.
        flags: the bits of a (2, A, T, D) array, `is_matched` before `is_ignored`, for A ranges of
            area and T overlaps. An ignored detection counts neither as right nor as wrong.
        num_objects: (A,) int32, objects to be found by range of area.
    """

    image_id: int
    scores: NDArray[np.float64]
    flags: NDArray[np.uint8]
    num_objects: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; at most `max_outcome_bytes()`."""
        return self.scores.nbytes + self.flags.nbytes + self.num_objects.nbytes

    def unpacked(self) -> NDArray[np.bool_]:
        """`flags` as (2, A, T, D) bool."""
        shape = (2, len(AREAS), len(iou_thresholds()), len(self.scores))
        bits = np.unpackbits(self.flags, count=int(np.prod(shape)))
        return bits.view(np.bool_).reshape(shape)


def match_image(
    image_id: int,
    *,
    objects: Sequence[Rle],
    is_crowd: Sequence[bool] | NDArray[np.bool_],
    detections: Sequence[Rle],
    scores: Sequence[float] | NDArray[np.floating[Any]],
    object_areas: Sequence[float] | None = None,
) -> ImageOutcome:
    """Match the detections of one image and category to its objects, as pycocotools does.

    Args:
        image_id: number of the image.
        objects: masks of the objects.
        is_crowd: for each, whether it is a region of many objects, in which detections are ignored.
        detections: masks of the detections, at the same size.
        scores: one for each detection, finite.
        object_areas: pixels of each object, for the ranges of area; None counts those of the masks.
    """
    evaluation, key = COCOeval(iouType="segm"), (image_id, 0)
    if object_areas is None:
        object_areas = [area_of(rle) for rle in objects]
    # Matches are told by the object's number, where 0 means none: counting starts at 1.
    evaluation._gts[key] = [
        {"id": number, "segmentation": rle, "area": area, "iscrowd": int(crowd), "ignore": crowd}
        for number, (rle, area, crowd) in enumerate(
            zip(objects, object_areas, is_crowd, strict=True), start=1
        )
    ]
    evaluation._dts[key] = [
        {"id": number, "segmentation": rle, "area": area, "score": float(score)}
        for number, (rle, area, score) in enumerate(
            zip(detections, map(area_of, detections), scores, strict=True), start=1
        )
    ]
    evaluation.ious = {key: evaluation.computeIoU(*key)}
    matched = [
        evaluation.evaluateImg(*key, area, MAX_DETECTIONS) for area in evaluation.params.areaRng
    ]
    if matched[0] is None:
        return _nothing(image_id)
    flags = [[area[name] != 0 for area in matched] for name in ("dtMatches", "dtIgnore")]
    return ImageOutcome(
        image_id=image_id,
        scores=np.array(matched[0]["dtScores"], np.float64),
        flags=np.packbits(np.array(flags, np.bool_)),
        num_objects=np.array([np.sum(area["gtIgnore"] == 0) for area in matched], np.int32),
    )


def max_outcome_bytes() -> int:
    """Upper limit of `ImageOutcome.nbytes`, whatever the image holds."""
    bits = 2 * len(AREAS) * len(iou_thresholds()) * MAX_DETECTIONS
    return 8 * MAX_DETECTIONS + -(-bits // 8) + 4 * len(AREAS)


@cache
def iou_thresholds() -> NDArray[np.float64]:
    """(T,) overlaps from 0.50 to 0.95 at which detections are matched."""
    return np.asarray(Params("segm").iouThrs, np.float64)


@cache
def recall_thresholds() -> NDArray[np.float64]:
    """(R,) recalls from 0 to 1 at which precision is read off."""
    return np.asarray(Params("segm").recThrs, np.float64)


def _nothing(image_id: int) -> ImageOutcome:
    return ImageOutcome(
        image_id=image_id,
        scores=np.zeros(0, np.float64),
        flags=np.zeros(0, np.uint8),
        num_objects=np.zeros(len(AREAS), np.int32),
    )
