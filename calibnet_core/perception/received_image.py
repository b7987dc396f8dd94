"""Image messages on arrival: checked at the cost of a look at the header, decoded later.

Messages are taken by their fields (those of sensor_msgs), so those of rclpy and those that a bag
reader makes both do, and nothing of ROS is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.compressed import decode_color, decode_depth
from calibnet_core.perception.image_codec import (
    ImageFormatError,
    color_to_rgb8,
    depth_to_metres,
    is_native_color,
    is_native_depth,
    wrap_image,
)

_NS_PER_S = 1_000_000_000


class ImageMessage(Protocol):
    """A sensor_msgs/Image of any implementation."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: Any
    step: int
    data: Any


class CompressedMessage(Protocol):
    """A sensor_msgs/CompressedImage of any implementation."""

    header: Any
    format: str
    data: Any


ColorDecoder = Callable[[Any], NDArray[np.uint8]]
"""Turns an image message of an encoding that is not read here into (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image message that looked sound on arrival; its pixels are not converted yet.

    Attributes:
        header: of the message.
        stamp_ns: what the image is paired by, in nanoseconds.
        read: returns the pixels and the ROS name of their encoding; it may raise
            `ImageFormatError`. Whoever calls it bears the cost of decoding.
        place: of the message among those of its stream, in order of arrival; 0 where nobody counts.
    """

    header: Any
    stamp_ns: int
    read: Callable[[], tuple[NDArray[Any], str]]
    place: int = 0

    @property
    def acquired_ns(self) -> int:
        """When it was taken: the header's stamp, or where the driver sets none, `stamp_ns`."""
        return header_stamp_ns(self.header) or self.stamp_ns


def receive_color(
    msg: ImageMessage, stamp_ns: int, decoder: ColorDecoder | None = None
) -> ReceivedImage:
    """Check that a colour image can be read, at the cost of a look at its header.

    Args:
        msg: the message.
        stamp_ns: what to pair it by.
        decoder: for encodings that are not read here; without one they are refused.

    Raises:
        ImageFormatError: a size, the buffer or the encoding is wrong; `reason` says what to count.
    """
    is_native = is_native_color(msg.encoding) or is_native_depth(msg.encoding)
    if decoder is not None and not is_native:
        return ReceivedImage(msg.header, stamp_ns, lambda: (_decoded(msg, decoder), "rgb8"))
    view = pixels_of(msg)
    color_to_rgb8(view[:1, :1], msg.encoding)  # names a depth image on the colour topic
    return ReceivedImage(msg.header, stamp_ns, lambda: (view, msg.encoding))


def receive_depth(msg: ImageMessage, stamp_ns: int) -> ReceivedImage:
    """Check that a depth image can be read, as `receive_color` does for colour."""
    view = pixels_of(msg)
    depth_to_metres(view[:1, :1], msg.encoding)  # names a colour image on the depth topic
    return ReceivedImage(msg.header, stamp_ns, lambda: (view, msg.encoding))


def receive_compressed_color(msg: CompressedMessage, stamp_ns: int) -> ReceivedImage:
    """Take in a JPEG or PNG image; what is wrong with it shows when it is read."""
    return ReceivedImage(msg.header, stamp_ns, lambda: (decode_color(msg.data, msg.format), "rgb8"))


def receive_compressed_depth(msg: CompressedMessage, stamp_ns: int) -> ReceivedImage:
    """Take in a compressedDepth image; what is wrong with it shows when it is read."""
    return ReceivedImage(msg.header, stamp_ns, lambda: decode_depth(msg.data, msg.format))


def header_stamp_ns(header: Any) -> int:
    """Nanoseconds since the epoch of a header's stamp; 0 where the publisher set none."""
    return int(header.stamp.sec) * _NS_PER_S + int(header.stamp.nanosec)


def pixels_of(msg: ImageMessage) -> NDArray[Any]:
    """A read-only view of an image message's pixels; raises as `image_codec.wrap_image` does."""
    return wrap_image(
        encoding=msg.encoding,
        height=int(msg.height),
        width=int(msg.width),
        step=int(msg.step),
        is_bigendian=bool(msg.is_bigendian),
        data=msg.data,
    )


def _decoded(msg: ImageMessage, decoder: ColorDecoder) -> NDArray[np.uint8]:
    try:
        rgb = np.ascontiguousarray(decoder(msg))
    except Exception as error:  # a foreign decoder raises types of its own
        raise ImageFormatError(
            f"colour image has encoding '{msg.encoding}', which could not be converted "
            f"({error}); set the camera driver to rgb8 or bgr8",
            DropReason.BAD_ENCODING,
        ) from error
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ImageFormatError(
            f"colour image has encoding '{msg.encoding}', which came out as {rgb.dtype} "
            f"{rgb.shape}; set the camera driver to rgb8 or bgr8",
            DropReason.BAD_ENCODING,
        )
    return rgb
