"""One picture of a world: colour as light falls, depth and labels as the rays found them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.analytic_scene import Camera
from calibnet_core.data.scenes.parts import Material
from calibnet_core.data.scenes.ray_casting import Hits
from calibnet_core.data.scenes.surfaces.materials import sample_texture
from calibnet_core.data.scenes.world import World

_Array = NDArray[np.float64]
_Floats = NDArray[np.float32]
_Colors = NDArray[np.float32]

# Offsets of the rays that smooth edges, in pixels.
_SUBPIXELS = ((-0.25, -0.1), (0.1, -0.25), (0.25, 0.1), (-0.1, 0.25))
_HIGHLIGHT_POWER = 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Lamp:
    """A light at a point.

    Attributes:
        position: (3,) metres in the world.
        color: (3,) linear, what a white surface that faces it at 1 m sends back.
        casts_shadows: False for the light that a room throws back.
    """

    position: _Array
    color: _Colors
    casts_shadows: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Lighting:
    """All light in a room.

    Attributes:
        lamps: in any number.
        sky, ground: (3,) linear ambient light from above and from below.
        far: (3,) linear colour of what no ray meets.
    """

    lamps: tuple[Lamp, ...]
    sky: _Colors
    ground: _Colors
    far: _Colors


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A rendered picture.

    Attributes:
        radiance: (H, W, 3) float32 linear colour, not yet exposed.
        depth_m: (H, W) float32 metres along the optical axis, NaN where no surface is.
        parts: (H, W) int32 index into the world's parts, -1 where no surface is.
        labels: (H, W) int32, of the thing that the pixel's centre shows, 0 for the room.
        reflectance: (H, W) float32 in 0..1, how much of the light a surface sends back.
        gloss: (H, W) float32 in 0..1.
    """

    radiance: _Colors
    depth_m: NDArray[np.float32]
    parts: NDArray[np.int32]
    labels: NDArray[np.int32]
    reflectance: NDArray[np.float32]
    gloss: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shaded:
    radiance: _Colors
    albedo: _Colors
    gloss: NDArray[np.float32]


def render(world: World, camera: Camera, lighting: Lighting) -> View:
    """Take a picture of the world as it stands.

    Depth and labels are those of the pixels' centres; colour is averaged over the pixel where
    parts meet, as a lens does.
    """
    size = (camera.intrinsics.height, camera.intrinsics.width)
    rows, columns = (grid.ravel() for grid in np.mgrid[: size[0], : size[1]])
    directions = ray_directions(camera, rows, columns)
    hits = world.cast(camera.position, directions)
    shaded = _shade(world, camera, directions, hits, lighting)
    radiance = shaded.radiance
    edges = np.flatnonzero(_edges(hits.part.reshape(size)))
    if edges.size:
        radiance[edges] += _more_samples(world, camera, lighting, rows[edges], columns[edges])
        radiance[edges] /= 1 + len(_SUBPIXELS)
    seen = hits.part >= 0
    labels = np.zeros(len(rows), np.int32)
    labels[seen] = world.labels[hits.part[seen]]
    depth = np.where(seen, hits.distance, np.nan).astype(np.float32)
    return View(
        radiance=radiance.reshape(*size, 3),
        depth_m=depth.reshape(size),
        parts=hits.part.reshape(size),
        labels=labels.reshape(size),
        reflectance=shaded.albedo.mean(axis=1, dtype=np.float32).reshape(size),
        gloss=shaded.gloss.reshape(size),
    )


def ray_directions(camera: Camera, rows: NDArray[Any], columns: NDArray[Any]) -> _Floats:
    """Rays through places of the picture.

    Args:
        camera: that looks.
        rows: (N,) places in pixels, between pixels too.
        columns: (N,) likewise.

    Returns:
        (N, 3) float32 in the world, of length 1 along the optical axis, so that distances are
        depths.
    """
    intrinsics = camera.intrinsics
    local = np.empty((rows.size, 3))
    local[:, 0] = (columns - intrinsics.cx) / intrinsics.fx
    local[:, 1] = (rows - intrinsics.cy) / intrinsics.fy
    local[:, 2] = 1.0
    return np.asarray(local @ camera.rotation.T, np.float32)


