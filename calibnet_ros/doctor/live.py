"""Facts from the live graph: who publishes what, and a few seconds of the images themselves."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from calibnet_core.perception.received_image import ColorDecoder
from calibnet_ros import qos
from calibnet_ros.doctor.choosing import choose
from calibnet_ros.doctor.facts import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    Choice,
    EndpointFacts,
    InputFacts,
    Request,
    Role,
    TopicFacts,
)
from calibnet_ros.doctor.recorder import Recorder

_MSG_TYPES = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage, CAMERA_INFO: CameraInfo}
_DISCOVERY_S = 5.0  # a loaded machine; where all is there it takes half a second
_SETTLING_S = 0.5  # the rest of a driver's topics follows its first


def gather_live(
    request: Request,
    *,
    duration_s: float,
    ros_arguments: Sequence[str] = (),
    decoder: ColorDecoder | None = None,
) -> InputFacts:
    """Listen to the graph.

    Args:
        request: topics that were asked for.
        duration_s: how long to listen, after up to five seconds of looking for the topics.
        ros_arguments: from `--ros-args` on.
        decoder: for colour encodings that are not read natively.

    Returns:
        Facts; `failure` says so where the middleware does not start.
    """
    facts = InputFacts(source="live", request=request)
    context = Context()
    try:
        # An interruption is to end the doctor as Python does it.
        rclpy.init(
            args=["doctor", *ros_arguments],
            context=context,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        node = rclpy.create_node("calibnet_doctor", context=context, start_parameter_services=False)
    except Exception as error:  # rcl raises various types for settings that it cannot use
        facts.failure = f"ROS does not start: {str(error).strip() or type(error).__name__}"
        rclpy.try_shutdown(context=context)
        return facts
    try:
        _listen(node, context, facts, duration_s, decoder)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return facts


def _listen(
    node: Node,
    context: Context,
    facts: InputFacts,
    duration_s: float,
    decoder: ColorDecoder | None,
) -> None:
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    facts.choice = _discover(node, executor, facts.request)
    clock_times: list[float] = []
    _subscribe_to_clock(node, clock_times.append)
    frames = _transform_listener(node)
    recorder = Recorder(facts.choice, decoder)
    for role in recorder.streams:
        _subscribe(node, facts.choice, role, recorder)
    began = time.monotonic()
    _spin_until(executor, began + duration_s, lambda: False)
    facts.elapsed_s = time.monotonic() - began
    facts.topics = _topics(node)
    facts.clock_publishers = tuple(
        _node_name(entry) for entry in node.get_publishers_info_by_topic("/clock")
    )
    facts.clock_s = clock_times[-1] if clock_times else None
    facts.known_frames = None if frames is None else frames()
    executor.shutdown(timeout_sec=1.0)
    recorder.fill(facts)


def _discover(node: Node, executor: SingleThreadedExecutor, request: Request) -> Choice:
    """Look for the topics until both images have a source and the graph has settled."""

    def is_complete() -> bool:
        topics = {topic.name: topic for topic in _topics(node) if topic.has_source}
        choice = choose(list(topics.values()), request)
        return choice.topic("color") in topics and choice.topic("depth") in topics

    _spin_until(executor, time.monotonic() + _DISCOVERY_S, is_complete)
    _spin_until(executor, time.monotonic() + _SETTLING_S, lambda: False)
    return choose(_topics(node), request)


def _subscribe(node: Node, choice: Choice, role: Role, recorder: Recorder) -> None:
    msg_type = CameraInfo
    if role in ("color", "depth"):
        msg_type = Image if choice.transport(role) == "raw" else CompressedImage
    with suppress(Exception):  # a name that is none; the checks tell that nothing came
        node.create_subscription(
            msg_type,
            choice.topic(role),
            lambda msg: recorder.add(role, msg, time.time()),
            qos.own(qos.INPUT),
        )


def _spin_until(
    executor: SingleThreadedExecutor, deadline: float, condition: Callable[[], bool]
) -> None:
    checked = 0.0
    while (now := time.monotonic()) < deadline:
        if now - checked > 0.1:
            if condition():
                return
            checked = now
        executor.spin_once(timeout_sec=min(0.05, deadline - now))


def _topics(node: Node) -> tuple[TopicFacts, ...]:
    """Image and camera info topics that somebody else publishes or wants."""
    found = []
    for name, msg_types in node.get_topic_names_and_types():
        if not set(msg_types) & set(_MSG_TYPES):
            continue
        publishers = node.get_publishers_info_by_topic(name)
        subscribers = [
            entry
            for entry in node.get_subscriptions_info_by_topic(name)
            if entry.node_name != node.get_name()
        ]
        if publishers or subscribers:
            found.append(
                TopicFacts(
                    name=name,
                    msg_types=tuple(msg_types),
                    publishers=tuple(
                        _endpoint(entry, _conflict(entry.qos_profile, qos.INPUT))
                        for entry in publishers
                    ),
                    subscribers=tuple(
                        _endpoint(entry, _subscriber_conflict(entry, publishers))
                        for entry in subscribers
                    ),
                )
            )
    return tuple(sorted(found, key=lambda topic: topic.name))


def _endpoint(entry: TopicEndpointInfo, conflict: str) -> EndpointFacts:
    return EndpointFacts(
        node=_node_name(entry),
        msg_type=str(entry.topic_type),
        reliability=entry.qos_profile.reliability.name.lower(),
        durability=entry.qos_profile.durability.name.lower(),
        conflict=conflict,
    )


def _conflict(publisher: QoSProfile, subscriber: QoSProfile) -> str:
    compatibility, reason = qos_check_compatible(publisher, subscriber)
    if compatibility != QoSCompatibility.ERROR:  # made in C: equal to the constant, not the same
        return ""
    text = str(reason).removeprefix("ERROR: ").rstrip("; ")
    return text[:1].lower() + text[1:]


def _subscriber_conflict(
    subscriber: TopicEndpointInfo, publishers: Sequence[TopicEndpointInfo]
) -> str:
    conflicts = [_conflict(entry.qos_profile, subscriber.qos_profile) for entry in publishers]
    return next(filter(None, conflicts), "")


def _node_name(entry: TopicEndpointInfo) -> str:
    return f"{entry.node_namespace.rstrip('/')}/{entry.node_name}"


def _subscribe_to_clock(node: Node, take: Callable[[float], None]) -> None:
    with suppress(ImportError):
        from rosgraph_msgs.msg import Clock

        node.create_subscription(
            Clock,
            "/clock",
            lambda msg: take(msg.clock.sec + msg.clock.nanosec / 1e9),
            qos.own(qos.INPUT),
        )


def _transform_listener(node: Node) -> Callable[[], frozenset[str]] | None:
    """What asks for the frames of the transform tree; None where tf2_ros is not installed."""
    try:
        from tf2_ros import Buffer, TransformListener
    except ImportError:
        return None
    buffer = Buffer()
    listener = TransformListener(buffer, node, spin_thread=False)
    return partial(_frames, buffer, listener)


def _frames(buffer: Any, listener: Any) -> frozenset[str]:
    del listener  # held by the caller until now, for it fills the buffer
    sentence = r"Frame (\S+) exists with parent (\S+?)\.?$"
    matches = re.findall(sentence, buffer.all_frames_as_string(), re.MULTILINE)
    return frozenset(name for pair in matches for name in pair)
