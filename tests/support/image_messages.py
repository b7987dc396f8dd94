"""Stand-ins for the messages of a camera: the fields of sensor_msgs without ROS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from numpy.typing import NDArray

STAMP_NS = 7_000_000_005
FRAME_ID = "camera"


def header(stamp_ns: int = STAMP_NS, frame_id: str = FRAME_ID) -> SimpleNamespace:
    """A std_msgs/Header."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return SimpleNamespace(
        stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame_id
    )


def image(
    pixels: NDArray[Any], encoding: str, stamp_ns: int = STAMP_NS, /, **changes: Any
) -> SimpleNamespace:
    """A sensor_msgs/Image of (H, W) or (H, W, C) pixels; `changes` spoil it."""
    frame_id = changes.pop("frame_id", FRAME_ID)
    fields = {
        "header": header(stamp_ns, frame_id),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": pixels.strides[0],
        "data": pixels.tobytes(),
    }
    return SimpleNamespace(**(fields | changes))


def compressed(data: bytes, format: str, stamp_ns: int = STAMP_NS) -> SimpleNamespace:
    """A sensor_msgs/CompressedImage."""
    return SimpleNamespace(header=header(stamp_ns), format=format, data=data)


def camera_info(**changes: Any) -> SimpleNamespace:
    """A sensor_msgs/CameraInfo of a distorting 640x480 camera whose K and P differ."""
    values = {
        "height": 480,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": [0.1, 0.0, 0.0, 0.0, 0.0],
        "k": [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
        "p": [450.0, 0.0, 310.0, 0.0, 0.0, 460.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0),
    }
    return SimpleNamespace(**(values | changes))
