"""Pairing in the manner of message_filters."""

from __future__ import annotations

import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.frame_assembly import ReceivedImage
from calibnet_core.perception.pairing import DroppedColor, Pair, PairerConfig, StampPairer
from calibnet_ros.filters import PairFilter, SimpleFilter

FRAME_NS = 33_000_000


def image(frame):
    return ReceivedImage(None, None, frame * FRAME_NS)


def recording_filter(**inputs):
    """A filter, and the events and pairs that it tells of, in one list."""
    told = []
    pair_filter = PairFilter(StampPairer(), told.append, **inputs)
    pair_filter.registerCallback(lambda color, depth: told.append((color, depth)))
    return pair_filter, told


def test_a_filter_passes_messages_to_every_callback_with_its_arguments():
    heard = []
    source = SimpleFilter()
    source.registerCallback(lambda *call: heard.append(call))
    source.registerCallback(lambda *call: heard.append(call), "extra", 2)
    source.signalMessage("message")
    assert heard == [("message",), ("message", "extra", 2)]


def test_a_pair_is_told_of_before_it_is_passed_on():
    pair_filter, told = recording_filter()
    color, depth = image(1), image(1)
    pair_filter.add_depth(depth)
    assert told == []
    pair_filter.add_color(color)
    assert isinstance(told[0], Pair)
    assert told[1:] == [(color, depth)]


def test_filters_can_be_chained():
    color_input, depth_input, downstream = SimpleFilter(), SimpleFilter(), []
    pair_filter, _ = recording_filter(color_input=color_input, depth_input=depth_input)
    pair_filter.registerCallback(lambda color, depth: downstream.append((color, depth)))
    color, depth = image(3), image(3)
    color_input.signalMessage(color)
    depth_input.signalMessage(depth)
    assert downstream == [(color, depth)]


def test_what_waits_is_dropped_when_it_is_flushed():
    pair_filter, told = recording_filter()
    pair_filter.add_color(image(1))
    pair_filter.flush(DropReason.SHUTDOWN)
    (event,) = told
    assert isinstance(event, DroppedColor)
    assert event.reason is DropReason.SHUTDOWN
    assert pair_filter.pairer.waiting_color == 0


def test_a_wider_tolerance_pairs_what_already_waits():
    pair_filter, told = recording_filter()
    pair_filter.reconfigure(PairerConfig(tolerance_s=0.001))
    pair_filter.add_depth(ReceivedImage(None, None, FRAME_NS - 5_000_000))
    pair_filter.add_color(image(1))
    pair_filter.add_depth(image(2))
    assert told == []
    pair_filter.reconfigure(PairerConfig(tolerance_s=0.01))
    assert isinstance(told[0], Pair)


def test_a_callback_that_fails_leaves_the_filter_usable():
    pair_filter, told = recording_filter()
    broken = [True]

    def callback(color, depth):
        if broken.pop() if broken else False:
            raise RuntimeError("the first pair is bad")

    pair_filter.registerCallback(callback)
    pair_filter.add_depth(image(1))
    with pytest.raises(RuntimeError, match="first pair"):
        pair_filter.add_color(image(1))
    pair_filter.add_depth(image(2))
    pair_filter.add_color(image(2))
    assert sum(isinstance(event, Pair) for event in told) == 2
