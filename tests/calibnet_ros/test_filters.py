"""Pairing in the manner of message_filters."""

from __future__ import annotations

import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import DroppedColor, Pair, PairerConfig, StampPairer
from calibnet_core.perception.received_image import ReceivedImage
from calibnet_ros import filters
from calibnet_ros.filters import FilterError, PairFilter, SimpleFilter, StockPairFeed

FRAME_NS = 33_000_000


def image(frame, offset_ns=0):
    return ReceivedImage(None, frame * FRAME_NS + offset_ns, lambda: None)


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
    assert (told, pair_filter.waiting()) == ([], (0, 1))
    pair_filter.add_color(color)
    assert isinstance(told[0], Pair)
    assert told[1:] == [(color, depth)]
    assert pair_filter.waiting() == (0, 0)


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
    assert pair_filter.waiting() == (0, 0)


def test_a_wider_tolerance_pairs_what_already_waits_and_passes_it_on():
    pair_filter, told = recording_filter()
    pair_filter.reconfigure(PairerConfig(tolerance_s=0.001))
    color, depth = image(1), image(1, offset_ns=-5_000_000)
    pair_filter.add_depth(depth)
    pair_filter.add_color(color)
    pair_filter.add_depth(image(2))
    assert told == []
    pair_filter.reconfigure(PairerConfig(tolerance_s=0.01))
    assert isinstance(told[0], Pair)
    assert told[1:] == [(color, depth)]


def test_a_callback_that_fails_leaves_the_filter_usable():
    pair_filter, told = recording_filter()
    broken = [True]

    def callback(color, depth):
        if broken and broken.pop():
            raise RuntimeError("the first pair is bad")

    pair_filter.registerCallback(callback)
    pair_filter.add_depth(image(1))
    with pytest.raises(RuntimeError, match="first pair"):
        pair_filter.add_color(image(1))
    pair_filter.add_depth(image(2))
    pair_filter.add_color(image(2))
    assert sum(isinstance(event, Pair) for event in told) == 2


class PairsInOrder(SimpleFilter):
    """As much of the stock synchroniser as the feed uses: it pairs by order of arrival."""

    def __init__(self, inputs, queue, slop_s):
        super().__init__()
        self.settings = queue, slop_s
        self.waiting = [[], []]
        for place, source in enumerate(inputs):
            source.registerCallback(self.add, place)

    def add(self, message, place):
        self.waiting[place].append(message)
        if all(self.waiting):
            self.signalMessage(*(waiting.pop(0) for waiting in self.waiting))


def test_the_stock_synchroniser_is_fed_by_stream_and_its_pairs_are_told_of(monkeypatch):
    monkeypatch.setattr(filters, "ApproximateTimeSynchronizer", PairsInOrder)
    told = []
    feed = StockPairFeed(queue=7, slop_s=0.02, on_event=told.append)
    assert feed._synchroniser.settings == (7, 0.02)
    color, depth = image(1), image(1, offset_ns=9)
    feed.add_color(color)
    assert told == []
    feed.add_depth(depth)
    assert told == [Pair(color.stamp_ns, depth.stamp_ns, color, depth)]
    assert feed.waiting() is None


@pytest.mark.skipif(
    filters.ApproximateTimeSynchronizer is not None, reason="message_filters is installed"
)
def test_without_message_filters_the_stock_synchroniser_is_refused_with_both_ways_out():
    with pytest.raises(FilterError, match=r"install ros-<distro>-message-filters or .*'nearest'"):
        StockPairFeed(queue=5, slop_s=0.01, on_event=print)
