"""Which way surfaces face, from depth: a plane through each pixel's neighbourhood.

A plane n·p = h seen along the ray ((u - cx) / fx, (v - cy) / fy, 1) has the inverse depth
1/z = n·ray / h, which is linear in u and v. So planes are fitted to inverse depth, where they stay
exact and where the noise of triangulating sensors does not depend on distance.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.structures import CameraIntrinsics

_Map: TypeAlias = NDArray[np.float32]

_WIDTH = 320
"""Images much wider than this are averaged down to about it: noise is, too, and time is saved."""

_REACH = 2
_LEAST_SAMPLES = 6.0
_LEAST_SPREAD = 20.0
"""Of the measured pixels in a window, in pixels to the fourth; a full window of 5x5 has 2500. A
line has none, and tells no plane."""

_NOMINAL_FOCAL = 0.9
"""Focal length over image width of a camera that is not known: a view of 58 degrees."""


def surface_normals(
    inverse_depth: NDArray[np.float32], intrinsics: CameraIntrinsics | None
) -> NDArray[np.float32]:
    """Fit a plane to the inverse depth around every pixel.

    Args:
        inverse_depth: (H, W) per metre, 0 where nothing was measured.
        intrinsics: of the image; None takes a camera with a view of 58 degrees.

    Returns:
        (H, W, 2): x and y (to the right and down, in the optical frame) of the unit vector that
        faces the camera; (0, 0) where too little is measured, and where a surface is seen head-on.
    """
    height, width = inverse_depth.shape
    presence, weighted = (inverse_depth > 0.0).astype(np.float32), inverse_depth
    factor = max(1, round(width / _WIDTH))
    if factor > 1:
        size = (-(-width // factor), -(-height // factor))
        presence, weighted = (_resized(m, size, cv2.INTER_AREA) for m in (presence, weighted))
    level, across, down, is_known = _planes(presence, weighted)
    small_height, small_width = presence.shape
    # The averaged image has pixels of its own; their centres go where they were.
    scale_x, scale_y = small_width / width, small_height / height
    fx, fy, cx, cy = _pinhole(intrinsics, height, width)
    cx, cy = (cx + 0.5) * scale_x - 0.5, (cy + 0.5) * scale_y - 0.5
    columns = np.arange(small_width, dtype=np.float32) - np.float32(cx)
    rows = np.arange(small_height, dtype=np.float32)[:, None] - np.float32(cy)
    away = np.stack(
        [across * (fx * scale_x), down * (fy * scale_y), level - across * columns - down * rows],
        axis=-1,
    )
    length = np.sqrt(np.einsum("hwc,hwc->hw", away, away))
    is_known &= length > 0.0
    facing: _Map = np.zeros((small_height, small_width, 2), np.float32)
    np.divide(-away[..., :2], length[..., None], out=facing, where=is_known[..., None])
    if factor > 1:
        facing = _resized(facing, (width, height), cv2.INTER_LINEAR)
    return facing


def _planes(presence: _Map, weighted: _Map) -> tuple[_Map, _Map, _Map, NDArray[np.bool_]]:
    """Weighted least squares in windows of 5x5.

    Args:
        presence: (h, w) weight of each pixel.
        weighted: (h, w) inverse depth times that weight.

    Returns:
        Inverse depth at each pixel, its change per pixel to the right and down, and where these are
        known, all (h, w).
    """
    taps = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
    powers = [np.ones_like(taps), taps, taps**2]

    def total(values: _Map, x: int, y: int) -> _Map:
        summed = cv2.sepFilter2D(
            values, cv2.CV_32F, powers[x], powers[y], borderType=cv2.BORDER_CONSTANT
        )
        return np.asarray(summed, np.float32)

    weight = total(presence, 0, 0)
    share = np.reciprocal(np.maximum(weight, np.float32(1e-6)))
    mean_x, mean_y = total(presence, 1, 0) * share, total(presence, 0, 1) * share
    mean = total(weighted, 0, 0) * share
    xx = total(presence, 2, 0) - weight * mean_x**2
    yy = total(presence, 0, 2) - weight * mean_y**2
    xy = total(presence, 1, 1) - weight * mean_x * mean_y
    xd = total(weighted, 1, 0) - weight * mean_x * mean
    yd = total(weighted, 0, 1) - weight * mean_y * mean
    spread = xx * yy - xy**2
    is_known = (weight >= _LEAST_SAMPLES) & (spread >= _LEAST_SPREAD)
    inverse = np.reciprocal(np.maximum(spread, np.float32(_LEAST_SPREAD)))
    across, down = (yy * xd - xy * yd) * inverse, (xx * yd - xy * xd) * inverse
    return mean - across * mean_x - down * mean_y, across, down, is_known


def _resized(values: _Map, size: tuple[int, int], interpolation: int) -> _Map:
    return np.asarray(cv2.resize(values, size, interpolation=interpolation), np.float32)


def _pinhole(
    intrinsics: CameraIntrinsics | None, height: int, width: int
) -> tuple[float, float, float, float]:
    if intrinsics is not None:
        return intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    focal = _NOMINAL_FOCAL * width
    return focal, focal, 0.5 * (width - 1), 0.5 * (height - 1)
