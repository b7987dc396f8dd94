"""Write RGB-D frames as a rosbag2 recording that ROS 2 Jazzy and later play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from calibnet_core.data.bags.reading import typestore
from calibnet_core.data.bags.topics import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, BagError
from calibnet_core.files import atomic_folder
from calibnet_core.perception.compressed import DepthCodec, encode_depth
from calibnet_core.perception.intake import ColorTransport, DepthTransport
from calibnet_core.structures import CameraIntrinsics, RgbdFrame

LABEL_TOPIC = "/ground_truth/label_image"
"""Where label images go unless told otherwise."""

ColorCodec: TypeAlias = Literal["jpeg", "png"]
DepthEncoding: TypeAlias = Literal["16UC1", "32FC1"]

_METADATA_VERSION: Literal[9] = 9  # that of Jazzy; later releases read it too
_JPEG_QUALITY = 95


def write_rgbd_bag(
    path: str | Path,
    frames: Iterable[RgbdFrame],
    *,
    storage: Literal["mcap", "sqlite3"] = "mcap",
    color_topic: str = "/camera/color/image_raw",
    color_transport: ColorTransport = "raw",
    color_codec: ColorCodec = "jpeg",
    depth_topic: str = "/camera/aligned_depth_to_color/image_raw",
    depth_transport: DepthTransport = "raw",
    depth_codec: DepthCodec = "png",
    depth_encoding: DepthEncoding = "16UC1",
    depth_offset_ns: int = 0,
    labels: Iterable[NDArray[np.uint16]] | None = None,
    label_topic: str = LABEL_TOPIC,
) -> int:
    """Write a new recording; it appears under `path` when the last frame is in.

    Intrinsics go to a `camera_info` topic beside either image topic. MCAP chunks are compressed,
    whatever is in them. A compressed transport writes what image_transport's plugin of that name
    publishes, to its topic: `<color_topic>/compressed`, `<depth_topic>/compressedDepth`.

    Args:
        path: the folder to create.
        frames: with `depth_m` and `stamp_ns`; consumed one at a time.
        storage: format of the file inside.
        color_topic: where the colour images go.
        color_transport: "raw" or "compressed".
        color_codec: of compressed colour; "jpeg" is much smaller, "png" keeps every value.
        depth_topic: where the depth images go.
        depth_transport: "raw" or "compressedDepth".
        depth_codec: of compressed depth; "png" is smaller, "rvl" faster.
        depth_encoding: "16UC1", whole millimetres up to 65.534 m with 0 for no measurement, or
            "32FC1", metres with NaN. Compression keeps the first as it is and quantises the second,
            up to 10 m, as `encode_depth` says.
        depth_offset_ns: added to the stamp of the depth images, for testing synchronisation.
        labels: one (H, W) uint16 image for each frame, 0 background and k for object k, written as
            mono16.
        label_topic: where they go.

    Returns:
        How many frames were written.

    Raises:
        BagError: `path` exists, there are no frames, an option is none of its choices, or a frame
            has no stamp or no depth in metres.
        ValueError: there are fewer or more labels than frames.
    """
    _check_choice("storage", storage, ("mcap", "sqlite3"))
    _check_choice("color_transport", color_transport, ("raw", "compressed"))
    _check_choice("color_codec", color_codec, ("jpeg", "png"))
    _check_choice("depth_transport", depth_transport, ("raw", "compressedDepth"))
    _check_choice("depth_codec", depth_codec, ("png", "rvl"))
    _check_choice("depth_encoding", depth_encoding, ("16UC1", "32FC1"))
    layout = _Layout(
        color_topic=color_topic,
        color_codec=None if color_transport == "raw" else color_codec,
        depth_topic=depth_topic,
        depth_codec=None if depth_transport == "raw" else depth_codec,
        depth_encoding=depth_encoding,
        depth_offset_ns=depth_offset_ns,
        label_topic=label_topic,
    )
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
                    topics.write_frame(frame, label, layout)
                    count += 1
                if not count:
                    raise BagError(f"{path}: there are no frames to write; give at least one")
    except FileExistsError as error:
        raise BagError(str(error)) from error
    return count


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which topics are written, and how; a codec of None writes raw images."""

    color_topic: str
    color_codec: ColorCodec | None
    depth_topic: str
    depth_codec: DepthCodec | None
    depth_encoding: DepthEncoding
    depth_offset_ns: int
    label_topic: str


class _Topics:
    """Writes messages, announcing each topic when its first message comes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections: dict[str, Connection] = {}

    def write_frame(
        self, frame: RgbdFrame, label: NDArray[np.uint16] | None, layout: _Layout
    ) -> None:
        color_ns, depth_ns = frame.stamp_ns, frame.stamp_ns + layout.depth_offset_ns
        color, depth = _header(color_ns, frame.frame_id), _header(depth_ns, frame.frame_id)
        if layout.color_codec is None:
            self._write_image(layout.color_topic, color_ns, color, "rgb8", frame.rgb)
        else:
            encoded = _encode_color(frame.rgb, layout.color_codec)
            self._write_compressed(f"{layout.color_topic}/compressed", color_ns, color, encoded)
        depth_image = _encode_depth(frame, layout.depth_encoding)
        if layout.depth_codec is None:
            self._write_image(
                layout.depth_topic, depth_ns, depth, layout.depth_encoding, depth_image
            )
        else:
            encoded = encode_depth(depth_image, layout.depth_codec)
            topic = f"{layout.depth_topic}/compressedDepth"
            self._write_compressed(topic, depth_ns, depth, encoded)
        if frame.intrinsics is not None:
            self._write_info(layout.color_topic, color_ns, color, frame.intrinsics)
            self._write_info(layout.depth_topic, depth_ns, depth, frame.intrinsics)
        if label is not None:
            _check_label(label, frame)
            self._write_image(layout.label_topic, color_ns, color, "mono16", label.astype("<u2"))

    def _write_image(
        self, topic: str, stamp_ns: int, header: Any, encoding: str, image: NDArray[Any]
    ) -> None:
        message = typestore().types[IMAGE](
            header=header,
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=image.shape[1] * image[0, 0].nbytes,
            data=np.ascontiguousarray(image).reshape(-1).view(np.uint8),
        )
        self._write(topic, IMAGE, stamp_ns, message)

    def _write_compressed(
        self, topic: str, stamp_ns: int, header: Any, encoded: tuple[bytes, str]
    ) -> None:
        data, image_format = encoded
        message = typestore().types[COMPRESSED_IMAGE](
            header=header, format=image_format, data=np.frombuffer(data, np.uint8)
        )
        self._write(topic, COMPRESSED_IMAGE, stamp_ns, message)

    def _write_info(
        self, image_topic: str, stamp_ns: int, header: Any, camera: CameraIntrinsics
    ) -> None:
        types = typestore().types
        fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
        message = types[CAMERA_INFO](
            header=header,
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


def _encode_color(rgb: NDArray[np.uint8], codec: ColorCodec) -> tuple[bytes, str]:
    """The data and the format of a compressed message."""
    file = BytesIO()
    if codec == "jpeg":
        Image.fromarray(rgb).save(file, "JPEG", quality=_JPEG_QUALITY)
    else:
        Image.fromarray(rgb).save(file, "PNG", compress_level=1)
    # In the words of a publisher that hands its encoder blue first: the file is an ordinary one.
    return file.getvalue(), f"rgb8; {codec} compressed bgr8"


def _encode_depth(frame: RgbdFrame, encoding: DepthEncoding) -> NDArray[Any]:
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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BagError(f"{name} is {value!r}; choose {' or '.join(choices)}")


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
