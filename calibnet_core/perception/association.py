"""Which object of a new frame is which of the known ones, by mask overlap and 3D position.

All pairs are judged at once by an optimal assignment. Where the camera turned, most objects made
the same step across the image; it is found by a vote and undone first, because neighbours would
otherwise be taken for each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from calibnet_core.perception.mask_codec import Roi

MIN_LIKENESS = 0.2
"""Looks that are less alike are never matched. At equal weights this is an overlap of 0.4 with
positions that contradict it, or no overlap within 0.92 of the distance scale."""

DISTANCE_SCALE_M = 0.2
"""Likeness of position falls by a factor e over this distance ..."""
SPEED_M_S = 0.5
"""... which grows so much for each second that an object was not seen ..."""
LONGEST_GROWTH_S = 1.0
"""... for this long: beyond, where it was says too little of where it is."""

UNSURE_DISCOUNT = 0.9
"""Factor on the likeness of a weak observation, so that the weak duplicate of a mask does not take
the strong one's track."""

_UNKNOWN = np.full(3, np.nan)

# Whether two looks may be one object seen from a camera that turned:
_MAX_AREA_RATIO = 2.0
_MAX_DEPTH_CHANGE = 0.15  # of the depth
_STEP_TOLERANCE = 0.35  # of the square root of the mask's area
_MAX_VOTERS = 12  # of each frame; the vote takes the fourth power of their number


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What an object looked like in one frame.

    Attributes:
        mask: (height, width) bool, contiguous, inside `box`.
        area: pixels of the mask.
        box: xyxy in pixels, maxima exclusive.
        position: (3,) metres in the optical frame, all NaN where unknown.
    """

    mask: NDArray[np.bool_]
    area: int
    box: tuple[int, int, int, int]
    position: NDArray[np.float64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], roi: Roi, position: NDArray[np.float64]) -> Look:
        """Copy a mask, which may be a window of a whole frame's masks, and its place."""
        left, top = roi.x_offset, roi.y_offset
        return cls(
            mask=mask.copy(),
            area=int(np.count_nonzero(mask)),
            box=(left, top, left + roi.width, top + roi.height),
            position=position if math.isfinite(sum(position.tolist())) else _UNKNOWN,
        )

    def moved(self, step: Step) -> Look:
        """The same look after the camera turned."""
        (left, top, right, bottom), (across, down) = self.box, step.pixels
        x, y, z = self.position
        return replace(
            self,
            box=(left + across, top + down, right + across, bottom + down),
            position=np.array([x + z * step.bearing[0], y + z * step.bearing[1], z]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """How everything moved in the image when the camera turned.

    Attributes:
        pixels: x and y.
        bearing: change of x / z and of y / z.
    """

    pixels: tuple[int, int]
    bearing: tuple[float, float]


def match(
    known: Sequence[Look],
    unseen_s: Sequence[float],
    looks: Sequence[Look],
    *,
    is_sure: Sequence[bool],
    iou_weight: float,
) -> dict[int, int]:
    """Match one to one so that the sum of likenesses is highest, each at least `MIN_LIKENESS`.

    Args:
        known: T looks, where the objects should be now.
        unseen_s: T times since then in seconds, 0 or more.
        looks: K looks of the present frame.
        is_sure: K times whether it scores above the threshold. Others count for a little less.
        iou_weight: see `likeness`.

    Returns:
        For the index of each matched look that of its known one.
    """
    if not known or not looks:
        return {}
    alike = likeness(known, unseen_s, looks, iou_weight=iou_weight)
    # A pair behind the gate gains nothing, so leaving it out costs the best matching nothing.
    gains = np.where(alike >= MIN_LIKENESS, alike, 0.0)
    gains *= np.where(np.asarray(is_sure, np.bool_), 1.0, UNSURE_DISCOUNT)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return {
        int(column): int(row)
        for row, column in zip(rows, columns, strict=True)
        if gains[row, column] > 0.0
    }


def likeness(
    known: Sequence[Look], unseen_s: Sequence[float], looks: Sequence[Look], *, iou_weight: float
) -> NDArray[np.float64]:
    """How alike T known looks and K new ones are.

    It is `iou_weight` of the masks' intersection over union and for the rest exp(-distance /
    scale), or the first alone where either position is unknown.

    Returns:
        (T, K) in [0, 1].
    """
    overlap = _mask_ious(known, looks)
    offsets = _positions(known)[:, np.newaxis] - _positions(looks)
    distance_m = np.sqrt((offsets**2).sum(axis=2))
    scale_m = DISTANCE_SCALE_M + SPEED_M_S * np.minimum(unseen_s, LONGEST_GROWTH_S)
    both = iou_weight * overlap + (1.0 - iou_weight) * np.exp(-distance_m / scale_m[:, np.newaxis])
    return np.where(np.isnan(distance_m), overlap, both)


def common_step(before: Sequence[Look], looks: Sequence[Look]) -> Step | None:
    """Find the step across the image that most objects made together, if they did.

    Every pair of an old and a new look that could be one object proposes its step. The one that
    explains most objects counts if it explains at least two and more than twice as many as no step
    does: a row of equal cups of which one vanished and another appeared is no turn of the camera.

    Args:
        before: looks of the frame before.
        looks: looks of the present frame.
    """
    # The largest, because they are the same ones in both frames.
    before = sorted(before, key=lambda look: -look.area)[:_MAX_VOTERS]
    looks = sorted(looks, key=lambda look: -look.area)[:_MAX_VOTERS]
    if min(len(before), len(looks)) < 2:
        return None
    steps = _centers(looks) - _centers(before)[:, np.newaxis]
    areas = np.array([[look.area] for look in before])
    new_areas = np.array([look.area for look in looks])
    positions, new_positions = _positions(before)[:, np.newaxis], _positions(looks)
    depth_m, new_depth_m = positions[..., 2], new_positions[..., 2]
    # An unknown depth speaks against nothing.
    has_jumped = np.abs(depth_m - new_depth_m) > _MAX_DEPTH_CHANGE * depth_m
    ratio = np.maximum(areas, new_areas) / np.maximum(np.minimum(areas, new_areas), 1)
    could_be_one = (ratio <= _MAX_AREA_RATIO) & ~has_jumped
    tolerance = _STEP_TOLERANCE * np.sqrt(areas)

    def agreeing(proposed: NDArray[np.float64]) -> NDArray[np.bool_]:
        misses = ((steps - proposed[:, np.newaxis, np.newaxis]) ** 2).sum(axis=-1)
        agrees: NDArray[np.bool_] = could_be_one & (misses <= tolerance**2)
        return agrees

    required = max(2, 2 * int(_support(agreeing(np.zeros((1, 2))))[0]) + 1)
    proposed = steps[could_be_one]
    if len(proposed) < required or min(steps.shape[:2]) < required:
        return None
    agrees = agreeing(proposed)
    support = _support(agrees)
    shortest_first = np.lexsort((proposed[:, 1], proposed[:, 0], (proposed**2).sum(axis=1)))
    best = shortest_first[np.argmax(support[shortest_first])]
    if support[best] < required:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        bearings = new_positions[..., :2] / new_depth_m[..., np.newaxis] - (
            positions[..., :2] / depth_m[..., np.newaxis]
        )
    known = bearings[agrees[best] & np.isfinite(bearings).all(axis=2)]
    across, down = np.median(steps[agrees[best]], axis=0)
    x, y = np.median(known, axis=0) if len(known) else (0.0, 0.0)
    return Step(pixels=(round(across), round(down)), bearing=(float(x), float(y)))


def _support(agrees: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many objects each of N proposals explains; `agrees` is (N, T, K)."""
    explained: NDArray[np.int64] = agrees.any(axis=2).sum(axis=1)
    explaining: NDArray[np.int64] = agrees.any(axis=1).sum(axis=1)
    return np.minimum(explained, explaining)


def _positions(looks: Sequence[Look]) -> NDArray[np.float64]:
    return np.array([look.position for look in looks])


def _centers(looks: Sequence[Look]) -> NDArray[np.float64]:
    boxes = np.array([look.box for look in looks])
    centers: NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:]) / 2
    return centers


def _mask_ious(known: Sequence[Look], looks: Sequence[Look]) -> NDArray[np.float64]:
    """Intersection over union of T and K masks, (T, K); only pixels in both boxes are looked at."""
    boxes = np.array([look.box for look in known])[:, np.newaxis]
    new_boxes = np.array([look.box for look in looks])
    starts = np.maximum(boxes[..., :2], new_boxes[..., :2])
    ends = np.minimum(boxes[..., 2:], new_boxes[..., 2:])
    ious = np.zeros(starts.shape[:2])
    for row, column in np.argwhere((starts < ends).all(axis=2)).tolist():
        one, other = known[row], looks[column]
        common = (*starts[row, column].tolist(), *ends[row, column].tolist())
        shared = int(np.count_nonzero(_window(one, *common) & _window(other, *common)))
        ious[row, column] = shared / max(one.area + other.area - shared, 1)
    return ious


def _window(look: Look, left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    x, y = look.box[:2]
    return look.mask[top - y : bottom - y, left - x : right - x]
