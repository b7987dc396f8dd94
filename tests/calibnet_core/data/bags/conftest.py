"""Small recordings, sound and unsound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from calibnet_core.structures import CameraIntrinsics, RgbdFrame

COLOR, DEPTH, INFO = (
    "/cam/color/image_raw",
    "/cam/aligned_depth/image_raw",
    "/cam/color/camera_info",
)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333


class Messages:
    """Builds serialised messages; the odd ones are what the reader must survive."""

    def __init__(self) -> None:
        self._store = get_typestore(Stores.ROS2_JAZZY)

    def header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        return self._store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="cam_optical")

    def image(
        self, stamp_ns: int, pixels: np.ndarray, encoding: str, *, num_bytes: int | None = None
    ) -> bytes:
        message = self._store.types["sensor_msgs/msg/Image"](
            header=self.header(stamp_ns),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels[0].nbytes,
            data=pixels.reshape(-1).view(np.uint8)[:num_bytes],
        )
        return bytes(self._store.serialize_cdr(message, "sensor_msgs/msg/Image"))

    def compressed(self, stamp_ns: int, data: bytes, format: str) -> bytes:
        message = self._store.types["sensor_msgs/msg/CompressedImage"](
            header=self.header(stamp_ns), format=format, data=np.frombuffer(data, np.uint8)
        )
        return bytes(self._store.serialize_cdr(message, "sensor_msgs/msg/CompressedImage"))

    def info(self, stamp_ns: int, size: tuple[int, int], focal: float) -> bytes:
        message = self._store.types["sensor_msgs/msg/CameraInfo"](
            header=self.header(stamp_ns),
            height=size[0],
            width=size[1],
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array([focal, 0, 1.5, 0, focal, 1.0, 0, 0, 1]),
            r=np.eye(3).ravel(),
            p=np.array([focal, 0, 1.5, 0, 0, focal, 1.0, 0, 0, 0, 1, 0]),
            binning_x=0,
            binning_y=0,
            roi=self._store.types["sensor_msgs/msg/RegionOfInterest"](
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )
        return bytes(self._store.serialize_cdr(message, "sensor_msgs/msg/CameraInfo"))

    def write(
        self, path: Path, messages: Sequence[tuple[str, str, int, bytes]], *, mcap: bool = False
    ) -> Path:
        """Record (topic, type, log time, bytes), as they are."""
        plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
        with Writer(path, version=9, storage_plugin=plugin) as writer:
            connections: dict[str, Any] = {}
            for topic, kind, log_ns, data in messages:
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        topic, f"sensor_msgs/msg/{kind}", typestore=self._store
                    )
                writer.write(connections[topic], log_ns, data)
        return path


@pytest.fixture(scope="session")
def messages() -> Messages:
    return Messages()


@pytest.fixture(scope="session")
def make_frames() -> Callable[..., list[RgbdFrame]]:
    def make(count: int, size: tuple[int, int] = (6, 8), seed: int = 0) -> list[RgbdFrame]:
        rng = np.random.default_rng(seed)
        intrinsics = CameraIntrinsics(
            height=size[0], width=size[1], fx=500.0, fy=501.0, cx=3.5, cy=2.5
        )
        frames = []
        for index in range(count):
            depth_m = rng.integers(1, 5000, size).astype(np.float32) / np.float32(1000)
            depth_m[0, 0] = np.nan
            frames.append(
                RgbdFrame(
                    rgb=rng.integers(0, 256, (*size, 3)).astype(np.uint8),
                    depth_m=depth_m,
                    intrinsics=intrinsics,
                    stamp_ns=START_NS + index * PERIOD_NS,
                    frame_id="cam_optical",
                )
            )
        return frames

    return make
