"""Evaluation of a recording that streams by: of each frame one row is kept, and a few pictures."""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, InstanceEvaluator
from calibnet_core.evaluation.gallery import MAX_HEIGHT, MAX_WIDTH
from calibnet_core.evaluation.recording.truth import LabelledFrame, RecordingTruth
from calibnet_core.evaluation.saliency import SaliencyFigures, SaliencyMaps
from calibnet_core.evaluation.temporal import (
    FrameStability,
    IdSwitches,
    StabilityFigures,
    TrackedMask,
    TrackStability,
)
from calibnet_core.perception.geometry import GeometryStatus
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.surface import confidence_pixels
from calibnet_core.visualization import RgbImage, colorize_depth, draw_perception

_JPEG_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class RecordingSettings:
    """What the figures depend on besides recording and predictions.

    Attributes:
        score_threshold: of the instances, in [0, 1]; overlap and boundary figures use those above.
        max_gap_s: a track that was away for longer does not count as coming back, in seconds.
        min_m, max_m: depth in between counts as measured, in metres.
        is_tracked: whether objects are tracked at all.
        num_pictures: frames, spread over the recording, of which pictures are kept; 0 or more.
        num_expected: about how many frames will come, for spreading the pictures.
    """

    score_threshold: float = 0.5
    max_gap_s: float = 1.0
    min_m: float = 0.1
    max_m: float = 10.0
    is_tracked: bool = True
    num_pictures: int = 6
    num_expected: int = 1


@dataclass(frozen=True, kw_only=True)
class FrameRow:
    """The figures of one frame.

    Attributes:
        stamp_ns: of the colour image, in nanoseconds.
        offset_ms: depth stamp minus colour stamp; NaN without depth.
        num_instances: objects shown.
        num_located: of these, objects with a geometry.
        track_ids: of the tracked objects, best score first.
        depth_valid: share of the image's pixels with a usable depth, in [0, 1]; NaN without depth.
        mask_iou: mean overlap with the masks of the same tracks in the frame before; NaN without.
        num_returns: tracks that came back after at least one frame.
        status: how the frame was processed, the number in the message.
    """

    stamp_ns: int
    offset_ms: float
    num_instances: int
    num_located: int
    track_ids: tuple[int, ...]
    depth_valid: float
    mask_iou: float
    num_returns: int
    status: int


@dataclass(frozen=True, kw_only=True)
class FramePicture:
    """Overlay and depth of one frame, as JPEG files in memory.

    Attributes:
        number: of the frame, counted from 1.
        overlay, depth: the files; `depth` is empty where no depth came.
        height, width: of either, in pixels.
    """

    number: int
    overlay: bytes
    depth: bytes
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TruthFigures:
    """How right the answers are, on the frames that have labels.

    Attributes:
        name: of the truth file.
        num_images: images that it labels.
        num_matched: of these, images that were answered; the others had no answer to judge.
        evaluation: average precision, overlap, calibration, pictures; per cent.
        saliency: error and F of the saliency map, fractions.
        num_id_switches: how often an object's track became another; None where the file does not
            tell objects apart.
    """

    name: str
    num_images: int
    num_matched: int
    evaluation: Evaluation
    saliency: SaliencyFigures
    num_id_switches: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingEvaluation:
    """All figures of a recording.

    Attributes:
        rows: one for each frame that was answered, in order.
        geometry: objects by geometry status.
        object_depth_valid: mean share of the objects' pixels with a usable depth; NaN without
            objects.
        stability: of the tracks; None where nothing was tracked by setting.
        pictures: of some frames.
        truth: None without labels.
    """

    rows: tuple[FrameRow, ...]
    geometry: dict[GeometryStatus, int]
    object_depth_valid: float
    stability: StabilityFigures | None
    pictures: tuple[FramePicture, ...]
    truth: TruthFigures | None


@dataclass
class _Labelled:
    """What is collected on frames with labels."""

    settings: EvaluationSettings
    saliency: SaliencyMaps = field(default_factory=SaliencyMaps)
    switches: IdSwitches = field(default_factory=IdSwitches)
    image_ids: set[int] = field(default_factory=set)
    has_ids: bool = True

    def __post_init__(self) -> None:
        self.evaluator = InstanceEvaluator(self.settings)

    def update(self, perception: Perception, labels: LabelledFrame) -> None:
        if labels.image_id in self.image_ids:  # the recording loops; once is enough
            return
        self.image_ids.add(labels.image_id)
        self.evaluator.update(labels, perception.instances)
        is_object = ~labels.is_crowd
        objects = np.asarray(labels.masks[is_object].any(axis=0))
        crowds = np.asarray(labels.masks[labels.is_crowd].any(axis=0)) & ~objects
        self.saliency.update(confidence_pixels(perception), objects, is_outside=crowds)
        if labels.object_ids is None:
            self.has_ids = False
            return
        self.switches.update(
            [n for n, keep in zip(labels.object_ids, is_object, strict=True) if keep],
            labels.masks[is_object],
            [track.track_id for track in perception.tracks],
            perception.instances.masks,
        )


