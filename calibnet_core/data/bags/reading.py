"""Open a recording and read its raw messages in the order in which they were logged."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from calibnet_core.data.bags.topics import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    BagError,
    BagTopic,
    ChosenTopics,
    choose_topics,
    image_type,
)
from calibnet_core.perception.intake import ColorTransport, DepthTransport

__all__ = [
    "BagError",
    "BagMessage",
    "BagTopic",
    "RgbdBag",
    "decode",
    "is_bag",
    "messages_on",
    "open_rgbd_bag",
    "typestore",
]

_STORAGE_SUFFIXES = (".mcap", ".db3")

MessageKind = Literal["color", "depth", "info"]
# Where the messages of a type say how their pixels are encoded.
_ENCODING_FIELDS = {IMAGE: "encoding", COMPRESSED_IMAGE: "format"}


@dataclass(frozen=True)
class BagMessage:
    """One message as recorded, ready to be published again.

    Attributes:
        kind: which of the three roles its topic has.
        topic: name of its topic.
        msgtype: such as "sensor_msgs/msg/Image".
        stamp_ns: acquisition time from its header in nanoseconds, 0 where the message is too short
            for one.
        log_ns: when it was recorded, in nanoseconds.
        cdr: the serialised message.
    """

    kind: MessageKind
    topic: str
    msgtype: str
    stamp_ns: int
    log_ns: int
    cdr: bytes

    def decoded(self) -> Any:
        """The message with the fields of its type, or None where its bytes are not one."""
        return decode(self.cdr, self.msgtype)


@dataclass(frozen=True)
class RgbdBag:
    """A recording of colour, depth and intrinsics.

    It holds no open file and can be read again and again.

    Attributes:
        path: the folder or file.
        topics: everything that was recorded.
        color_topic, depth_topic: image topics in use, under their full names.
        info_topic: topic of the colour image's CameraInfo, None where there is none.
        duration_ns: from the first message to the last, in nanoseconds.
        color_transport, depth_transport: which messages the image topics hold, in the words of
            `IntakeSettings`.
    """

    path: Path
    topics: tuple[BagTopic, ...]
    color_topic: str
    depth_topic: str
    info_topic: str | None
    duration_ns: int
    color_transport: ColorTransport = "raw"
    depth_transport: DepthTransport = "raw"

    @property
    def name(self) -> str:
        """Name of the folder or file, without the file's ending."""
        path = self.path.resolve()
        return path.stem if path.suffix in _STORAGE_SUFFIXES else path.name

    @property
    def num_color_images(self) -> int:
        """Colour images recorded, an upper limit of the number of frames."""
        return sum(topic.num_messages for topic in self.topics if topic.name == self.color_topic)

    def messages(self) -> Iterator[BagMessage]:
        """Yield the messages of the three topics in log order.

        Raises:
            BagError: the recording is damaged; what comes before the damage has been yielded.
        """
        roles: dict[str, tuple[MessageKind, str]] = {
            self.color_topic: ("color", image_type(self.color_transport)),
            self.depth_topic: ("depth", image_type(self.depth_transport)),
        }
        if self.info_topic is not None:
            roles[self.info_topic] = ("info", CAMERA_INFO)
        with _open_reader(self.path) as reader:
            wanted = [
                connection
                for connection in reader.connections
                if connection.topic in roles and connection.msgtype == roles[connection.topic][1]
            ]
            for connection, log_ns, cdr in _checked_messages(reader, wanted, self.path):
                kind, msgtype = roles[connection.topic]
                stamp_ns = _header_stamp_ns(cdr)
                yield BagMessage(kind, connection.topic, msgtype, stamp_ns, log_ns, cdr)


def open_rgbd_bag(
    path: str | Path,
    *,
    color_topic: str | None = None,
    depth_topic: str | None = None,
    info_topic: str | None = None,
) -> RgbdBag:
    """Look into a recording and settle which topics to read.

    Args:
        path: a rosbag2 folder, or one of its .mcap or .db3 files.
        color_topic: topic of the colour images; None finds it by type, encoding and name. Where the
            raw topic was not recorded, its name stands for the compressed one below it.
        depth_topic: topic of the registered depth images; likewise.
        info_topic: topic of the colour CameraInfo; None takes the one beside the colour images.

    Raises:
        BagError: there is no readable recording, or the topics are absent or ambiguous.
    """
    path = Path(path)
    with _open_reader(path) as reader:
        topics = tuple(_describe_topics(reader, path))
        duration_ns = max(0, reader.duration)
    try:
        chosen: ChosenTopics = choose_topics(
            topics, color=color_topic, depth=depth_topic, info=info_topic
        )
    except BagError as error:
        raise BagError(f"{path}: {error}") from None
    return RgbdBag(
        path=path,
        topics=topics,
        color_topic=chosen.color,
        depth_topic=chosen.depth,
        info_topic=chosen.info,
        duration_ns=duration_ns,
        color_transport=chosen.color_transport,
        depth_transport=chosen.depth_transport,
    )


