from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask, InstanceMaskArray
from geometry_msgs.msg import Point

from calibnet_ros.consumers.collision_objects import (
    CollisionChange,
    CollisionSettings,
    Operation,
    Scene,
    collision_changes,
    removals,
)
from tests.calibnet_ros.consumers.builders import message, tracked

S = 1_000_000_000
PLAIN = CollisionSettings(padding=0.0, update_period=0.0)
ADD, MOVE, REMOVE = Operation.ADD, Operation.MOVE, Operation.REMOVE


class Story:
    """A scene over time."""

    def __init__(self, choices: CollisionSettings = PLAIN) -> None:
        self.settings, self.scene = choices, {}

    def at(self, seconds: float, *seen: InstanceMask, **options: Any) -> list[CollisionChange]:
        """The changes that a frame brings."""
        return self._step(seconds, message(*seen, **options))

    def later(self, seconds: float) -> list[CollisionChange]:
        """The changes that time alone brings."""
        return self._step(seconds, None)

    def _step(self, seconds: float, msg: InstanceMaskArray | None) -> list[CollisionChange]:
        now_ns = round(seconds * S)
        changes, self.scene = collision_changes(self.scene, msg, now_ns, self.settings)
        return changes


def told(changes: list[CollisionChange]) -> list[tuple[Operation, str]]:
    return [(change.operation, change.object_id) for change in changes]


# --- worked cases -------------------------------------------------------------------------------


def test_a_track_enters_moves_and_goes_after_its_time_to_live() -> None:
    story = Story()
    (change,) = story.at(10.0, tracked(7))
    assert told([change]) == [(ADD, "calibnet_7")]
    assert (change.frame_id, change.size) == ("camera", (0.3, 0.2, 0.1))
    assert change.pose.position == Point(x=0.1, y=0.2, z=1.0)

    (change,) = story.at(10.5, tracked(7, at=(0.4, 0.2, 1.0)))
    assert told([change]) == [(MOVE, "calibnet_7")]
    assert change.pose.position.x == 0.4

    assert story.later(12.5) == []  # exactly two seconds unseen
    assert told(story.later(12.6)) == [(REMOVE, "calibnet_7")]
    assert story.later(20.0) == []
    assert told(story.at(21.0, tracked(7))) == [(ADD, "calibnet_7")]


def test_an_empty_message_removes_nothing_before_its_time() -> None:
    story = Story()
    story.at(0.0, tracked(1))
    assert story.at(0.1) == []
    assert told(story.at(0.2, tracked(1))) == [(MOVE, "calibnet_1")]


def test_removals_come_first_and_the_rest_in_the_order_of_the_message() -> None:
    story = Story()
    story.at(0.0, tracked(1), tracked(2))
    story.at(1.5, tracked(2))
    changes = story.at(3.0, tracked(9), tracked(2))
    assert told(changes) == [(REMOVE, "calibnet_1"), (ADD, "calibnet_9"), (MOVE, "calibnet_2")]


@pytest.mark.parametrize(
    "options",
    [
        {"track_id": 0},
        {"score": 0.49},
        {"age": 2},
        {"status": InstanceMask.GEOMETRY_TOO_FEW_POINTS},
        {"size": (0.0, 0.0, 0.0)},
        {"size": (0.1, math.nan, 0.1)},
        {"size": (0.1, -0.1, 0.1)},
        {"at": (math.nan, 0.0, 1.0)},
        {"at": (0.0, math.inf, 1.0)},
        {"turn": (0.0, 0.0, 0.0, 0.0)},
        {"turn": (0.0, 0.0, 0.0, math.nan)},
        {"turn": (0.0, 0.0, 0.0, 1.1)},
    ],
)
def test_what_is_untracked_unsure_or_not_measured_does_not_enter(options: dict[str, Any]) -> None:
    story = Story()
    assert story.at(0.0, tracked(**{"track_id": 1, **options})) == []
    assert story.scene == {}


def test_a_track_in_the_scene_stays_where_it_is_while_its_box_cannot_be_measured() -> None:
    story = Story()
    story.at(0.0, tracked(1))
    blind = tracked(1, status=InstanceMask.GEOMETRY_TOO_FEW_POINTS, at=(math.nan,) * 3)
    for second in range(1, 10):
        assert story.at(float(second), blind) == []
    # Nor does a falling score take it out: that is for the tracker to say.
    assert told(story.at(10.0, tracked(1, score=0.1))) == [(ADD, "calibnet_1")]
    assert told(story.at(10.1, tracked(1, score=0.1))) == [(MOVE, "calibnet_1")]


