"""Rays through triangles, by Embree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.scenes.parts import (
    Box,
    Capsule,
    Cylinder,
    Ellipsoid,
    Mesh,
    SceneError,
    Solid,
)
from calibnet_core.data.scenes.things.meshes import lathe, scaled

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
except ImportError as error:
    raise SceneError(
        "Embree, which follows the rays, is not installed; run: pip install calibnet_ros[scenes]"
    ) from error

_Array = NDArray[np.float64]
_SEGMENTS = 32
_CREASE_COSINE = math.cos(math.radians(35.0))
_BEND_COSINE = math.cos(math.radians(35.0 / 2))
_MOST_NEIGHBOURS = 8
_SHADOW_SLACK = 1e-3  # of the way from the lamp, so that no surface shadows itself


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """What N rays met first.

    Attributes:
        part: (N,) int32 number of the solid, -1 where nothing.
        distance: (N,) float32 in lengths of the ray's direction; infinite where nothing.
        normal: (N, 3) float32 unit normals of the surface, pointing against the ray; round
            surfaces have those of their curve and not of its facets.
    """

    part: NDArray[np.int32]
    distance: NDArray[np.float32]
    normal: NDArray[np.float32]


class RayCaster:
    """Solids in their places, to be met by rays.

    Args:
        solids: in their own frames.
        rotations: (P, 3, 3) to the world.
        positions: (P, 3) metres in the world.
        throws_shadow: (P,) bool.
    """

    def __init__(
        self,
        solids: Sequence[Solid],
        rotations: _Array,
        positions: _Array,
        throws_shadow: NDArray[np.bool_],
    ) -> None:
        meshes = [triangles_of(solid) for solid in solids]
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        vertices = np.concatenate(
            [
                mesh.vertices @ rotation.T + position
                for mesh, rotation, position in zip(meshes, rotations, positions, strict=True)
            ]
        ).astype(np.float32)
        faces = np.concatenate(
            [mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]
        ).astype(np.int32)
        self._part_of_face = np.repeat(
            np.arange(len(meshes), dtype=np.int32), [len(mesh.faces) for mesh in meshes]
        )
        self._corner_normals = corner_normals(vertices, faces)
        self._all = _embree(vertices, faces)
        shadowing = faces[throws_shadow[self._part_of_face]]
        self._shadowing = _embree(vertices, shadowing) if len(shadowing) else None

    def cast(self, origin: _Array, directions: NDArray[np.float32]) -> Hits:
        """Follow rays from one point.

        Args:
            origin: (3,) metres.
            directions: (N, 3), of any length above 0.
        """
        directions = np.ascontiguousarray(directions, np.float32)
        found = self._all.run(_repeated(origin, len(directions)), directions, output=1)
        met = np.flatnonzero(found["geomID"] >= 0)
        face = found["primID"][met]
        part = np.full(len(directions), -1, np.int32)
        part[met] = self._part_of_face[face]
        distance = np.full(len(directions), np.inf, np.float32)
        distance[met] = found["tfar"][met]
        normal = np.zeros((len(directions), 3), np.float32)
        normal[met] = self._normals(face, found["u"][met], found["v"][met], directions[met])
        return Hits(part=part, distance=distance, normal=normal)

    def shadowed(self, lamp: _Array, beams: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N,) whether something that throws shadows stands in a lamp's beams.

        Args:
            lamp: (3,) metres.
            beams: (N, 3) from there to surfaces.
        """
        if self._shadowing is None:
            return np.zeros(len(beams), bool)
        beams = np.ascontiguousarray(beams, np.float32)
        found = self._shadowing.run(_repeated(lamp, len(beams)), beams, output=1)
        return np.asarray((found["geomID"] >= 0) & (found["tfar"] < 1.0 - _SHADOW_SLACK))

    def _normals(
        self,
        face: NDArray[np.int32],
        u: NDArray[np.float32],
        v: NDArray[np.float32],
        directions: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        corners = self._corner_normals[face]
        normal = corners[:, 0] * (1 - u - v)[:, None]
        normal += corners[:, 1] * u[:, None]
        normal += corners[:, 2] * v[:, None]
        normal /= np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None]
        normal[np.einsum("ij,ij->i", normal, directions) > 0] *= -1
        return normal


