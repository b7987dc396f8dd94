"""Where each pixel looks: the rays of a camera with the distortion models that ROS names.

A pixel (u, v) is the projection of the point (x, y, 1). With s = x² + y² the models of
`plumb_bob` and `rational_polynomial` (Brown and Conrady, as REP-104 and sensor_msgs/CameraInfo
order their coefficients) and `equidistant` (Kannala and Brandt, 2006) lead from the ray to the
pixel; the way back has no formula and is found by iteration, once for a camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibnet_core.structures import CameraIntrinsics

_Array = NDArray[np.float64]
_Warp = Callable[[_Array, _Array], tuple[_Array, _Array]]

_BROWN_LENGTHS = (4, 5, 8, 12, 14)
_EQUIDISTANT_LENGTHS = (4,)
_STEEPEST_RAD = 1.55
"""Rays farther from the optical axis, beyond 88.8 degrees, have no finite x and y to speak of."""
_TABLE_LENGTH = 4096
_ROWS_AT_ONCE = 32  # keeps the iteration's arrays in the processor's cache
_MAX_STEPS = 12
_TOLERANCE_PX = 1e-3
_CACHED_CAMERAS = 8
"""Cameras in turn that are more than this would cost their rays anew with every frame."""


class CameraModelError(ValueError):
    """A camera's distortion cannot be computed; the message says why and what to mend."""


def check_camera_model(intrinsics: CameraIntrinsics) -> None:
    """Refuse distortion that cannot be computed, at no cost.

    Raises:
        CameraModelError: the model is unknown, or its coefficients are of another number or not
            finite.
    """
    model, coefficients = intrinsics.distortion_model, intrinsics.distortion
    lengths = {
        "": (len(coefficients),),
        "plumb_bob": _BROWN_LENGTHS,
        "rational_polynomial": _BROWN_LENGTHS,
        "equidistant": _EQUIDISTANT_LENGTHS,
    }.get(model)
    if lengths is None:
        raise CameraModelError(
            f"camera info has the distortion model '{model}', which is unknown; use plumb_bob, "
            "rational_polynomial or equidistant, or rectify the image and set camera.rectified to "
            "true"
        )
    if len(coefficients) not in lengths:
        raise CameraModelError(
            f"camera info has {len(coefficients)} coefficients for the distortion model '{model}', "
            f"which has {' or '.join(map(str, lengths))}; mend the calibration file"
        )
    if not np.isfinite(coefficients).all():
        raise CameraModelError(
            f"camera info has distortion coefficients {coefficients}, not all of them finite; "
            "calibrate the camera anew"
        )


@lru_cache(maxsize=_CACHED_CAMERAS)
def camera_rays(intrinsics: CameraIntrinsics) -> NDArray[np.float32]:
    """Rays through all pixel centres of the raw image.

    The maps of the last few cameras are kept, so this costs something for a new camera only.

    Args:
        intrinsics: of the image as it was received.

    Returns:
        (H, W, 2) float32, x/z and y/z of what a pixel sees; NaN where no ray leads to the pixel,
        which happens beyond the angle at which the distortion folds over. Read-only.

    Raises:
        CameraModelError: as `check_camera_model`.
    """
    check_camera_model(intrinsics)
    columns = np.arange(intrinsics.width, dtype=np.float64)
    rows = np.arange(intrinsics.height, dtype=np.float64)
    rays = np.empty((intrinsics.height, intrinsics.width, 2), np.float32)
    if not any(intrinsics.distortion) and intrinsics.distortion_model != "equidistant":
        rays[..., 0] = (columns - intrinsics.cx) / intrinsics.fx
        rays[..., 1] = ((rows - intrinsics.cy) / intrinsics.fy)[:, None]
    else:
        angles, reach = _radial_table(intrinsics)
        for top in range(0, intrinsics.height, _ROWS_AT_ONCE):
            band = rows[top : top + _ROWS_AT_ONCE]
            pixels = np.stack(np.meshgrid(columns, band), axis=-1)
            rays[top : top + band.size] = _rays_of(intrinsics, pixels, angles, reach)
    rays.setflags(write=False)
    return rays


