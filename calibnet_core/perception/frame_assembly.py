"""From a pair of received images to a frame, for the running node and for recordings alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.camera_rays import CameraModelError, check_camera_model
from calibnet_core.perception.image_codec import (
    DepthUnit,
    ImageFormatError,
    color_to_rgb8,
    depth_to_metres,
)
from calibnet_core.perception.received_image import ReceivedImage
from calibnet_core.structures import CameraIntrinsics, FrameError, RgbdFrame

SizeMismatch = Literal["reject", "resize_depth"]
Rectified = Literal["auto", "true", "false"]


@dataclass(frozen=True, kw_only=True)
class AssemblySettings:
    """How a pair of images becomes a frame.

    Attributes:
        unit: of depth images; `auto` takes it from the encoding.
        size_mismatch: where the two sizes differ, refuse, or bring depth to the size of colour by
            taking the nearest pixel.
        rectified: whether the images are; see `intrinsics_from_camera_info`.
    """

    unit: DepthUnit = "auto"
    size_mismatch: SizeMismatch = "reject"
    rectified: Rectified = "auto"


def frame_from_images(
    color: ReceivedImage,
    depth: ReceivedImage | None,
    settings: AssemblySettings | None = None,
    *,
    camera_info: Any = None,
    name: str = "",
) -> RgbdFrame:
    """Convert a pair of images.

    Args:
        color: what `receive_color` returned.
        depth: what `receive_depth` returned; None for a colour image without depth.
        settings: None takes the defaults.
        camera_info: newest CameraInfo of the colour image, if any.
        name: of the frame.

    Returns:
        A frame with the stamp and the frame id of the colour image, with what it was paired by
        where it has no stamp; `depth_m` is all NaN where there is no depth.

    Raises:
        ImageFormatError: the two sizes differ, or the pixels cannot be converted.
    """
    settings = AssemblySettings() if settings is None else settings
    rgb = color_to_rgb8(*color.read())
    depth_m, depth_encoding = _depth_m(depth, settings.unit, rgb.shape[:2])
    if rgb.shape[:2] != depth_m.shape:
        if settings.size_mismatch == "reject":
            raise ImageFormatError(
                f"colour is {rgb.shape[1]}x{rgb.shape[0]} but depth is "
                f"{depth_m.shape[1]}x{depth_m.shape[0]} (width x height), so depth is not aligned "
                "to colour; switch alignment on in the camera driver and use its aligned topic",
                DropReason.SIZE_MISMATCH,
            )
        size_wh = (rgb.shape[1], rgb.shape[0])
        resized = cv2.resize(depth_m, size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
        depth_m = np.asarray(resized, np.float32)
    size = (int(rgb.shape[0]), int(rgb.shape[1]))
    intrinsics = None
    if camera_info is not None:
        intrinsics = intrinsics_from_camera_info(camera_info, size, rectified=settings.rectified)
    try:
        return RgbdFrame(
            rgb=rgb,
            depth_m=depth_m,
            depth_encoding=depth_encoding,
            intrinsics=intrinsics,
            stamp_ns=color.acquired_ns,
            frame_id=str(color.header.frame_id),
            name=name,
        )
    except FrameError as error:  # more pixels than any RGB-D camera has
        raise ImageFormatError(str(error), DropReason.BAD_SIZE) from error


def calibration_fault(info: Any, size: tuple[int, int], *, rectified: Rectified = "auto") -> str:
    """Why a CameraInfo says nothing of an image of (height, width) pixels; empty if it does."""
    intrinsics = intrinsics_from_camera_info(info, size, rectified=rectified)
    if intrinsics is None:
        if not (info.k[0] > 0 or info.p[0] > 0):
            return "it has no focal length, so the camera is not calibrated; calibrate it"
        return (
            f"it is of {info.width}x{info.height} pixels with focal lengths {info.k[0]:g} and "
            f"{info.k[4]:g}, the image has {size[1]}x{size[0]}; use the CameraInfo beside the image"
        )
    try:
        check_camera_model(intrinsics)
    except CameraModelError as error:
        return str(error)
    return ""


def _depth_m(
    depth: ReceivedImage | None, unit: DepthUnit, size: tuple[int, ...]
) -> tuple[NDArray[np.float32], str]:
    if depth is None:
        return np.full(size, np.nan, np.float32), "32FC1"
    pixels, encoding = depth.read()
    return depth_to_metres(pixels, encoding, unit), encoding


def intrinsics_from_camera_info(
    info: Any, size: tuple[int, int], *, rectified: Rectified = "auto"
) -> CameraIntrinsics | None:
    """Intrinsics of an image from the sensor_msgs/CameraInfo that goes with it.

    K and D describe a raw image, P a rectified one; K serves for P where that is zero and D as
    well. All refer to the full sensor, so region of interest and binning are applied.

    Args:
        info: a CameraInfo message of any implementation.
        size: (height, width) of the image in pixels.
        rectified: whether the image is; `auto` takes it to be where D is empty or zero.

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
    is_rectified = not any(distortion) if rectified == "auto" else rectified == "true"
    fx, fy, cx, cy = (float(info.k[index]) for index in (0, 4, 2, 5))
    if is_rectified and (info.p[0] > 0 or any(distortion)):
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
            distortion_model="" if is_rectified else str(info.distortion_model),
            distortion=() if is_rectified else distortion,
        )
    except FrameError:
        return None