class RecordingEvaluator:
    """Collects the figures of a recording frame by frame.

    Args:
        settings: see there.
        truth: labels, if there are any; tell it of every colour image before its answer comes.
    """

    def __init__(self, settings: RecordingSettings, truth: RecordingTruth | None = None) -> None:
        self.settings, self._truth = settings, truth
        self._rows: list[FrameRow] = []
        self._geometry: Counter[GeometryStatus] = Counter()
        self._depth_valid: list[float] = []
        self._stability = TrackStability(max_gap_s=settings.max_gap_s)
        self._pictures: list[FramePicture] = []
        last, count = max(settings.num_expected, 1) - 1, settings.num_pictures
        self._pictured = {round(k * last / max(count - 1, 1)) for k in range(count)}
        self._labelled = _Labelled(
            EvaluationSettings(score_threshold=settings.score_threshold, gallery_size=3)
        )

    def update(self, perception: Perception, *, offset_ns: int = 0) -> None:
        """Add the next frame.

        Args:
            perception: the answer.
            offset_ns: depth stamp minus colour stamp.

        Raises:
            EvaluationError: the labels do not fit the frame.
        """
        frame, ratios = perception.frame, [g.depth_valid_ratio for g in perception.geometry]
        stability = self._stability.update(frame.stamp_ns, frame.size, _tracked(perception))
        if len(self._rows) in self._pictured:
            self._pictures.append(_picture(perception, len(self._rows) + 1))
        self._rows.append(_row(perception, offset_ns, stability, self._usable(perception)))
        self._geometry.update(geometry.status for geometry in perception.geometry)
        self._depth_valid += ratios if perception.has_depth else []
        labels = None if self._truth is None else self._truth.labels_of(frame)
        if labels is not None:
            self._labelled.update(perception, labels)

    def compute(self) -> RecordingEvaluation:
        """The figures of all frames so far."""
        return RecordingEvaluation(
            rows=tuple(self._rows),
            geometry={status: self._geometry[status] for status in GeometryStatus},
            object_depth_valid=float(np.mean(self._depth_valid)) if self._depth_valid else math.nan,
            stability=self._stability.compute() if self.settings.is_tracked else None,
            pictures=tuple(self._pictures),
            truth=self._truth_figures(),
        )

    def _truth_figures(self) -> TruthFigures | None:
        if self._truth is None:
            return None
        labelled = self._labelled
        has_ids = labelled.has_ids and bool(labelled.image_ids)
        return TruthFigures(
            name=self._truth.name,
            num_images=len(self._truth),
            num_matched=len(labelled.image_ids),
            evaluation=labelled.evaluator.compute(),
            saliency=labelled.saliency.compute(),
            num_id_switches=labelled.switches.num_switches if has_ids else None,
        )

    def _usable(self, perception: Perception) -> float:
        depth_m = perception.frame.depth_m
        if not perception.has_depth or depth_m is None:
            return math.nan
        # NaN compares as false.
        usable = (depth_m >= self.settings.min_m) & (depth_m <= self.settings.max_m)
        return float(np.count_nonzero(usable)) / depth_m.size


def _tracked(perception: Perception) -> list[TrackedMask]:
    return [
        TrackedMask(track_id=track.track_id, roi=roi, mask=np.asarray(mask[roi.slices]).copy())
        for track, roi, mask in zip(
            perception.tracks, perception.rois, perception.instances.masks, strict=True
        )
    ]


def _row(
    perception: Perception, offset_ns: int, stability: FrameStability, usable: float
) -> FrameRow:
    is_located = [geometry.status is GeometryStatus.OK for geometry in perception.geometry]
    return FrameRow(
        stamp_ns=perception.frame.stamp_ns,
        offset_ms=offset_ns / 1e6 if perception.has_depth else math.nan,
        num_instances=len(perception),
        num_located=sum(is_located),
        track_ids=tuple(track.track_id for track in perception.tracks if track.track_id),
        depth_valid=usable,
        mask_iou=float(np.mean(stability.mask_ious)) if stability.mask_ious else math.nan,
        num_returns=stability.num_returns,
        status=int(perception.status),
    )


def _picture(perception: Perception, number: int) -> FramePicture:
    overlay = _small(draw_perception(perception))
    depth_m = perception.frame.depth_m
    has_depth = perception.has_depth and depth_m is not None
    return FramePicture(
        number=number,
        overlay=_jpeg(overlay),
        depth=_jpeg(_small(colorize_depth(depth_m))) if has_depth and depth_m is not None else b"",
        height=overlay.shape[0],
        width=overlay.shape[1],
    )


def _small(picture: RgbImage) -> RgbImage:
    scale = min(1.0, MAX_WIDTH / picture.shape[1], MAX_HEIGHT / picture.shape[0])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
