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


def averaged(
    inverse_depth: NDArray[np.float32], presence: NDArray[np.float32], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average inverse depth down to a smaller image; what was not measured has no say.

    Args:
        inverse_depth: (H, W) per metre.
        presence: (H, W) weights, 0 where nothing was measured.
        size: (height, width) of the answer.

    Returns:
        Inverse depth, 0 where nothing was measured, and the averaged weights.
    """
    presence, weighted = (
        _resized(values, (size[1], size[0]), cv2.INTER_AREA)
        for values in (presence, inverse_depth * presence)
    )
    inverse: _Map = np.divide(weighted, presence, out=weighted, where=presence > 0.0)
    return inverse, presence


def surface_normals(
    inverse_depth: NDArray[np.float32],
    intrinsics: CameraIntrinsics | None,
    presence: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Fit a plane to the inverse depth around every pixel.

    Args:
        inverse_depth: (H, W) per metre, 0 where nothing was measured.
        intrinsics: of the image; None takes a camera with a view of 58 degrees.
        presence: (H, W) share of each pixel that was measured, of an image that was averaged down;
            None takes pixels for measured where the depth is not 0.

    Returns:
        (H, W, 2): x and y (to the right and down, in the optical frame) of the unit vector that
        faces the camera; (0, 0) where too little is measured, and where a surface is seen head-on.
    """
    height, width = inverse_depth.shape
    camera = intrinsics or _nominal_camera(height, width)
    if presence is None:
        presence = (inverse_depth > 0.0).astype(np.float32)
    factor = max(1, round(width / _WIDTH))
    if factor > 1:
        size = (-(-height // factor), -(-width // factor))
        inverse_depth, presence = averaged(inverse_depth, presence, size)
        camera = camera.resized(size)
    level, across, down, is_known = _planes(presence, inverse_depth * presence)
    columns = np.arange(presence.shape[1], dtype=np.float32) - np.float32(camera.cx)
    rows = np.arange(presence.shape[0], dtype=np.float32)[:, None] - np.float32(camera.cy)
    away = np.stack(
        [across * camera.fx, down * camera.fy, level - across * columns - down * rows], axis=-1
    )
    length = np.sqrt(np.einsum("hwc,hwc->hw", away, away))
    is_known &= length > 0.0
    facing: _Map = np.zeros((*presence.shape, 2), np.float32)
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


def _nominal_camera(height: int, width: int) -> CameraIntrinsics:
    focal, middle = _NOMINAL_FOCAL * width, (0.5 * (width - 1), 0.5 * (height - 1))
    return CameraIntrinsics(
        height=height, width=width, fx=focal, fy=focal, cx=middle[0], cy=middle[1]
    )
