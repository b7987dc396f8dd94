"""From messages as they arrive to pairs to process: checks, counting, pairing, limits.

The node and the evaluation of recordings both run this, so both make the same pairs of the same
messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from calibnet_core.perception.accounting import DropReason, FrameLedger, LedgerSnapshot
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.pairing import (
    BackwardJump,
    DroppedColor,
    DroppedDepth,
    Event,
    Pair,
    PairerConfig,
    StampPairer,
)
from calibnet_core.perception.received_image import (
    ColorDecoder,
    ReceivedImage,
    header_stamp_ns,
    receive_color,
    receive_compressed_color,
    receive_compressed_depth,
    receive_depth,
)

_NS_PER_S = 1_000_000_000
# Without it a camera at just the highest rate would lose every other pair to jitter.
_RATE_SLACK = 0.9

ImageEvent: TypeAlias = Event[ReceivedImage, ReceivedImage]
ColorTransport: TypeAlias = Literal["raw", "compressed"]
DepthTransport: TypeAlias = Literal["raw", "compressedDepth"]


@dataclass(frozen=True, kw_only=True)
class IntakeSettings:
    """What is taken in, and how.

    Attributes:
        pairing: how colour and depth are paired.
        use_arrival_time: pair by arrival, for drivers that do not stamp their images.
        require_depth: False lets a colour image without partner go on alone, unless one that came
            after it has gone on already.
        depth_timeout_s: without depth for so long, by the stamps, colour images no longer wait for
            it where it is not required.
        max_rate_hz: most pairs a second; those are left out whose stamps follow the pair before by
            less than nine tenths of the period. 0 takes all.
        color_transport, depth_transport: which messages come in.
    """

    pairing: PairerConfig = field(default_factory=PairerConfig)
    use_arrival_time: bool = False
    require_depth: bool = True
    depth_timeout_s: float = 2.0
    max_rate_hz: float = 0.0
    color_transport: ColorTransport = "raw"
    depth_transport: DepthTransport = "raw"


@dataclass(frozen=True, eq=False)
class FramePair:
    """A colour image with its depth, on the way to be processed.

    Attributes:
        color: the colour image.
        depth: its partner; None where the colour image goes on alone.
        camera_info: newest CameraInfo of the colour image, None before the first.
        paired_at: monotonic time of pairing, in seconds.
    """

    color: ReceivedImage
    depth: ReceivedImage | None
    camera_info: Any
    paired_at: float

    @property
    def offset_ns(self) -> int:
        """Depth stamp minus colour stamp; 0 without depth."""
        return 0 if self.depth is None else self.depth.stamp_ns - self.color.stamp_ns


class IntakeListener(Protocol):
    """Who is told of what is wrong with the input."""

    def dropped(self, stream: str, reason: DropReason, message: str) -> None:
        """A message of `stream`, `color` or `depth`, was dropped."""

    def backward_jump(self, jump: BackwardJump) -> None:
        """Time went back."""

    def paired(self, color: ReceivedImage, depth: ReceivedImage) -> None:
        """Two images became a pair."""

    def camera_info_changed(self, before: Any, now: Any) -> None:
        """The calibration is another than before."""


class PairFeed(Protocol):
    """Pairs images and tells of everything that becomes of them."""

    def add_color(self, image: ReceivedImage) -> None:
        """Take in a colour image."""

    def add_depth(self, image: ReceivedImage) -> None:
        """Take in a depth image."""

    def reconfigure(self, config: PairerConfig) -> None:
        """Change the settings while images wait."""

    def flush(self, reason: DropReason) -> None:
        """Drop what waits."""

    def waiting(self) -> tuple[int, int] | None:
        """Colour and depth images that wait; None where that cannot be told."""


class StampPairFeed:
    """A `StampPairer` as a feed; `on_event` is told of everything that follows."""

    def __init__(
        self,
        pairer: StampPairer[ReceivedImage, ReceivedImage],
        on_event: Callable[[ImageEvent], None],
    ) -> None:
        self._pairer, self._on_event = pairer, on_event

    def add_color(self, image: ReceivedImage) -> None:
        """Take in a colour image."""
        self._tell(self._pairer.add_color(image.stamp_ns, image))

    def add_depth(self, image: ReceivedImage) -> None:
        """Take in a depth image."""
        self._tell(self._pairer.add_depth(image.stamp_ns, image))

    def reconfigure(self, config: PairerConfig) -> None:
        """Change the settings while images wait."""
        self._tell(self._pairer.reconfigure(config))

    def flush(self, reason: DropReason) -> None:
        """Drop what waits."""
        self._tell(self._pairer.flush(reason))

    def waiting(self) -> tuple[int, int]:
        """Colour and depth images that wait."""
        return self._pairer.waiting_color, self._pairer.waiting_depth

    def _tell(self, events: list[ImageEvent]) -> None:
        for event in events:
            self._on_event(event)


class FrameIntake:
    """Takes in the messages of one camera and hands over pairs.

    Whatever is wrong with a message is counted in `ledger` and told to `listener`; nothing is
    raised. Not thread-safe; it holds the ledger still while it works, so that snapshots balance.

    Args:
        settings: what is taken in.
        ledger: counts.
        listener: is told of faults.
        on_pair: gets each pair. It must see to it that the pair is counted where it ends.
        decoder: reads colour encodings that are not read here.
        is_urgent: whether a pair of this colour stamp is waited for, so that no rate keeps it back.

    Attributes:
        num_handed_over: pairs that `on_pair` got.
    """

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        ledger: FrameLedger,
        listener: IntakeListener,
        on_pair: Callable[[FramePair], None],
        decoder: ColorDecoder | None = None,
        is_urgent: Callable[[int], bool] = lambda stamp_ns: False,
    ) -> None:
        self.settings, self._is_urgent = settings, is_urgent
        self.ledger, self._listener, self._on_pair = ledger, listener, on_pair
        self.num_handed_over = 0
        self._decoder = decoder
        self.feed: PairFeed = StampPairFeed(StampPairer(settings.pairing), self.on_event)
        self._camera_info: Any = None
        self._calibration: tuple[Any, ...] = ()
        self._depth_awaited_ns: int | None = None
        self._passed_ns: int | None = None
        self._num_colors = 0
        self._newest_place = 0  # of the colour images that went on

    def add_color(self, msg: Any, arrived_ns: int = 0) -> None:
        """Take in a colour message; `arrived_ns` is its stamp where `use_arrival_time` is set."""
        with self.ledger.atomically():
            self.ledger.color_received()
            try:
                image = self._receive_color(msg, self._stamp_ns(msg, arrived_ns))
            except ImageFormatError as error:
                self.ledger.color_dropped(error.reason)
                self._listener.dropped("color", error.reason, str(error))
                return
            self._num_colors += 1
            image = replace(image, place=self._num_colors)
            if not self._depth_is_missed(image.stamp_ns):
                self.feed.add_color(image)
            elif self.feed.waiting() is None:
                self._take(image, None)  # such a feed would never give it back
            else:
                self.feed.add_color(image)  # it notices duplicates, and time that jumps back
                self.feed.flush(DropReason.NO_PARTNER)

    def add_depth(self, msg: Any, arrived_ns: int = 0) -> None:
        """Take in a depth message."""
        with self.ledger.atomically():
            self.ledger.depth_received()
            try:
                image = self._receive_depth(msg, self._stamp_ns(msg, arrived_ns))
            except ImageFormatError as error:
                self.ledger.depth_dropped(error.reason)
                self._listener.dropped("depth", error.reason, str(error))
                return
            self._depth_awaited_ns = image.stamp_ns
            self.feed.add_depth(image)

    def add_info(self, msg: Any) -> None:
        """Take in a CameraInfo of the colour image; it holds until the next."""
        with self.ledger.atomically():
            self.ledger.info_received()
            before, self._camera_info = self._camera_info, msg
            known, self._calibration = self._calibration, _calibration(msg)
        if before is not None and known != self._calibration:
            self._listener.camera_info_changed(before, msg)

    def reconfigure(self, settings: IntakeSettings) -> None:
        """Take over new settings while images wait."""
        with self.ledger.atomically():
            self.settings = settings
            self.feed.reconfigure(settings.pairing)

    def close(self, reason: DropReason = DropReason.SHUTDOWN) -> None:
        """Drop what waits for a partner."""
        with self.ledger.atomically():
            self.feed.flush(reason)

    def snapshot(self, in_flight: int) -> LedgerSnapshot:
        """The counters together with what waits.

        Args:
            in_flight: pairs handed over and not yet counted where they end. Ask for it while the
                ledger is held still.
        """
        with self.ledger.atomically():
            waiting = self.feed.waiting()
            if waiting is not None:
                return self.ledger.snapshot(
                    waiting_color=waiting[0], waiting_depth=waiting[1], in_flight=in_flight
                )
            # Such a feed does not tell what it lets go: all of it reads as waiting.
            counts = self.ledger.snapshot(waiting_color=0, in_flight=in_flight)
            unknown = counts.received_color - counts.paired - sum(counts.dropped_color.values())
            return self.ledger.snapshot(waiting_color=unknown, in_flight=in_flight)

    def on_event(self, event: ImageEvent) -> None:
        """Count what becomes of an image; the feed calls this."""
        if isinstance(event, Pair):
            self._listener.paired(event.color, event.depth)
            self._take(event.color, event.depth)
        elif isinstance(event, DroppedColor):
            is_lone = not self.settings.require_depth and event.reason is DropReason.NO_PARTNER
            # An older image would replace a newer one in the mailbox, or be answered after it.
            if is_lone and event.payload.place > self._newest_place:
                self._take(event.payload, None)
            else:
                self.ledger.color_dropped(event.reason)
        elif isinstance(event, DroppedDepth):
            self.ledger.depth_dropped(event.reason)
        else:
            self.ledger.backward_jumped()
            self._listener.backward_jump(event)

    def _take(self, color: ReceivedImage, depth: ReceivedImage | None) -> None:
        self.ledger.paired(with_depth=depth is not None)
        self._newest_place = max(self._newest_place, color.place)
        if self._is_too_soon(color.stamp_ns) and not self._is_urgent(color.stamp_ns):
            self.ledger.pair_dropped(DropReason.OVER_RATE)
            return
        self._passed_ns = color.stamp_ns
        self.num_handed_over += 1
        self._on_pair(FramePair(color, depth, self._camera_info, time.monotonic()))

    def _is_too_soon(self, stamp_ns: int) -> bool:
        rate, passed_ns = self.settings.max_rate_hz, self._passed_ns
        if rate <= 0 or passed_ns is None:
            return False
        return 0 <= stamp_ns - passed_ns < _RATE_SLACK / rate * _NS_PER_S

    def _depth_is_missed(self, stamp_ns: int) -> bool:
        # The later of these is where waiting began: the last depth image, the first colour image,
        # a return to an earlier time. Depth from the future counts as if it came with this image.
        if self._depth_awaited_ns is None or stamp_ns < self._depth_awaited_ns:
            self._depth_awaited_ns = stamp_ns
        waited_s = (stamp_ns - self._depth_awaited_ns) / _NS_PER_S
        return not self.settings.require_depth and waited_s > self.settings.depth_timeout_s

    def _receive_color(self, msg: Any, stamp_ns: int) -> ReceivedImage:
        if self.settings.color_transport == "compressed":
            return receive_compressed_color(msg, stamp_ns)
        return receive_color(msg, stamp_ns, self._decoder)

    def _receive_depth(self, msg: Any, stamp_ns: int) -> ReceivedImage:
        if self.settings.depth_transport == "compressedDepth":
            return receive_compressed_depth(msg, stamp_ns)
        return receive_depth(msg, stamp_ns)

    def _stamp_ns(self, msg: Any, arrived_ns: int) -> int:
        if self.settings.use_arrival_time:
            return arrived_ns
        stamp_ns = header_stamp_ns(msg.header)
        if stamp_ns == 0:
            raise ImageFormatError(
                "the image has no stamp, so it cannot be paired; let the driver stamp its images, "
                "or set sync.use_arrival_time",
                DropReason.BAD_STAMP,
            )
        return stamp_ns


def _calibration(info: Any) -> tuple[Any, ...]:
    roi = info.roi
    return (
        *(int(info.height), int(info.width), int(info.binning_x), int(info.binning_y)),
        *(int(roi.x_offset), int(roi.y_offset), int(roi.height), int(roi.width)),
        str(info.distortion_model),
        # As bytes, since a NaN is not equal to itself.
        *(np.asarray(numbers, np.float64).tobytes() for numbers in (info.k, info.d, info.p)),
    )
