from __future__ import annotations

import dataclasses
import gc
import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.perception.mask_codec import Roi
from calibnet_core.perception.tracking import (
    MAX_UNSEEN_TRACKS,
    Observation,
    TrackAssignment,
    Tracker,
    TrackingSettings,
)

FOCAL = 300.0  # pixels
THRESHOLD = 0.5


def cup(
    x_m: float,
    depth_m: float = 1.0,
    *,
    y_m: float = 0.0,
    score: float = 0.9,
    size_m: float = 0.1,
    has_depth: bool = True,
) -> Observation:
    """A square facing the camera, with its middle at (x_m, y_m, depth_m)."""
    side = round(FOCAL * size_m / depth_m)
    left, top = (round(FOCAL * at / depth_m - side / 2) + 500 for at in (x_m, y_m))
    return Observation(
        mask=np.ones((side, side), np.bool_),
        roi=Roi(x_offset=left, y_offset=top, height=side, width=side),
        score=score,
        position=np.array([x_m, y_m, depth_m]) if has_depth else np.full(3, math.nan),
    )


class Stream:
    """A tracker, and the frames that it is shown."""

    def __init__(self, **values: Any) -> None:
        self.tracker = Tracker(TrackingSettings(**values))

    def frame(
        self, stamp_s: float, *cups: Observation, threshold: float = THRESHOLD
    ) -> list[TrackAssignment]:
        return self.tracker.update(round(stamp_s * 1e9), cups, score_threshold=threshold)

    def ids(self, stamp_s: float, *cups: Observation, threshold: float = THRESHOLD) -> list[int]:
        return [found.track_id for found in self.frame(stamp_s, *cups, threshold=threshold)]


def test_ids_begin_at_one_with_the_best_and_ages_count_frames() -> None:
    stream = Stream()
    worse, better = cup(0.0, score=0.6), cup(0.5, score=0.8)
    assert stream.ids(0.0, worse, better) == [2, 1]
    assert [found.age for found in stream.frame(0.1, better, worse)] == [2, 2]
    assert stream.frame(0.2, worse) == [TrackAssignment(track_id=2, age=3, is_shown=True)]


def test_objects_that_cross_keep_their_ids_though_one_hides_the_other() -> None:
    stream = Stream()
    for k in range(21):
        x_m = -0.4 + 0.04 * k  # 0.4 m/s in either direction, at 10 Hz
        front, back = cup(x_m, 0.8), cup(-x_m, 1.2)
        if abs(x_m) < 0.1:
            assert stream.ids(0.1 * k, front) == [1]
        else:
            assert stream.ids(0.1 * k, front, back) == [1, 2]


@pytest.mark.parametrize("has_depth", [True, False])
def test_equal_objects_side_by_side_are_not_mixed_up(has_depth: bool) -> None:
    stream, draw = Stream(), np.random.default_rng(3)
    for k in range(60):
        row = {
            n: cup(0.11 * n + draw.normal(0, 0.008), score=0.9 - 0.1 * n, has_depth=has_depth)
            for n in range(4)
            if k == 0 or draw.random() > 0.2
        }
        assert stream.ids(0.1 * k, *row.values()) == [n + 1 for n in row]


def test_a_track_survives_a_gap_as_long_as_allowed_and_no_longer() -> None:
    stream = Stream(max_gap_s=0.5)
    assert stream.ids(0.0, cup(0.0)) == [1]
    assert [stream.ids(0.1 * k) for k in range(1, 5)] == [[]] * 4
    assert stream.ids(0.5, cup(0.1)) == [1]
    assert [stream.ids(0.5 + 0.1 * k) for k in range(1, 6)] == [[]] * 5
    assert stream.ids(1.01, cup(0.1)) == [2]
    # Without empty frames in between, as when the camera was unplugged.
    assert stream.ids(6.0, cup(0.1)) == [3]


def test_what_enters_elsewhere_is_a_new_object() -> None:
    stream = Stream()
    assert stream.ids(0.0, cup(-0.3), cup(0.3)) == [1, 2]
    assert stream.ids(0.1, cup(-0.3)) == [1]
    assert stream.ids(0.2, cup(-0.3), cup(0.9)) == [1, 3]
    # Nearly where the lost one was, too, but far behind it.
    assert stream.ids(0.3, cup(0.6, 2.0), cup(-0.3), cup(0.9)) == [4, 1, 3]


