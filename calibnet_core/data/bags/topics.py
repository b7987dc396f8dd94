"""Which topics of a recording hold colour, the depth registered to it, and intrinsics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from calibnet_core.perception.intake import ColorTransport, DepthTransport

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

_DEPTH_ENCODINGS = ("16UC1", "32FC1", "64FC1")
# What some publishers of compressed images write for a format: it tells no colour from depth.
_BARE_FORMATS = ("png", "jpeg", "jpg")
# Drivers name registered depth so: RealSense, Azure Kinect, image_pipeline.
_ALIGNED_MARKS = ("aligned", "depth_to_rgb", "depth_to_color", "registered")
_COLOR_MARKS = ("color", "rgb")

# The endings of compressed topics, as image_transport names them; the better first.
_ENDINGS = {"color": ("/compressed",), "depth": ("/compressedDepth", "/compressed")}


class BagError(ValueError):
    """A recording cannot be read or written; the message names the file and the way out."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a recording.

    Attributes:
        name: of the topic.
        msgtype: such as "sensor_msgs/msg/Image".
        num_messages: messages recorded on it.
        encoding: of its first image, or the format where that is compressed, such as
            "16UC1; compressedDepth png"; empty for other types and for topics without messages.
    """

    name: str
    msgtype: str
    num_messages: int
    encoding: str = ""

    def __str__(self) -> str:
        kind = self.msgtype.replace("/msg/", "/")
        encoding = f" {self.encoding}" if self.encoding else ""
        return f"{self.name}  {kind}{encoding}, {self.num_messages} messages"

    @property
    def is_compressed(self) -> bool:
        """Whether it holds compressed images."""
        return self.msgtype == COMPRESSED_IMAGE


@dataclass(frozen=True)
class ChosenTopics:
    """The topics to read.

    Attributes:
        color, depth: names of the image topics.
        info: name of the CameraInfo topic; None where no intrinsics were recorded.
        color_transport, depth_transport: which messages the image topics hold.
    """

    color: str
    depth: str
    info: str | None
    color_transport: ColorTransport = "raw"
    depth_transport: DepthTransport = "raw"


def image_type(transport: ColorTransport | DepthTransport) -> str:
    """The type of the messages that a transport brings."""
    return IMAGE if transport == "raw" else COMPRESSED_IMAGE


def raw_name(topic: str) -> str:
    """The topic of the raw images that a compressed one lies below; any other name as it is."""
    for ending in _ENDINGS["depth"]:
        if topic.endswith(ending):
            return topic.removesuffix(ending)
    return topic


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

    Raw images come before compressed ones. The name of a raw topic that was not recorded, given or
    not, stands for the compressed one below it. JPEG depth is never taken.

    Raises:
        BagError: a given topic is absent or of the wrong type, or none or several could be meant.
    """
    given_color = _given_image(topics, color, "color")
    given_depth = _given_image(topics, depth, "depth")
    color_topic = given_color or _pick_color(topics, given_depth)
    depth_topic = given_depth or _pick_depth(topics, color_topic)
    if color_topic.name == depth_topic.name:
        raise BagError(f"colour and depth are both '{color_topic.name}'; {_listing(topics)}")
    return ChosenTopics(
        color_topic.name,
        depth_topic.name,
        _given_info(topics, info) or _pick_info(topics, color_topic.name),
        "compressed" if color_topic.is_compressed else "raw",
        "compressedDepth" if depth_topic.is_compressed else "raw",
    )


def _given_image(
    topics: Sequence[BagTopic], name: str | None, role: Literal["color", "depth"]
) -> BagTopic | None:
    if name is None:
        return None
    topic = _find(topics, name)
    if topic is None or not topic.num_messages:
        below = (_find(topics, name + ending) for ending in _ENDINGS[role])
        topic = next((t for t in below if t and t.is_compressed and t.num_messages), topic)
    if topic is None:
        raise BagError(f"{role}_topic '{name}' is not in the recording; {_listing(topics)}")
    if topic.msgtype not in (IMAGE, COMPRESSED_IMAGE):
        raise BagError(
            f"{role}_topic '{name}' holds {topic.msgtype}; expected {IMAGE} or {COMPRESSED_IMAGE}. "
            f"{_listing(topics)}"
        )
    if role == "depth" and _is_jpeg(topic):
        raise BagError(f"depth_topic {_refusal_of_jpeg(topic)}")
    return topic


