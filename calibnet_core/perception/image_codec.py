"""Conversion of raw image buffers to arrays: copy-free views, 8-bit RGB, depth in metres."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.accounting import DropReason

if TYPE_CHECKING:
    from typing_extensions import Buffer

DepthUnit: TypeAlias = Literal["auto", "m", "mm"]

MAX_IMAGE_BYTES = 2**28
"""Larger images are refused: a corrupt header must not make the converters allocate without
bound."""

# Encoding -> (numpy type without byte order, channels).
_LAYOUTS = MappingProxyType(
    {
        "rgb8": ("u1", 3),
        "bgr8": ("u1", 3),
        "8UC3": ("u1", 3),
        "rgba8": ("u1", 4),
        "bgra8": ("u1", 4),
        "8UC4": ("u1", 4),
        "mono8": ("u1", 1),
        "8UC1": ("u1", 1),
        "mono16": ("u2", 1),
        "16UC1": ("u2", 1),
        "32FC1": ("f4", 1),
        "64FC1": ("f8", 1),
    }
)
# Where red, green and blue lie. The bare types name no order; drivers that use them write
# OpenCV's, blue first.
_RGB_CHANNELS = MappingProxyType(
    {
        "rgb8": (0, 1, 2),
        "rgba8": (0, 1, 2),
        "bgr8": (2, 1, 0),
        "bgra8": (2, 1, 0),
        "8UC3": (2, 1, 0),
        "8UC4": (2, 1, 0),
        "mono8": (0, 0, 0),
        "8UC1": (0, 0, 0),
    }
)
# REP-118: floating point depth is in metres, integer depth in millimetres.
_DEPTH_UNITS: MappingProxyType[str, Literal["m", "mm"]] = MappingProxyType(
    {"32FC1": "m", "64FC1": "m", "16UC1": "mm", "mono16": "mm"}
)
_SATURATED_U16 = 65535


class ImageFormatError(ValueError):
    """An image cannot be read. `reason` is the drop reason to count it under."""

    def __init__(self, message: str, reason: DropReason) -> None:
        super().__init__(message)
        self.reason = reason


def is_native_color(encoding: str) -> bool:
    """Whether `wrap_image` and `color_to_rgb8` read this encoding."""
    return encoding in _RGB_CHANNELS


def is_native_depth(encoding: str) -> bool:
    """Whether `wrap_image` and `depth_to_metres` read this encoding."""
    return encoding in _DEPTH_UNITS


def wrap_image(
    *, encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Buffer
) -> NDArray[Any]:
    """View an image buffer as an array, without a copy.

    Args:
        encoding: a colour or depth encoding of `is_native_color` or `is_native_depth`.
        height: rows.
        width: pixels of a row.
        step: bytes from the start of a row to the start of the next; padding at a row's end is
            skipped.
        is_bigendian: byte order of elements larger than one byte.
        data: a contiguous buffer of at least `step * height` bytes, where the padding of the last
            row may be missing. It must not change while the view is in use.

    Returns:
        A read-only view, (height, width) or (height, width, channels). Its dtype carries the byte
        order.

    Raises:
        ImageFormatError: if the encoding is not native, a size is zero or too large, or the buffer
            too short.
    """
    if encoding not in _LAYOUTS:
        raise ImageFormatError(
            f"image has encoding '{encoding}', which is not read directly; {_remedy(encoding)}",
            DropReason.BAD_ENCODING,
        )
    kind, channels = _LAYOUTS[encoding]
    dtype = np.dtype(kind).newbyteorder(">" if is_bigendian else "<")
    what = f"{encoding} image of height {height}, width {width}, step {step}"
    if height < 1 or width < 1:
        raise _size_error(f"{what} has no pixels; check the driver's resolution settings")
    pixel_bytes = dtype.itemsize * channels
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise _size_error(
            f"{what} needs a step of at least {row_bytes} bytes; the publisher must set step to "
            "the bytes of a row, padding included"
        )
    if step * height > MAX_IMAGE_BYTES:
        raise _size_error(
            f"{what} spans {step * height} bytes, more than the limit of {MAX_IMAGE_BYTES}; check "
            "that the header is not corrupt, or publish a smaller image"
        )
    buffer = memoryview(data)
    needed_bytes = step * (height - 1) + row_bytes
    if not buffer.c_contiguous or buffer.nbytes < needed_bytes:
        raise _size_error(
            f"{what} needs {needed_bytes} contiguous bytes but its buffer has {buffer.nbytes}; the "
            "message was cut short, or the publisher fills in wrong sizes"
        )
    shape: tuple[int, ...] = (height, width)
    strides: tuple[int, ...] = (step, pixel_bytes)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    view: NDArray[Any] = np.ndarray(shape, dtype, buffer, strides=strides)
    view.flags.writeable = False  # the buffer belongs to the message, which others may share
    return view


def color_to_rgb8(view: NDArray[Any], encoding: str) -> NDArray[np.uint8]:
    """Convert a colour image to 8-bit RGB. Alpha is ignored and grey is repeated.

    Args:
        view: (H, W) or (H, W, C) uint8, as `wrap_image` returns it for `encoding`.
        encoding: an encoding of `is_native_color`.

    Returns:
        (H, W, 3) uint8, C-contiguous. An rgb8 view without row padding is returned as it is,
        read-only.

    Raises:
        ImageFormatError: if the encoding is no native colour encoding, or `view` does not have its
            layout.
    """
    if encoding not in _RGB_CHANNELS:
        raise ImageFormatError(
            f"colour image has encoding '{encoding}'; {_remedy(encoding, topic='color/image')}",
            DropReason.BAD_ENCODING,
        )
    _check_layout(view, encoding)
    if encoding == "rgb8":
        return np.ascontiguousarray(view)
    rgb = np.empty((*view.shape[:2], 3), np.uint8)
    # One plane at a time: several times faster than one copy through reversed or gathered channels.
    for target, source in enumerate(_RGB_CHANNELS[encoding]):
        rgb[..., target] = view if view.ndim == 2 else view[..., source]
    return rgb


def depth_to_metres(
    view: NDArray[Any], encoding: str, unit: DepthUnit = "auto"
) -> NDArray[np.float32]:
    """Convert a depth image to metres.

    Zero, negative, non-finite and, in 16-bit images, saturated (65535) values are no measurement.

    Args:
        view: (H, W), as `wrap_image` returns it for `encoding`, of either byte order.
        encoding: 32FC1 or 64FC1 (metres), 16UC1 or mono16 (millimetres).
        unit: `auto` takes the unit from the encoding; `m` or `mm` overrides it for a driver that
            breaks the rule.

    Returns:
        (H, W) float32 in metres, finite and above 0, or NaN where there is no measurement. Always
        a copy.

    Raises:
        ImageFormatError: if the encoding is no depth encoding, or `view` does not have its layout.
        ValueError: if `unit` is none of the three.
    """
    if unit not in ("auto", "m", "mm"):
        raise ValueError(f"depth.unit is '{unit}'; choose auto, m or mm")
    if encoding not in _DEPTH_UNITS:
        raise ImageFormatError(
            f"depth image has encoding '{encoding}'; {_remedy(encoding, topic='depth/image')}",
            DropReason.BAD_ENCODING,
        )
    _check_layout(view, encoding)
    is_mm = (_DEPTH_UNITS[encoding] if unit == "auto" else unit) == "mm"
    # Dividing rounds correctly, where multiplying by 0.001 would not.
    scale = np.float32(1000.0 if is_mm else 1.0)
    depth_m: NDArray[np.float32]
    if view.dtype.kind == "u":
        depth_m = np.divide(view, scale, dtype=np.float32)
        # Less one, 0 and the saturated value are the two greatest: one comparison finds both.
        is_missing = view - np.uint16(1) >= _SATURATED_U16 - np.uint16(1)
    else:
        # What cannot be represented, such as a 64-bit value beyond float32 or a signalling NaN,
        # becomes infinite or NaN, and so no measurement; that deserves no warning.
        with np.errstate(all="ignore"):
            depth_m = view.astype(np.float32)
            if is_mm:
                depth_m /= scale
            is_missing = ~((depth_m > 0) & (depth_m < np.inf))
    np.copyto(depth_m, np.float32(np.nan), where=is_missing)
    return depth_m


def _check_layout(view: NDArray[Any], encoding: str) -> None:
    kind, channels = _LAYOUTS[encoding]
    dims = 2 if channels == 1 else 3
    has_shape = view.ndim == dims and (channels == 1 or view.shape[2] == channels)
    if not has_shape or view.dtype.newbyteorder("=") != np.dtype(kind):
        expected = "(H, W)" if channels == 1 else f"(H, W, {channels})"
        raise ImageFormatError(
            f"{encoding} needs an array {expected} of {np.dtype(kind).name}, not {view.shape} of "
            f"{view.dtype}; pass what wrap_image returned for this encoding",
            DropReason.BAD_SIZE,
        )


def _size_error(message: str) -> ImageFormatError:
    return ImageFormatError(message, DropReason.BAD_SIZE)


def _remedy(encoding: str, topic: str = "") -> str:
    """Say how to get an image that is read."""
    if topic == "depth/image":
        if is_native_color(encoding):
            return "this looks like a colour image; remap 'depth/image' to the raw depth topic"
        return (
            "depth is read as 16UC1 (mm) or 32FC1 (m); remap 'depth/image' to the raw depth topic"
        )
    if topic == "color/image" and is_native_depth(encoding):
        return "this looks like a depth image; remap 'color/image' to the camera's colour topic"
    if encoding.startswith("bayer_") or encoding in ("yuv422", "uyvy"):
        return "republish it as bgr8 with image_proc's debayer node (image_proc::DebayerNode)"
    if encoding.startswith(("yuv", "nv", "yuyv")):
        return (
            "set the camera driver's pixel format to rgb8, or republish it with "
            "isaac_ros_image_proc's ImageFormatConverterNode"
        )
    colors, depths = ", ".join(_RGB_CHANNELS), ", ".join(_DEPTH_UNITS)
    return f"publish colour as one of {colors}, or depth as one of {depths}"