def test_a_score_about_the_threshold_does_not_blink() -> None:
    stream = Stream(hysteresis=0.1)
    assert stream.frame(0.0, cup(0.0, score=0.45)) == [
        TrackAssignment(track_id=0, age=0, is_shown=False)
    ]
    assert stream.frame(0.1, cup(0.0, score=0.51))[0].is_shown
    for k in range(2, 12):
        weak, new = cup(0.0, score=0.41 + 0.1 * (k % 2)), cup(0.5, score=0.49)
        assert stream.frame(0.1 * k, weak, new) == [
            TrackAssignment(track_id=1, age=k, is_shown=True),
            TrackAssignment(track_id=0, age=0, is_shown=False),
        ]
    # A threshold that was raised hides it; it stays hidden until its score exceeds that.
    later = [(0.45, 0.6, False), (0.55, 0.6, False), (0.61, 0.6, True), (0.55, 0.6, True)]
    for k, (score, threshold, is_shown) in enumerate(later):
        assert stream.frame(1.2 + 0.1 * k, cup(0.0, score=score), threshold=threshold) == [
            TrackAssignment(track_id=1, age=12 + k, is_shown=is_shown)
        ]


def test_objects_that_merge_and_part_again_keep_their_ids() -> None:
    stream = Stream()
    small, large = cup(0.12, size_m=0.08), cup(0.0, size_m=0.14)
    assert stream.ids(0.0, large, small) == [1, 2]
    both = dataclasses.replace(
        large,
        mask=np.ones((42, 69), np.bool_),
        roi=Roi(x_offset=479, y_offset=479, height=42, width=69),
        position=np.array([0.03, 0.0, 1.0]),
    )
    assert [stream.ids(0.1 * k, both) for k in range(1, 5)] == [[1]] * 4
    assert stream.ids(0.5, small, large) == [2, 1]


@pytest.mark.parametrize("has_depth", [True, False])
def test_a_camera_that_turns_fast_at_five_hertz_swaps_nothing(has_depth: bool) -> None:
    stream = Stream()
    places = [(0.0, 0.05), (0.21, -0.1), (0.43, 0.0), (0.6, 0.2), (0.9, -0.15), (1.1, 0.08)]
    lost = {2: 3, 4: 0, 5: 0, 7: 4}  # which object a frame lacks
    for k in range(12):
        turned = 0.2 * k if k < 7 else 0.2 * (14 - k)  # back again, from one frame to the next
        view = {
            n: cup(x - turned, y_m=y, score=0.9 - 0.05 * n, has_depth=has_depth)
            for n, (x, y) in enumerate(places)
        }
        view.pop(lost.get(k, -1), None)
        assert stream.ids(0.2 * k, *view.values()) == [n + 1 for n in view]


def test_frames_that_come_slower_than_the_gap_leave_no_gap() -> None:
    stream = Stream(max_gap_s=1.0)
    assert [stream.ids(2.0 * k, cup(0.0))[0] for k in range(5)] == [1, 2, 2, 2, 2]
    stream = Stream(max_gap_s=0.0)
    assert [stream.ids(0.033 * k, cup(0.0))[0] for k in range(5)] == [1] * 5
    assert stream.ids(0.165) == []
    assert stream.ids(0.198, cup(0.0)) == [2]
    # A track that a frame lacked has a gap, however slow the stream is.
    stream = Stream(max_gap_s=1.0)
    assert [stream.ids(0.9 * k, cup(0.0))[0] for k in range(3)] == [1] * 3
    assert stream.ids(2.2) == []
    assert stream.ids(2.9, cup(0.0)) == [2]


def test_time_that_restarts_ends_the_tracks_and_ids_go_on() -> None:
    stream = Stream()
    assert stream.ids(10.0, cup(0.0)) == [1]
    assert stream.ids(9.4, cup(0.0)) == [2]
    assert stream.ids(9.5, cup(0.0)) == [2]
    assert stream.ids(9.0, cup(0.0)) == [2]
    assert stream.ids(8.9, cup(0.0)) == [3]
    assert stream.ids(0.0, cup(0.0), cup(0.5)) == [4, 5]


