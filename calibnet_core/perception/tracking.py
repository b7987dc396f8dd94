"""Names for objects that last from frame to frame, through gaps and without blinking."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.association import Look, common_step, match
from calibnet_core.perception.mask_codec import Roi

MAX_UNSEEN_TRACKS = 64
"""At most so many tracks wait to be seen again, those seen last; others end before `max_gap_s`.
It bounds memory and time where noise makes new objects in every frame."""

_PERIOD_WINDOW = 15  # frames
_ASSUMED_PERIOD_S = 0.1  # until one was measured
_PERIODS_WITHOUT_GAP = 1.5  # frames that far apart are still neighbours


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """How objects are recognised again.

    Raises:
        ValueError: if a value is out of range; the message names the parameter.
    """

    enabled: bool = True
    max_gap_s: float = 1.0
    """A track that was not seen for longer than this ends; 0 to 30 seconds. Frames that come less
    often leave no gap: a track is followed from one to the next all the same."""
    iou_weight: float = 0.5
    """Share of mask overlap in the likeness of two objects, 0 to 1; the rest is 3D distance."""
    hysteresis: float = 0.1
    """A track that is shown stays shown until its score falls this far below the threshold;
    0 to 0.5."""
    restart_s: float = 0.5
    """A stamp older than the newest by more than this means that time restarted; 0.05 to 10
    seconds, as for pairing."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_gap_s <= 30.0:
            raise ValueError(f"tracking.max_gap is {self.max_gap_s} s; choose 0 to 30")
        if not 0.0 <= self.iou_weight <= 1.0:
            raise ValueError(f"tracking.iou_weight is {self.iou_weight}; choose 0 to 1")
        if not 0.0 <= self.hysteresis <= 0.5:
            raise ValueError(f"detection.hysteresis is {self.hysteresis}; choose 0 to 0.5")
        if not 0.05 <= self.restart_s <= 10.0:
            raise ValueError(
                f"sync.reset_on_backward_jump is {self.restart_s} s; choose 0.05 to 10"
            )

    @property
    def restart_ns(self) -> int:
        """`restart_s` in nanoseconds."""
        return round(self.restart_s * 1e9)


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


_NO_TRACK = TrackAssignment(track_id=0, age=0, is_shown=False)


@dataclass(eq=False)
class _Track:
    track_id: int
    look: Look  # moved along when the camera turns
    seen_ns: int
    frame: int = field(default=0, init=False)  # of the tracker's count, when last seen
    age: int = field(default=0, init=False)
    is_shown: bool = field(default=False, init=False)

    @property
    def assignment(self) -> TrackAssignment:
        return TrackAssignment(track_id=self.track_id, age=self.age, is_shown=self.is_shown)


