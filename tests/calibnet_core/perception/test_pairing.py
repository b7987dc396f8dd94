from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import (
    BackwardJump,
    DroppedColor,
    DroppedDepth,
    Event,
    Pair,
    PairerConfig,
    StampPairer,
)

MS = 1_000_000
FRAME_NS = 33_333_333  # 30 Hz


class Frame(NamedTuple):
    """The payload of the tests: unique a message, and it knows its right partner."""

    loop: int
    index: int


class Message(NamedTuple):
    stream: Literal["color", "depth"]
    stamp_ns: int
    payload: Any


Pairer = StampPairer[Any, Any]
Events = list[Event[Any, Any]]


def nearest(queue: int = 5, tolerance_s: float = 0.0, **others: Any) -> Pairer:
    return StampPairer(PairerConfig(queue=queue, tolerance_s=tolerance_s, **others))


def play(pairer: Pairer, messages: Iterable[Message]) -> Events:
    """Add every message and check the laws that hold at every step; return all events."""
    everything: Events = []
    added = Counter({"color": pairer.waiting_color, "depth": pairer.waiting_depth})
    for stream, stamp_ns, payload in messages:
        add = pairer.add_color if stream == "color" else pairer.add_depth
        events = add(stamp_ns, payload)
        everything += events
        added[stream] += 1
        for pair in pairs_of(events):
            assert abs(pair.offset_ns) <= pairer.tolerance_s * 1e9 + 0.5
        pairs = len(pairs_of(everything))
        dropped_color = sum(isinstance(event, DroppedColor) for event in everything)
        dropped_depth = sum(isinstance(event, DroppedDepth) for event in everything)
        assert added["color"] == pairs + dropped_color + pairer.waiting_color
        assert added["depth"] == pairs + dropped_depth + pairer.waiting_depth
    return everything


def pairs_of(events: Events) -> list[Pair[Any, Any]]:
    return [event for event in events if isinstance(event, Pair)]


def jumps_of(events: Events) -> list[BackwardJump]:
    return [event for event in events if isinstance(event, BackwardJump)]


def pairs_per_loop(events: Events, num_loops: int) -> list[int]:
    """Count the pairs of each loop, after checking that no pair mixes frames or loops."""
    for pair in pairs_of(events):
        assert pair.color == pair.depth
    counts = Counter(pair.color.loop for pair in pairs_of(events))
    return [counts[loop] for loop in range(num_loops)]


def bag(
    num_loops: int,
    num_frames: int,
    *,
    has_depth: Callable[[int], bool] = lambda index: True,
    depth_first: bool = False,
    depth_offset_ns: int = 0,
    period_ns: int = FRAME_NS,
) -> list[Message]:
    """A looping bag that plays colour and depth of a frame one after the other."""
    messages = []
    for loop in range(num_loops):
        for index in range(num_frames):
            stamp_ns = 5_000 * MS + index * period_ns
            frame = [Message("color", stamp_ns, Frame(loop, index))]
            if has_depth(index):
                depth = Message("depth", stamp_ns + depth_offset_ns, Frame(loop, index))
                frame.insert(0 if depth_first else 1, depth)
            messages += frame
    return messages


# Looping bags


@pytest.mark.parametrize("queue", [1, 5, 10])
@pytest.mark.parametrize("depth_first", [False, True])
def test_a_looping_bag_with_unmatched_last_frames_pairs_the_same_in_every_loop(
    queue: int, depth_first: bool
) -> None:
    messages = bag(3, 150, has_depth=lambda index: index < 140, depth_first=depth_first)
    events = play(nearest(queue), messages)
    assert pairs_per_loop(events, 3) == [140, 140, 140]
    assert len(jumps_of(events)) == 2


@pytest.mark.parametrize("queue", [1, 5, 10])
def test_depth_at_half_the_rate_pairs_every_second_frame_in_every_loop(queue: int) -> None:
    messages = bag(3, 150, has_depth=lambda index: index % 2 == 0)
    events = play(nearest(queue), messages)
    assert pairs_per_loop(events, 3) == [75, 75, 75]


