"""Pairing as a filter in the manner of message_filters, with or without that package.

Where message_filters is installed its `SimpleFilter` and `Subscriber` are used, so that
`PairFilter` takes any of its filters as inputs and feeds any other. Elsewhere two small stand-ins
with the same interface take their place; the stock approximate synchroniser then is not to be had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.frame_assembly import ReceivedImage
from calibnet_core.perception.pairing import Event, Pair, PairerConfig, StampPairer

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


class PairFilter(SimpleFilter):
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
        super().__init__()
        self.pairer, self._on_event = pairer, on_event
        if color_input is not None:
            color_input.registerCallback(self.add_color)
        if depth_input is not None:
            depth_input.registerCallback(self.add_depth)

    def add_color(self, image: Image) -> None:
        """Take in a colour image."""
        self._tell(self.pairer.add_color(image.stamp_ns, image))

    def add_depth(self, image: Image) -> None:
        """Take in a depth image."""
        self._tell(self.pairer.add_depth(image.stamp_ns, image))

    def reconfigure(self, config: PairerConfig) -> None:
        """Change the pairer's settings while images wait."""
        self._tell(self.pairer.reconfigure(config))

    def flush(self, reason: DropReason) -> None:
        """Drop what waits."""
        self._tell(self.pairer.flush(reason))

    def _tell(self, events: list[Event[Image, Image]]) -> None:
        for event in events:
            self._on_event(event)
            if isinstance(event, Pair):
                self.signalMessage(event.color, event.depth)