@lru_cache(maxsize=_CACHED_CAMERAS)
def pixel_footprints(intrinsics: CameraIntrinsics) -> NDArray[np.float32]:
    """Area that each pixel covers on the plane z = 1 m.

    Returns:
        (H, W) float32 square metres, 1 / (fx fy) without distortion; NaN where the ray or a
        neighbouring one is. Read-only.

    Raises:
        CameraModelError: as `check_camera_model`.
    """
    rays = camera_rays(intrinsics)
    height, width = rays.shape[:2]
    along_row, along_column = (1.0 / intrinsics.fx, 0.0), (0.0, 1.0 / intrinsics.fy)
    du = np.gradient(rays, axis=1) if width > 1 else np.broadcast_to(along_row, rays.shape)
    dv = np.gradient(rays, axis=0) if height > 1 else np.broadcast_to(along_column, rays.shape)
    area = np.empty((height, width), np.float32)
    np.abs(du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0], out=area, casting="same_kind")
    area[np.isnan(rays[..., 0])] = np.nan  # differences leave out the pixel itself
    area.setflags(write=False)
    return area


@lru_cache(maxsize=_CACHED_CAMERAS)
def sees_everywhere(intrinsics: CameraIntrinsics) -> bool:
    """Whether every pixel has a ray and a footprint; raises as `check_camera_model`."""
    return bool(np.isfinite(pixel_footprints(intrinsics)).all())


def project_rays(intrinsics: CameraIntrinsics, rays: NDArray[np.floating]) -> _Array:
    """Pixels that rays lead to.

    Args:
        intrinsics: of the image as it was received.
        rays: (..., 2) x/z and y/z of points in front of the camera.

    Returns:
        (..., 2) column and row, (0, 0) at the centre of the top-left pixel. Beyond the angle at
        which the distortion folds over they mean nothing.

    Raises:
        CameraModelError: as `check_camera_model`.
    """
    check_camera_model(intrinsics)
    x, y = (np.asarray(rays[..., axis], dtype=np.float64) for axis in (0, 1))
    with np.errstate(all="ignore"):  # absurd coefficients overflow to infinity
        x, y = _distortion(intrinsics)(x, y)
        x, y = _tilted(_tilt(intrinsics), x, y)
    return np.stack([x * intrinsics.fx + intrinsics.cx, y * intrinsics.fy + intrinsics.cy], axis=-1)


def _rays_of(intrinsics: CameraIntrinsics, pixels: _Array, angles: _Array, reach: _Array) -> _Array:
    """Rays (..., 2) through pixels (..., 2): the radial part from a table, then Newton's method."""
    fx, fy = intrinsics.fx, intrinsics.fy
    warp = _distortion(intrinsics)
    with np.errstate(all="ignore"):  # a ray that runs away becomes NaN below
        target_x, target_y = _tilted(
            np.asarray(np.linalg.inv(_tilt(intrinsics)), np.float64),
            (pixels[..., 0] - intrinsics.cx) / fx,
            (pixels[..., 1] - intrinsics.cy) / fy,
        )
        radius = np.hypot(target_x, target_y)
        # Starting inside the table means starting on the right branch of a folding model.
        start = np.tan(np.interp(radius, reach, angles))
        scale = np.where(radius > 0.0, start / np.maximum(radius, 1e-300), 1.0)
        x, y = target_x * scale, target_y * scale
        for _ in range(_MAX_STEPS):
            at_x, at_y = warp(x, y)
            miss_x, miss_y = at_x - target_x, at_y - target_y
            if max(np.abs(miss_x).max() * fx, np.abs(miss_y).max() * fy) < 1e-7:
                break
            step = 1e-6 * (1.0 + np.hypot(x, y))
            right_x, right_y = warp(x + step, y)
            down_x, down_y = warp(x, y + step)
            a, b = (right_x - at_x) / step, (down_x - at_x) / step
            c, d = (right_y - at_y) / step, (down_y - at_y) / step
            determinant = a * d - b * c
            x -= (d * miss_x - b * miss_y) / determinant
            y -= (a * miss_y - c * miss_x) / determinant
    rays = np.stack([x, y], axis=-1)
    miss = np.abs(project_rays(intrinsics, rays) - pixels).max(axis=-1)
    is_found = (miss < _TOLERANCE_PX) & (np.hypot(x, y) <= math.tan(angles[-1]))
    return np.where(is_found[..., None], rays, np.nan)


