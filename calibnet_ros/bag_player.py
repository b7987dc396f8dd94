"""Plays an RGB-D recording over DDS and listens for the answers of a perception node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import (
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
)
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from calibnet_core.data.bags import BagMessage, RgbdBag
from calibnet_core.perception.pairing import Pair, StampPairer
from calibnet_core.perception.received_image import header_stamp_ns
from calibnet_ros import msg as calibnet_msgs
from calibnet_ros import qos
from calibnet_ros.diagnostics import CAMERA_STATUS

_LAST_ANSWERS_S = 2.0  # on their way to here when the node already rests
_DISCOVERY_HINT = (
    "start it, remap its inputs to the recording's topics, and give both processes the same "
    "ROS_DOMAIN_ID and middleware profile"
)


class PlayError(RuntimeError):
    """The recording cannot be played to its end."""


@dataclass(eq=False)
class Answer:
    """Everything the node published for one colour stamp; pictures only where asked for."""

    result: calibnet_msgs.InstanceMaskArray | None = None
    label_image: Image | None = None
    overlay: Image | None = None
    latency_ms: float = float("nan")
    num_results: int = 0


@dataclass(frozen=True, eq=False)
class SentFrame:
    """A colour image that was played."""

    stamp_ns: int


@dataclass(eq=False)
class PlayReport:
    """What became of a recording.

    Attributes:
        sent: colour images in the order they were played.
        answers: by colour stamp.
        counters: how far those of the node's diagnostics rose, once it came to rest.
    """

    sent: list[SentFrame] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def num_answered(self) -> int:
        """Sent frames with a result."""
        return sum(self.answers[frame.stamp_ns].result is not None for frame in self._known())

    @property
    def drops(self) -> dict[str, int]:
        """Frames that the node let go, by stage and reason."""
        prefixes = ("dropped_color.", "dropped_pairs.")
        return {key: n for key, n in self.counters.items() if n and key.startswith(prefixes)}

    @property
    def num_unaccounted(self) -> int:
        """Frames neither answered nor dropped for a reason; waiting or lost on the way."""
        return len(self.sent) - self.num_answered - sum(self.drops.values())

    def _known(self) -> list[SentFrame]:
        return [frame for frame in self.sent if frame.stamp_ns in self.answers]


class BagPlayer:
    """Publishes a recording on its own topics and collects what a perception node answers.

    Args:
        bag: the recording.
        node_name: fully qualified name of the perception node.
        with_pictures: also collect label images and overlays.
        context: of rclpy; the default one if None.
    """

    def __init__(
        self,
        bag: RgbdBag,
        *,
        node_name: str = "/calibnet",
        with_pictures: bool = False,
        context: Context | None = None,
    ) -> None:
        self.bag, self._with_pictures = bag, with_pictures
        self._node_name = "/" + node_name.strip("/")
        self.report = PlayReport()
        self._changed = threading.Condition()
        self._sent_at: dict[int, float] = {}
        self._counters: dict[str, int] = {}
        self._counters_before: dict[str, int] = {}
        self._failure = ""
        self._is_known_to_node = False
        self.node = Node("play_bag", context=context)
        types = {
            "color": Image if bag.color_transport == "raw" else CompressedImage,
            "depth": Image if bag.depth_transport == "raw" else CompressedImage,
            "info": CameraInfo,
        }
        topics = {"color": bag.color_topic, "depth": bag.depth_topic, "info": bag.info_topic}
        self._publishers = {
            kind: self.node.create_publisher(types[kind], topic, qos.RESULT)
            for kind, topic in topics.items()
            if topic is not None
        }
        self._subscriptions = [
            self._listen(calibnet_msgs.InstanceMaskArray, "instances", qos.RESULT, self._on_result)
        ]
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        if with_pictures:
            for name in ("label_image", "overlay"):
                callback = self._picture_callback(name)
                self._subscriptions.append(self._listen(Image, name, qos.PICTURE, callback))
        # The last to be announced: once the node sends this one what it had published before, it
        # sends its answers too, the first included.
        self._subscriptions.append(
            self._listen(calibnet_msgs.ModelInfo, "model_info", qos.LATCHED, self._on_model_info)
        )
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="play_bag", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self.node.destroy_node()

    def wait_for_node(self, timeout_s: float, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the node is active and every topic is connected.

        Args:
            timeout_s: how long.
            is_alive: asked in between; False ends the waiting.

        Raises:
            PlayError: the node ended or did not appear in time.
        """
        deadline = time.monotonic() + timeout_s
        while not (self._is_connected() and self._is_known_to_node and self._counters):
            if self._failure:
                raise PlayError(f"the perception node {self._node_name} is {self._failure}")
            if not is_alive():
                raise PlayError(f"the perception node {self._node_name} ended before it was ready")
            if time.monotonic() > deadline:
                raise PlayError(
                    f"no active perception node {self._node_name} within {timeout_s:.0f} s; "
                    + _DISCOVERY_HINT
                )
            time.sleep(0.02)
        with self._changed:  # the node may have been at work before
            self._counters_before = dict(self._counters)

    def announce_calibration(self, timeout_s: float) -> bool:
        """Publish the recording's first CameraInfo ahead of its time, and wait until it is heard.

        A node that ran before the recording began would have had it; otherwise it may arrive after
        the first pairs, which then have no geometry.

        Returns:
            False where there is none, or it was not heard within `timeout_s`.

        Raises:
            BagError: the recording is damaged.
        """
        info = next((message for message in self.bag.messages() if message.kind == "info"), None)
        if info is None:
            return False
        heard = self._counters.get("received_info", 0)
        self._publishers[info.kind].publish(info.cdr)
        return self._wait_until(lambda: self._counters.get("received_info", 0) > heard, timeout_s)

    def play_in_step(
        self, timeout_s: float, on_answer: Callable[[SentFrame], None] = lambda frame: None
    ) -> PlayReport:
        """Play pair by pair: the next message follows when the last pair has been answered.

        Args:
            timeout_s: longest wait for one answer.
            on_answer: called for every pair once all of its answer is in, or the time is up.

        Raises:
            BagError: the recording is damaged.
        """
        # The same pairing as in the node tells after which message an answer is due.
        pairer: StampPairer[SentFrame, None] = StampPairer()
        for message in self.bag.messages():
            frame = self._publish(message)
            if message.kind == "info" or message.stamp_ns == 0:
                continue
            events = (
                pairer.add_color(message.stamp_ns, frame)
                if frame is not None
                else pairer.add_depth(message.stamp_ns, None)
            )
            for event in events:
                if isinstance(event, Pair):
                    self._wait_until(
                        lambda stamp=event.color_stamp_ns: self._is_answered(stamp), timeout_s
                    )
                    on_answer(event.color)
        return self._come_to_rest(timeout_s)

    def play_at_rate(self, rate: float, timeout_s: float) -> PlayReport:
        """Play at `rate` times the recording's own speed, whether the node follows or not.

        Args:
            rate: 1 is the recording's own speed.
            timeout_s: longest wait for the node to come to rest at the end.

        Raises:
            BagError: the recording is damaged.
        """
        started, first_ns = time.monotonic(), None
        for message in self.bag.messages():
            first_ns = message.log_ns if first_ns is None else first_ns
            due = started + (message.log_ns - first_ns) / 1e9 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._publish(message)
        return self._come_to_rest(timeout_s)

    def answers(self) -> Iterator[tuple[SentFrame, Answer]]:
        """Sent frames with what came back, in the order they were played."""
        with self._changed:
            known = dict(self.report.answers)
        for frame in self.report.sent:
            yield frame, known.get(frame.stamp_ns, Answer())

    def _publish(self, message: BagMessage) -> SentFrame | None:
        frame = None
        if message.kind == "color":
            frame = SentFrame(message.stamp_ns)
            with self._changed:
                self.report.sent.append(frame)
                self._sent_at[message.stamp_ns] = time.monotonic()
        self._publishers[message.kind].publish(message.cdr)  # serialised bytes go out as they are
        return frame

    def _come_to_rest(self, timeout_s: float) -> PlayReport:
        """Wait until the node's counters say that nothing is on its way any more."""
        with self._changed:
            self._counters = {}  # only what is counted from now on tells of the end
            self._changed.wait_for(self._is_at_rest, timeout_s)
            self._changed.wait_for(self._has_heard_all, min(timeout_s, _LAST_ANSWERS_S))
            self.report.counters = {key: self._risen(key) for key in self._counters}
        return self.report

    def _is_at_rest(self) -> bool:
        has_all = self._risen("received_color") >= len(self.report.sent)
        return has_all and self._counters.get("in_flight") == 0

    def _has_heard_all(self) -> bool:
        heard = sum(answer.num_results for answer in self.report.answers.values())
        return heard >= self._risen("published")

    def _risen(self, key: str) -> int:
        return self._counters.get(key, 0) - self._counters_before.get(key, 0)

    def _is_answered(self, stamp_ns: int) -> bool:
        answer = self.report.answers.get(stamp_ns)
        if answer is None or answer.result is None:
            return False
        return not self._with_pictures or None not in (answer.label_image, answer.overlay)

    def _is_connected(self) -> bool:
        names = [publisher.topic_name for publisher in self._publishers.values()]
        heard = all(self.node.count_subscribers(name) > 0 for name in names)
        matched = all(
            self._publishers[kind].get_subscription_count() > 0 for kind in ("color", "depth")
        )
        sources = [self.node.count_publishers(entry.topic_name) for entry in self._subscriptions]
        return heard and matched and all(sources)

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def _listen(self, msg_type: type, name: str, profile: Any, callback: Any) -> Any:
        return self.node.create_subscription(
            msg_type, f"{self._node_name}/{name}", callback, profile
        )

    def _answer(self, stamp_ns: int) -> Answer:
        return self.report.answers.setdefault(stamp_ns, Answer())

    def _on_result(self, msg: calibnet_msgs.InstanceMaskArray) -> None:
        stamp_ns = header_stamp_ns(msg.header)
        with self._changed:
            answer = self._answer(stamp_ns)
            answer.result = msg
            answer.num_results += 1
            sent_at = self._sent_at.get(stamp_ns)
            if sent_at is not None:
                answer.latency_ms = (time.monotonic() - sent_at) * 1e3
            self._changed.notify_all()

    def _on_model_info(self, _: calibnet_msgs.ModelInfo) -> None:
        self._is_known_to_node = True

    def _picture_callback(self, name: str) -> Callable[[Image], None]:
        def callback(msg: Image) -> None:
            with self._changed:
                setattr(self._answer(header_stamp_ns(msg.header)), name, msg)
                self._changed.notify_all()

        return callback

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == f"{self._node_name}: {CAMERA_STATUS}":
                with self._changed:
                    is_broken = status.level == DiagnosticStatus.ERROR and not status.values
                    self._failure = status.message if is_broken else ""
                    self._counters = {
                        entry.key: int(entry.value)
                        for entry in status.values
                        if entry.value.isdecimal()
                    }
                    self._changed.notify_all()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin()
