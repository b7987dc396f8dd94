"""Which topics of a recording hold colour, the depth registered to it, and intrinsics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

_DEPTH_ENCODINGS = ("16UC1", "32FC1", "64FC1")
# Drivers name registered depth so: RealSense, Azure Kinect, image_pipeline.
_ALIGNED_MARKS = ("aligned", "depth_to_rgb", "depth_to_color", "registered")


class BagError(ValueError):
    """A recording cannot be read or written; the message names the file and the way out."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a recording.

    Attributes:
        name: of the topic.
        msgtype: such as "sensor_msgs/msg/Image".
        num_messages: messages recorded on it.
        encoding: of its first image; empty for other types and for topics without messages.
    """

    name: str
    msgtype: str
    num_messages: int
    encoding: str = ""

    def __str__(self) -> str:
        kind = self.msgtype.replace("/msg/", "/")
        encoding = f" {self.encoding}" if self.encoding else ""
        return f"{self.name}  {kind}{encoding}, {self.num_messages} messages"


@dataclass(frozen=True)
class ChosenTopics:
    """Names of the topics to read; `info` is None where no intrinsics were recorded."""

    color: str
    depth: str
    info: str | None


def choose_topics(
    topics: Sequence[BagTopic],
    *,
    color: str | None = None,
    depth: str | None = None,
    info: str | None = None,
) -> ChosenTopics:
    """Complete the given topic names from what a recording holds.

    Depth is the image topic with a depth encoding, the registered one if there are several; colour
    is the one with a colour encoding, the one called color or rgb if there are several; intrinsics
    lie beside the colour image, or on the only CameraInfo topic.

    Raises:
        BagError: a given topic is absent or of the wrong type, or none or several could be meant.
    """
    color = _check_given(topics, color, IMAGE, "color_topic") or _pick_color(topics, depth)
    depth = _check_given(topics, depth, IMAGE, "depth_topic") or _pick_depth(topics, color)
    if color == depth:
        raise BagError(f"colour and depth are both '{color}'; {_listing(topics)}")
    info = _check_given(topics, info, CAMERA_INFO, "info_topic") or _pick_info(topics, color)
    return ChosenTopics(color, depth, info)


def _check_given(
    topics: Sequence[BagTopic], name: str | None, msgtype: str, argument: str
) -> str | None:
    if name is None:
        return None
    topic = next((topic for topic in topics if topic.name == name), None)
    if topic is None:
        raise BagError(f"{argument} '{name}' is not in the recording; {_listing(topics)}")
    if topic.msgtype == COMPRESSED_IMAGE:
        raise BagError(
            f"{argument} '{name}' holds compressed images, which are not read; record the raw "
            "topic, or play the bag, decode it with `ros2 run image_transport republish compressed "
            "raw` and record that"
        )
    if topic.msgtype != msgtype:
        raise BagError(
            f"{argument} '{name}' holds {topic.msgtype}; expected {msgtype}. {_listing(topics)}"
        )
    return name


def _pick_depth(topics: Sequence[BagTopic], color: str | None) -> str:
    candidates = [topic for topic in topics if _is_depth(topic) and topic.name != color]
    aligned = [topic for topic in candidates if _has_mark(topic.name, _ALIGNED_MARKS)]
    return _only(aligned or candidates, topics, what="depth image", argument="depth_topic")


def _pick_color(topics: Sequence[BagTopic], depth: str | None) -> str:
    candidates = [
        topic
        for topic in topics
        if topic.encoding and _is_color(topic.encoding) and topic.name != depth
    ]
    named = [topic for topic in candidates if _has_mark(topic.name, ("color", "rgb"))]
    return _only(named or candidates, topics, what="colour image", argument="color_topic")


def _pick_info(topics: Sequence[BagTopic], color: str) -> str | None:
    names = [topic.name for topic in topics if topic.msgtype == CAMERA_INFO and topic.num_messages]
    beside = color.rpartition("/")[0] + "/camera_info"
    if beside in names:
        return beside
    return names[0] if len(names) == 1 else None


def _only(
    candidates: Sequence[BagTopic], topics: Sequence[BagTopic], *, what: str, argument: str
) -> str:
    if len(candidates) == 1:
        return candidates[0].name
    if candidates:
        names = ", ".join(topic.name for topic in candidates)
        raise BagError(f"several topics could be the {what}: {names}; choose one with {argument}")
    hint = ""
    if any(topic.msgtype == COMPRESSED_IMAGE for topic in topics):
        hint = " Compressed images are not read: record the raw topics."
    raise BagError(
        f"no topic looks like the {what}; name it with {argument}.{hint} {_listing(topics)}"
    )


def _is_depth(topic: BagTopic) -> bool:
    # Label images are mono16 as well, so that encoding needs the name to speak for it.
    is_mono16_depth = topic.encoding == "mono16" and "depth" in topic.name.lower()
    return topic.encoding in _DEPTH_ENCODINGS or is_mono16_depth


def _is_color(encoding: str) -> bool:
    return encoding.lower().startswith(("rgb", "bgr", "8uc3", "8uc4", "bayer", "yuv", "uyvy", "nv"))


def _has_mark(name: str, marks: Iterable[str]) -> bool:
    return any(mark in name.lower() for mark in marks)


def _listing(topics: Sequence[BagTopic]) -> str:
    if not topics:
        return "it holds no topics"
    return "it holds:\n" + "\n".join(f"  {topic}" for topic in sorted(topics, key=lambda t: t.name))
