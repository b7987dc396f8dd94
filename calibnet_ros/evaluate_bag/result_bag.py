"""A recording of what the node would have published."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rclpy.serialization import serialize_message
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from calibnet_ros.messages import OUTPUTS
from calibnet_ros.share import PACKAGE, share_path

_METADATA_VERSION: Literal[9] = 9  # that of Jazzy; later releases read it too
_FOREVER = QosTime(2147483647, 4294967295)


class ResultBag:
    """An MCAP recording below a folder to create; use it as a context manager.

    Args:
        folder: to create.
        namespace: put before the topics, as the node's name is.
    """

    def __init__(self, folder: Path, *, namespace: str = "/calibnet") -> None:
        self._namespace = namespace
        self._writer = Writer(folder, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> ResultBag:
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, name: str, message: Any, log_ns: int, *, is_latched: bool = False) -> None:
        """Record a message.

        Args:
            name: of the topic, below the namespace.
            message: of any installed type.
            log_ns: when, in nanoseconds; no earlier than the message before.
            is_latched: whether late subscribers get it, when the recording is played.
        """
        if name not in self._connections:
            self._connections[name] = self._writer.add_connection(
                f"{self._namespace}/{name}",
                _type_name(type(message)),
                typestore=message_types(),
                offered_qos_profiles=[_LATCHED] if is_latched else (),
            )
        self._writer.write(self._connections[name], log_ns, serialize_message(message))


@cache
def message_types() -> Typestore:
    """The message definitions of ROS 2 Jazzy, this package's own, and those of other outputs."""
    store = get_typestore(Stores.ROS2_JAZZY)
    known = {name.partition("/")[0] for name in store.fielddefs}
    packages = {_type_name(output.msg_type).partition("/")[0] for output in OUTPUTS}
    found: dict[str, Any] = {}
    for package in sorted((packages | {PACKAGE}) - known):
        for path in sorted(_definitions(package).glob("*.msg")):
            text = path.read_text(encoding="utf-8")
            found |= get_types_from_msg(text, f"{package}/msg/{path.stem}")
    store.register(found)
    return store


def can_record(message: Any) -> bool:
    """Whether the definition of this message is known here."""
    return _type_name(type(message)) in message_types().fielddefs


def _definitions(package: str) -> Path:
    if package == PACKAGE:
        return share_path("msg")
    from ament_index_python.packages import get_package_share_directory

    try:
        return Path(get_package_share_directory(package), "msg")
    except (LookupError, OSError):  # installed without the index; the topic is then left out
        return Path(sys.prefix, "share", package, "msg")


def _type_name(cls: type) -> str:
    return f"{cls.__module__.partition('.')[0]}/msg/{cls.__name__}"


_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)
