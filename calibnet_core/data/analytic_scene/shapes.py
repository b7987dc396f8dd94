"""Shapes that a ray meets at a point known in closed form, and the materials they are made of.

Points, normals and directions are (3, N) float64 arrays in metres; the world's z axis points up.
All shapes are convex, so none casts a shadow on itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vector = tuple[float, float, float]
Pattern = Literal["plain", "checker", "stripes", "segments", "mottled", "wood"]


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a surface looks, as a function of the point in the shape's own coordinates.

    Attributes:
        color: linear RGB in [0, 1].
        second_color: the other colour of the pattern.
        pattern: `checker` in cubes, `stripes` along z, `segments` around z, `mottled` and `wood`
            from noise.
        scale_m: size of a cube, stripe or blotch in metres; for `segments` the number of segments.
        gloss: strength of the highlight in [0, 1].
    """

    color: Vector
    second_color: Vector = (1.0, 1.0, 1.0)
    pattern: Pattern = "plain"
    scale_m: float = 0.05
    gloss: float = 0.1

    def albedo(self, points: Array) -> Array:
        """Linear RGB, (3, N), at points in the shape's own coordinates."""
        share = self._share_of_second(points)
        first, second = np.array(self.color)[:, None], np.array(self.second_color)[:, None]
        mixed: Array = first + (second - first) * share
        return mixed

    def _share_of_second(self, points: Array) -> Array:
        x, y, z = points
        share: Array = np.zeros(points.shape[1])
        if self.pattern == "checker":
            # The shift keeps the faces of a box off the cube borders, where rounding would decide.
            share = np.floor(points / self.scale_m + 0.37).sum(axis=0) % 2.0
        elif self.pattern == "stripes":
            share = np.floor(z / self.scale_m) % 2.0
        elif self.pattern == "segments":
            share = np.floor(np.arctan2(y, x) / (2.0 * np.pi) * self.scale_m) % 2.0
        elif self.pattern == "mottled":
            scaled = points / self.scale_m
            share = 0.65 * value_noise(scaled) + 0.35 * value_noise(scaled * 3.1)
        elif self.pattern == "wood":
            # Long in x, narrow in y: fibres run along the board, and boards differ in tone.
            fibre = value_noise(np.stack([x * 3.0, y * 90.0, z * 20.0]) / (self.scale_m * 10.0))
            waves = y / self.scale_m + 1.8 * value_noise(np.stack([x * 1.6, y * 5.0, z]))
            rings = 0.5 + 0.5 * np.sin(2.0 * np.pi * waves)
            share = 0.6 * fibre + 0.4 * rings
        return share


def dot(first: Array, second: Array) -> Array:
    """Dot products of columns, (N,), of two (D, N) arrays."""
    # Spelt out, since a reduction over the short axis takes several times as long.
    total: Array = first[0] * second[0]
    for row, other in zip(first[1:], second[1:], strict=True):
        total = total + row * other
    return total


def value_noise(points: Array) -> Array:
    """Smooth noise in [0, 1) at (3, N) points, interpolated from random values on a lattice."""
    cell = np.floor(points)
    corner = cell.astype(np.int64).astype(np.uint32)
    offset = points - cell
    weight = offset * offset * (3.0 - 2.0 * offset)
    total = np.zeros(points.shape[1])
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                share = np.abs(1 - dx - weight[0]) * np.abs(1 - dy - weight[1])
                share = share * np.abs(1 - dz - weight[2])
                total += share * _lattice_value(corner[0] + dx, corner[1] + dy, corner[2] + dz)
    return total


def _lattice_value(x: NDArray[np.uint32], y: NDArray[np.uint32], z: NDArray[np.uint32]) -> Array:
    # Multiply and fold: neighbours must get unrelated values. Unsigned arithmetic wraps, as
    # intended.
    mixed = x * np.uint32(0x8DA6B343) + y * np.uint32(0xD8163841) + z * np.uint32(0xCB1AB31F)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    mixed = (mixed ^ (mixed >> np.uint32(12))) * np.uint32(0x297A2D39)
    folded: Array = (mixed ^ (mixed >> np.uint32(15))).astype(np.float64)
    return folded / 2.0**32


class Shape(Protocol):
    """A convex body with a material."""

    @property
    def material(self) -> Material:
        """What its surface looks like."""

    def intersect(self, origins: Array, directions: Array) -> Array:
        """Smallest t > 0, (N,), at which origin + t * direction meets the surface, else inf.

        Args:
            origins: (3, N) or (3, 1).
            directions: (3, N), not necessarily of unit length.
        """

    def normals(self, points: Array) -> Array:
        """Outward unit normals, (3, N), at points of the surface."""

    def local(self, points: Array) -> Array:
        """Points in the shape's own coordinates, where its material is defined."""

    def bounds(self) -> tuple[Array, float] | None:
        """Centre (3,) and radius of a sphere around the shape; None for an unbounded one."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The unbounded plane through `point`, visible from the side that the unit `normal` faces."""

    point: Vector
    normal: Vector
    material: Material

    def intersect(self, origins: Array, directions: Array) -> Array:
        """See `Shape.intersect`."""
        normal = np.array(self.normal)
        height = normal @ np.array(self.point) - normal @ origins
        slope = normal @ directions
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            reached: Array = np.where(slope < 0.0, height / slope, np.inf)
        return _first_positive(reached)

    def normals(self, points: Array) -> Array:
        """See `Shape.normals`."""
        normals: Array = np.zeros(points.shape) + np.array(self.normal)[:, None]
        return normals

    def local(self, points: Array) -> Array:
        """See `Shape.local`."""
        relative: Array = points - np.array(self.point)[:, None]
        return relative

    def bounds(self) -> None:
        """See `Shape.bounds`."""