def test_a_late_frame_is_matched_but_teaches_nothing() -> None:
    stream = Stream()
    walk = [cup(0.12 * k, score=0.45, has_depth=False, size_m=0.5) for k in range(5)]
    strong = [dataclasses.replace(seen, score=0.9) for seen in walk]
    assert [stream.ids(0.1 * k, strong[k])[0] for k in range(4)] == [1] * 4
    late = dataclasses.replace(walk[1], score=0.3)
    assert stream.frame(0.1, late) == [TrackAssignment(track_id=1, age=5, is_shown=False)]
    # Three steps from the late look it would be lost, and hidden after the late score.
    for age in (6, 7):  # the same stamp twice
        assert stream.frame(0.4, walk[4]) == [TrackAssignment(track_id=1, age=age, is_shown=True)]


def test_a_late_frame_from_before_a_turn_moves_no_track() -> None:
    stream = Stream()
    old = [cup(0.3 * k, y_m=0.1 * k * k, score=0.9 - 0.1 * k) for k in range(3)]
    new = [cup(0.3 * k - 0.8, y_m=0.1 * k * k, score=0.9 - 0.1 * k) for k in range(3)]
    assert stream.ids(0.0, *old) == stream.ids(0.2, *new) == [1, 2, 3]
    assert stream.ids(0.1, *old[:2]) == [1, 2]
    # Of one object alone no turn could be told.
    assert stream.ids(0.3, new[2]) == [3]


def test_reset_forgets_and_begins_at_one() -> None:
    stream = Stream()
    assert stream.ids(0.0, cup(0.0), cup(0.5)) == [1, 2]
    stream.tracker.reset()
    assert stream.tracker.identify([cup(0.5)])[0].track_id == 0
    assert stream.ids(0.1, cup(0.5)) == [1]


def test_identify_names_the_known_and_takes_nothing_in() -> None:
    stream = Stream()
    assert stream.tracker.identify([cup(0.0)]) == [
        TrackAssignment(track_id=0, age=0, is_shown=False)
    ]
    assert stream.ids(0.0, cup(0.0)) == [1]
    for _ in range(3):
        assert stream.tracker.identify([cup(0.9), cup(0.02, score=0.1)]) == [
            TrackAssignment(track_id=0, age=0, is_shown=False),
            TrackAssignment(track_id=1, age=1, is_shown=True),
        ]
    assert stream.frame(0.1, cup(0.9), cup(0.0)) == [
        TrackAssignment(track_id=2, age=1, is_shown=True),
        TrackAssignment(track_id=1, age=2, is_shown=True),
    ]


def test_depth_that_fails_for_a_while_costs_no_id() -> None:
    stream = Stream()
    for k, has_depth in enumerate((True, False, False, True, False, True)):
        assert stream.ids(0.1 * k, cup(0.02 * k, has_depth=has_depth)) == [1]