def test_a_box_is_replaced_when_its_size_or_frame_changes_and_only_then() -> None:
    story = Story()
    story.at(0.0, tracked(1, size=(0.30, 0.2, 0.1)))
    assert told(story.at(0.1, tracked(1, size=(0.31, 0.2, 0.1)))) == [(MOVE, "calibnet_1")]
    # Small steps add up: the scene still holds 0.30.
    (change,) = story.at(0.2, tracked(1, size=(0.325, 0.2, 0.1)))
    assert (change.operation, change.size) == (ADD, (0.325, 0.2, 0.1))
    assert told(story.at(0.3, tracked(1, size=(0.325, 0.2, 0.1)))) == [(MOVE, "calibnet_1")]
    changes = story.at(0.4, tracked(1, size=(0.325, 0.2, 0.1)), frame_id="base_link")
    assert told(changes) == [(ADD, "calibnet_1")]
    assert changes[0].frame_id == "base_link"


def test_a_seen_object_is_added_anew_now_and_then_for_a_planner_that_started_late() -> None:
    story = Story()
    operations = [story.at(float(second), tracked(1))[0].operation for second in range(11)]
    assert operations == [ADD, *[MOVE] * 4, ADD, *[MOVE] * 4, ADD]


def test_updates_of_one_object_keep_their_distance() -> None:
    story = Story(CollisionSettings(update_period=0.1))
    times = [frame / 30 for frame in range(31)]
    sent = [second for second in times if story.at(second, tracked(1))]
    assert len(sent) == 11
    assert min(after - before for before, after in itertools.pairwise(sent)) >= 0.1 - 1e-9


def test_a_box_is_padded_on_each_side_and_never_thinner_than_asked() -> None:
    story = Story(CollisionSettings(padding=0.05, min_size=0.02))
    (change,) = story.at(0.0, tracked(1, size=(0.3, 0.2, 0.0)))
    assert change.size == pytest.approx((0.4, 0.3, 0.12))


def test_of_two_instances_with_one_track_the_better_counts() -> None:
    (change,) = Story().at(0.0, tracked(1, at=(1.0, 0.0, 1.0)), tracked(1, at=(2.0, 0.0, 1.0)))
    assert change.pose.position.x == 1.0


def test_after_a_jump_of_the_clock_back_objects_expire_from_the_new_now() -> None:
    story = Story()
    story.at(1000.0, tracked(1))
    assert story.later(10.0) == []
    assert story.later(11.9) == []
    assert told(story.later(12.1)) == [(REMOVE, "calibnet_1")]


def test_an_object_keeps_the_name_it_entered_with() -> None:
    story = Story()
    story.at(0.0, tracked(1))
    story.settings = replace(PLAIN, id_prefix="other_")
    assert told(story.at(0.1, tracked(1), tracked(2))) == [(MOVE, "calibnet_1"), (ADD, "other_2")]
    assert told(removals(story.scene.values())) == [(REMOVE, "calibnet_1"), (REMOVE, "other_2")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("time_to_live", 0.0, "choose 0.1 to 3600"),
        ("update_period", -0.1, "choose 0 to 60"),
        ("refresh_period", math.nan, "choose 0.1 to 3600"),
        ("padding", 1.5, "choose 0 to 1"),
        ("min_size", 0.0, "choose 0.001 to 1"),
        ("size_tolerance", -1.0, "choose 0 to 1"),
        ("min_score", 1.1, "choose 0 to 1"),
        ("min_age", 0, "choose 1 to 1000"),
        ("id_prefix", "", "other objects"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*{words}"):
        CollisionSettings(**{name: value})


# --- laws ---------------------------------------------------------------------------------------

instances = st.builds(
    tracked,
    st.integers(0, 4),
    size=st.tuples(*[st.sampled_from([0.0, 0.1, 0.3, math.nan])] * 3),
    score=st.sampled_from([0.2, 0.9]),
    age=st.integers(1, 5),
    status=st.integers(0, 4),
)
frames = st.lists(
    st.tuples(st.floats(0.0, 3.0), st.none() | st.lists(instances, max_size=4)), max_size=12
)


@settings(max_examples=60)
@given(frames=frames)
def test_a_planner_that_applies_the_changes_holds_exactly_the_scene(
    frames: list[tuple[float, list[InstanceMask] | None]],
) -> None:
    held: dict[str, tuple[float, float, float]] = {}
    scene: Scene = {}
    now_ns = 0
    for pause_s, seen in frames:
        now_ns += round(pause_s * S)
        msg = None if seen is None else message(*seen)
        previous, copy = scene, dict(scene)
        changes, scene = collision_changes(scene, msg, now_ns, PLAIN)
        assert len({change.object_id for change in changes}) == len(changes)
        for change in changes:
            if change.operation is REMOVE:
                del held[change.object_id]
            elif change.operation is MOVE:
                assert change.object_id in held
            else:
                assert min(change.size) >= PLAIN.min_size
                held[change.object_id] = change.size
        assert held == {placed.object_id: placed.size for placed in scene.values()}
        limit_ns = now_ns - round(PLAIN.time_to_live * S)
        assert all(placed.seen_ns >= limit_ns for placed in scene.values())
        assert previous == copy  # a pure function