@dataclass(frozen=True, kw_only=True)
class Sphere:
    """A ball."""

    center: Vector
    radius: float
    material: Material

    def intersect(self, origins: Array, directions: Array) -> Array:
        """See `Shape.intersect`."""
        near, far = _quadratic_roots(
            origins - np.array(self.center)[:, None], directions, self.radius
        )
        return _first_positive(near, far)

    def normals(self, points: Array) -> Array:
        """See `Shape.normals`."""
        return self.local(points) / self.radius

    def local(self, points: Array) -> Array:
        """See `Shape.local`."""
        relative: Array = points - np.array(self.center)[:, None]
        return relative

    def bounds(self) -> tuple[Array, float]:
        """See `Shape.bounds`."""
        return np.array(self.center), self.radius


@dataclass(frozen=True, kw_only=True)
class Box:
    """A cuboid turned by `yaw` radians about the vertical through its centre."""

    center: Vector
    half_extents: Vector
    material: Material
    yaw: float = 0.0

    def intersect(self, origins: Array, directions: Array) -> Array:
        """See `Shape.intersect`."""
        half = np.array(self.half_extents)[:, None]
        start, slope = self.local(origins), _turn(directions, -self.yaw)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            first, second = (-half - start) / slope, (half - start) / slope
        # 0 / 0: the ray lies in the plane of a face, which then limits nothing.
        on_face = np.isnan(first) | np.isnan(second)
        enter = np.where(on_face, -np.inf, np.minimum(first, second))
        leave = np.where(on_face, np.inf, np.maximum(first, second))
        near = np.maximum(np.maximum(enter[0], enter[1]), enter[2])
        far = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
        return np.where(near <= far, _first_positive(near, far), np.inf)

    def normals(self, points: Array) -> Array:
        """See `Shape.normals`."""
        relative = self.local(points) / np.array(self.half_extents)[:, None]
        axis = np.abs(relative).argmax(axis=0)
        columns = np.arange(points.shape[1])
        normals = np.zeros(points.shape)
        normals[axis, columns] = np.sign(relative[axis, columns])
        return _turn(normals, self.yaw)

    def local(self, points: Array) -> Array:
        """See `Shape.local`."""
        return _turn(points - np.array(self.center)[:, None], -self.yaw)

    def bounds(self) -> tuple[Array, float]:
        """See `Shape.bounds`."""
        return np.array(self.center), float(np.linalg.norm(self.half_extents))


@dataclass(frozen=True, kw_only=True)
class Cylinder:
    """An upright cylinder with flat ends."""

    center: Vector
    radius: float
    half_height: float
    material: Material

    def intersect(self, origins: Array, directions: Array) -> Array:
        """See `Shape.intersect`."""
        start = self.local(origins)
        side_in, side_out = _quadratic_roots(start[:2], directions[:2], self.radius)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bottom = (-self.half_height - start[2]) / directions[2]
            top = (self.half_height - start[2]) / directions[2]
        on_end = np.isnan(bottom) | np.isnan(top)
        cap_in = np.where(on_end, -np.inf, np.minimum(bottom, top))
        cap_out = np.where(on_end, np.inf, np.maximum(bottom, top))
        near, far = np.maximum(side_in, cap_in), np.minimum(side_out, cap_out)
        return np.where(near <= far, _first_positive(near, far), np.inf)

    def normals(self, points: Array) -> Array:
        """See `Shape.normals`."""
        x, y, z = self.local(points)
        is_end = np.abs(z) / self.half_height > np.hypot(x, y) / self.radius
        normals = np.stack([x, y, np.zeros_like(z)]) / self.radius
        return np.where(is_end, np.stack([0 * x, 0 * y, np.sign(z)]), normals)

    def local(self, points: Array) -> Array:
        """See `Shape.local`."""
        relative: Array = points - np.array(self.center)[:, None]
        return relative

    def bounds(self) -> tuple[Array, float]:
        """See `Shape.bounds`."""
        return np.array(self.center), float(np.hypot(self.radius, self.half_height))


def _quadratic_roots(start: Array, slope: Array, radius: float) -> tuple[Array, Array]:
    """Both t at which |start + t * slope| equals the radius; (inf, -inf) where the ray misses."""
    a, b, c = dot(slope, slope), dot(start, slope), dot(start, start) - radius * radius
    discriminant = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = np.sqrt(np.maximum(discriminant, 0.0))
        near, far = (-b - root) / a, (-b + root) / a
    # A ray along the axis of a cylinder never meets its side: it is inside for ever or never.
    along = a == 0.0
    near = np.where(along, np.where(c <= 0.0, -np.inf, np.inf), near)
    far = np.where(along, np.where(c <= 0.0, np.inf, -np.inf), far)
    missed = discriminant < 0.0
    return np.where(missed, np.inf, near), np.where(missed, -np.inf, far)


def _first_positive(near: Array, far: Array | None = None) -> Array:
    if far is not None:
        near = np.where(near > 0.0, near, far)
    return np.where(near > 0.0, near, np.inf)


def _turn(vectors: Array, yaw: float) -> Array:
    cosine, sine = np.cos(yaw), np.sin(yaw)
    x, y, z = vectors
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z])
