"""From the masks of a frame to the geometry of its objects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.camera_rays import (
    CameraModelError,
    check_camera_model,
    pixel_footprints,
    sees_everywhere,
)
from calibnet_core.perception.geometry.box import box_extents, orient_boxes, pick_points
from calibnet_core.perception.geometry.canvas import Canvas, SampledObject, lay_out
from calibnet_core.perception.geometry.outline import outlines
from calibnet_core.perception.geometry.samples import (
    Crop,
    SurfaceSamples,
    crop_object,
    sample_surface,
)
from calibnet_core.perception.geometry.surface import Surfaces, fit_surfaces
from calibnet_core.perception.geometry.values import (
    GeometrySettings,
    GeometryStatus,
    ObjectGeometry,
)
from calibnet_core.perception.mask_codec import Roi
from calibnet_core.structures import CameraIntrinsics, RgbdFrame

_Array = NDArray[np.float64]

_UNIT = np.eye(3)
_ROUNDING_M = 3e-4
"""Depth in whole millimetres is off by so much, alike all over a surface that faces the camera."""


def measure_objects(
    frame: RgbdFrame,
    masks: NDArray[np.bool_],
    rois: Sequence[Roi],
    settings: GeometrySettings,
    *,
    has_depth: bool = True,
    up: NDArray[np.float64] | None = None,
) -> tuple[ObjectGeometry, ...]:
    """Measure every object of a frame.

    Args:
        frame: with `depth_m`, and `intrinsics` where they are known.
        masks: (K, H, W), none of them empty.
        rois: K tight boxes of the masks.
        settings: see there.
        has_depth: False where the frame's depth is only a stand-in.
        up: (3,) unit vector against gravity in the optical frame, for `box_up_axis` `gravity`;
            without it such a box follows the points.

    Returns:
        K geometries.
    """
    if not settings.enabled:
        return (ObjectGeometry(status=GeometryStatus.DISABLED),) * len(rois)
    depth_m = frame.depth_m
    if depth_m is None or not has_depth:
        return (ObjectGeometry(status=GeometryStatus.NO_DEPTH),) * len(rois)
    intrinsics = _usable_intrinsics(frame)
    vertical = None
    if settings.box_up_axis == "camera":
        vertical = np.array([0.0, 1.0, 0.0])
    elif settings.box_up_axis == "gravity" and up is not None:
        vertical = up
    crops = [
        crop_object(depth_m, mask, roi, settings) for mask, roi in zip(masks, rois, strict=True)
    ]
    ratios = [crop.num_usable / crop.num_pixels for crop in crops]
    if intrinsics is not None and not sees_everywhere(intrinsics):
        crops = [_without_blind_pixels(crop, intrinsics) for crop in crops]
    samples = [sample_surface(crop, settings, frame.size) for crop in crops]
    if intrinsics is None:
        return tuple(_only_depths(*pair) for pair in zip(ratios, samples, strict=True))
    found = [
        (SampledObject(crop=crop, samples=grid), ratio)
        for crop, grid, ratio in zip(crops, samples, ratios, strict=True)
        if grid is not None
    ]
    measured = iter(_measure(found, intrinsics, settings, vertical) if found else ())
    return tuple(
        ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS, depth_valid_ratio=ratio)
        if grid is None
        else next(measured)
        for grid, ratio in zip(samples, ratios, strict=True)
    )


def _usable_intrinsics(frame: RgbdFrame) -> CameraIntrinsics | None:
    intrinsics = frame.intrinsics
    if intrinsics is None or (intrinsics.height, intrinsics.width) != frame.size:
        return None
    try:
        check_camera_model(intrinsics)
    except CameraModelError:
        return None
    return intrinsics


def _without_blind_pixels(crop: Crop, intrinsics: CameraIntrinsics) -> Crop:
    has_ray = np.isfinite(pixel_footprints(intrinsics)[crop.window])
    mask, is_usable = crop.mask & has_ray, crop.is_usable & has_ray
    return replace(
        crop,
        mask=mask,
        is_usable=is_usable,
        num_pixels=int(np.count_nonzero(mask)),
        num_usable=int(np.count_nonzero(is_usable)),
    )


def _only_depths(ratio: float, samples: SurfaceSamples | None) -> ObjectGeometry:
    near, median, far = (math.nan,) * 3 if samples is None else samples.percentiles()
    return ObjectGeometry(
        status=GeometryStatus.NO_CAMERA_INFO,
        depth_valid_ratio=ratio,
        depth_near_m=near,
        depth_median_m=median,
        depth_far_m=far,
    )


def _measure(
    found: Sequence[tuple[SampledObject, float]],
    intrinsics: CameraIntrinsics,
    settings: GeometrySettings,
    vertical: _Array | None,
) -> list[ObjectGeometry]:
    """Measure one or more objects, each with its share of usable depth, all at once."""
    objects = [thing for thing, _ in found]
    canvas = lay_out(objects, intrinsics)
    surfaces = fit_surfaces(objects, canvas, intrinsics)
    outline, outline_bounds = outlines(objects, canvas, surfaces)
    centroids, moments = _centroids_and_moments(canvas, surfaces)
    covariances = _centroid_covariances(objects, centroids, moments, settings)
    areas = _areas(objects, surfaces)

    counts = np.diff(surfaces.bounds)
    centers = np.repeat(centroids, counts, axis=0).T
    outline -= np.repeat(centroids, np.diff(outline_bounds), axis=0).T
    smooth = surfaces.directions / surfaces.smooth - centers
    points = pick_points(smooth, surfaces.normals, surfaces.bounds, outline, outline_bounds)
    noise_m = surfaces.noise * centroids[:, 2] ** 2
    rotations = orient_boxes(points, moments, noise_m, vertical)
    box_centers, sizes = box_extents(points, rotations)
    box_centers += centroids
    geometries = []
    for index, (thing, ratio) in enumerate(found):
        near, median, far = thing.samples.percentiles()
        geometries.append(
            ObjectGeometry(
                status=GeometryStatus.OK,
                depth_valid_ratio=ratio,
                depth_near_m=near,
                depth_median_m=median,
                depth_far_m=far,
                centroid=centroids[index],
                covariance=covariances[index],
                box_center=box_centers[index],
                box_rotation=rotations[index],
                box_size=sizes[index],
                surface_area_m2=areas[index],
            )
        )
    return geometries


def _centroids_and_moments(canvas: Canvas, surfaces: Surfaces) -> tuple[_Array, _Array]:
    """(K, 3) means and (K, 3, 3) covariances of the objects' visible points.

    These are all samples, and the open places that the surfaces lead to.
    """
    is_open = np.flatnonzero(surfaces.is_open)
    open_places = surfaces.places.take(is_open)
    is_visible, depth_m = canvas.is_kept.copy(), canvas.depth_m.copy()
    is_visible[open_places] = True
    depth_m[open_places] = 1.0 / surfaces.inverse_depth.take(is_open)
    places = np.flatnonzero(is_visible)
    rays = canvas.rays.take(places)
    points = np.ones((4, places.size))  # with the 1 one product gives sums and squares
    points[2] = depth_m.take(places)
    np.multiply(rays.real, points[2], out=points[0])
    np.multiply(rays.imag, points[2], out=points[1])
    sums = np.stack(
        [
            # A copy, since BLAS is slow at products of a narrow matrix with itself.
            points[:, first:last].copy() @ points[:, first:last].T
            for first, last in itertools.pairwise(canvas.bounds(places).tolist())
        ]
    )
    sums /= sums[:, 3:, 3:]
    centroids = sums[:, 3, :3]
    return centroids, sums[:, :3, :3] - centroids[:, :, None] * centroids[:, None]


def _areas(objects: Sequence[SampledObject], surfaces: Surfaces) -> list[float]:
    """Areas of the whole masks; the samples that were chosen stand for all."""
    parts = np.stack([surfaces.area, surfaces.area * surfaces.is_open, surfaces.is_open])
    sums = np.add.reduceat(parts, surfaces.bounds[:-1], axis=1).T.tolist()
    areas = []
    for thing, number, (total, on_open, num_open) in zip(
        objects, np.diff(surfaces.bounds).tolist(), sums, strict=True
    ):
        on_samples = (total - on_open) / max(1, number - num_open)
        count = thing.samples.ordered_depth_m.size
        mean = (on_samples * count + on_open) / (count + num_open)
        areas.append(mean * thing.crop.num_pixels)
    return areas


def _centroid_covariances(
    objects: Sequence[SampledObject],
    centroids: _Array,
    moments: _Array,
    settings: GeometrySettings,
) -> _Array:
    """(K, 3, 3) covariances of the centroids.

    Three errors add up. Which points are seen: the points' spread by their number, as if they had
    been drawn one by one, which stands for the grid and for about a pixel of error in the mask.
    Noise of depth along the line of sight: readings in a patch err together, so that patches count
    and not readings. The rounding of depth. An error in the depth scale of the whole image, which
    no one frame can show, is not in it.

    In 750 noisy trials of boxes at 0.6 to 1.5 m the ellipsoid that should hold 90 % held 99 % where
    each reading erred by itself, and 96 % where patches of eight pixels erred together.
    """
    variances, counts = [], []
    for thing in objects:
        depth_m = thing.samples.ordered_depth_m
        squares = depth_m * depth_m
        variance = settings.depth_noise**2 * float(squares @ squares) / depth_m.size
        patches = depth_m.size * (thing.samples.stride / settings.noise_patch_px) ** 2
        variances.append(variance / max(1.0, patches))
        counts.append(depth_m.size)
    along = centroids / centroids[:, 2:]
    covariances: _Array = moments / np.array(counts)[:, None, None] + _UNIT * _ROUNDING_M**2
    covariances += along[:, :, None] * along[:, None] * np.array(variances)[:, None, None]
    return covariances
