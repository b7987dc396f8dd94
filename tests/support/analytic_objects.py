"""Objects whose visible surface is known in closed form, seen through a lens that bends.

Rays come from OpenCV, so that what is tested here does not test itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.mask_codec import Roi, tight_roi
from calibnet_core.structures import CameraIntrinsics, RgbdFrame

Array = NDArray[np.float64]

_SIZE = {"height": 480, "width": 640, "fx": 600.0, "fy": 590.0, "cx": 322.3, "cy": 236.8}
CAMERAS = {
    "pinhole": CameraIntrinsics(**_SIZE),
    "plumb_bob": CameraIntrinsics(
        **_SIZE,
        distortion_model="plumb_bob",
        distortion=(0.12, -0.25, 0.001, -0.0008, 0.07),
    ),
    "rational_polynomial": CameraIntrinsics(
        **_SIZE,
        distortion_model="rational_polynomial",
        distortion=(0.52, -2.6, 0.0006, -0.0002, 1.5, 0.4, -2.43, 1.43),
    ),
}
"""A webcam's distortion and that of a wide colour camera, as their makers publish the like."""


def turned(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Array:
    """Rotation by degrees about the camera's x, then y, then z axis."""
    matrices = [cv2.Rodrigues(np.radians(v))[0] for v in np.diag([x, y, z])]
    return matrices[2] @ matrices[1] @ matrices[0]


class AnalyticObject(Protocol):
    """What can be rendered."""

    def depth(self, rays: Array) -> Array:
        """(N,) depth where (N, 2) rays first meet it, infinite where they do not."""


@dataclass(frozen=True, kw_only=True)
class Slab:
    """A flat rectangle; `rotation`'s columns are its two sides and its normal."""

    center: tuple[float, float, float]
    size: tuple[float, float]
    rotation: Array

    def depth(self, rays: Array) -> Array:
        """See `AnalyticObject`."""
        directions = np.column_stack([rays, np.ones(len(rays))])
        normal = self.rotation[:, 2]
        with np.errstate(divide="ignore"):
            z = (normal @ np.array(self.center)) / (directions @ normal)
        local = (directions * z[:, None] - self.center) @ self.rotation[:, :2]
        is_hit = (np.abs(local) <= np.array(self.size) / 2).all(axis=1) & (z > 0)
        return np.where(is_hit, z, np.inf)


@dataclass(frozen=True, kw_only=True)
class SphereCap:
    """The part of a sphere within `half_angle` degrees of `axis`, seen from its centre."""

    center: tuple[float, float, float]
    radius: float
    axis: tuple[float, float, float] = (0.0, 0.0, -1.0)
    half_angle: float = 180.0

    def depth(self, rays: Array) -> Array:
        """See `AnalyticObject`."""
        directions = np.column_stack([rays, np.ones(len(rays))])
        a = (directions**2).sum(axis=1)
        b = directions @ np.array(self.center)
        discriminant = b * b - a * (np.dot(self.center, self.center) - self.radius**2)
        with np.errstate(invalid="ignore"):
            z = (b - np.sqrt(discriminant)) / a
        outward = (directions * z[:, None] - self.center) / self.radius
        is_hit = (discriminant >= 0) & (
            outward @ self.axis >= math.cos(math.radians(self.half_angle))
        )
        return np.where(is_hit, z, np.inf)


@dataclass(frozen=True, kw_only=True)
class Cuboid:
    """A box; `rotation`'s columns are its axes."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation: Array

    def depth(self, rays: Array) -> Array:
        """See `AnalyticObject`."""
        directions = np.column_stack([rays, np.ones(len(rays))]) @ self.rotation
        origin = -np.array(self.center) @ self.rotation
        half = np.array(self.size) / 2
        with np.errstate(divide="ignore"):
            first, second = (-half - origin) / directions, (half - origin) / directions
        enters = np.minimum(first, second).max(axis=1)
        leaves = np.maximum(first, second).min(axis=1)
        return np.where((enters <= leaves) & (enters > 0), enters, np.inf)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A frame with the mask of every object.

    Attributes:
        frame: depth is exact in float32, NaN where nothing is hit.
        masks: (K, H, W) bool.
        rois: K of them.
    """

    frame: RgbdFrame
    masks: NDArray[np.bool_]
    rois: tuple[Roi, ...]

    def with_depth(self, depth_m: Array) -> Picture:
        """The same with other depth (H, W)."""
        frame = frame_of(depth_m, self.frame.intrinsics)
        return Picture(frame=frame, masks=self.masks, rois=self.rois)


def frame_of(depth_m: Array, intrinsics: CameraIntrinsics | None) -> RgbdFrame:
    """A black frame of this depth."""
    depth_m = np.ascontiguousarray(depth_m, np.float32)
    rgb = np.zeros((*depth_m.shape, 3), np.uint8)
    return RgbdFrame(rgb=rgb, depth_m=depth_m, intrinsics=intrinsics)


def picture_of(masks: NDArray[np.bool_], frame: RgbdFrame) -> Picture:
    """A picture with given (K, H, W) masks, none of them empty."""
    rois = tuple(tight_roi(mask) for mask in masks)
    assert None not in rois
    return Picture(frame=frame, masks=masks, rois=rois)


def render(intrinsics: CameraIntrinsics, objects: Sequence[AnalyticObject]) -> Picture:
    """Take a picture: depth and mask belong to the rays through the pixels' centres."""
    size = (intrinsics.height, intrinsics.width)
    rays = _all_rays(intrinsics)
    depths = np.stack([thing.depth(rays).reshape(size) for thing in objects])
    nearest = depths.min(axis=0)
    masks = (depths == nearest) & np.isfinite(depths)
    depth_m = np.where(np.isfinite(nearest), nearest, np.nan)
    return picture_of(masks, frame_of(depth_m, intrinsics))


@functools.lru_cache(maxsize=4)
def _all_rays(intrinsics: CameraIntrinsics) -> Array:
    return rays_through(intrinsics, pixel_centres(intrinsics.height, intrinsics.width))


def visible_mean(intrinsics: CameraIntrinsics, thing: AnalyticObject, roi: Roi) -> Array:
    """Mean of the visible surface over the image, each pixel sampled at 9 places."""
    corner = np.array([roi.x_offset - 1, roi.y_offset - 1])
    grid = pixel_centres(roi.height + 2, roi.width + 2) + corner
    offsets = (pixel_centres(3, 3) - 1.0) / 3.0
    pixels = (grid[:, None] + offsets).reshape(-1, 2)
    rays = rays_through(intrinsics, pixels)
    z = thing.depth(rays)
    is_hit = np.isfinite(z)
    points = np.column_stack([rays, np.ones(len(rays))])[is_hit] * z[is_hit, None]
    return points.mean(axis=0)


def pixel_centres(height: int, width: int) -> Array:
    """(height * width, 2) columns and rows."""
    rows, columns = np.indices((height, width), float)
    return np.column_stack([columns.ravel(), rows.ravel()])


def rays_through(intrinsics: CameraIntrinsics, pixels: Array) -> Array:
    """(N, 2) rays through (N, 2) pixels, by OpenCV."""
    camera = camera_matrix(intrinsics)
    coefficients = np.array(intrinsics.distortion or (0.0,) * 4)
    points = np.ascontiguousarray(pixels[:, None], np.float64)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-10)
    if intrinsics.distortion_model == "equidistant":
        return cv2.fisheye.undistortPoints(points, camera, coefficients, criteria=criteria)[:, 0]
    return cv2.undistortPointsIter(points, camera, coefficients, None, None, criteria)[:, 0]


def camera_matrix(intrinsics: CameraIntrinsics) -> Array:
    """(3, 3) of the pinhole."""
    k = intrinsics
    return np.array([[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]])


def add_sensor_noise(
    depth_m: Array, rng: np.random.Generator, *, sigma_at_1m: float, patch_px: int = 1
) -> Array:
    """Noise that grows with the square of depth, blurred over patches of pixels."""
    noise = rng.standard_normal(depth_m.shape)
    if patch_px > 1:
        noise = cv2.blur(noise, (patch_px, patch_px)) * patch_px
    return depth_m + sigma_at_1m * depth_m**2 * noise