def triangles_of(solid: Solid) -> Mesh:
    """The surface of a solid in triangles; round ones have `_SEGMENTS` sides."""
    match solid:
        case Mesh():
            return solid
        case Box():
            return scaled(_unit_box(), solid.size)
        case Ellipsoid():
            return scaled(_unit_ball(), solid.radii)
        case Cylinder():
            half = solid.height / 2
            profile = [[0, -half], [solid.radius, -half], [solid.radius, half], [0, half]]
            return lathe(np.array(profile), _SEGMENTS)
        case Capsule():
            angles = np.linspace(-math.pi / 2, math.pi / 2, _SEGMENTS // 2 + 1)
            heights = np.sin(angles) * solid.radius + np.sign(angles) * solid.length / 2
            heights[len(angles) // 2] = 0.0
            radii = np.cos(angles) * solid.radius
            radii[[0, -1]] = 0.0
            return lathe(np.stack([radii, heights], axis=1), _SEGMENTS)


@lru_cache
def _unit_box() -> Mesh:
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    sides = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [(a, b, c) for a, b, c, _ in sides] + [(a, c, d) for a, _, c, d in sides]
    return Mesh(vertices=corners, faces=np.array(faces, np.int32))


@lru_cache
def _unit_ball() -> Mesh:
    angles = np.linspace(-math.pi / 2, math.pi / 2, _SEGMENTS // 2 + 1)
    radii = np.cos(angles)
    radii[[0, -1]] = 0.0
    return lathe(np.stack([radii, np.sin(angles)], axis=1), _SEGMENTS)


def corner_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Normals at the corners of triangles, averaged over neighbours that bend by little.

    Args:
        vertices: (V, 3).
        faces: (F, 3).

    Returns:
        (F, 3, 3): for each corner of each face the normal there; not of unit length where
        neighbours were added.
    """
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals /= np.maximum(lengths, np.float32(1e-20))
    order = np.argsort(faces.ravel(), kind="stable")
    vertex, own = faces.ravel()[order], normals[order // 3]
    average = _averages(vertex, own, len(vertices))[vertex]
    bends = np.einsum("ij,ij->i", own, average) < _BEND_COSINE
    is_creased = np.bincount(vertex, bends, len(vertices))[vertex] > 0
    summed = np.where(is_creased[:, None], _sums_within_creases(vertex, own), average)
    found = np.empty_like(own)
    found[order] = summed
    return found.reshape(-1, 3, 3)


def _averages(
    vertex: NDArray[np.int32], normals: NDArray[np.float32], count: int
) -> NDArray[np.float32]:
    """(V, 3) unit means of the normals at each vertex."""
    sums = np.stack([np.bincount(vertex, normals[:, axis], count) for axis in range(3)], axis=1)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-20), np.float32)


def _sums_within_creases(
    vertex: NDArray[np.int32], own: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(C, 3) sums of the normals at the same ascending vertex that are like a corner's own."""
    summed = own.copy()
    for shift in range(1, _MOST_NEIGHBOURS):
        near = (vertex[shift:] == vertex[:-shift]) & (
            np.einsum("ij,ij->i", own[shift:], own[:-shift]) > _CREASE_COSINE
        )
        here = np.flatnonzero(near)
        summed[here] += own[here + shift]
        summed[here + shift] += own[here]
    return summed


def _embree(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, vertices, np.ascontiguousarray(faces))
    return scene


def _repeated(point: _Array, count: int) -> NDArray[np.float32]:
    return np.tile(np.asarray(point, np.float32), (count, 1))
