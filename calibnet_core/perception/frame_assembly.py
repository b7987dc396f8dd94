"""From a pair of image messages to a frame, for the running node and for recordings alike.

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
from calibnet_core.perception.image_codec import (
    DepthUnit,
    ImageFormatError,
    color_to_rgb8,
    depth_to_metres,
    is_native_color,
    wrap_image,
)
from calibnet_core.structures import CameraIntrinsics, FrameError, RgbdFrame

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


ColorDecoder = Callable[[Any], NDArray[np.uint8]]
"""Turns an image message of an encoding that is not read here into (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image message whose layout was found sound; its pixels are not converted yet.

    Attributes:
        msg: keeps the buffer alive.
        view: the pixels without a copy; None where `decoder` must read them.
        stamp_ns: what the image is paired by, in nanoseconds.
        decoder: reads an encoding that is not read here.
    """

    msg: ImageMessage
    view: NDArray[Any] | None
    stamp_ns: int
    decoder: ColorDecoder | None = None

    @property
    def header(self) -> Any:
        """Header of the message."""
        return self.msg.header


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
    if decoder is not None and not is_native_color(msg.encoding):
        return ReceivedImage(msg, None, stamp_ns, decoder)
    view = pixels_of(msg)
    color_to_rgb8(view[:1, :1], msg.encoding)  # names a depth image on the colour topic
    return ReceivedImage(msg, view, stamp_ns)


def receive_depth(msg: ImageMessage, stamp_ns: int) -> ReceivedImage:
    """Check that a depth image can be read, as `receive_color` does for colour."""
    view = pixels_of(msg)
    depth_to_metres(view[:1, :1], msg.encoding)  # names a colour image on the depth topic
    return ReceivedImage(msg, view, stamp_ns)


def frame_from_images(
    color: ReceivedImage,
    depth: ReceivedImage,
    *,
    unit: DepthUnit = "auto",
    camera_info: Any = None,
    name: str = "",
) -> RgbdFrame:
    """Convert a pair of images.

    Args:
        color: what `receive_color` returned.
        depth: what `receive_depth` returned.
        unit: of the depth image.
        camera_info: newest CameraInfo of the colour image, if any.
        name: of the frame.

    Returns:
        A frame with the stamp and the frame id of the colour image.

    Raises:
        ImageFormatError: the two sizes differ, or the pixels cannot be converted.
    """
    assert depth.view is not None  # only colour has encodings that need a decoder
    rgb = _rgb(color)
    depth_m = depth_to_metres(depth.view, depth.msg.encoding, unit)
    if rgb.shape[:2] != depth_m.shape:
        raise ImageFormatError(
            f"colour is {rgb.shape[1]}x{rgb.shape[0]} but depth is "
            f"{depth_m.shape[1]}x{depth_m.shape[0]} (width x height), so depth is not aligned to "
            "colour; switch alignment on in the camera driver and use its aligned topic",
            DropReason.SIZE_MISMATCH,
        )
    size = (int(rgb.shape[0]), int(rgb.shape[1]))
    intrinsics = None if camera_info is None else intrinsics_from_camera_info(camera_info, size)
    try:
        return RgbdFrame(
            rgb=rgb,
            depth_m=depth_m,
            intrinsics=intrinsics,
            stamp_ns=header_stamp_ns(color.header),
            frame_id=str(color.header.frame_id),
            name=name,
        )
    except FrameError as error:  # more pixels than any RGB-D camera has
        raise ImageFormatError(str(error), DropReason.BAD_SIZE) from error


def header_stamp_ns(header: Any) -> int:
    """Nanoseconds since the epoch of a header's stamp; 0 where the publisher set none."""
    return int(header.stamp.sec) * _NS_PER_S + int(header.stamp.nanosec)


def intrinsics_from_camera_info(info: Any, size: tuple[int, int]) -> CameraIntrinsics | None:
    """Intrinsics of an image from the sensor_msgs/CameraInfo that goes with it.

    K and D describe a raw image. Where D is empty or zero the image is rectified and P describes
    it. Both refer to the full sensor, so region of interest and binning are applied.

    Args:
        info: a CameraInfo message of any implementation.
        size: (height, width) of the image in pixels.

    Returns:
        None where the message is not calibrated (zero focal length) or describes an image of
        another size.
    """
    roi, binning_x, binning_y = info.roi, max(1, int(info.binning_x)), max(1, int(info.binning_y))
    described = (
        (int(roi.height) or int(info.height)) // binning_y,
        (int(roi.width) or int(info.width)) // binning_x,
    )
    distortion = tuple(float(value) for value in info.d)
    fx, fy, cx, cy = (float(info.k[index]) for index in (0, 4, 2, 5))
    if not any(distortion) and info.p[0] > 0:
        fx, fy, cx, cy = (float(info.p[index]) for index in (0, 5, 2, 6))
    if described != size:
        return None
    try:
        return CameraIntrinsics(
            height=size[0],
            width=size[1],
            fx=fx / binning_x,
            fy=fy / binning_y,
            cx=(cx - roi.x_offset) / binning_x,
            cy=(cy - roi.y_offset) / binning_y,
            distortion_model=str(info.distortion_model) if any(distortion) else "",
            distortion=distortion if any(distortion) else (),
        )
    except FrameError:
        return None


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


def _rgb(color: ReceivedImage) -> NDArray[np.uint8]:
    if color.view is not None:
        return color_to_rgb8(color.view, color.msg.encoding)
    assert color.decoder is not None
    try:
        rgb = np.ascontiguousarray(color.decoder(color.msg))
    except Exception as error:  # a foreign decoder raises types of its own
        raise ImageFormatError(
            f"colour image has encoding '{color.msg.encoding}', which could not be converted "
            f"({error}); set the camera driver to rgb8 or bgr8",
            DropReason.BAD_ENCODING,
        ) from error
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ImageFormatError(
            f"colour image has encoding '{color.msg.encoding}', which came out as {rgb.dtype} "
            f"{rgb.shape}; set the camera driver to rgb8 or bgr8",
            DropReason.BAD_ENCODING,
        )
    return rgb
