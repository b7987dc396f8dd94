"""Pairing, one rule at a time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import (
    BackwardJump,
    DroppedColor,
    DroppedDepth,
    Pair,
    PairerConfig,
    StampPairer,
)
from tests.calibnet_core.perception.streams import (
    FRAME_NS,
    MS,
    Frame,
    Message,
    Pairer,
    bag,
    jumps_of,
    nearest,
    pairs_of,
    pairs_per_loop,
    play,
)


def test_equal_stamps_pair_at_once_and_the_offset_is_depth_minus_colour() -> None:
    pairer = nearest()
    assert pairer.add_color(100, "c") == []
    events = pairer.add_depth(100, "d")
    assert events == [Pair(100, 100, "c", "d")]
    assert pairs_of(events)[0].offset_ns == 0
    assert Pair(100, 130, "c", "d").offset_ns == 30


def test_a_depth_at_or_after_the_colour_pairs_at_once() -> None:
    pairer = nearest()
    pairer.add_color(0, "c")
    assert pairs_of(pairer.add_depth(2 * MS, "d")) == [Pair(0, 2 * MS, "c", "d")]


def test_an_earlier_depth_pairs_at_once_below_half_the_depth_period() -> None:
    pairer = nearest()
    for index in range(3):
        pairer.add_depth(index * FRAME_NS, index)
    color_ns = 2 * FRAME_NS + 10 * MS
    assert pairs_of(pairer.add_color(color_ns, "c")) == [Pair(color_ns, 2 * FRAME_NS, "c", 2)]


def test_an_earlier_depth_waits_for_the_next_when_that_may_be_nearer() -> None:
    pairer = nearest(tolerance_s=0.030)
    for index in range(3):
        pairer.add_depth(index * FRAME_NS, index)
    color_ns = 2 * FRAME_NS + 20 * MS
    assert pairer.add_color(color_ns, "c") == []
    assert pairs_of(pairer.add_depth(3 * FRAME_NS, 3)) == [Pair(color_ns, 3 * FRAME_NS, "c", 3)]


def test_an_earlier_depth_is_used_after_all_when_the_next_is_further_away() -> None:
    pairer = nearest(tolerance_s=0.030)
    for index in range(3):
        pairer.add_depth(index * FRAME_NS, index)
    color_ns = 2 * FRAME_NS + 20 * MS
    pairer.add_color(color_ns, "c")
    events = pairer.add_depth(color_ns + 25 * MS, "late")
    assert pairs_of(events) == [Pair(color_ns, 2 * FRAME_NS, "c", 2)]
    assert pairer.waiting_depth == 3


def test_a_depth_goes_to_the_nearest_of_the_waiting_colours() -> None:
    pairer = nearest(tolerance_s=0.030)
    pairer.add_color(0, "far")
    pairer.add_color(20 * MS, "near")
    assert pairs_of(pairer.add_depth(22 * MS, "d")) == [Pair(20 * MS, 22 * MS, "near", "d")]
    assert pairer.waiting_color == 1


def test_a_later_depth_waits_for_the_next_colour_when_that_may_be_nearer() -> None:
    pairer = nearest(tolerance_s=0.5)
    play(pairer, bag(1, 3, depth_offset_ns=-2 * MS))
    late_ns, next_ns = 5_000 * MS + 3 * FRAME_NS, 5_000 * MS + 4 * FRAME_NS
    pairer.add_color(late_ns, "its depth is lost")
    assert pairer.add_depth(next_ns - 2 * MS, "d") == []
    assert pairer.add_color(next_ns, "c") == [Pair(next_ns, next_ns - 2 * MS, "c", "d")]


def test_a_distance_of_the_tolerance_pairs_and_a_nanosecond_more_does_not() -> None:
    for beyond_ns, count in ((0, 1), (1, 0)):
        pairer = nearest(tolerance_s=0.010)
        pairer.add_color(0, "c")
        assert len(pairs_of(pairer.add_depth(10 * MS + beyond_ns, "d"))) == count


def test_a_full_queue_drops_what_arrived_first_and_not_the_oldest_stamp() -> None:
    pairer = nearest(queue=2)
    pairer.add_color(300 * MS, "arrived first")
    pairer.add_color(200 * MS, "second")
    events = pairer.add_color(100 * MS, "third")
    assert events == [DroppedColor(300 * MS, "arrived first", DropReason.NO_PARTNER)]
    pairer.add_depth(1_300 * MS, "first depth")
    pairer.add_depth(1_200 * MS, "second depth")
    events = pairer.add_depth(1_100 * MS, "third depth")
    assert events == [DroppedDepth(1_300 * MS, "first depth", DropReason.NO_PARTNER)]


def test_a_full_queue_decides_for_a_pair_that_was_still_waiting() -> None:
    pairer = nearest(queue=1, tolerance_s=0.030)
    pairer.add_depth(0, "d")
    assert pairer.add_color(28 * MS, "c") == []  # the next depth may be nearer
    assert pairs_of(pairer.add_color(61 * MS, "next")) == [Pair(28 * MS, 0, "c", "d")]


@pytest.mark.parametrize("offset_ms", [-20, -4, 0, 4, 20])
def test_a_camera_that_sends_one_picture_on_demand_is_answered_at_once(offset_ms: int) -> None:
    pairer = nearest()
    pairer.add_depth(100 * MS, "d")
    events = pairer.add_color((100 + offset_ms) * MS, "c")
    assert pairs_of(events) == [Pair((100 + offset_ms) * MS, 100 * MS, "c", "d")]


def test_finishing_pairs_what_waited_for_something_nearer_and_drops_the_rest() -> None:
    pairer = nearest(tolerance_s=0.030)
    pairer.add_depth(0, "d")
    pairer.add_color(28 * MS, "c")
    pairer.add_color(500 * MS, "alone")
    assert pairer.finish() == [
        Pair(28 * MS, 0, "c", "d"),
        DroppedColor(500 * MS, "alone", DropReason.NO_PARTNER),
    ]
    assert pairer.waiting_color == pairer.waiting_depth == 0


def test_each_depth_is_used_once() -> None:
    pairer = nearest()
    pairer.add_color(0, "c0")
    pairer.add_depth(0, "d")
    assert pairer.add_color(1 * MS, "c1") == []
    assert pairer.waiting_color == 1


# Duplicates


def test_a_repeated_stamp_is_dropped_as_a_duplicate_and_the_first_wins() -> None:
    pairer = nearest()
    pairer.add_color(0, "first")
    assert pairer.add_color(0, "again") == [DroppedColor(0, "again", DropReason.DUPLICATE)]
    pairer.add_color(40 * MS, "other")
    assert pairer.add_color(0, "late") == [DroppedColor(0, "late", DropReason.DUPLICATE)]
    assert pairs_of(pairer.add_depth(0, "d")) == [Pair(0, 0, "first", "d")]
    assert pairer.add_depth(0, "again") == [DroppedDepth(0, "again", DropReason.DUPLICATE)]


# Backward jumps


def test_a_backward_jump_is_reported_once_and_drops_only_the_abandoned_future() -> None:
    pairer = nearest()
    pairer.add_color(10_000 * MS, "old colour")
    pairer.add_depth(10_040 * MS, "old depth")
    events = pairer.add_color(0, "new colour")
    assert events == [
        BackwardJump("color", 10_000 * MS, 0),
        DroppedColor(10_000 * MS, "old colour", DropReason.RESET),
        DroppedDepth(10_040 * MS, "old depth", DropReason.RESET),
    ]
    assert pairer.add_depth(0, "new depth") == [Pair(0, 0, "new colour", "new depth")]


def test_colour_of_the_new_time_survives_when_depth_restarts_later() -> None:
    pairer = nearest()
    pairer.add_depth(10_000 * MS, "old")
    pairer.add_color(10_040 * MS, "old")
    assert jumps_of(pairer.add_color(0, "c0")) == [BackwardJump("color", 10_040 * MS, 0)]
    assert pairer.add_depth(10_033 * MS, "straggler") == []
    assert pairer.add_color(FRAME_NS, "c1") == []
    events = pairer.add_depth(0, "d0")
    assert events == [
        DroppedDepth(10_033 * MS, "straggler", DropReason.RESET),
        Pair(0, 0, "c0", "d0"),
    ]
    assert pairs_of(pairer.add_depth(FRAME_NS, "d1")) == [Pair(FRAME_NS, FRAME_NS, "c1", "d1")]


def test_depth_of_the_new_time_survives_when_colour_restarts_later() -> None:
    pairer = nearest()
    pairer.add_color(10_000 * MS, "old")
    assert pairer.add_depth(10_040 * MS, "old") == []
    assert jumps_of(pairer.add_depth(0, "d0")) == [BackwardJump("depth", 10_040 * MS, 0)]
    assert pairer.add_color(0, "c0") == [Pair(0, 0, "c0", "d0")]


def test_every_restart_of_a_loop_is_reported_even_when_streams_restart_apart() -> None:
    messages = bag(4, 60)
    colors = [message for message in messages if message.stream == "color"]
    depths = [message for message in messages if message.stream == "depth"]
    # Depth lags two messages behind, so the streams restart at different moments.
    lagging = [*colors[:2]]
    for color, depth in zip(colors[2:], depths, strict=False):
        lagging += [depth, color]
    events = play(nearest(), lagging)
    assert len(jumps_of(events)) == 3
    assert {jump.stream for jump in jumps_of(events)} == {"color"}
    # The colour frame that still waited when its stream restarted is dropped in every loop; the
    # last two frames of all get no depth, because the list ends.
    assert pairs_per_loop(events, 4) == [59, 59, 59, 58]


def test_a_jump_of_the_other_stream_to_another_time_is_a_jump_of_its_own() -> None:
    pairer = nearest()
    pairer.add_color(20_000 * MS, "c")
    pairer.add_depth(20_000 * MS + 1, "d")
    assert len(jumps_of(pairer.add_color(0, "c"))) == 1
    assert jumps_of(pairer.add_depth(10_000 * MS, "d")) == [
        BackwardJump("depth", 20_000 * MS + 1, 10_000 * MS)
    ]


def test_a_step_back_of_the_threshold_is_no_jump_and_a_nanosecond_more_is() -> None:
    for beyond_ns, count in ((0, 0), (1, 1)):
        pairer = nearest(reset_on_backward_jump_s=0.5)
        pairer.add_color(500 * MS, "c")
        assert len(jumps_of(pairer.add_color(-beyond_ns, "c"))) == count


def test_stamps_that_creep_backwards_are_noticed_against_the_newest() -> None:
    pairer = nearest()
    events = play(pairer, [Message("color", -step * 100 * MS, step) for step in range(8)])
    assert jumps_of(events) == [BackwardJump("color", 0, -600 * MS)]


def test_one_stamp_from_the_far_future_costs_only_itself() -> None:
    pairer = nearest()
    pairer.add_color(0, "c0")
    pairer.add_color(10**18, "glitch")
    events = pairer.add_color(FRAME_NS, "c1")
    assert events == [
        BackwardJump("color", 10**18, FRAME_NS),
        DroppedColor(10**18, "glitch", DropReason.RESET),
    ]
    assert pairs_of(pairer.add_depth(0, "d0")) == [Pair(0, 0, "c0", "d0")]
    assert pairs_of(pairer.add_depth(FRAME_NS, "d1")) == [Pair(FRAME_NS, FRAME_NS, "c1", "d1")]


# The automatic tolerance


def test_the_automatic_tolerance_follows_the_measured_periods() -> None:
    pairer = nearest()
    assert pairer.tolerance_s == 0.025
    play(pairer, [Message("depth", index * 16 * MS, index) for index in range(3)])
    assert pairer.tolerance_s == pytest.approx(0.45 * 0.016)
    # Colour decides as soon as it has a period, whatever depth says.
    play(pairer, [Message("color", 1 * MS + index * 40 * MS, index) for index in range(3)])
    assert pairer.tolerance_s == pytest.approx(0.45 * 0.040)


def test_the_automatic_tolerance_never_exceeds_25_ms() -> None:
    pairer = nearest()
    play(pairer, [Message("color", index * 200 * MS, index) for index in range(3)])
    assert pairer.tolerance_s == 0.025


def test_a_lost_frame_or_a_pause_does_not_widen_the_automatic_tolerance() -> None:
    pairer = nearest()
    play(pairer, [Message("color", index * FRAME_NS, index) for index in (0, 1, 2)])
    for index in (4, 5, 6, 200, 201, 203):
        play(pairer, [Message("color", index * FRAME_NS, index)])
        assert pairer.tolerance_s == pytest.approx(0.45 * FRAME_NS / 1e9)


def test_a_stream_slower_than_a_frame_a_second_does_not_wait_for_the_next_depth() -> None:
    pairer = nearest()
    messages = []
    for index in range(4):
        messages.append(Message("depth", index * 2_000 * MS, Frame(0, index)))
        messages.append(Message("color", index * 2_000 * MS + 5 * MS, Frame(0, index)))
    events = play(pairer, messages)
    assert pairs_per_loop(events, 1) == [4]


def test_a_backward_jump_forgets_the_measured_periods() -> None:
    pairer = nearest()
    play(pairer, bag(1, 40))
    assert pairer.tolerance_s == pytest.approx(0.45 * FRAME_NS / 1e9)
    pairer.add_color(0, "c")
    assert pairer.tolerance_s == 0.025


# Modes, flush and reconfiguration


def test_mode_exact_pairs_equal_stamps_only() -> None:
    pairer: Pairer = StampPairer(PairerConfig(mode="exact", tolerance_s=0.5))
    assert pairer.tolerance_s == 0.0
    pairer.add_color(100, "c")
    assert pairer.add_depth(101, "off by one") == []
    assert pairer.add_depth(100, "d") == [Pair(100, 100, "c", "d")]


def test_mode_latest_pairs_the_newest_of_each_whatever_the_offset() -> None:
    pairer: Pairer = StampPairer(PairerConfig(mode="latest"))
    assert math.isinf(pairer.tolerance_s)
    pairer.add_color(0, "c0")
    assert pairer.add_color(FRAME_NS, "c1") == [DroppedColor(0, "c0", DropReason.SUPERSEDED)]
    far_ns = 10**15
    assert pairer.add_depth(far_ns, "d0") == [Pair(FRAME_NS, far_ns, "c1", "d0")]
    pairer.add_depth(far_ns + 1, "d1")
    assert pairer.add_depth(far_ns + 2, "d2") == [
        DroppedDepth(far_ns + 1, "d1", DropReason.SUPERSEDED)
    ]
    assert pairs_of(pairer.add_color(2 * FRAME_NS, "c2")) == [
        Pair(2 * FRAME_NS, far_ns + 2, "c2", "d2")
    ]


def test_flush_drops_everything_that_waits_and_keeps_the_measured_period() -> None:
    pairer = nearest()
    for index in range(3):
        pairer.add_color(index * FRAME_NS, index)
    pairer.add_depth(10 * FRAME_NS, "d")
    events = pairer.flush(DropReason.PAUSED)
    assert events == [
        *(DroppedColor(index * FRAME_NS, index, DropReason.PAUSED) for index in range(3)),
        DroppedDepth(10 * FRAME_NS, "d", DropReason.PAUSED),
    ]
    assert (pairer.waiting_color, pairer.waiting_depth) == (0, 0)
    assert pairer.tolerance_s == pytest.approx(0.45 * FRAME_NS / 1e9)
    assert pairer.flush(DropReason.PAUSED) == []


def test_a_changed_configuration_acts_on_what_waits() -> None:
    pairer = nearest(tolerance_s=0.001)
    pairer.add_color(0, "c0")
    pairer.add_color(100 * MS, "c1")
    pairer.add_depth(102 * MS, "d")
    config = PairerConfig(tolerance_s=0.005)
    assert pairer.reconfigure(config) == [Pair(100 * MS, 102 * MS, "c1", "d")]
    pairer.add_color(200 * MS, "c2")
    assert pairer.reconfigure(dataclasses.replace(config, queue=1)) == [
        DroppedColor(0, "c0", DropReason.NO_PARTNER)
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "approximate"}, "sync.mode is 'approximate'; choose exact, nearest or latest"),
        ({"tolerance_s": -0.01}, "sync.tolerance is -0.01 s; choose 0"),
        ({"tolerance_s": 0.0001}, "sync.tolerance is 0.0001 s; choose 0"),
        ({"tolerance_s": 0.6}, "sync.tolerance is 0.6 s; choose 0"),
        ({"tolerance_s": math.nan}, "sync.tolerance is nan s; choose 0"),
        ({"queue": 0}, "sync.queue is 0; choose 1 to 30"),
        ({"queue": 31}, "sync.queue is 31; choose 1 to 30"),
        ({"reset_on_backward_jump_s": 0.04}, "sync.reset_on_backward_jump is 0.04 s; choose 0.05"),
        ({"reset_on_backward_jump_s": 11.0}, "sync.reset_on_backward_jump is 11.0 s; choose 0.05"),
        ({"reset_on_backward_jump_s": math.nan}, "sync.reset_on_backward_jump is nan s"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_parameter(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        PairerConfig(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"tolerance_s": 0.0005},
        {"tolerance_s": 0.5},
        {"queue": 1},
        {"queue": 30},
        {"reset_on_backward_jump_s": 0.05},
        {"reset_on_backward_jump_s": 10.0},
    ],
)
def test_the_bounds_of_every_parameter_are_allowed(values: dict[str, Any]) -> None:
    config = PairerConfig(**values)
    assert {name: getattr(config, name) for name in values} == values
