"""From the outcomes of single images to precision, recall and average precision of a whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibnet_core.evaluation.image_outcomes import (
    AREAS,
    MAX_DETECTIONS,
    ImageOutcome,
    iou_thresholds,
    recall_thresholds,
)

DETECTION_LIMITS = (1, 10, MAX_DETECTIONS)
"""Detections of an image that count, best first, in AR1, AR10 and AR100."""

_UNDEFINED = -1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PrecisionRecall:
    """Precision and recall, with -1 where there is no object to find.

    T overlaps, R recalls, K categories, A ranges of area, M limits of detections; see
    `image_outcomes.iou_thresholds`, `recall_thresholds`, `AREAS` and `DETECTION_LIMITS`.

    Attributes:
        precision: (T, R, K, A, M) float64, the highest precision at that recall or a higher one.
        recall: (T, K, A, M) float64, with all detections.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def curve(self, overlap: float) -> NDArray[np.float64]:
        """(R,) precision over `recall_thresholds()` at one overlap, the mean of the categories.

        All areas and `MAX_DETECTIONS` detections count; NaN where there is no object to find.
        """
        values = self.precision[_index_of(overlap), :, :, 0, -1]
        is_defined = values > _UNDEFINED
        total = np.where(is_defined, values, 0.0).sum(axis=1)
        mean: NDArray[np.float64] = total / np.maximum(is_defined.sum(axis=1), 1)
        return np.where(is_defined.any(axis=1), mean, np.nan)


def combine(categories: Sequence[Sequence[ImageOutcome]]) -> PrecisionRecall:
    """Combine the images of every category into what pycocotools computes for the whole set.

    Equal scores are ranked by the number of the image, so the order of the outcomes is of no
    account.

    Args:
        categories: for each category the outcomes of all images.
    """
    num_overlaps, num_recalls = len(iou_thresholds()), len(recall_thresholds())
    shape = (len(categories), len(AREAS), len(DETECTION_LIMITS))
    precision = np.full((num_overlaps, num_recalls, *shape), _UNDEFINED)
    recall = np.full((num_overlaps, *shape), _UNDEFINED)
    for k, outcomes in enumerate(categories):
        if not outcomes:
            continue
        ordered = sorted(outcomes, key=lambda outcome: outcome.image_id)
        num_objects = np.sum([outcome.num_objects for outcome in ordered], axis=0)
        scores = np.concatenate([outcome.scores for outcome in ordered])
        flags = np.concatenate([outcome.unpacked() for outcome in ordered], axis=3)
        rank = np.concatenate([np.arange(len(outcome.scores)) for outcome in ordered])
        best_first = np.argsort(-scores, kind="stable")
        scores, flags, rank = scores[best_first], flags[..., best_first], rank[best_first]
        for a in np.flatnonzero(num_objects):
            for m, limit in enumerate(DETECTION_LIMITS):
                is_matched, is_ignored = flags[:, a][..., rank < limit]
                precision[:, :, k, a, m], recall[:, k, a, m] = _read_off(
                    is_matched & ~is_ignored, ~is_matched & ~is_ignored, int(num_objects[a])
                )
    return PrecisionRecall(precision=precision, recall=recall)


def mask_ap_figures(curves: PrecisionRecall) -> dict[str, float]:
    """AP and AR in per cent, NaN where no object decides the figure.

    AP70, which COCO does not report, is the same mean at the single overlap of 0.70.

    Returns:
        `AP` over all overlaps; `AP50`, `AP55` ... `AP95` at one; `APs`, `APm`, `APl` by area;
        `AR1`, `AR10`, `AR100` by the number of detections; `ARs`, `ARm`, `ARl` by area.
    """
    precision, recall = curves.precision, curves.recall
    figures = {"AP": _mean(precision[:, :, :, 0, -1])}
    for overlap in iou_thresholds():
        at_overlap = precision[_index_of(overlap), :, :, 0, -1]
        figures[f"AP{round(100 * overlap)}"] = _mean(at_overlap)
    for a, area in enumerate(AREAS[1:], start=1):
        figures[f"AP{area[0]}"] = _mean(precision[:, :, :, a, -1])
    for m, limit in enumerate(DETECTION_LIMITS):
        figures[f"AR{limit}"] = _mean(recall[:, :, 0, m])
    for a, area in enumerate(AREAS[1:], start=1):
        figures[f"AR{area[0]}"] = _mean(recall[:, :, a, -1])
    return figures


def _read_off(
    is_right: NDArray[np.bool_], is_wrong: NDArray[np.bool_], num_objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (T, R) and recall (T,) of (T, D) ranked detections."""
    right = np.cumsum(is_right, axis=1).astype(np.float64)
    wrong = np.cumsum(is_wrong, axis=1).astype(np.float64)
    num_overlaps, num_detections = right.shape
    precision = np.zeros((num_overlaps, len(recall_thresholds())))
    if num_detections == 0:
        return precision, np.zeros(num_overlaps)
    reached = right / num_objects
    # The smallest step keeps 0 / 0 at 0, where only ignored detections came so far.
    exact = right / (wrong + right + np.spacing(1))
    envelope = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
    for t in range(num_overlaps):
        first = np.searchsorted(reached[t], recall_thresholds(), side="left")
        is_reached = first < num_detections
        precision[t, is_reached] = envelope[t, first[is_reached]]
    return precision, reached[:, -1]


def _index_of(overlap: float) -> int:
    (indices,) = np.nonzero(np.isclose(iou_thresholds(), overlap, rtol=0.0, atol=1e-9))
    if len(indices) != 1:
        levels = ", ".join(f"{level:.2f}" for level in iou_thresholds())
        raise ValueError(f"overlap {overlap} is not evaluated; choose one of {levels}")
    return int(indices[0])


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[values > _UNDEFINED]
    return 100.0 * float(np.mean(defined)) if defined.size else float("nan")
