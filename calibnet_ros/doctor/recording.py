"""Facts from a recording: header fields of every message, pixels of a few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from calibnet_core.data.bags import BagError, BagMessage, RgbdBag, open_rgbd_bag, raw_name
from calibnet_core.perception.received_image import ColorDecoder
from calibnet_ros.camera_presets import remappings
from calibnet_ros.doctor.choosing import preset_of
from calibnet_ros.doctor.facts import (
    CAMERA_INFO,
    Choice,
    InputFacts,
    Request,
    Role,
    TopicFacts,
)
from calibnet_ros.doctor.recorder import Recorder


def gather_recording(
    path: Path, request: Request, *, limit_s: float, decoder: ColorDecoder | None = None
) -> InputFacts:
    """Read a recording's images and camera infos.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        request: topics that were asked for.
        limit_s: how many seconds of the recording to read, from its beginning.
        decoder: for colour encodings that are not read natively.

    Returns:
        Facts; `failure` says so where the recording could not be read, or not to its end.
    """
    facts = InputFacts(source=str(path), request=request)
    try:
        bag = open_rgbd_bag(path, **_given_topics(request))
    except BagError as error:
        facts.failure = str(error)
        return facts
    facts.topics = tuple(
        TopicFacts(name=topic.name, msg_types=(topic.msgtype,), num_messages=topic.num_messages)
        for topic in bag.topics
    )
    facts.choice = _choice(bag)
    held = {"color": bag.color_transport, "depth": bag.depth_transport}
    transports = {f"{role}_transport": transport for role, transport in held.items()}
    recorder = Recorder(replace(facts.choice, **transports), decoder)
    try:
        _read(bag, recorder, facts, limit_s)
    except BagError as error:
        facts.failure = str(error)
    recorder.fill(facts)
    for role, transport in held.items():
        if facts.choice.transport(role) != transport:
            # The node would not hear these, which is said; their encoding would mislead.
            facts.streams[role].forms.clear()
    return facts


def _given_topics(request: Request) -> dict[str, str]:
    given = dict(
        remappings(
            request.camera,
            camera_namespace=request.camera_namespace,
            color_topic=request.color_topic,
            depth_topic=request.depth_topic,
            info_topic=request.info_topic,
        )
    )
    # A preset's camera info may be missing; that is a finding and no reason to read nothing.
    names = {"color/image": "color_topic", "depth/image": "depth_topic"}
    topics = {names[name]: topic for name, topic in given.items() if name in names}
    return topics | ({"info_topic": request.info_topic} if request.info_topic else {})


def _choice(bag: RgbdBag) -> Choice:
    infos = {topic.name for topic in bag.topics if topic.msgtype == CAMERA_INFO}
    depth_info = raw_name(bag.depth_topic).rpartition("/")[0] + "/camera_info"
    info = bag.info_topic or ""
    color, color_transport = _as_heard(bag.color_topic, bag.color_transport)
    depth, depth_transport = _as_heard(bag.depth_topic, bag.depth_transport)
    camera, namespace = preset_of(color, depth, info)
    return Choice(
        color=color,
        depth=depth,
        info=info,
        depth_info=depth_info if depth_info in infos else "",
        camera=camera,
        camera_namespace=namespace,
        color_transport=color_transport,
        depth_transport=depth_transport,
    )


def _as_heard(topic: str, transport: str) -> tuple[str, str]:
    """The raw topic's name and the transport by which the node hears the images.

    Of compressed images it hears those that lie below the raw topic under the transport's name.
    Others count as raw images of the wrong type, as they do in a live graph.
    """
    raw = raw_name(topic)
    return (raw, transport) if topic == f"{raw}/{transport}" else (topic, "raw")


def _read(bag: RgbdBag, recorder: Recorder, facts: InputFacts, limit_s: float) -> None:
    begin_ns: int | None = None
    for message in bag.messages():
        begin_ns = message.log_ns if begin_ns is None else begin_ns
        elapsed_s = (message.log_ns - begin_ns) / 1e9
        if elapsed_s > limit_s:
            facts.truncated = True
            break
        facts.elapsed_s = max(facts.elapsed_s, elapsed_s)
        recorder.add(message.kind, message.decoded())
    if facts.choice.depth_info:
        for message in _only_info(bag, facts.choice.depth_info):
            role: Role = "depth_info"
            recorder.add(role, message.decoded())
            if (message.log_ns - (begin_ns or 0)) / 1e9 > limit_s:
                break


def _only_info(bag: RgbdBag, topic: str) -> Iterator[BagMessage]:
    return replace(bag, color_topic="", depth_topic="", info_topic=topic).messages()
