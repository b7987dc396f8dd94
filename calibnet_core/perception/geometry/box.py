"""The oriented boxes of visible surfaces.

Of every object as many points are looked at, evenly picked, so that all objects are worked on at
once; a point of a small object may come more than once.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Floats = NDArray[np.float32]
_Indices = NDArray[np.intp]

_SURFACE_POINTS, _OUTLINE_POINTS = 384, 200
_CANDIDATES, _VOTERS = 48, 192  # of the surface's points; each divides their number
_EVERY_INNER = 8  # of the surface's points, for the rectangle of least area
_SURFACE_SHARE, _OUTLINE_SHARE = 200, 100
"""One in so many points at either end may be beyond the box, where noise is strongest."""
_FLAT_SHARE = 0.2
"""A plane with so many of the points is a face of the object. The largest of three like faces has
about a quarter, since the points at its edges are smoothed off it."""
_FLATNESS = 0.8
"""Of the points within twice the tolerance, so many lie within the tolerance of a face. A sphere
has half of them there, a cylinder seven tenths."""
_CLEAR_GAIN = 0.02
_STEEP_FACE = 0.7


def _axis_names() -> _Array:
    """(24, 3, 3): all proper rotations of a box onto itself."""
    named = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            candidate = np.zeros((3, 3))
            candidate[list(order), range(3)] = signs
            if np.linalg.det(candidate) > 0.0:
                named.append(candidate)
    return np.stack(named)


_UNIT = np.eye(3)
_AXIS_NAMES = _axis_names()
_NEXT, _AFTER_NEXT = [1, 2, 0], [2, 0, 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxPoints:
    """Points of K objects, relative to each one's centroid.

    Attributes:
        surface: (K, 4, S) float32 points without noise, with a 1 below each.
        normals: (K, 3, C) float32 unit normals of the surface at every so many of them.
        outline: (K, 3, R) float32 points on the objects' edge.
        num_beyond: (K,) of the surface, (K,) of the outline: so many at either end may be beyond
            the box.
    """

    surface: _Floats
    normals: _Floats
    outline: _Floats
    num_beyond: tuple[_Indices, _Indices]


def pick_points(
    surface: _Array, normals: _Array, bounds: _Indices, outline: _Array, outline_bounds: _Indices
) -> BoxPoints:
    """Pick the points that boxes are made from.

    Args:
        surface: (3, M) points without noise, relative to their object's centroid.
        normals: (3, M) unit normals there.
        bounds: (K + 1,) where the objects' shares of them begin and end; none is empty.
        outline: (3, R) points on the objects' edge, relative to the same.
        outline_bounds: (K + 1,) theirs. Where an object has none, its surface takes their place.
    """
    starts, counts = bounds[:-1], np.diff(bounds)
    edge_starts, edge_counts = surface.shape[1] + outline_bounds[:-1], np.diff(outline_bounds)
    is_bare = edge_counts == 0
    edge_starts = np.where(is_bare, starts, edge_starts)
    edge_counts = np.where(is_bare, counts, edge_counts)
    points = np.ones((4, surface.shape[1] + outline.shape[1]), np.float32)
    points[:3, : surface.shape[1]] = surface
    points[:3, surface.shape[1] :] = outline
    chosen = _evenly(starts, counts, _SURFACE_POINTS)
    edge = _evenly(edge_starts, edge_counts, _OUTLINE_POINTS)
    candidates = chosen[:, :: _SURFACE_POINTS // _CANDIDATES]
    return BoxPoints(
        surface=_by_object(points, chosen),
        normals=_by_object(normals.astype(np.float32), candidates),
        outline=_by_object(points[:3], edge),
        num_beyond=(
            np.minimum(counts, _SURFACE_POINTS) // _SURFACE_SHARE,
            np.minimum(edge_counts, _OUTLINE_POINTS) // _OUTLINE_SHARE,
        ),
    )


def orient_boxes(points: BoxPoints, spread: _Array, noise_m: _Array, up: _Array | None) -> _Array:
    """Choose the axes of the boxes.

    One axis is `up` where that is given; else the normal of the object's largest flat face; else,
    for curved objects, the direction in which the points spread least. Seen along that axis, the
    other two follow the rectangle of least area.

    Args:
        points: of K objects.
        spread: (K, 3, 3) covariances of their points.
        noise_m: (K,) standard deviations of one reading, metres.
        up: (3,) unit vector that one axis shall keep to.

    Returns:
        (K, 3, 3) right-handed; the columns are the axes.
    """
    faces, is_face = _largest_faces(points, spread, noise_m)
    if up is not None:
        axes = np.repeat(up[None], len(faces), axis=0)
    elif is_face.all():
        axes = faces
    else:
        axes = np.where(is_face[:, None], faces, np.linalg.eigh(spread)[1][:, :, 0])
    across = _sides_of_least_rectangles(points, axes)
    if up is not None:
        # Two upright sides look like a triangle from above, which two rectangles fit equally.
        level = faces - (faces @ up)[:, None] * up
        length = np.sqrt(np.add.reduce(level * level, axis=1))
        is_steep = is_face & (length > _STEEP_FACE)
        across[is_steep] = level[is_steep] / length[is_steep, None]
    return _nearest_to_camera(np.stack([across, _cross(axes, across), axes], axis=2))


def box_extents(points: BoxPoints, rotations: _Array) -> tuple[_Array, _Array]:
    """Centres and full extents, (K, 3) each, of the boxes around the points along given axes.

    Args:
        points: of K objects.
        rotations: (K, 3, 3); the columns are the axes.
    """
    onto_axes = rotations.transpose(0, 2, 1).astype(np.float32)
    inner, outer = points.num_beyond
    low, high = _range(onto_axes @ points.surface[:, :3], inner)
    outer_low, outer_high = _range(onto_axes @ points.outline, outer)
    low, high = np.minimum(low, outer_low), np.maximum(high, outer_high)
    centers = (rotations @ ((low + high) / 2.0)[:, :, None])[:, :, 0]
    return centers, (high - low).astype(np.float64)


def _largest_faces(
    points: BoxPoints, spread: _Array, noise_m: _Array
) -> tuple[_Array, NDArray[np.bool_]]:
    """Unit normals of the planes that hold most of the points.

    Returns:
        (K, 3) normals, and (K,) bool, whether it is a face and no mere tangent.
    """
    surface = points.surface
    tolerance = np.maximum(1.25 * noise_m, 0.004 * np.sqrt(np.trace(spread, axis1=1, axis2=2)))
    near = tolerance.astype(np.float32)[:, None, None]
    candidates = surface[:, :3, :: _SURFACE_POINTS // _CANDIDATES]
    planes = np.empty((len(surface), _CANDIDATES, 4), np.float32)
    planes[:, :, :3] = points.normals.transpose(0, 2, 1)
    planes[:, :, 3] = -np.add.reduce(points.normals * candidates, axis=1)
    votes = _count(np.abs(planes @ surface[:, :, :: _SURFACE_POINTS // _VOTERS]) < near)
    plane = planes[np.arange(len(planes)), votes.argmax(axis=1)][:, None]
    for _ in range(2):
        members = surface * (np.abs(plane @ surface) < near)
        sums = (members @ surface.transpose(0, 2, 1)).astype(np.float64)
        sums /= np.maximum(sums[:, 3:, 3:], 1.0)
        middle = sums[:, :3, 3]
        moments = sums[:, :3, :3] - middle[:, :, None] * middle[:, None]
        normals = np.linalg.eigh(moments)[1][:, :, 0]
        plane[:, 0, :3] = normals
        plane[:, 0, 3] = -np.add.reduce(normals * middle, axis=1)
    distance = np.abs(plane @ surface)
    inside, around = (_count(distance < reach)[:, 0] for reach in (near, 2.0 * near))
    is_face = (inside >= _FLAT_SHARE * _SURFACE_POINTS) & (inside >= _FLATNESS * around)
    return normals, is_face


def _sides_of_least_rectangles(points: BoxPoints, axes: _Array) -> _Array:
    """(K, 3) unit vectors along one side of the rectangles of least area around the points.

    They are seen along the axes. Round shapes fit all rectangles alike; they keep to the image's
    horizontal.
    """
    # The image's horizontal, or its vertical where that is what is looked along.
    reference = _UNIT.take(np.abs(axes[:, 0]) >= 0.8, axis=0)
    reference = reference - np.add.reduce(reference * axes, axis=1)[:, None] * axes
    reference /= np.sqrt(np.add.reduce(reference * reference, axis=1))[:, None]
    basis = np.stack([reference, _cross(axes, reference)], axis=1)
    # Few points inside the outline are on the hull, whose cost is in the number of all.
    flat = np.concatenate([points.surface[:, :3, ::_EVERY_INNER], points.outline], axis=2)
    seen = basis.astype(np.float32) @ flat
    plain = np.multiply.reduce(seen.max(axis=2) - seen.min(axis=2), axis=1).tolist()
    pairs = np.ascontiguousarray(seen.transpose(0, 2, 1))
    turns = [_turn_of_least_rectangle(*pair) for pair in zip(pairs, plain, strict=True)]
    sides: _Array = (np.array(turns)[:, None] @ basis)[:, 0]
    return sides


def _turn_of_least_rectangle(seen: _Floats, plain: float) -> tuple[float, float]:
    """Cosine and sine of the angle to x of the rectangle of least area around (N, 2) points.

    It is 0 unless that rectangle is clearly less than `plain`, the area of the one along x and y.
    """
    _, (width, height), degrees = cv2.minAreaRect(seen)
    if width * height > (1.0 - _CLEAR_GAIN) * plain:
        return 1.0, 0.0
    angle = math.radians(degrees)
    return math.cos(angle), math.sin(angle)


def _range(along: _Floats, num_beyond: _Indices) -> tuple[_Floats, _Floats]:
    """Least and greatest value of each row of (K, 3, N), but for (K,) so many at either end."""
    objects, last = np.arange(len(along)), along.shape[2] - 1
    along.sort(axis=2)
    return along[objects, :, num_beyond], along[objects, :, last - num_beyond]


def _nearest_to_camera(rotations: _Array) -> _Array:
    """The same boxes with their axes named and signed to turn least from the camera's."""
    traces = rotations.reshape(-1, 9) @ _AXIS_NAMES.transpose(2, 1, 0).reshape(9, -1)
    named: _Array = rotations @ _AXIS_NAMES[traces.argmax(axis=1)]
    return named


def _evenly(starts: _Indices, counts: _Indices, number: int) -> _Indices:
    """(K, number) indices, evenly spaced over each one's share."""
    return starts[:, None] + np.arange(number) * counts[:, None] // number


def _by_object(values: _Floats, indices: _Indices) -> _Floats:
    """(K, n, N) of (n, M) values at (K, N) indices."""
    return np.ascontiguousarray(values.take(indices, axis=1).transpose(1, 0, 2))


def _count(flags: NDArray[np.bool_]) -> _Indices:
    """How many along the last axis; several times faster than numpy's."""
    counts: _Indices = np.add.reduce(flags.view(np.uint8), axis=-1, dtype=np.intp)
    return counts


def _cross(a: _Array, b: _Array) -> _Array:
    """(K, 3) products of pairs, faster than numpy's for a few."""
    return a.take(_NEXT, axis=1) * b.take(_AFTER_NEXT, axis=1) - a.take(
        _AFTER_NEXT, axis=1
    ) * b.take(_NEXT, axis=1)