def _radial_table(intrinsics: CameraIntrinsics) -> tuple[_Array, _Array]:
    """Angles to the optical axis and the distorted radius there, up to where it stops growing."""
    angles = np.linspace(0.0, _STEEPEST_RAD, _TABLE_LENGTH)
    with np.errstate(all="ignore"):
        if intrinsics.distortion_model == "equidistant":
            reach = _equidistant_radius(intrinsics.distortion, angles)
        else:
            radius = np.tan(angles)
            reach = radius * _brown_scale(intrinsics.distortion, radius * radius)
        grows = np.diff(reach) > 0.0
    length = _TABLE_LENGTH if grows.all() else int(np.argmin(grows)) + 1
    return angles[:length], reach[:length]


def _distortion(intrinsics: CameraIntrinsics) -> _Warp:
    if intrinsics.distortion_model == "equidistant":
        return lambda x, y: _equidistant(intrinsics.distortion, x, y)
    if not intrinsics.distortion_model:
        return lambda x, y: (x, y)
    return lambda x, y: _brown(intrinsics.distortion, x, y)


def _brown(coefficients: tuple[float, ...], x: _Array, y: _Array) -> tuple[_Array, _Array]:
    _, _, p1, p2, *_ = coefficients
    s1, s2, s3, s4 = coefficients[8:12] if len(coefficients) >= 12 else (0.0,) * 4
    xx, xy, yy = x * x, x * y, y * y
    s = xx + yy
    scale = _brown_scale(coefficients, s)
    return (
        x * scale + 2.0 * p1 * xy + p2 * (s + 2.0 * xx) + s * (s1 + s * s2),
        y * scale + 2.0 * p2 * xy + p1 * (s + 2.0 * yy) + s * (s3 + s * s4),
    )


def _brown_scale(coefficients: tuple[float, ...], s: _Array) -> _Array:
    k1, k2, _, _, k3, k4, k5, k6 = (*coefficients, *(0.0,) * 4)[:8]
    above: _Array = 1.0 + s * (k1 + s * (k2 + s * k3))
    below: _Array = 1.0 + s * (k4 + s * (k5 + s * k6))
    return above / below


def _equidistant(coefficients: tuple[float, ...], x: _Array, y: _Array) -> tuple[_Array, _Array]:
    radius = np.hypot(x, y)
    reach = _equidistant_radius(coefficients, np.arctan(radius))
    scale = np.where(radius > 1e-12, reach / np.maximum(radius, 1e-12), 1.0)
    return x * scale, y * scale


def _equidistant_radius(coefficients: tuple[float, ...], angle: _Array) -> _Array:
    k1, k2, k3, k4 = coefficients
    s = angle * angle
    reach: _Array = angle * (1.0 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
    return reach


def _tilt(intrinsics: CameraIntrinsics) -> _Array:
    """(3, 3) homography of a sensor that is not square to the lens; coefficients 13 and 14."""
    if intrinsics.distortion_model == "equidistant" or len(intrinsics.distortion) < 14:
        return np.eye(3)
    sin_x, sin_y = (math.sin(angle) for angle in intrinsics.distortion[12:14])
    cos_x, cos_y = (math.cos(angle) for angle in intrinsics.distortion[12:14])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos_x, sin_x], [0.0, -sin_x, cos_x]])
    about_y = np.array([[cos_y, 0.0, -sin_y], [0.0, 1.0, 0.0], [sin_y, 0.0, cos_y]])
    turn = about_y @ about_x
    onto_sensor = np.array(
        [[turn[2, 2], 0.0, -turn[0, 2]], [0.0, turn[2, 2], -turn[1, 2]], [0.0, 0.0, 1.0]]
    )
    product: _Array = onto_sensor @ turn
    return product


def _tilted(homography: _Array, x: _Array, y: _Array) -> tuple[_Array, _Array]:
    if (homography == np.eye(3)).all():
        return x, y
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in homography)
    return across / depth, down / depth
