"""Closed meshes of few triangles: turned, extruded, swept and joined from rings of points.

Every builder returns a surface without holes whose faces all look outward. Lengths are metres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

from calibnet_core.data.scenes.parts import Mesh

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def lathe(profile: ArrayLike, segments: int = 24) -> Mesh:
    """Turn a profile about the z axis.

    Args:
        profile: (N, 2) radii, at least 0, and heights, in either direction. Both ends lie on the
            axis, or neither does: then the last point is joined to the first, which makes a ring.
            A vessel goes up its outside, over the rim and down its inside.
        segments: how many pieces make a full turn, at least 3.

    Raises:
        ValueError: the profile is too short, has a negative radius or touches the axis elsewhere.
    """
    points = np.asarray(profile, float)
    on_axis = points[:, 0] == 0.0
    if len(points) < 3 or points[:, 0].min() < 0.0:
        raise ValueError(f"a profile needs three points of radii of at least 0; got {points}")
    if on_axis[1:-1].any() or on_axis[0] != on_axis[-1]:
        raise ValueError(
            f"a profile meets the axis at both ends or nowhere; got radii {points.T[0]}"
        )
    around = np.stack(_circle(segments), axis=-1)
    rings = np.empty((len(points), segments, 3))
    rings[..., :2] = points[:, :1, None] * around
    rings[..., 2] = points[:, 1:]
    return loft(rings, is_loop=not on_axis[0])


def rounded_box(size: tuple[float, float, float], radius: float, steps: int = 2) -> Mesh:
    """Make a cuboid about the origin with round edges and corners.

    Args:
        size: (x, y, z) whole edges.
        radius: of the edges, from 0 to half the shortest edge.
        steps: how many pieces make a quarter turn.

    Raises:
        ValueError: the radius does not fit.
    """
    if not 0.0 <= 2.0 * radius <= min(size):
        raise ValueError(
            f"radius {radius} is not between 0 and half of the shortest edge of {size}"
        )
    core = np.array(size) / 2.0 - radius
    along, across = _circle(4 * steps)
    # Every quarter of a turn is about another corner of the core, so its ends appear twice.
    turn = np.concatenate(
        [np.arange(q * steps, (q + 1) * steps + 1) % (4 * steps) for q in range(4)]
    )
    corner = np.repeat([[1, 1], [-1, 1], [-1, -1], [1, -1]], steps + 1, axis=0)
    climb = np.concatenate([np.arange(-steps, 1), np.arange(steps + 1)])
    level = np.repeat([-1, 1], steps + 1)
    rings = np.empty((len(climb), len(turn), 3))
    circle = radius * np.stack([along[turn], across[turn]], axis=-1)
    rings[..., :2] = corner * core[:2] + along[climb][:, None, None] * circle
    rings[..., 2] = (level * core[2] + radius * across[climb])[:, None]
    return loft(rings)


def prism(outline: ArrayLike, height: float) -> Mesh:
    """Extrude a polygon from z = 0 up to a height.

    Args:
        outline: (N, 2) corners in order, in either direction; it need not be convex.
        height: above 0.

    Raises:
        ValueError: the outline crosses itself.
    """
    corners = np.asarray(outline, float)
    if _doubled_area(corners) < 0.0:
        corners = corners[::-1]
    count = len(corners)
    here = np.arange(count)
    ahead = np.roll(here, -1)
    top = _triangulate(corners)
    side = np.stack([here, ahead, ahead + count, here, ahead + count, here + count], axis=1)
    faces = np.concatenate([top[:, ::-1], top + count, side.reshape(-1, 3)])
    vertices = np.zeros((2 * count, 3))
    vertices[:, :2] = np.tile(corners, (2, 1))
    vertices[count:, 2] = height
    return Mesh(vertices=vertices, faces=faces.astype(np.int32))


def tube(path: ArrayLike, radius: ArrayLike, segments: int = 8) -> Mesh:
    """Sweep a circle along a path and close both ends.

    Args:
        path: (N, 3) points, no two neighbours alike.
        radius: one for all or (N,), above 0; an end may shrink to 0.
        segments: how many pieces make a full turn about the path, at least 3.
    """
    points = np.asarray(path, float)
    steps = np.diff(points, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    tangents = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    normals = np.empty_like(points)
    normal = np.eye(3)[np.abs(tangents[0]).argmin()]
    for index, tangent in enumerate(tangents):
        # Each normal follows from the last, so that the tube does not twist.
        normal = normal - tangent * (tangent @ normal)
        normal = normal / np.linalg.norm(normal)
        normals[index] = normal
    binormals = np.cross(tangents, normals)
    along, across = _circle(segments)
    wide = np.broadcast_to(np.asarray(radius, float), len(points))[:, None, None]
    offsets = along[:, None] * normals[:, None] + across[:, None] * binormals[:, None]
    return loft(points[:, None] + wide * offsets)


def convex_hull(points: ArrayLike) -> Mesh:
    """Wrap points in the smallest convex body.

    Args:
        points: (N, 3), not all in one plane.
    """
    cloud = np.asarray(points, float)
    hull = ConvexHull(cloud)
    used, faces = np.unique(hull.simplices, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = cloud[used]
    inward = np.einsum("fi,fi->f", _normals(vertices, faces), hull.equations[:, :3]) < 0.0
    faces[inward] = faces[inward, ::-1]
    return Mesh(vertices=vertices, faces=faces.astype(np.int32))


def superellipsoid(
    radii: tuple[float, float, float], exponents: tuple[float, float], segments: int = 20
) -> Mesh:
    """Make a body between box, ball and double cone about the origin.

    Args:
        radii: (x, y, z) half axes.
        exponents: of the upright and of the level sections: towards 0 boxy, 1 round, 2 pointed.
        segments: how many pieces make a full turn, a multiple of 4.
    """
    upright, level = exponents
    along, across = (np.sign(c) * np.abs(c) ** level for c in _circle(segments))
    climb = np.arange(-(segments // 4), segments // 4 + 1)
    out, up = (np.sign(c[climb]) * np.abs(c[climb]) ** upright for c in _circle(segments))
    unit = np.stack([np.outer(out, along), np.outer(out, across), np.tile(up, (segments, 1)).T], -1)
    return loft(unit * np.array(radii))


def loft(rings: Array, *, is_loop: bool = False) -> Mesh:
    """Join each ring of points to the next.

    Args:
        rings: (R, S, 3); point s of a ring meets point s of the next. Points that are equal become
            one, so a ring may shrink to a point or to fewer corners. The first and the last ring
            are filled by triangles about their first point, so they should be convex.
        is_loop: join the last ring to the first instead of filling both.
    """
    places = np.arange(rings.shape[0] * rings.shape[1]).reshape(rings.shape[:2])
    ahead = np.roll(places, -1, axis=1)
    above, above_ahead = np.roll(places, -1, axis=0), np.roll(ahead, -1, axis=0)
    quads = np.stack([places, ahead, above_ahead, places, above_ahead, above], axis=-1)
    if is_loop:
        return _weld(rings.reshape(-1, 3), quads.reshape(-1, 3))
    fan = np.stack([places[:, 1:-1], places[:, 2:]], axis=-1)
    centre = np.broadcast_to(places[:, :1, None], (*fan.shape[:2], 1))
    ends = np.concatenate([centre, fan], axis=-1)
    faces = np.concatenate([quads[:-1].reshape(-1, 3), ends[0, :, ::-1], ends[-1]])
    return _weld(rings.reshape(-1, 3), faces)


def scaled(mesh: Mesh, factors: ArrayLike) -> Mesh:
    """Stretch a mesh about its origin by one factor above 0, or by one for each axis."""
    return Mesh(vertices=mesh.vertices * np.asarray(factors, float), faces=mesh.faces)


def volume(mesh: Mesh) -> float:
    """Cubic metres inside of a closed mesh; negative where its faces look inward."""
    first = mesh.vertices[mesh.faces[:, 0]]
    return float(np.einsum("fi,fi->", first, _normals(mesh.vertices, mesh.faces))) / 6.0


def filleted(points: ArrayLike, radius: float, *, is_loop: bool = False) -> Array:
    """Cut each corner of a line by two points and its middle, (M, D).

    Args:
        points: (N, D) corners; the ends of the line stay.
        radius: how far from a corner its cut begins, at most 0.4 of the pieces beside it.
        is_loop: the last corner meets the first, and none of them is an end.
    """
    corners = np.asarray(points, float)
    before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
    shares = []
    for side in (before, after):
        length = np.linalg.norm(side, axis=1, keepdims=True)
        shares.append(np.minimum(radius / np.maximum(length, 1e-12), 0.4) * side)
    enter, leave = shares
    cut = np.stack([corners + enter, corners + (enter + leave) / 4.0, corners + leave], axis=1)
    if is_loop:
        return cut.reshape(-1, corners.shape[1])
    inner = cut[1:-1].reshape(-1, corners.shape[1])
    return np.concatenate([corners[:1], inner, corners[-1:]])


def _circle(segments: int) -> tuple[Array, Array]:
    """Cosines and sines, (S,) each; rounded, since quarter turns must give exact zeros."""
    angles: Array = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    around: Array = np.stack([np.cos(angles), np.sin(angles)]).round(12)
    return around[0], around[1]


def _normals(vertices: Array, faces: NDArray[np.integer]) -> Array:
    """(F, 3) vectors across the faces, twice as long as the faces are large."""
    first, second, third = (vertices[column] for column in faces.T)
    normals: Array = np.cross(second - first, third - first)
    return normals


def _weld(vertices: Array, faces: Indices) -> Mesh:
    """Make equal vertices one, drop the faces that this flattens, and turn the rest outward."""
    # Adding 0 turns -0 into 0, which looks different to a sort by bytes.
    unique, places = np.unique(vertices + 0.0, axis=0, return_inverse=True)
    faces = places.reshape(-1)[faces]
    first, second, third = faces.T
    kept = faces[(first != second) & (second != third) & (third != first)]
    mesh = Mesh(vertices=unique, faces=kept.astype(np.int32))
    if volume(mesh) < 0.0:
        return Mesh(vertices=unique, faces=np.ascontiguousarray(mesh.faces[:, ::-1]))
    return mesh


def _doubled_area(corners: Array) -> float:
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _triangulate(corners: Array) -> Indices:
    """(N - 2, 3) triangles of a counter-clockwise polygon, by cutting one ear after another."""
    tolerance = 1e-9 * np.ptp(corners, axis=0).max() ** 2
    left = np.arange(len(corners))
    triangles = []
    while len(left) >= 3:
        ear = _find_ear(corners[left], tolerance)
        triangles.append(left[[ear - 1, ear, (ear + 1) % len(left)]])
        left = np.delete(left, ear)
    return np.array(triangles)


def _find_ear(corners: Array, tolerance: float) -> int:
    """Place of the corner that the shortest possible cut takes off."""
    before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
    area = _cross(corners - before, after - corners)
    # (N, N): how far each corner lies inside of each side of the triangle at each corner.
    inside = np.full((len(corners), len(corners)), np.inf)
    for start, end in ((before, corners), (corners, after), (after, before)):
        edge = (end - start)[:, None]
        inside = np.minimum(inside, _cross(edge, corners[None] - start[:, None]))
    place = np.arange(len(corners))
    for shift in (-1, 0, 1):
        inside[place, (place + shift) % len(corners)] = -np.inf
    # A corner on the border counts as inside: a cut through it would leave a face of no area.
    free = (inside < -tolerance).all(axis=1) & (area > tolerance)
    if not free.any():
        raise ValueError(
            f"an outline must not cross itself; got one of {len(corners)} corners left"
        )
    # Short cuts leave the fewest slivers.
    length = np.linalg.norm(after - before, axis=1)
    return int(np.where(free, length, np.inf).argmin())


def _cross(first: Array, second: Array) -> Array:
    product: Array = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    return product
