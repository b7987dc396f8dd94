"""Streams of stamped messages, and what a pairer makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

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
