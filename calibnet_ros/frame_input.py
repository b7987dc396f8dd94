"""The input side of the node: subscriptions, checks, pairing, and the mailbox to the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image

from calibnet_core.perception.accounting import DropReason, FrameLedger, LedgerSnapshot
from calibnet_core.perception.frame_assembly import (
    ColorDecoder,
    ReceivedImage,
    header_stamp_ns,
    receive_color,
    receive_depth,
)
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.mailbox import LatestSlot
from calibnet_core.perception.pairing import (
    BackwardJump,
    DroppedColor,
    DroppedDepth,
    Event,
    Pair,
    StampPairer,
)
from calibnet_ros import qos
from calibnet_ros.filters import (
    ApproximateTimeSynchronizer,
    PairFilter,
    SimpleFilter,
    Subscriber,
)
from calibnet_ros.parameters import Values, pairer_config
from calibnet_ros.reports import Reporter


class InputError(RuntimeError):
    """The inputs cannot be set up as the parameters ask."""


@dataclass(frozen=True, eq=False)
class FramePair:
    """A colour image with its depth, on the way to the worker.

    Attributes:
        color, depth: the images.
        camera_info: newest CameraInfo of the colour image, None before the first.
        paired_at: monotonic time of pairing, in seconds.
    """

    color: ReceivedImage
    depth: ReceivedImage
    camera_info: CameraInfo | None
    paired_at: float

    @property
    def offset_ns(self) -> int:
        """Depth stamp minus colour stamp."""
        return self.depth.stamp_ns - self.color.stamp_ns


class FrameInput:
    """Subscribes to one camera and puts its newest pair into `mailbox`.

    Every callback runs in the executor's thread and only looks at headers. Whatever is wrong with a
    message is counted in `ledger` and told to `reporter`; nothing is raised.

    Raises:
        InputError: `sync.mode` asks for message_filters and it is not installed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        values: Values,
        *,
        ledger: FrameLedger,
        mailbox: LatestSlot[FramePair],
        reporter: Reporter,
    ) -> None:
        self._node, self._ledger, self._mailbox, self._reporter = node, ledger, mailbox, reporter
        self._use_arrival_time = bool(values["sync.use_arrival_time"])
        self._camera_info: CameraInfo | None = None
        self._skipped = 0
        self._approximate: tuple[SimpleFilter, SimpleFilter] | None = None
        self._pairs = PairFilter(StampPairer(pairer_config(values)), self._on_event)
        if values["sync.mode"] == "approximate":
            self._approximate = self._connect_stock_synchroniser(values)
        else:
            self._pairs.registerCallback(self._on_pair)

        self.color = self._subscribe(Image, "color/image")
        self.depth = self._subscribe(Image, "depth/image")
        self.info = self._subscribe(CameraInfo, "color/camera_info")
        self.color.registerCallback(self._on_color)
        self.depth.registerCallback(self._on_depth)
        self.info.registerCallback(self._on_info)

    def close(self) -> None:
        """Unsubscribe, and count what still waits as dropped."""
        for subscriber in (self.color, self.depth, self.info):
            self._node.destroy_subscription(subscriber.sub)
        with self._ledger.atomically():
            self._pairs.flush(DropReason.SHUTDOWN)
            if self._mailbox.close() is not None:
                self._ledger.pair_dropped(DropReason.SHUTDOWN)

    def reconfigure(self, values: Values) -> None:
        """Take over new tolerances."""
        with self._ledger.atomically():
            self._pairs.reconfigure(pairer_config(values))

    def take_skipped(self) -> int:
        """How many pairs a newer one replaced since this was last asked."""
        with self._ledger.atomically():
            skipped, self._skipped = self._skipped, 0
        return skipped

    def snapshot(self) -> LedgerSnapshot:
        """The counters together with what is underway."""
        with self._ledger.atomically():
            in_flight = self._mailbox.in_flight
            if self._approximate is None:
                waiting = self._pairs.pairer.waiting_color
                return self._ledger.snapshot(
                    waiting_color=waiting,
                    in_flight=in_flight,
                    waiting_depth=self._pairs.pairer.waiting_depth,
                )
            # The stock synchroniser does not tell what it lets go: all of it reads as waiting.
            counts = self._ledger.snapshot(waiting_color=0, in_flight=in_flight)
            waiting = counts.received_color - counts.paired - sum(counts.dropped_color.values())
            return self._ledger.snapshot(waiting_color=waiting, in_flight=in_flight)

    def _subscribe(self, msg_type: type, topic: str) -> Subscriber:
        return Subscriber(
            self._node,
            msg_type,
            topic,
            qos_profile=qos.own(qos.INPUT),
            qos_overriding_options=qos.overridable(),
        )

    def _on_color(self, msg: Image) -> None:
        with self._ledger.atomically():
            self._ledger.color_received()
            try:
                image = receive_color(msg, self._stamp_ns(msg), cv_bridge_decoder())
            except ImageFormatError as error:
                self._ledger.color_dropped(error.reason)
                self._reporter.dropped("color", error.reason, str(error))
                return
            if self._approximate is None:
                self._pairs.add_color(image)
            else:
                self._approximate[0].signalMessage(image)

    def _on_depth(self, msg: Image) -> None:
        with self._ledger.atomically():
            self._ledger.depth_received()
            try:
                image = receive_depth(msg, self._stamp_ns(msg))
            except ImageFormatError as error:
                self._ledger.depth_dropped(error.reason)
                self._reporter.dropped("depth", error.reason, str(error))
                return
            if self._approximate is None:
                self._pairs.add_depth(image)
            else:
                self._approximate[1].signalMessage(image)

    def _on_info(self, msg: CameraInfo) -> None:
        self._ledger.info_received()
        self._camera_info = msg

    def _stamp_ns(self, msg: Image) -> int:
        if self._use_arrival_time:
            return int(self._node.get_clock().now().nanoseconds)
        stamp_ns = header_stamp_ns(msg.header)
        if stamp_ns == 0:
            raise ImageFormatError(
                "the image has no stamp, so it cannot be paired; let the driver stamp its images, "
                "or set sync.use_arrival_time",
                DropReason.BAD_STAMP,
            )
        return stamp_ns

    def _on_event(self, event: Event[ReceivedImage, ReceivedImage]) -> None:
        if isinstance(event, DroppedColor):
            self._ledger.color_dropped(event.reason)
        elif isinstance(event, DroppedDepth):
            self._ledger.depth_dropped(event.reason)
        elif isinstance(event, BackwardJump):
            self._ledger.backward_jumped()
            self._reporter.backward_jump(event)
        else:
            assert isinstance(event, Pair)  # counted when the callback brings it

    def _on_pair(self, color: ReceivedImage, depth: ReceivedImage) -> None:
        self._ledger.paired()
        self._reporter.frame_ids(color.header.frame_id, depth.header.frame_id)
        pair = FramePair(color, depth, self._camera_info, time.monotonic())
        if self._mailbox.put(pair) is not None:
            self._skipped += 1
            self._ledger.pair_dropped(DropReason.SUPERSEDED)

    def _connect_stock_synchroniser(self, values: Values) -> tuple[SimpleFilter, SimpleFilter]:
        if ApproximateTimeSynchronizer is None:
            raise InputError(
                "sync.mode is 'approximate' but message_filters is not installed; install "
                "ros-<distro>-message-filters or choose 'nearest'"
            )
        feeds = SimpleFilter(), SimpleFilter()
        slop_s = float(values["sync.tolerance"]) or 0.015
        synchroniser = ApproximateTimeSynchronizer(feeds, int(values["sync.queue"]), slop_s)
        # An exception out of this callback would leave the synchroniser locked for ever; ours
        # raises none, and the inference happens elsewhere.
        synchroniser.registerCallback(self._on_pair)
        return feeds


@cache
def cv_bridge_decoder() -> ColorDecoder | None:
    """Reads Bayer and YUV images through cv_bridge; None where it is not installed."""
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    bridge = CvBridge()
    return lambda msg: bridge.imgmsg_to_cv2(msg, desired_encoding="rgb8")
