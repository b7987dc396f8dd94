"""Names for objects that last from frame to frame, through gaps and without blinking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.mask_codec import Roi


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """How objects are recognised again.

    Raises:
        ValueError: if a value is out of range; the message names the parameter.
    """

    enabled: bool = True
    max_gap_s: float = 1.0
    """A track that was not seen for longer than this ends; 0 to 30 seconds."""
    iou_weight: float = 0.5
    """Share of mask overlap in the likeness of two objects, 0 to 1; the rest is 3D distance."""
    hysteresis: float = 0.1
    """A track that is shown stays shown until its score falls this far below the threshold;
    0 to 0.5."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """One object of the present frame.

    Attributes:
        mask: (height, width) bool, the part of the mask inside `roi`.
        roi: tight box of the mask.
        score: in [0, 1].
        position: (3,) metres in the optical frame, NaN where unknown.
    """

    mask: NDArray[np.bool_]
    roi: Roi
    score: float
    position: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrackAssignment:
    """What the tracker makes of one observation.

    Attributes:
        track_id: 1 or more; 0 where the observation belongs to no track.
        age: frames this track has been matched, this one included; 0 without a track.
        is_shown: whether to publish it: its score is above the threshold, or above the threshold
            less the hysteresis and its track was shown when last seen.
    """

    track_id: int
    age: int
    is_shown: bool


class Tracker:
    """Follows the objects of one camera. Not thread-safe.

    Args:
        settings: may be replaced at any time through `settings`.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.settings = settings

    def update(
        self, stamp_ns: int, observations: Sequence[Observation], *, score_threshold: float
    ) -> list[TrackAssignment]:
        """Take in the objects of a frame; call it for empty frames too, so that gaps are noticed.

        Args:
            stamp_ns: of the colour image. One that is older than the last by anything but a small
                step starts anew, as `reset` does except for the ids, which go on.
            observations: everything that scores above the threshold less the hysteresis.
            score_threshold: what a new track must exceed.

        Returns:
            One assignment for each observation.
        """
        raise NotImplementedError

    def identify(self, observations: Sequence[Observation]) -> list[TrackAssignment]:
        """Assign without taking the observations in: nothing changes, unknown ones get id 0."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget every track; ids begin at 1 again."""
        raise NotImplementedError