def test_settings_count_from_the_next_frame_on() -> None:
    stream = Stream(iou_weight=1.0)
    assert stream.ids(0.0, cup(0.0)) == [1]
    assert stream.ids(0.1, cup(0.12)) == [2]  # no overlap
    stream.tracker.settings = TrackingSettings(iou_weight=0.0)
    assert stream.ids(0.2, cup(0.24)) == [2]
    assert stream.ids(0.5) == []
    stream.tracker.settings = TrackingSettings(max_gap_s=0.25)
    assert stream.ids(0.6, cup(0.24)) == [3]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"max_gap_s": 30.1}, "tracking.max_gap"),
        ({"max_gap_s": math.nan}, "tracking.max_gap"),
        ({"iou_weight": -0.1}, "tracking.iou_weight"),
        ({"hysteresis": 0.6}, "detection.hysteresis"),
    ],
)
def test_a_setting_out_of_range_is_named(values: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {next(iter(values.values()))}.*; choose 0"):
        TrackingSettings(**values)  # type: ignore[arg-type]


def test_of_many_lost_tracks_those_seen_last_wait() -> None:
    stream, places = Stream(max_gap_s=30.0), [10.0 * k for k in range(MAX_UNSEEN_TRACKS + 6)]
    for k, x_m in enumerate(places):
        assert stream.ids(0.1 * k, cup(x_m)) == [k + 1]
    found = stream.tracker.identify([cup(x_m) for x_m in places])
    assert [one.track_id for one in found] == [0] * 5 + list(range(6, len(places) + 1))


def test_noise_fills_neither_memory_nor_the_image_it_came_from() -> None:
    stream, draw = Stream(max_gap_s=30.0), np.random.default_rng(0)
    for k in range(60):
        places = draw.uniform(-50, 50, (5, 2))
        stream.ids(0.0 if k < 30 else 0.03 * k, *(cup(x, y_m=y) for x, y in places))
        assert len(stream.tracker._tracks) <= MAX_UNSEEN_TRACKS + 5
    image = np.ones((720, 1280), np.bool_)
    alive = weakref.ref(image)
    stream.ids(2.0, dataclasses.replace(cup(0.0), mask=image[500:530, 600:630]))
    del image
    gc.collect()
    assert alive() is None


@st.composite
def crowds(draw: st.DrawFn) -> list[Observation]:
    places = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5))
    found = []
    for left, top in dict.fromkeys(places):
        height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
        place = np.array([left / 30, top / 30, draw(st.sampled_from([-1.0, 0.0, 1.0, 1.1]))])
        place[draw(st.integers(0, 2))] += draw(st.sampled_from([0.0, 0.01, math.nan, math.inf]))
        found.append(
            Observation(
                mask=np.ones((height, width), np.bool_),
                roi=Roi(x_offset=left, y_offset=top, height=height, width=width),
                score=draw(st.sampled_from([0.0, 0.3, 0.45, 0.5, 0.7, 1.0])),
                position=place,
            )
        )
    return found


def unchanged(tracker: Tracker, crowd: Sequence[Observation]) -> list[TrackAssignment]:
    """What `identify` says, after checking that asking twice and in between changes nothing."""
    first = tracker.identify(crowd)
    assert tracker.identify(crowd) == first
    return first


STEPS_NS = st.one_of(
    st.sampled_from([0, 33_000_000, 200_000_000, -100_000_000, -500_000_000, -600_000_000]),
    st.integers(-(2**62), 2**62),
)


@settings(max_examples=100)
@given(
    frames=st.lists(st.tuples(STEPS_NS, crowds(), st.randoms(use_true_random=False)), max_size=8),
    values=st.fixed_dictionaries(
        {
            "max_gap_s": st.sampled_from([0.0, 0.3, 1.0, 30.0]),
            "iou_weight": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
            "hysteresis": st.sampled_from([0.0, 0.1, 0.5]),
        }
    ),
)
def test_laws_of_any_stream(frames: list[tuple[int, list[Observation], Any]], values: Any) -> None:
    tracker, other, asked = (Tracker(TrackingSettings(**values)) for _ in range(3))
    stamp_ns, highest, shown = 0, 0, set[int]()
    for step_ns, crowd, shuffler in frames:
        stamp_ns += step_ns
        found = tracker.update(stamp_ns, crowd, score_threshold=THRESHOLD)

        order = list(range(len(crowd)))
        shuffler.shuffle(order)
        mixed = other.update(stamp_ns, [crowd[k] for k in order], score_threshold=THRESHOLD)
        assert mixed == [found[k] for k in order], "the order of objects must not matter"

        known = {named.track_id for named in unchanged(asked, crowd)} - {0}
        assert asked.update(stamp_ns, crowd, score_threshold=THRESHOLD) == found
        assert len(known) <= len(crowd)

        ids = [one.track_id for one in found if one.track_id]
        assert len(set(ids)) == len(ids)
        new = [one.track_id for one in found if one.age == 1]
        assert sorted(new) == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)
        for one, seen in zip(found, crowd, strict=True):
            is_strong = seen.score > THRESHOLD
            assert one.track_id or (not is_strong and not one.is_shown and one.age == 0)
            assert one.age > 1 or is_strong or not one.track_id
            if is_strong:
                assert one.is_shown
            elif one.is_shown:
                assert seen.score > THRESHOLD - values["hysteresis"]
                assert one.track_id in shown
        shown |= {one.track_id for one in found if one.is_shown}
        assert len(tracker._tracks) <= MAX_UNSEEN_TRACKS + len(crowd)