def _edges(part: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels beside one that shows another part."""
    edges = np.zeros(part.shape, bool)
    across, down = part[:, 1:] != part[:, :-1], part[1:] != part[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _more_samples(
    world: World,
    camera: Camera,
    lighting: Lighting,
    rows: NDArray[Any],
    columns: NDArray[Any],
) -> _Colors:
    """(N, 3) sums of the radiance at other places of these pixels."""
    offsets = np.array(_SUBPIXELS)
    directions = ray_directions(
        camera,
        (rows[None, :] + offsets[:, :1]).ravel(),
        (columns[None, :] + offsets[:, 1:]).ravel(),
    )
    hits = world.cast(camera.position, directions)
    shaded = _shade(world, camera, directions, hits, lighting)
    return np.asarray(shaded.radiance.reshape(len(offsets), -1, 3).sum(axis=0))


def _shade(
    world: World, camera: Camera, directions: _Floats, hits: Hits, lighting: Lighting
) -> _Shaded:
    count = len(directions)
    radiance = np.broadcast_to(lighting.far, (count, 3)).astype(np.float32)
    albedo, gloss = np.zeros((count, 3), np.float32), np.zeros(count, np.float32)
    met = np.flatnonzero(hits.part >= 0)
    if not met.size:
        return _Shaded(radiance=radiance, albedo=albedo, gloss=gloss)
    met = met[np.argsort(hits.part[met], kind="stable")]  # the pixels of a part side by side
    points = directions[met] * hits.distance[met, None] + camera.position.astype(np.float32)
    normals = hits.normal[met]
    pixels_m = hits.distance[met] / np.float32(camera.intrinsics.fx)
    albedo[met], gloss[met] = _looks(world, hits.part[met], points, normals, pixels_m)
    upward = np.float32(0.5) + np.float32(0.5) * normals[:, 2:]
    light = lighting.ground + (lighting.sky - lighting.ground) * upward
    shine = np.zeros((met.size, 3), np.float32)
    towards_eye = _unit(-directions[met])
    for lamp in lighting.lamps:
        _add_lamp(lamp, world, points, normals, towards_eye, light, shine)
    radiance[met] = albedo[met] * light + gloss[met, None] * shine
    return _Shaded(radiance=radiance, albedo=albedo, gloss=gloss)


def _looks(
    world: World,
    parts: NDArray[np.int32],
    points: _Floats,
    normals: _Floats,
    pixels_m: _Floats,
) -> tuple[_Colors, NDArray[np.float32]]:
    """(N, 3) albedo and (N,) gloss where ascending `parts` were met by pixels of (N,) metres."""
    albedo, gloss = np.empty((parts.size, 3), np.float32), np.empty(parts.size, np.float32)
    rotations, positions = (poses.astype(np.float32) for poses in world.part_poses())
    present, starts = np.unique(parts, return_index=True)
    for part, first, last in zip(present, starts, (*starts[1:], parts.size), strict=True):
        here = slice(first, last)
        material = _from_afar(world.parts[part].material, float(np.median(pixels_m[here])))
        local = (points[here] - positions[part]) @ rotations[part]
        albedo[here] = sample_texture(material, local, normals[here] @ rotations[part])
        gloss[here] = material.gloss
    return albedo, gloss


def _from_afar(material: Material, pixel_m: float) -> Material:
    """The material with no detail finer than a pixel, which would flicker: halved as often."""
    if material.lining is not None:
        material = replace(material, lining=_from_afar(material.lining, pixel_m))
    height, width = material.texture.shape[:2]
    halvings = math.floor(math.log2(max(1.0, pixel_m * height / material.tile_m)))
    halvings = min(halvings, math.floor(math.log2(min(height, width))))
    if not halvings:
        return material
    size = (width >> halvings, height >> halvings)
    smaller = cv2.resize(material.texture, size, interpolation=cv2.INTER_AREA)
    return replace(material, texture=np.asarray(smaller, np.uint8))


def _add_lamp(
    lamp: Lamp,
    world: World,
    points: _Floats,
    normals: _Floats,
    towards_eye: _Floats,
    light: _Colors,
    shine: _Colors,
) -> None:
    beams = points - lamp.position.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", beams, beams))
    towards_lamp = beams / -lengths[:, None]
    facing = np.einsum("ij,ij->i", normals, towards_lamp)
    strength = np.clip(facing, 0.0, None) / lengths**2
    half = _unit(towards_lamp + towards_eye)
    along = np.clip(np.einsum("ij,ij->i", normals, half), 0.0, None)
    highlight = np.where(facing > 0, along**_HIGHLIGHT_POWER / lengths**2, 0.0)
    if lamp.casts_shadows:
        lit = np.flatnonzero(facing > 0)
        blocked = world.shadowed(lamp.position, beams[lit])
        strength[lit[blocked]] = 0.0
        highlight[lit[blocked]] = 0.0
    light += strength[:, None] * lamp.color
    shine += highlight[:, None] * lamp.color


def _unit(vectors: _Floats) -> _Floats:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12))[:, None])
