"""From the masks of a frame to the geometry of its objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.camera_rays import (
    CameraModelError,
    camera_rays,
    check_camera_model,
    pixel_footprints,
    sees_everywhere,
)
from calibnet_core.perception.geometry.box import box_extents, largest_face, orient_box
from calibnet_core.perception.geometry.outline import outlines
from calibnet_core.perception.geometry.samples import (
    Crop,
    SurfaceSamples,
    crop_object,
    sample_surface,
)
from calibnet_core.perception.geometry.surface import SampledObject, Surface, fit_surfaces
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
    ratios = [np.count_nonzero(crop.is_usable) / np.count_nonzero(crop.mask) for crop in crops]
    if intrinsics is not None and not sees_everywhere(intrinsics):
        crops = [_without_blind_pixels(crop, intrinsics) for crop in crops]
    samples = [sample_surface(crop, settings, frame.size) for crop in crops]
    if intrinsics is None:
        return tuple(_only_depths(*pair) for pair in zip(ratios, samples, strict=True))
    geometries = [
        ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS, depth_valid_ratio=ratio)
        for ratio in ratios
    ]
    found = [index for index, grid in enumerate(samples) if grid is not None]
    if not found:
        return tuple(geometries)
    objects = [
        _sampled(crop, grid, intrinsics)
        for crop, grid in zip(crops, samples, strict=True)
        if grid is not None
    ]
    surfaces = fit_surfaces(objects, intrinsics)
    edges = outlines(objects, surfaces)
    for index, thing, surface, edge in zip(found, objects, surfaces, edges, strict=True):
        geometries[index] = _measure(thing, surface, edge, ratios[index], settings, vertical)
    return tuple(geometries)


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
    return replace(crop, mask=crop.mask & has_ray, is_usable=crop.is_usable & has_ray)


def _only_depths(ratio: float, samples: SurfaceSamples | None) -> ObjectGeometry:
    near, median, far = (math.nan,) * 3 if samples is None else samples.percentiles()
    return ObjectGeometry(
        status=GeometryStatus.NO_CAMERA_INFO,
        depth_valid_ratio=ratio,
        depth_near_m=near,
        depth_median_m=median,
        depth_far_m=far,
    )


def _sampled(crop: Crop, samples: SurfaceSamples, intrinsics: CameraIntrinsics) -> SampledObject:
    grid = (samples.rows, samples.columns)
    return SampledObject(
        mask=crop.mask,
        samples=samples,
        rays=camera_rays(intrinsics)[crop.window][grid].reshape(-1, 2),
        footprint=pixel_footprints(intrinsics)[crop.window][grid].ravel(),
    )


def _measure(
    thing: SampledObject,
    surface: Surface,
    outline: _Array,
    ratio: float,
    settings: GeometrySettings,
    vertical: _Array | None,
) -> ObjectGeometry:
    samples = thing.samples
    points = _visible_points(thing, surface)
    centroid = points.sum(axis=1) / points.shape[1]
    moment = points @ points.T / points.shape[1] - centroid[:, None] * centroid

    smooth = surface.directions / surface.smooth - centroid[:, None]
    outline = outline - centroid[:, None]
    face = largest_face(smooth, surface.normals, moment, surface.noise * float(centroid[2]) ** 2)
    rotation = orient_box(smooth, outline, moment, face, vertical)
    center, size = box_extents(smooth, outline, rotation)
    near, median, far = samples.percentiles()
    return ObjectGeometry(
        status=GeometryStatus.OK,
        depth_valid_ratio=ratio,
        depth_near_m=near,
        depth_median_m=median,
        depth_far_m=far,
        centroid=centroid,
        covariance=_centroid_covariance(samples, centroid, moment, settings),
        box_center=centroid + center,
        box_rotation=rotation,
        box_size=size,
        surface_area_m2=_area(thing, surface),
    )


def _visible_points(thing: SampledObject, surface: Surface) -> _Array:
    """(3, P) points of all samples, and of the open places that the surface leads to."""
    places = np.flatnonzero(thing.samples.is_kept)
    count, is_open = places.size, np.flatnonzero(surface.is_open)
    points = np.empty((3, count + is_open.size))
    points[2, :count] = thing.samples.depth_m.ravel().take(places)
    np.reciprocal(surface.inverse_depth[is_open], out=points[2, count:])
    points[:2, :count] = thing.rays.take(places, axis=0).T
    points[:2, count:] = surface.directions[:2, is_open]
    points[:2] *= points[2]
    return points


def _area(thing: SampledObject, surface: Surface) -> float:
    """Area of the whole mask; the samples that were chosen stand for all."""
    on_open = surface.area[surface.is_open]
    on_samples = float(surface.area.sum() - on_open.sum()) / max(
        1, surface.area.size - on_open.size
    )
    count = thing.samples.sorted_depth_m.size
    mean = (on_samples * count + float(on_open.sum())) / (count + on_open.size)
    return mean * int(np.count_nonzero(thing.mask))


def _centroid_covariance(
    samples: SurfaceSamples, centroid: _Array, moment: _Array, settings: GeometrySettings
) -> _Array:
    """(3, 3) covariance of the centroid.

    Three errors add up. Which points are seen: the points' spread by their number, as if they had
    been drawn one by one, which stands for the grid and for about a pixel of error in the mask.
    Noise of depth along the line of sight: readings in a patch err together, so that patches count
    and not readings. The rounding of depth. An error in the depth scale of the whole image, which
    no one frame can show, is not in it.

    In 750 noisy trials of slabs, spheres and boxes at 0.6 to 2 m the ellipsoid that should hold
    90 % held at least 98 %; where noise was as modelled, its size was 1.6 times that of the errors.
    """
    ascending = samples.sorted_depth_m.astype(np.float64)
    squares = ascending * ascending
    variance = settings.depth_noise**2 * float(squares @ squares) / ascending.size
    patches = max(1.0, ascending.size * (samples.stride / settings.noise_patch_px) ** 2)
    along = centroid / centroid[2]
    covariance = moment / ascending.size + _UNIT * _ROUNDING_M**2
    covariance += along[:, None] * along * (variance / patches)
    return covariance
