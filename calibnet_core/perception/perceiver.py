"""From a frame's instances to what planners get: boxes, geometry, tracks, in one place.

The node and the evaluation of recordings both run this, so their answers to a frame are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.geometry import (
    GeometrySettings,
    ObjectGeometry,
    measure_objects,
)
from calibnet_core.perception.mask_codec import Roi
from calibnet_core.perception.tracking import (
    Observation,
    TrackAssignment,
    Tracker,
    TrackingSettings,
)
from calibnet_core.structures import Instances, RgbdFrame

UNTRACKED = TrackAssignment(track_id=0, age=0, is_shown=True)


class FrameStatus(IntEnum):
    """How a frame was processed. The value is the number in the message."""

    OK = 0
    DEPTH_MISSING = 1
    REDUCED_INPUT = 2


@dataclass(frozen=True, kw_only=True)
class PerceptionSettings:
    """What happens after the network.

    Attributes:
        score_threshold: instances must score above this, in [0, 1].
        geometry, tracking: see there.
    """

    score_threshold: float = 0.5
    geometry: GeometrySettings = field(default_factory=GeometrySettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)

    @property
    def network_threshold(self) -> float:
        """What the network's instances must exceed so that hysteresis can see them."""
        if not self.tracking.enabled:
            return self.score_threshold
        return max(0.0, self.score_threshold - self.tracking.hysteresis)


@dataclass(frozen=True, kw_only=True, eq=False)
class Perception:
    """Everything known about one frame; K objects, best first, none with an empty mask.

    Attributes:
        frame: the input; `depth_m` is all NaN where `has_depth` is False.
        has_depth: whether a depth image came with the colour image.
        instances: K of them. Object k has instance id k + 1.
        rois: K tight boxes.
        geometry: K geometries.
        tracks: K assignments.
        status: how the frame was processed.
    """

    frame: RgbdFrame
    has_depth: bool
    instances: Instances
    rois: tuple[Roi, ...]
    geometry: tuple[ObjectGeometry, ...]
    tracks: tuple[TrackAssignment, ...]
    status: FrameStatus = FrameStatus.OK

    def __len__(self) -> int:
        return len(self.rois)

    @property
    def depth_encoding(self) -> str:
        """ROS name of the depth image's encoding, such as `16UC1`."""
        return self.frame.depth_encoding

    @property
    def instance_ids(self) -> range:
        """Value of each object in the label image."""
        return range(1, len(self) + 1)


class Perceiver:
    """What follows the network for the frames of one camera. Not thread-safe.

    Args:
        settings: may be replaced at any time.
    """

    def __init__(self, settings: PerceptionSettings) -> None:
        self.tracker = Tracker(settings.tracking)
        self.settings = settings
        self._must_reset = False

    @property
    def settings(self) -> PerceptionSettings:
        """The settings in force."""
        return self._settings

    @settings.setter
    def settings(self, settings: PerceptionSettings) -> None:
        self._settings = settings
        self.tracker.settings = settings.tracking

    def reset_tracks(self) -> None:
        """Begin ids at 1 again with the next frame. May be called from any thread."""
        self._must_reset = True

    def perceive(
        self,
        frame: RgbdFrame,
        instances: Instances,
        *,
        has_depth: bool = True,
        is_reduced: bool = False,
        up: NDArray[np.float64] | None = None,
    ) -> Perception:
        """Measure and track the instances of the next frame.

        Args:
            frame: the next of this camera.
            instances: all that score above `settings.network_threshold`, best first.
            has_depth: False where the frame's depth is only a stand-in.
            is_reduced: whether the network saw a smaller image than configured.
            up: (3,) unit vector against gravity in the optical frame, if known.
        """
        if self._must_reset:
            self._must_reset = False
            self.tracker.reset()
        return self._perceive(frame, instances, has_depth, is_reduced, up, takes_in=True)

    def glance(
        self,
        frame: RgbdFrame,
        instances: Instances,
        *,
        has_depth: bool = True,
        is_reduced: bool = False,
        up: NDArray[np.float64] | None = None,
    ) -> Perception:
        """The same for a frame that only one client asked for: tracks are looked up, not changed.

        Every instance is shown, whatever its score.
        """
        return self._perceive(frame, instances, has_depth, is_reduced, up, takes_in=False)

    def _perceive(
        self,
        frame: RgbdFrame,
        instances: Instances,
        has_depth: bool,
        is_reduced: bool,
        up: NDArray[np.float64] | None,
        *,
        takes_in: bool,
    ) -> Perception:
        boxes = [_roi_of(box) for box in instances.boxes_xyxy.astype(np.int64).tolist()]
        instances, rois = _chosen(instances, boxes, [box is not None for box in boxes])
        settings = self._settings
        geometry = measure_objects(
            frame, instances.masks, rois, settings.geometry, has_depth=has_depth, up=up
        )
        # The threshold may have been raised since the network was asked.
        tracks = [
            UNTRACKED
            if score > settings.score_threshold or not takes_in
            else replace(UNTRACKED, is_shown=False)
            for score in instances.scores.tolist()
        ]
        if settings.tracking.enabled:
            seen = [
                Observation(mask=mask[roi.slices], roi=roi, score=float(score), position=g.centroid)
                for mask, roi, score, g in zip(
                    instances.masks, rois, instances.scores, geometry, strict=True
                )
            ]
            if takes_in:
                tracks = self.tracker.update(
                    frame.stamp_ns, seen, score_threshold=settings.score_threshold
                )
            else:
                tracks = [
                    replace(t, is_shown=True) for t in self.tracker.identify(seen, frame.stamp_ns)
                ]
        is_shown = [track.is_shown for track in tracks]
        instances, rois = _chosen(instances, rois, is_shown)
        status = FrameStatus.OK if has_depth else FrameStatus.DEPTH_MISSING
        return Perception(
            frame=frame,
            has_depth=has_depth,
            instances=instances,
            rois=rois,
            geometry=tuple(g for g, shown in zip(geometry, is_shown, strict=True) if shown),
            tracks=tuple(t for t in tracks if t.is_shown),
            status=FrameStatus.REDUCED_INPUT if is_reduced else status,
        )


def _roi_of(box_xyxy: list[int]) -> Roi | None:
    left, top, right, bottom = box_xyxy
    if left == right:
        return None
    return Roi(x_offset=left, y_offset=top, height=bottom - top, width=right - left)


def _chosen(
    instances: Instances, rois: list[Roi | None] | tuple[Roi, ...], is_chosen: list[bool]
) -> tuple[Instances, tuple[Roi, ...]]:
    kept = tuple(roi for roi, chosen in zip(rois, is_chosen, strict=True) if chosen and roi)
    return (instances if all(is_chosen) else instances[np.array(is_chosen, np.bool_)]), kept
