"""The input side of one camera: subscriptions that feed a `FrameIntake`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from calibnet_core.perception.intake import FrameIntake
from calibnet_core.perception.pairing import StampPairer
from calibnet_core.perception.received_image import ColorDecoder
from calibnet_ros import qos
from calibnet_ros.filters import PairFilter, StockPairFeed, Subscriber
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import intake_settings
from calibnet_ros.reports import Reporter

COLOR, DEPTH, INFO = "color/image", "depth/image", "color/camera_info"
_STOCK_SLOP_S = 0.015


class FrameInput:
    """Subscribes to one camera. Every callback runs in the executor's thread and looks at headers.

    Args:
        node: subscribes.
        values: parameters.
        intake: takes in the messages; its feed is replaced by the one that the parameters ask for.
        prefix: of the topics, such as `front/`; empty for a camera without a name.
        reporter: told of a publisher that cannot be heard, and of encodings that say little.
        after_pair: called when the callback that completed a pair has nothing else to do.

    Raises:
        FilterError: `sync.mode` asks for message_filters and it is not installed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        values: Values,
        intake: FrameIntake,
        *,
        reporter: Reporter,
        prefix: str = "",
        after_pair: Callable[[], None] = lambda: None,
    ) -> None:
        self._node, self._reporter, self._after_pair = node, reporter, after_pair
        self.intake = intake
        settings = intake.settings
        if values["sync.mode"] == "approximate":
            intake.feed = StockPairFeed(
                queue=settings.pairing.queue,
                slop_s=settings.pairing.tolerance_s or _STOCK_SLOP_S,
                on_event=intake.on_event,
            )
        else:
            intake.feed = PairFilter(StampPairer(settings.pairing), intake.on_event)
        self.topics: dict[str, str] = {}
        color, depth = settings.color_transport, settings.depth_transport
        self._subscribers = [
            self._subscribe(_image_type(color), COLOR, prefix, color, self._on_color),
            self._subscribe(_image_type(depth), DEPTH, prefix, depth, self._on_depth),
            self._subscribe(CameraInfo, INFO, prefix, "raw", intake.add_info),
        ]

    def close(self) -> None:
        """Unsubscribe, and count what still waits as dropped."""
        for subscriber in self._subscribers:
            self._node.destroy_subscription(subscriber.sub)
        self.intake.close()

    def reconfigure(self, values: Values) -> None:
        """Take over new tolerances and limits."""
        self.intake.reconfigure(intake_settings(values))

    def _subscribe(
        self,
        msg_type: type,
        role: str,
        prefix: str,
        transport: str,
        callback: Callable[[Any], None],
    ) -> Subscriber:
        name = prefix + role
        if transport != "raw":
            # It lies below the topic of the raw image, wherever that is remapped to.
            name = f"{self._node.resolve_topic_name(name)}/{transport}"
        topic = self.topics[role] = self._node.resolve_topic_name(name)
        subscriber = Subscriber(
            self._node,
            msg_type,
            name,
            qos_profile=qos.own(qos.INPUT),
            qos_overriding_options=qos.overridable(),
            event_callbacks=qos.SubscriptionEventCallbacks(
                incompatible_qos=partial(self._on_incompatible_qos, topic)
            ),
        )
        subscriber.registerCallback(callback)
        return subscriber

    def _on_color(self, msg: Any) -> None:
        self._reporter.color_encoding(getattr(msg, "encoding", ""))
        self._take_in(self.intake.add_color, msg)

    def _on_depth(self, msg: Any) -> None:
        self._take_in(self.intake.add_depth, msg)

    def _take_in(self, add: Callable[[Any, int], None], msg: Any) -> None:
        handed_over = self.intake.num_handed_over
        add(msg, self._now_ns())
        if self.intake.num_handed_over != handed_over:
            self._after_pair()

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_incompatible_qos(self, topic: str, info: Any) -> None:
        policy = qos.policy_name(info.last_policy_kind)
        self._reporter.incompatible(
            f"a publisher of {topic} cannot be heard: its {policy} is weaker than what this node "
            f"asks for; leave qos_overrides.{topic}.subscription.{policy} at its default"
        )


@cache
def cv_bridge_decoder() -> ColorDecoder | None:
    """Reads Bayer and YUV images through cv_bridge; None where it is not installed."""
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    bridge = CvBridge()
    return lambda msg: bridge.imgmsg_to_cv2(msg, desired_encoding="rgb8")


def _image_type(transport: str) -> type:
    return Image if transport == "raw" else CompressedImage