def _given_info(topics: Sequence[BagTopic], name: str | None) -> str | None:
    if name is None:
        return None
    topic = _find(topics, name)
    if topic is None:
        raise BagError(f"info_topic '{name}' is not in the recording; {_listing(topics)}")
    if topic.msgtype != CAMERA_INFO:
        raise BagError(
            f"info_topic '{name}' holds {topic.msgtype}; expected {CAMERA_INFO}. {_listing(topics)}"
        )
    return name


def _pick_depth(topics: Sequence[BagTopic], color: BagTopic) -> BagTopic:
    depths = [topic for topic in topics if _holds_depth(topic) and topic.name != color.name]
    candidates = [topic for topic in depths if not _is_jpeg(topic)]
    aligned = [topic for topic in candidates if _has_mark(topic.name, _ALIGNED_MARKS)]
    # What is left of `depths` where there is no candidate is JPEG.
    hint = "" if candidates else "".join(f" {_refusal_of_jpeg(topic)}." for topic in depths)
    return _only(_best_form(aligned or candidates), topics, what="depth", hint=hint)


def _pick_color(topics: Sequence[BagTopic], depth: BagTopic | None) -> BagTopic:
    candidates = [topic for topic in topics if _holds_color(topic) and topic != depth]
    named = [topic for topic in candidates if _has_mark(topic.name, _COLOR_MARKS)]
    return _only(_best_form(named or candidates), topics, what="color")


def _pick_info(topics: Sequence[BagTopic], color: str) -> str | None:
    names = [topic.name for topic in topics if topic.msgtype == CAMERA_INFO and topic.num_messages]
    beside = raw_name(color).rpartition("/")[0] + "/camera_info"
    if beside in names:
        return beside
    return names[0] if len(names) == 1 else None


def _best_form(candidates: Sequence[BagTopic]) -> list[BagTopic]:
    """The raw ones, else those for depth, else all."""
    ranks = [
        1 + (not topic.name.endswith("/compressedDepth")) if topic.is_compressed else 0
        for topic in candidates
    ]
    return [t for t, rank in zip(candidates, ranks, strict=True) if rank == min(ranks)]


def _only(
    candidates: Sequence[BagTopic],
    topics: Sequence[BagTopic],
    *,
    what: Literal["color", "depth"],
    hint: str = "",
) -> BagTopic:
    if len(candidates) == 1:
        return candidates[0]
    image = {"color": "colour image", "depth": "depth image"}[what]
    if candidates:
        names = ", ".join(topic.name for topic in candidates)
        raise BagError(
            f"several topics could be the {image}: {names}; choose one with {what}_topic"
        )
    raise BagError(
        f"no topic looks like the {image}; name it with {what}_topic.{hint} {_listing(topics)}"
    )


def _holds_depth(topic: BagTopic) -> bool:
    encoding, codec = _split(topic)
    if encoding in _DEPTH_ENCODINGS or "compressedDepth" in codec:
        return True
    # Label images are mono16 as well, so such encodings need the name to speak for them.
    return encoding in ("mono16", *_BARE_FORMATS) and "depth" in topic.name.lower()


def _holds_color(topic: BagTopic) -> bool:
    encoding = _split(topic)[0].lower()
    starts = ("rgb", "bgr", "8uc3", "8uc4", "bayer", "yuv", "uyvy", "nv", *_BARE_FORMATS)
    return encoding.startswith(starts) and not _holds_depth(topic)


def _is_jpeg(topic: BagTopic) -> bool:
    encoding, codec = _split(topic)
    return codec.startswith("jpeg") or encoding in ("jpeg", "jpg")


def _split(topic: BagTopic) -> tuple[str, str]:
    """The encoding of the pixels, and what follows it in the format of compressed images."""
    encoding, _, codec = topic.encoding.partition(";")
    return encoding.strip(), codec.strip()


def _refusal_of_jpeg(topic: BagTopic) -> str:
    return (
        f"'{topic.name}' holds depth as JPEG, which changes every distance; record the raw topic, "
        "or compressedDepth"
    )


def _find(topics: Sequence[BagTopic], name: str) -> BagTopic | None:
    return next((topic for topic in topics if topic.name == name), None)


def _has_mark(name: str, marks: Iterable[str]) -> bool:
    return any(mark in name.lower() for mark in marks)


def _listing(topics: Sequence[BagTopic]) -> str:
    if not topics:
        return "it holds no topics"
    return "it holds:\n" + "\n".join(f"  {topic}" for topic in sorted(topics, key=lambda t: t.name))
