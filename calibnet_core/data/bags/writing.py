"""Write RGB-D frames as a rosbag2 recording that ROS 2 Jazzy and later play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from calibnet_core.data.bags.reading import typestore
from calibnet_core.data.bags.topics import CAMERA_INFO, IMAGE, BagError
from calibnet_core.files import atomic_folder
from calibnet_core.structures import CameraIntrinsics, RgbdFrame

_METADATA_VERSION: Literal[9] = 9  # that of Jazzy; later releases read it too


def write_rgbd_bag(
    path: str | Path,
    frames: Iterable[RgbdFrame],
    *,
    storage: Literal["mcap", "sqlite3"] = "mcap",
    color_topic: str = "/camera/color/image_raw",
    depth_topic: str = "/camera/aligned_depth_to_color/image_raw",
    depth_encoding: Literal["16UC1", "32FC1"] = "16UC1",
    depth_offset_ns: int = 0,
    labels: Iterable[NDArray[np.uint16]] | None = None,
    label_topic: str = "/ground_truth/label_image",
) -> int:
    """Write a new recording; it appears under `path` when the last frame is in.

    Intrinsics go to a `camera_info` topic beside either image topic. MCAP chunks are compressed.

    Args:
        path: the folder to create.
        frames: with `depth_m` and `stamp_ns`; consumed one at a time.
        storage: format of the file inside.
        color_topic: where the colour images go.
        depth_topic: where the depth images go.
        depth_encoding: "16UC1", whole millimetres up to 65.534 m with 0 for no measurement, or
            "32FC1", metres with NaN.
        depth_offset_ns: added to the stamp of the depth images, for testing synchronisation.
        labels: one (H, W) uint16 image for each frame, 0 background and k for object k, written as
            mono16.
        label_topic: where they go.

    Returns:
        How many frames were written.

    Raises:
        BagError: `path` exists, there are no frames, or a frame has no stamp or no depth in metres.
        ValueError: there are fewer or more labels than frames.
    """
    if storage not in ("mcap", "sqlite3"):
        raise BagError(f"storage is {storage!r}; choose mcap or sqlite3")
    if depth_encoding not in ("16UC1", "32FC1"):
        raise BagError(f"depth encoding is {depth_encoding!r}; choose 16UC1 or 32FC1")
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    count = 0
    try:
        with atomic_folder(path) as folder:
            writer = Writer(folder, version=_METADATA_VERSION, storage_plugin=plugin)
            if storage == "mcap":
                writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            with writer:
                topics = _Topics(writer)
                for frame, label in _with_labels(frames, labels):
                    _check(frame, path)
                    depth_ns = frame.stamp_ns + depth_offset_ns
                    depth = _encode_depth(frame, depth_encoding)
                    topics.write_image(
                        color_topic, frame.stamp_ns, frame.frame_id, "rgb8", frame.rgb
                    )
                    topics.write_image(depth_topic, depth_ns, frame.frame_id, depth_encoding, depth)
                    if frame.intrinsics is not None:
                        for topic, stamp_ns in (
                            (color_topic, frame.stamp_ns),
                            (depth_topic, depth_ns),
                        ):
                            topics.write_info(topic, stamp_ns, frame.frame_id, frame.intrinsics)
                    if label is not None:
                        _check_label(label, frame)
                        topics.write_image(
                            label_topic,
                            frame.stamp_ns,
                            frame.frame_id,
                            "mono16",
                            label.astype("<u2"),
                        )
                    count += 1
                if not count:
                    raise BagError(f"{path}: there are no frames to write; give at least one")
    except FileExistsError as error:
        raise BagError(str(error)) from error
    return count


class _Topics:
    """Writes messages, announcing each topic when its first message comes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections: dict[str, Connection] = {}

    def write_image(
        self, topic: str, stamp_ns: int, frame_id: str, encoding: str, image: NDArray[Any]
    ) -> None:
        message = typestore().types[IMAGE](
            header=_header(stamp_ns, frame_id),
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=image.shape[1] * image[0, 0].nbytes,
            data=np.ascontiguousarray(image).reshape(-1).view(np.uint8),
        )
        self._write(topic, IMAGE, stamp_ns, message)

    def write_info(
        self, image_topic: str, stamp_ns: int, frame_id: str, camera: CameraIntrinsics
    ) -> None:
        types = typestore().types
        fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
        message = types[CAMERA_INFO](
            header=_header(stamp_ns, frame_id),
            height=camera.height,
            width=camera.width,
            distortion_model=camera.distortion_model or "plumb_bob",
            d=np.array(camera.distortion or [0.0] * 5),
            k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
            r=np.eye(3).ravel(),
            p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
            binning_x=0,
            binning_y=0,
            roi=types["sensor_msgs/msg/RegionOfInterest"](
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )
        topic = image_topic.rpartition("/")[0] + "/camera_info"
        self._write(topic, CAMERA_INFO, stamp_ns, message)

    def _write(self, topic: str, msgtype: str, stamp_ns: int, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=typestore()
            )
        cdr = typestore().serialize_cdr(message, msgtype)
        self._writer.write(self._connections[topic], stamp_ns, cdr)


def _header(stamp_ns: int, frame_id: str) -> Any:
    types = typestore().types
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _encode_depth(frame: RgbdFrame, encoding: str) -> NDArray[Any]:
    assert frame.depth_m is not None
    is_measured = np.isfinite(frame.depth_m) & (frame.depth_m > 0)
    if encoding == "32FC1":
        return np.where(is_measured, frame.depth_m, np.nan).astype("<f4")
    millimetres = np.rint(np.where(is_measured, frame.depth_m, 0.0) * 1000.0)
    # Farther than 16 bits reach counts as not measured; readers take 65535 for saturation.
    return np.where(millimetres < 0xFFFF, millimetres, 0.0).astype("<u2")


def _with_labels(
    frames: Iterable[RgbdFrame], labels: Iterable[NDArray[np.uint16]] | None
) -> Iterator[tuple[RgbdFrame, NDArray[np.uint16] | None]]:
    if labels is None:
        return zip(frames, repeat(None))
    return zip(frames, labels, strict=True)


def _check(frame: RgbdFrame, path: str | Path) -> None:
    if frame.depth_m is None:
        raise BagError(
            f"{path}: frame '{frame.name}' has no depth in metres; only depth_m can be written"
        )
    # ROS stamps are unsigned nanoseconds beside 32-bit seconds.
    if not 0 < frame.stamp_ns < 2**31 * 1_000_000_000:
        raise BagError(
            f"{path}: frame '{frame.name}' has stamp {frame.stamp_ns} ns; give it a time after "
            "1970, for example with dataclasses.replace(frame, stamp_ns=...)"
        )


def _check_label(label: NDArray[np.uint16], frame: RgbdFrame) -> None:
    if label.dtype != np.uint16 or label.shape != frame.size:
        raise BagError(
            f"label image of frame '{frame.name}' is {label.dtype} of shape {label.shape}; "
            f"expected uint16 of shape {frame.size}"
        )
