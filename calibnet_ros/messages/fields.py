"""Parts that many messages share: headers, times, points, images, colours."""

from __future__ import annotations

import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from calibnet_core.structures import RgbdFrame

_NS_PER_S = 1_000_000_000


def header_of(frame: RgbdFrame) -> Header:
    """Stamp and frame of the colour image, which everything published bears."""
    return Header(stamp=time_from_ns(frame.stamp_ns), frame_id=str(frame.frame_id))


def time_from_ns(nanoseconds: int) -> Time:
    """A time message; times before 1970 have negative seconds."""
    seconds, rest = _split(nanoseconds)
    return Time(sec=seconds, nanosec=rest)


def duration_from_ns(nanoseconds: int) -> Duration:
    """A duration message; negative values borrow from the seconds, as the type demands."""
    seconds, rest = _split(nanoseconds)
    return Duration(sec=seconds, nanosec=rest)


def _split(nanoseconds: int) -> tuple[int, int]:
    seconds, rest = divmod(int(nanoseconds), _NS_PER_S)
    if not -(2**31) <= seconds < 2**31:  # the types end at 68 years
        return (2**31 - 1 if seconds > 0 else -(2**31)), 0
    return seconds, rest


def byte_array(data: bytes | NDArray[Any]) -> array.array[int]:
    """The one type that message classes take whole, without looking at each element."""
    found = array.array("B")
    found.frombytes(data if isinstance(data, bytes) else memoryview(data).cast("B"))
    return found


def array_to_image(pixels: NDArray[Any], encoding: str, header: Header) -> Image:
    """An image message from (H, W) or (H, W, C) pixels of the encoding's type."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    msg = Image(header=header, encoding=encoding, is_bigendian=0)
    msg.height, msg.width = pixels.shape[:2]
    msg.step = pixels.strides[0]
    msg.data = byte_array(pixels)
    return msg


def compressed_image(data: bytes, image_format: str, header: Header) -> CompressedImage:
    """A compressed image; the format reads as image_transport's publishers write it."""
    return CompressedImage(header=header, format=image_format, data=byte_array(data))


def set_xyz(msg: Point | Vector3, values: Iterable[float]) -> None:
    """Set three coordinates of a point or components of a vector."""
    msg.x, msg.y, msg.z = map(float, values)


def set_pose(msg: Pose, position: Iterable[float], orientation: Iterable[float]) -> None:
    """Set a pose; the orientation is x, y, z, w of a unit quaternion."""
    set_xyz(msg.position, position)
    turn = msg.orientation
    turn.x, turn.y, turn.z, turn.w = map(float, orientation)


def vector(extents: Iterable[float]) -> Vector3:
    """A vector of three components."""
    msg = Vector3()
    set_xyz(msg, extents)
    return msg


def pose(position: Iterable[float], orientation: Iterable[float]) -> Pose:
    """A pose, see `set_pose`."""
    msg = Pose()
    set_pose(msg, position, orientation)
    return msg