class Tracker:
    """Follows the objects of one camera. Not thread-safe.

    Args:
        settings: may be replaced at any time through `settings`.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget every track; ids begin at 1 again."""
        self._next_id = 1
        self._restart()

    def update(
        self, stamp_ns: int, observations: Sequence[Observation], *, score_threshold: float
    ) -> list[TrackAssignment]:
        """Take in the objects of a frame; call it for empty frames too, so that gaps are noticed.

        Args:
            stamp_ns: of the colour image. One that is older than the newest by more than
                `settings.restart_s` starts anew, as `reset` does except for the ids, which go on.
                A frame that is less late is matched like any other, but a track keeps what it
                learned from a newer one.
            observations: everything that scores above the threshold less the hysteresis.
            score_threshold: what a new track must exceed.

        Returns:
            One assignment for each observation. An object's is the same in whatever order they are.
        """
        if self._newest_ns is not None and stamp_ns < self._newest_ns - self.settings.restart_ns:
            self._restart()
        self._end_lost_tracks(stamp_ns)
        # Best first, and ties by place, so that ids do not depend on the order given.
        order = sorted(range(len(observations)), key=lambda index: _rank(observations[index]))
        ranked = [observations[index] for index in order]
        looks = [Look.of(seen.mask, seen.roi, seen.position) for seen in ranked]
        is_sure = [seen.score > score_threshold for seen in ranked]
        is_late = self._newest_ns is not None and stamp_ns < self._newest_ns
        expected = self._expected_looks(looks)
        matched = self._match(expected, looks, is_sure, stamp_ns)
        if not is_late:
            for track, look in zip(self._tracks, expected, strict=True):
                track.look = look
        self._take_time(stamp_ns)
        assignments = [_NO_TRACK] * len(observations)
        for place, index in enumerate(order):
            found = matched[place]
            if found is None and not is_sure[place]:
                continue
            track = found or self._new_track(looks[place], stamp_ns)
            lowered = score_threshold - self.settings.hysteresis
            is_shown = is_sure[place] or (track.is_shown and ranked[place].score > lowered)
            track.age += 1
            track.frame = self._frame
            if stamp_ns >= track.seen_ns:
                track.look, track.seen_ns, track.is_shown = looks[place], stamp_ns, is_shown
            assignments[index] = TrackAssignment(
                track_id=track.track_id, age=track.age, is_shown=is_shown
            )
        self._bound_unseen_tracks()
        return assignments

    def identify(
        self, observations: Sequence[Observation], stamp_ns: int | None = None
    ) -> list[TrackAssignment]:
        """Assign without taking the observations in: nothing changes, unknown ones get id 0.

        They are compared with the tracks as of the newest frame, and get the age and `is_shown`
        that these had there.

        Args:
            observations: of a frame that is not taken in.
            stamp_ns: of that frame; where it is farther from the newest than a track may be unseen,
                or older than a restart allows, no track is known. None takes the newest frame's.
        """
        if stamp_ns is not None and self._newest_ns is not None:
            ahead_ns = stamp_ns - self._newest_ns
            longest_ns = round(max(self.settings.max_gap_s, 1.5 * self._period_s()) * 1e9)
            if ahead_ns > longest_ns or ahead_ns < -self.settings.restart_ns:
                return [_NO_TRACK] * len(observations)
        looks = [Look.of(seen.mask, seen.roi, seen.position) for seen in observations]
        matched = self._match(
            self._expected_looks(looks), looks, [True] * len(looks), self._newest_ns or 0
        )
        return [_NO_TRACK if track is None else track.assignment for track in matched]

    def _restart(self) -> None:
        self._tracks: list[_Track] = []
        self._frame = 0
        self._newest_ns: int | None = None
        self._intervals_s: deque[float] = deque(maxlen=_PERIOD_WINDOW)

    def _take_time(self, stamp_ns: int) -> None:
        self._frame += 1
        if self._newest_ns is not None and stamp_ns > self._newest_ns:
            self._intervals_s.append((stamp_ns - self._newest_ns) * 1e-9)
        self._newest_ns = stamp_ns if self._newest_ns is None else max(stamp_ns, self._newest_ns)

    def _new_track(self, look: Look, stamp_ns: int) -> _Track:
        track = _Track(self._next_id, look, stamp_ns)
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _period_s(self) -> float:
        return statistics.median(self._intervals_s or (_ASSUMED_PERIOD_S,))

    def _end_lost_tracks(self, stamp_ns: int) -> None:
        gap_s = self.settings.max_gap_s
        period_s = self._period_s()
        neighbour_s = max(gap_s, _PERIODS_WITHOUT_GAP * period_s)

        def is_alive(track: _Track) -> bool:
            limit_s = neighbour_s if track.frame == self._frame else gap_s
            return stamp_ns - track.seen_ns <= round(limit_s * 1e9)

        self._tracks = [track for track in self._tracks if is_alive(track)]

    def _bound_unseen_tracks(self) -> None:
        unseen = [track for track in self._tracks if track.frame != self._frame]
        if len(unseen) > MAX_UNSEEN_TRACKS:
            unseen.sort(key=lambda track: (track.seen_ns, track.track_id))
            ended = {track.track_id for track in unseen[:-MAX_UNSEEN_TRACKS]}
            self._tracks = [track for track in self._tracks if track.track_id not in ended]

    def _expected_looks(self, looks: Sequence[Look]) -> list[Look]:
        """Where each track's object should be in the frame of `looks`, if the camera turned."""
        before = [track.look for track in self._tracks if track.frame == self._frame]
        step = common_step(before, looks)
        return [track.look if step is None else track.look.moved(step) for track in self._tracks]

    def _match(
        self,
        expected: Sequence[Look],
        looks: Sequence[Look],
        is_sure: Sequence[bool],
        stamp_ns: int,
    ) -> list[_Track | None]:
        unseen_s = [abs(stamp_ns - track.seen_ns) * 1e-9 for track in self._tracks]
        rows = match(
            expected, unseen_s, looks, is_sure=is_sure, iou_weight=self.settings.iou_weight
        )
        return [self._tracks[rows[k]] if k in rows else None for k in range(len(looks))]


def _rank(seen: Observation) -> tuple[float, int, int, int, int]:
    roi = seen.roi
    return (-seen.score, roi.y_offset, roi.x_offset, roi.height, roi.width)
