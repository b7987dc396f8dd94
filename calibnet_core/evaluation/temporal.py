"""How steady answers are from frame to frame: tracks that blink, outlines that shake, ids lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from calibnet_core.evaluation.coco_masks import encode_masks
from calibnet_core.perception.mask_codec import Roi

_NS_PER_S = 1_000_000_000

MATCH_IOU = 0.5
"""A track stands for an object where their masks overlap at least so much."""


@dataclass(frozen=True, kw_only=True)
class TrackedMask:
    """One object of one frame.

    Attributes:
        track_id: 1 or more; 0 where it is not tracked, which leaves it out of everything here.
        roi: tight box of the mask.
        mask: (height, width) bool, the part of the mask inside `roi`.
    """

    track_id: int
    roi: Roi
    mask: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class FrameStability:
    """How one frame follows from those before.

    Attributes:
        num_returns: tracks that were away for at least one frame and are back.
        mask_ious: overlap (IoU, in [0, 1]) with the mask in the frame before, for each track that
            both frames show.
    """

    num_returns: int
    mask_ious: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class StabilityFigures:
    """The figures of a recording.

    Attributes:
        num_frames: frames seen.
        num_tracks: different track ids.
        num_returns: how often a track vanished and came back.
        flicker_rate: returns a frame; NaN without frames.
        num_compared: masks that had a partner in the frame before.
        mask_iou_mean, mask_iou_low: mean and 5th percentile of the overlap (IoU) with that partner,
            in [0, 1]; NaN without one. Only where neither camera nor scene move is less than 1 the
            network's doing.
    """

    num_frames: int
    num_tracks: int
    num_returns: int
    flicker_rate: float
    num_compared: int
    mask_iou_mean: float
    mask_iou_low: float


class TrackStability:
    """Running figures of one recording. Of each track the last stamp is kept, of masks one frame.

    Args:
        max_gap_s: a track that was away for longer does not count as coming back, in seconds.
    """

    def __init__(self, *, max_gap_s: float) -> None:
        self._max_gap_ns = round(max_gap_s * _NS_PER_S)
        self._seen_ns: dict[int, int] = {}
        self._before: dict[int, TrackedMask] = {}
        self._size_before: tuple[int, int] | None = None
        self._num_frames = self._num_returns = 0
        self._ious: list[float] = []

    def update(
        self, stamp_ns: int, size: tuple[int, int], objects: Sequence[TrackedMask]
    ) -> FrameStability:
        """Add the next frame; add empty frames too, or the gaps are not seen.

        Args:
            stamp_ns: of the frame, in nanoseconds.
            size: (height, width) of the frame; masks of frames of different sizes are not compared.
            objects: each track id at most once.
        """
        present = {entry.track_id: entry for entry in objects if entry.track_id}
        returned = [
            name
            for name in present
            if name not in self._before
            and 0 <= stamp_ns - self._seen_ns.get(name, stamp_ns + 1) <= self._max_gap_ns
        ]
        ious: list[float] = []
        if size == self._size_before:
            ious = [
                roi_iou(entry, self._before[name])
                for name, entry in present.items()
                if name in self._before
            ]
        self._seen_ns.update(dict.fromkeys(present, stamp_ns))
        self._before, self._size_before = present, size
        self._num_frames += 1
        self._num_returns += len(returned)
        self._ious += ious
        return FrameStability(num_returns=len(returned), mask_ious=tuple(ious))

    def compute(self) -> StabilityFigures:
        """The figures of all frames so far."""
        num_frames, ious = self._num_frames, self._ious
        return StabilityFigures(
            num_frames=num_frames,
            num_tracks=len(self._seen_ns),
            num_returns=self._num_returns,
            flicker_rate=self._num_returns / num_frames if num_frames else math.nan,
            num_compared=len(ious),
            mask_iou_mean=float(np.mean(ious)) if ious else math.nan,
            mask_iou_low=float(np.percentile(ious, 5)) if ious else math.nan,
        )


def roi_iou(first: TrackedMask, second: TrackedMask) -> float:
    """Overlap (IoU) of two masks in [0, 1], at the cost of the pixels that both boxes hold."""
    one, two = first.roi, second.roi
    top, left = max(one.y_offset, two.y_offset), max(one.x_offset, two.x_offset)
    bottom = min(one.y_offset + one.height, two.y_offset + two.height)
    right = min(one.x_offset + one.width, two.x_offset + two.width)
    shared = 0
    if top < bottom and left < right:
        parts = [
            entry.mask[
                top - entry.roi.y_offset : bottom - entry.roi.y_offset,
                left - entry.roi.x_offset : right - entry.roi.x_offset,
            ]
            for entry in (first, second)
        ]
        shared = int(np.count_nonzero(parts[0] & parts[1]))
    union = int(np.count_nonzero(first.mask)) + int(np.count_nonzero(second.mask)) - shared
    return shared / union if union else 0.0


class IdSwitches:
    """Counts how often an object's track id becomes another one (Bernardin and Stiefelhagen, 2008).

    An object keeps its track as long as their masks overlap by `MATCH_IOU`; the others are matched
    so that the sum of overlaps is highest. While an object goes without a track nothing is counted;
    when it has one again that is not the last it had, that is a switch.
    """

    def __init__(self) -> None:
        self._track_of: dict[int, int] = {}
        self.num_switches = 0

    def update(
        self,
        gt_ids: Sequence[int],
        gt_masks: NDArray[np.bool_],
        track_ids: Sequence[int],
        masks: NDArray[np.bool_],
    ) -> int:
        """Add a frame.

        Args:
            gt_ids: N numbers that stay with the objects, each at most once.
            gt_masks: (N, H, W).
            track_ids: K track ids; 0 for what is not tracked.
            masks: (K, H, W).

        Returns:
            Switches in this frame.
        """
        switches = 0
        for gt_id, track_id in self._matches(gt_ids, gt_masks, track_ids, masks):
            switches += self._track_of.get(gt_id, track_id) != track_id
            self._track_of[gt_id] = track_id
        self.num_switches += switches
        return switches

    def _matches(
        self,
        gt_ids: Sequence[int],
        gt_masks: NDArray[np.bool_],
        track_ids: Sequence[int],
        masks: NDArray[np.bool_],
    ) -> list[tuple[int, int]]:
        tracked = [index for index, track_id in enumerate(track_ids) if track_id]
        if not len(gt_ids) or not tracked:
            return []
        encoded = encode_masks(masks[tracked])
        names = [track_ids[index] for index in tracked]
        ious = np.asarray(
            coco_mask.iou(encode_masks(gt_masks), encoded, [0] * len(tracked)), np.float64
        )
        matches: list[tuple[int, int]] = []
        for row, gt_id in enumerate(gt_ids):
            column = names.index(kept) if (kept := self._track_of.get(gt_id, 0)) in names else None
            if column is not None and ious[row, column] >= MATCH_IOU:
                matches.append((gt_id, names[column]))
                ious[row, :] = ious[:, column] = 0.0
        gains = np.where(ious >= MATCH_IOU, ious, 0.0)
        rows, columns = linear_sum_assignment(gains, maximize=True)
        matches += [
            (gt_ids[row], names[column])
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if gains[row, column] > 0.0
        ]
        return matches