def decode(cdr: bytes, msgtype: str) -> Any:
    """The message with the fields of its type, or None where the bytes are not one."""
    try:
        return typestore().deserialize_cdr(cdr, msgtype)
    except Exception:  # The parser meets arbitrary bytes and fails in any way that Python can.
        return None


def messages_on(path: Path, topic: str, msgtype: str) -> Iterator[bytes]:
    """Yield the serialised messages of one topic in log order, none where it is not there.

    Raises:
        BagError: the recording is damaged.
    """
    with _open_reader(path) as reader:
        wanted = [
            connection
            for connection in reader.connections
            if connection.topic == topic and connection.msgtype == msgtype
        ]
        for _, _, cdr in _checked_messages(reader, wanted, path):
            yield cdr


def is_bag(path: str | Path) -> bool:
    """Whether `path` looks like a recording: a folder that holds one, or a .mcap or .db3 file."""
    path = Path(path)
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(_storage_files(path))
    return path.suffix in _STORAGE_SUFFIXES


@cache
def typestore() -> Typestore:
    """The message definitions of ROS 2 Jazzy; those of images are the same in every ROS 2 release.

    They stand in for the definitions embedded in a recording, which older releases do not embed and
    which may be damaged, or foreign, for topics that are of no concern here.
    """
    return get_typestore(Stores.ROS2_JAZZY)


def _storage_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _STORAGE_SUFFIXES)


@contextmanager
def _open_reader(path: Path) -> Iterator[Reader]:
    reader = _opened(path)
    try:
        yield reader
    finally:
        reader.close()


def _opened(path: Path) -> Reader:
    if not path.exists():
        raise BagError(f"{path}: there is no such file or folder; check the path")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        if not _storage_files(path):
            raise BagError(
                f"{path}: holds no metadata.yaml, .mcap or .db3 file; give a rosbag2 folder"
            )
        raise BagError(
            f"{path}: has no metadata.yaml, so the recording was cut off; mend it with "
            f"`ros2 bag reindex {path}` or give one of its files"
        )
    with _reading(path):
        reader = Reader(path)
        reader.open()
    return reader


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into BagError.

    The parsers below meet arbitrary bytes in a damaged file and fail in any way that Python can:
    index, struct, Unicode, assertion, compression and memory errors among them. Hence the broad
    clause.
    """
    try:
        yield
    except PermissionError as error:
        raise BagError(f"{path}: may not be read; check its permissions") from error
    except Exception as error:
        detail = str(error).strip() or type(error).__name__
        raise BagError(
            f"{path}: is damaged or no rosbag2 recording ({detail}); {_remedy(path)}"
        ) from error


def _remedy(path: Path) -> str:
    files = _storage_files(path) if path.is_dir() else [path]
    if any(file.suffix == ".mcap" for file in files):
        return "save what is left of it with `mcap recover`, or record it again"
    return "save what is left of it with `sqlite3 FILE .recover`, or record it again"


def _checked_messages(
    reader: Reader, connections: list[Connection], path: Path
) -> Iterator[tuple[Connection, int, bytes]]:
    if not connections:  # The reader takes an empty selection for all topics.
        return
    messages = reader.messages(connections)
    while True:
        with _reading(path):
            item = next(messages, None)
        if item is None:
            return
        connection, log_ns, cdr = item
        # A damaged database can return text or nothing where the message should be.
        yield connection, log_ns, cdr if isinstance(cdr, bytes) else b""


def _describe_topics(reader: Reader, path: Path) -> Iterator[BagTopic]:
    by_name: dict[str, list[Connection]] = {}
    for connection in reader.connections:
        by_name.setdefault(connection.topic, []).append(connection)
    for name, connections in by_name.items():
        msgtype = connections[0].msgtype
        count = sum(connection.msgcount for connection in connections)
        encoding = _first_encoding(reader, connections, path) if count else ""
        yield BagTopic(name, msgtype, count, encoding)


def _first_encoding(reader: Reader, connections: list[Connection], path: Path) -> str:
    msgtype = connections[0].msgtype
    if msgtype not in _ENCODING_FIELDS:
        return ""
    for _, _, cdr in _checked_messages(reader, connections, path):
        image = decode(cdr, msgtype)
        if image is not None:  # One bad image must not hide the topic.
            return str(getattr(image, _ENCODING_FIELDS[msgtype]))
    return ""


def _header_stamp_ns(cdr: bytes) -> int:
    # Four bytes of encapsulation, whose second tells the byte order, then header.stamp, the first
    # field of images, compressed or not, and of CameraInfo. Playing needs nothing else of them.
    if len(cdr) < 12:
        return 0
    seconds, nanoseconds = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return max(0, int(seconds) * 1_000_000_000 + int(nanoseconds))
