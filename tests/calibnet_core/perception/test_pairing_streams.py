"""Pairing over whole streams: looping bags, early depth, and laws that hold for any history."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import (
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
