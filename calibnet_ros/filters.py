"""Pairing as a filter in the manner of message_filters, with or without that package.

Where message_filters is installed its `SimpleFilter` and `Subscriber` are used, so that
`PairFilter` takes any of its filters as inputs and feeds any other. Elsewhere two small stand-ins
with the same interface take their place; the stock approximate synchroniser then is not to be had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.intake import StampPairFeed
from calibnet_core.perception.pairing import Event, Pair, PairerConfig, StampPairer
from calibnet_core.perception.received_image import ReceivedImage


class FilterError(RuntimeError):
    """A filter cannot be set up as asked."""


try:
    from message_filters import ApproximateTimeSynchronizer, SimpleFilter, Subscriber
except ImportError:
    ApproximateTimeSynchronizer = None

    class SimpleFilter:  # type: ignore[no-redef]
        """Calls back with every message it is given."""

        def __init__(self) -> None:
            self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

        def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:  # noqa: N802
            """Have `callback(*messages, *args)` called; returns a number for this connection."""
            connection = len(self.callbacks)
            self.callbacks[connection] = (callback, args)
            return connection

        def signalMessage(self, *messages: Any) -> None:  # noqa: N802
            """Hand messages to every callback."""
            for callback, args in list(self.callbacks.values()):
                callback(*messages, *args)

    class Subscriber(SimpleFilter):  # type: ignore[no-redef]
        """A subscription as a filter. `sub` is the subscription; it belongs to the node."""

        def __init__(self, node: Any, msg_type: type, topic: str, **options: Any) -> None:
            super().__init__()
            self.node, self.topic = node, topic
            self.sub = node.create_subscription(
                msg_type, topic, self.signalMessage, options.pop("qos_profile"), **options
            )


Image = ReceivedImage
OnEvent = Callable[[Event[Image, Image]], None]


class PairFilter(SimpleFilter, StampPairFeed):
    """Pairs colour and depth by stamp and passes on (colour, depth), both `ReceivedImage`.

    Args:
        pairer: decides what belongs together.
        on_event: told of everything that happens, drops and jumps included, before the callbacks.
        color_input, depth_input: filters whose messages are paired; None where `add_color` and
            `add_depth` are called instead.
    """

    def __init__(
        self,
        pairer: StampPairer[Image, Image],
        on_event: OnEvent = lambda event: None,
        *,
        color_input: SimpleFilter | None = None,
        depth_input: SimpleFilter | None = None,
    ) -> None:
        SimpleFilter.__init__(self)
        StampPairFeed.__init__(self, pairer, on_event)
        if color_input is not None:
            color_input.registerCallback(self.add_color)
        if depth_input is not None:
            depth_input.registerCallback(self.add_depth)

    def _tell(self, events: list[Event[Image, Image]]) -> None:
        for event in events:
            super()._tell([event])
            if isinstance(event, Pair):
                self.signalMessage(event.color, event.depth)


class StockPairFeed:
    """The approximate synchroniser of message_filters as a feed, for those who ask for it.

    It does not tell what it lets go, so what waits is unknown.

    Raises:
        FilterError: message_filters is not installed.
    """

    def __init__(self, *, queue: int, slop_s: float, on_event: OnEvent) -> None:
        if ApproximateTimeSynchronizer is None:
            raise FilterError(
                "sync.mode is 'approximate' but message_filters is not installed; install "
                "ros-<distro>-message-filters or choose 'nearest'"
            )
        self._color, self._depth = SimpleFilter(), SimpleFilter()
        self._synchroniser = ApproximateTimeSynchronizer([self._color, self._depth], queue, slop_s)
        # An exception out of this callback would leave the synchroniser locked for ever; ours
        # raises none, and the inference happens elsewhere.
        self._synchroniser.registerCallback(
            lambda color, depth: on_event(Pair(color.stamp_ns, depth.stamp_ns, color, depth))
        )

    def add_color(self, image: Image) -> None:
        """Take in a colour image."""
        self._color.signalMessage(image)

    def add_depth(self, image: Image) -> None:
        """Take in a depth image."""
        self._depth.signalMessage(image)

    def reconfigure(self, config: PairerConfig) -> None:
        """The stock synchroniser keeps what it was made with."""

    def flush(self, reason: DropReason) -> None:
        """The stock synchroniser gives nothing back."""

    def waiting(self) -> None:
        """Unknown."""