@pytest.mark.parametrize("queue", [1, 5])
@pytest.mark.parametrize("depth_first", [False, True])
@pytest.mark.parametrize("depth_offset_ns", [0, 4 * MS, -4 * MS])
def test_a_loop_shorter_than_the_reset_threshold_pairs_every_frame(
    queue: int, depth_first: bool, depth_offset_ns: int
) -> None:
    messages = bag(5, 10, depth_first=depth_first, depth_offset_ns=depth_offset_ns)
    events = play(nearest(queue), messages)
    assert pairs_per_loop(events, 5) == [10] * 5
    assert jumps_of(events) == []


@pytest.mark.parametrize("queue", [1, 5])
def test_a_short_loop_with_unmatched_frames_never_starves(queue: int) -> None:
    messages = bag(20, 10, has_depth=lambda index: index < 7)
    events = play(nearest(queue), messages)
    assert pairs_per_loop(events, 20) == [7] * 20


@given(
    num_frames=st.integers(2, 40),
    num_loops=st.integers(1, 4),
    queue=st.integers(1, 6),
    depth_first=st.booleans(),
    depth_offset_ns=st.integers(-10 * MS, 10 * MS),
)
def test_every_frame_of_every_loop_pairs_whatever_the_length_of_the_bag(
    num_frames: int, num_loops: int, queue: int, depth_first: bool, depth_offset_ns: int
) -> None:
    messages = bag(num_loops, num_frames, depth_first=depth_first, depth_offset_ns=depth_offset_ns)
    events = play(nearest(queue), messages)
    assert pairs_per_loop(events, num_loops) == [num_frames] * num_loops


# Early and late streams


def early_depth(lead: int, num_frames: int = 100) -> list[Message]:
    """Depth frame i + lead arrives right after colour frame i; the first `lead` were missed."""
    messages = []
    for index in range(num_frames):
        late, early = index * FRAME_NS, (index + lead) * FRAME_NS
        messages.append(Message("color", late, Frame(0, index)))
        messages.append(Message("depth", early, Frame(0, index + lead)))
    return messages


@pytest.mark.parametrize("queue", [1, 5, 10])
@pytest.mark.parametrize("tolerance_s", [0.0, 0.016, 0.010])
def test_depth_that_arrives_a_frame_early_pairs_with_its_own_colour(
    queue: int, tolerance_s: float
) -> None:
    events = play(nearest(queue, tolerance_s), early_depth(1))
    assert pairs_per_loop(events, 1) == [99]
    with_first = [Message("depth", 0, Frame(0, 0)), *early_depth(1)]
    events = play(nearest(queue, tolerance_s), with_first)
    assert pairs_per_loop(events, 1) == [100]


@pytest.mark.parametrize("tolerance_s", [0.5, 0.1, 0.034])
def test_a_tolerance_above_a_frame_period_still_pairs_early_depth_rightly(
    tolerance_s: float,
) -> None:
    events = play(nearest(5, tolerance_s), early_depth(1))
    assert pairs_per_loop(events, 1) == [99]


def test_a_lead_of_n_messages_needs_a_queue_of_n() -> None:
    assert pairs_of(play(nearest(2), early_depth(3))) == []
    assert pairs_per_loop(play(nearest(3), early_depth(3)), 1) == [97]


