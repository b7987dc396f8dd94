"""Boxes and ellipsoids for display and messages: rotations as quaternions, edges in the image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.camera_rays import camera_rays, project_rays
from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.structures import CameraIntrinsics

# An edge is drawn through so many points, because distortion bends it and the image's rim cuts it.
_POINTS_PER_EDGE = 17
# Lens models turn back on themselves far outside the image. Points beyond this multiple of the
# widest ray cannot be seen and are left out.
_WIDEST_RAY = 1.25
_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
# Corners of an edge differ in one sign.
_EDGES = np.array(
    [
        (first, second)
        for first, second in itertools.combinations(range(8), 2)
        if np.abs(_CORNERS[first] - _CORNERS[second]).sum() == 1.0
    ]
)


def has_geometry(geometry: ObjectGeometry) -> bool:
    """Whether centroid and box are known."""
    return geometry.status == GeometryStatus.OK


def distance_m(geometry: ObjectGeometry) -> float:
    """From the camera to the centroid, in metres; NaN where that is unknown."""
    return float(np.linalg.norm(geometry.centroid))


def quaternions(rotations: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Unit quaternions of rotation matrices.

    Args:
        rotations: K right-handed (3, 3) matrices.

    Returns:
        (K, 4) as x, y, z, w with w >= 0.
    """
    if not len(rotations):
        return np.zeros((0, 4))
    return np.array([_quaternion(rotation) for rotation in rotations])


def _quaternion(matrix: NDArray[np.float64]) -> list[float]:
    """One of them from the matrix by rows, in plain numbers: far faster than arrays for a few.

    The largest component is taken from the diagonal and divides the others, so that none loses
    its digits (Shepperd's method).
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix.tolist()
    squares = (1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz)
    largest = squares.index(max(squares))
    rows = (
        (squares[0], xy + yx, xz + zx, zy - yz),
        (xy + yx, squares[1], yz + zy, xz - zx),
        (xz + zx, yz + zy, squares[2], yx - xy),
        (zy - yz, xz - zx, yx - xy, squares[3]),
    )
    chosen = rows[largest]
    length = math.copysign(math.sqrt(sum(value * value for value in chosen)), chosen[3])
    return [value / length for value in chosen]


def spread_ellipsoid(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Principal axes of a covariance.

    Args:
        covariance: (3, 3), symmetric, in square metres.

    Returns:
        A right-handed (3, 3) rotation whose columns are the axes, and the (3,) standard deviations
        along them in metres.
    """
    variances, axes = np.linalg.eigh(covariance)
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    return axes, np.sqrt(np.maximum(variances, 0.0))


def box_edges(geometry: ObjectGeometry) -> NDArray[np.float64]:
    """Ends of the edges of a box: (12, 2, 3), metres in the optical frame."""
    corners = geometry.box_center + (_CORNERS * geometry.box_size) @ geometry.box_rotation.T
    return np.asarray(corners[_EDGES])


def box_top_m(geometry: ObjectGeometry) -> float:
    """Smallest y of a box in the optical frame, where y points down: its top in the image."""
    return float(box_edges(geometry)[..., 1].min())


def box_outline(
    geometry: ObjectGeometry, intrinsics: CameraIntrinsics
) -> list[NDArray[np.float64]]:
    """Edges of a box as the camera sees them, through its distortion.

    Args:
        geometry: of the object.
        intrinsics: of the image to draw on.

    Returns:
        Lines as (N, 2) pixels with N >= 2, from which everything behind the camera and far outside
        the image is cut off; none where the geometry is unknown.

    Raises:
        CameraModelError: the camera's distortion cannot be computed.
    """
    if not has_geometry(geometry):
        return []
    start, end = box_edges(geometry).swapaxes(0, 1)[:, :, np.newaxis]
    steps = np.linspace(0.0, 1.0, _POINTS_PER_EDGE)[:, np.newaxis]
    points = start + (end - start) * steps
    lines = []
    for line in _project(points, intrinsics):
        is_seen = np.isfinite(line).all(axis=1)
        if is_seen.all():
            lines.append(line)
            continue
        cuts = np.flatnonzero(np.diff(is_seen)) + 1
        runs = zip(np.split(line, cuts), np.split(is_seen, cuts), strict=True)
        lines += [run for run, seen in runs if seen[0] and len(run) > 1]
    return lines


@lru_cache(maxsize=4)
def _widest_ray(intrinsics: CameraIntrinsics) -> float:
    """Largest tangent of the angle between the optical axis and a pixel's ray."""
    rays = camera_rays(intrinsics)
    return float(np.nanmax(np.hypot(rays[..., 0], rays[..., 1]), initial=0.0))


def _project(points: NDArray[np.float64], intrinsics: CameraIntrinsics) -> NDArray[np.float64]:
    """(..., 3) points to (..., 2) pixels, NaN where the camera cannot see."""
    x, y, z = np.moveaxis(points, -1, 0)
    reach = _WIDEST_RAY * _widest_ray(intrinsics)
    is_seen = np.hypot(x, y) < reach * z  # never true behind the camera
    pixels = np.full((*is_seen.shape, 2), np.nan)
    seen = points[is_seen]
    pixels[is_seen] = project_rays(intrinsics, seen[:, :2] / seen[:, 2:])
    return pixels