@st.composite
def in_order_streams(draw: st.DrawFn) -> tuple[list[Message], set[int]]:
    """Two streams of one rate with jitter, gaps and a delay between them, each in order.

    The period is at least 34 ms: below that, the tolerance before a period is known exceeds
    the distance to a neighbouring frame.
    """
    num_frames = draw(st.integers(3, 40))
    period_ns = draw(st.integers(34 * MS, 100 * MS))
    jitter = st.integers(-period_ns // 10, period_ns // 10)
    delay_ns = {"color": 0, "depth": draw(st.integers(-2 * period_ns, 2 * period_ns))}
    arrivals: list[tuple[int, Message]] = []
    present: dict[str, set[int]] = {}
    streams: tuple[Literal["color", "depth"], ...] = ("color", "depth")
    for stream in streams:
        missing = draw(st.sets(st.integers(0, num_frames - 3)))
        present[stream] = set(range(num_frames)) - missing
        for index in sorted(present[stream]):
            stamp_ns = index * period_ns + draw(jitter)
            message = Message(stream, stamp_ns, Frame(0, index))
            arrivals.append((stamp_ns + delay_ns[stream], message))
    arrivals.sort(key=lambda arrival: arrival[0])
    # The pair of the last frame may rightly wait for a message that does not come any more.
    matched = (present["color"] & present["depth"]) - {num_frames - 1}
    return [message for _, message in arrivals], matched


@given(in_order_streams())
def test_with_jitter_below_the_tolerance_every_frame_with_a_partner_pairs_with_it(
    streams: tuple[list[Message], set[int]],
) -> None:
    messages, matched = streams
    events = play(nearest(), messages)
    assert all(pair.color == pair.depth for pair in pairs_of(events))
    assert matched <= {pair.color.index for pair in pairs_of(events)}


# The laws under any input

stamps_ns = st.one_of(
    st.integers(0, 40).map(lambda step: step * 5 * MS),
    st.integers(0, 3_000).map(lambda step: step * MS),
    st.integers(-(2**62), 2**62),
)
chaos = st.lists(
    st.builds(
        lambda stream, stamp_ns: Message(stream, stamp_ns, object()),
        st.sampled_from(["color", "depth"]),
        stamps_ns,
    ),
    max_size=60,
)
configs = st.builds(
    PairerConfig,
    mode=st.sampled_from(["exact", "nearest", "latest"]),
    tolerance_s=st.sampled_from([0.0, 0.0005, 0.012, 0.5]),
    queue=st.integers(1, 6),
    reset_on_backward_jump_s=st.sampled_from([0.05, 0.5, 10.0]),
)


@given(config=configs, messages=chaos)
def test_shuffled_delayed_duplicated_missing_and_looping_stamps_keep_every_law(
    config: PairerConfig, messages: list[Message]
) -> None:
    pairer: Pairer = StampPairer(config)
    events = play(pairer, messages)  # checks conservation and the tolerance at every step
    assert pairer.waiting_color <= config.queue
    assert pairer.waiting_depth <= config.queue

    events += pairer.flush(DropReason.SHUTDOWN)
    assert (pairer.waiting_color, pairer.waiting_depth) == (0, 0)
    ends = []
    for event in events:
        if isinstance(event, Pair):
            ends.append(Message("color", event.color_stamp_ns, event.color))
            ends.append(Message("depth", event.depth_stamp_ns, event.depth))
        elif isinstance(event, DroppedColor):
            ends.append(Message("color", event.stamp_ns, event.payload))
        elif isinstance(event, DroppedDepth):
            ends.append(Message("depth", event.stamp_ns, event.payload))
    # Every message ends exactly once, on its own stream and with its own stamp.
    assert Counter(ends) == Counter(messages)


@given(messages=chaos)
def test_equal_stamps_alone_pair_in_mode_exact(messages: list[Message]) -> None:
    events = play(StampPairer(PairerConfig(mode="exact")), messages)
    assert all(pair.offset_ns == 0 for pair in pairs_of(events))


@given(messages=chaos, queue=st.integers(1, 6))
def test_after_any_history_a_steady_stream_pairs_again(messages: list[Message], queue: int) -> None:
    pairer = nearest(queue)
    play(pairer, messages)
    # However wild the stamps were, one queue of steady frames later nothing of them is left.
    events = play(pairer, bag(1, 60))
    steady = [pair for pair in pairs_of(events) if isinstance(pair.color, Frame)]
    right = {pair.color.index for pair in steady if pair.color == pair.depth}
    assert set(range(10, 60)) <= right


# One rule at a time


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
