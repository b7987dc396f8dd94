"""Ray casting: one ray a pixel meets one shape, whose formula gives depth and normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.analytic_scene.shapes import Array, Shape, Vector, dot
from calibnet_core.structures import CameraIntrinsics, RgbdFrame

_NUM_LIGHT_SAMPLES = 20
_NUM_PROBES = 5
# Offsets of the rays that smooth edges, in pixels: a square grid, rotated so that no two share a
# row.
_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


@dataclass(frozen=True, kw_only=True)
class Light:
    """A round lamp; its size softens the shadows. Position and radius in metres."""

    position: Vector = (-1.1, -1.3, 2.6)
    radius: float = 0.16
    color: Vector = (1.0, 0.94, 0.84)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What stands in the room.

    Attributes:
        background: floor, wall, table; labelled 0.
        objects: object k of this sequence is labelled k + 1.
        light: the only lamp; the rest is ambient.
    """

    background: tuple[Shape, ...]
    objects: tuple[Shape, ...]
    light: Light = Light()


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """A pinhole camera in the world, whose z axis points up.

    Attributes:
        intrinsics: without distortion.
        position: (3,) of the optical centre in metres.
        rotation: (3, 3); the columns are the camera's x (right), y (down) and z (forward) axes.
    """

    intrinsics: CameraIntrinsics
    position: Array
    rotation: Array

    @classmethod
    def looking_at(
        cls, target: Vector, *, position: Vector, size: tuple[int, int], focal: float = 0.9
    ) -> Camera:
        """A level camera at `position` that has `target` in its centre.

        Args:
            target: world point in metres, not straight above or below `position`.
            position: of the optical centre in metres.
            size: (height, width) of the image in pixels.
            focal: focal length as a share of the image width.
        """
        height, width = size
        forward = np.array(target) - np.array(position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
        intrinsics = CameraIntrinsics(
            height=height,
            width=width,
            fx=focal * width,
            fy=focal * width,
            cx=(width - 1) / 2,
            cy=(height - 1) / 2,
        )
        return cls(intrinsics=intrinsics, position=np.array(position, float), rotation=rotation)

    def rays(self, columns: Array, rows: Array) -> Array:
        """World directions, (3, N), through pixel positions; a step of 1 adds 1 m of depth."""
        k = self.intrinsics
        x, y = (columns - k.cx) / k.fx, (rows - k.cy) / k.fy
        return self.rotation @ np.stack([x, y, np.ones_like(x)])


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedFrame:
    """One picture of a scene.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 metres along the optical axis, exact; NaN where a ray meets nothing.
        label: (H, W) uint16, 0 background, k + 1 for object k.
        camera: that took it.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    label: NDArray[np.uint16]
    camera: Camera

    def to_rgbd_frame(
        self,
        *,
        stamp_ns: int = 0,
        frame_id: str = "camera_color_optical_frame",
        name: str = "scene",
    ) -> RgbdFrame:
        """The frame as a camera would deliver it, without the labels."""
        return RgbdFrame(
            rgb=self.rgb,
            depth_m=self.depth_m,
            intrinsics=self.camera.intrinsics,
            stamp_ns=stamp_ns,
            frame_id=frame_id,
            name=name,
        )


def render(scene: Scene, camera: Camera) -> RenderedFrame:
    """Take a picture. The same scene and camera give the same arrays.

    Depth and labels belong to the ray through the pixel centre; colour is smoothed along edges.
    """
    height, width = camera.intrinsics.height, camera.intrinsics.width
    rows, columns = (grid.ravel().astype(float) for grid in np.indices((height, width)))
    shapes = (*scene.background, *scene.objects)
    depth, hit, color = _trace(shapes, scene.light, camera, columns, rows)
    edges = _edges(hit.reshape(height, width), color.reshape(3, height, width))
    if edges.size:
        samples = [
            _trace(shapes, scene.light, camera, columns[edges] + dx, rows[edges] + dy)[2]
            for dx, dy in _SUBPIXELS
        ]
        color[:, edges] = np.mean(samples, axis=0)

    label = np.clip(hit + 1 - len(scene.background), 0, None)
    return RenderedFrame(
        rgb=(color.T * 255.0 + 0.5).astype(np.uint8).reshape(height, width, 3),
        depth_m=np.where(np.isfinite(depth), depth, np.nan)
        .astype(np.float32)
        .reshape(height, width),
        label=label.astype(np.uint16).reshape(height, width),
        camera=camera,
    )


def _trace(
    shapes: Sequence[Shape], light: Light, camera: Camera, columns: Array, rows: Array
) -> tuple[Array, NDArray[np.int64], Array]:
    """Depth (N,), index of the shape hit or -1 (N,), and display colour in [0, 1] (3, N)."""
    directions = camera.rays(columns, rows)
    origin = camera.position[:, None]
    depth = np.full(columns.size, np.inf)
    hit = np.full(columns.size, -1)
    for index, shape in enumerate(shapes):
        rays = _rays_near(shape, origin, directions)
        t = shape.intersect(origin, directions[:, rays])
        closer = t < depth[rays]
        depth[rays[closer]], hit[rays[closer]] = t[closer], index
    color = np.zeros((3, columns.size))
    for index, shape in enumerate(shapes):
        rays = np.flatnonzero(hit == index)
        if rays.size:
            points = origin + directions[:, rays] * depth[rays]
            color[:, rays] = _shade(shape, points, directions[:, rays], shapes, light)
    return depth, hit, _to_display(color)


def _to_display(color: Array) -> Array:
    # A soft shoulder keeps highlights from burning out but pales colours, which the second step
    # returns to them; the power is the display's gamma.
    soft: Array = 1.0 - np.exp(-1.3 * color)
    grey = soft.sum(axis=0) / 3.0
    vivid: Array = np.clip(grey + 1.2 * (soft - grey), 0.0, 1.0)
    return vivid ** (1.0 / 2.2)


def _shade(
    shape: Shape, points: Array, directions: Array, shapes: Sequence[Shape], light: Light
) -> Array:
    normals = shape.normals(points)
    to_light = np.array(light.position)[:, None] - points
    to_light /= _length(to_light)
    to_eye = -directions / _length(directions)
    facing = np.maximum(dot(normals, to_light), 0.0)
    visible = _visibility(shape, points, facing, shapes, light)
    halfway = to_light + to_eye
    halfway /= _length(halfway)
    highlight = np.maximum(dot(normals, halfway), 0.0) ** 60 * shape.material.gloss
    # Light from the ceiling is a little cool, light from below comes back warm from the floor.
    up = 0.5 + 0.5 * normals[2]
    cool, warm = np.array([[0.40], [0.44], [0.50]]), np.array([[0.20], [0.17], [0.14]])
    ambient = (warm + (cool - warm) * up) * _openness(shape, points, normals, shapes)
    lamp = np.array(light.color)[:, None]
    albedo = shape.material.albedo(shape.local(points))
    color: Array = albedo * (ambient + lamp * 0.95 * facing * visible)
    return color + lamp * highlight * visible


def _visibility(
    shape: Shape, points: Array, facing: Array, shapes: Sequence[Shape], light: Light
) -> Array:
    """Share of the lamp, (N,), that each point sees."""
    blocked = np.zeros(facing.size)
    lit = np.flatnonzero(facing > 0.0)
    center = np.array(light.position)[:, None]
    lamps = center[:, :, None] + _disc_offsets(light)
    to_light = center - points[:, lit]
    for other in shapes:
        if other is shape or other.bounds() is None:
            continue
        near = lit[_rays_near(other, points[:, lit], to_light, margin=light.radius)]
        if not near.size:
            continue
        # Most points see all of the lamp or nothing of it, which its middle and rim tell.
        probed = _count_blocked(other, points[:, near], lamps[:, :, :_NUM_PROBES])
        blocked[near] += probed / _NUM_PROBES
        partly = (probed > 0) & (probed < _NUM_PROBES)
        twilight = near[partly]
        counted = _count_blocked(other, points[:, twilight], lamps)
        blocked[twilight] += counted / lamps.shape[2] - probed[partly] / _NUM_PROBES
    return np.maximum(0.0, 1.0 - blocked)


def _count_blocked(shape: Shape, points: Array, lamps: Array) -> Array:
    """How many of the lamps, (3, 1, S), the shape hides from each point, (N,)."""
    counts = np.zeros(points.shape[1])
    for lamp in np.moveaxis(lamps, 2, 0) if points.size else ():
        counts += shape.intersect(points, lamp - points) < 1.0
    return counts


def _openness(shape: Shape, points: Array, normals: Array, shapes: Sequence[Shape]) -> Array:
    """Share of the ambient light, (N,), that the other objects leave: they count as balls."""
    openness = np.ones(points.shape[1])
    for other in shapes:
        bounds = other.bounds()
        # Large furniture is no ball; small things are what darkens the spot they stand on.
        if other is shape or bounds is None or bounds[1] > 0.4:
            continue
        toward = bounds[0][:, None] - points
        distance = _length(toward)
        angle = np.maximum(dot(normals, toward) / distance, 0.0)
        openness *= 1.0 - 0.75 * angle * np.minimum(1.0, 0.75 * bounds[1] / distance) ** 2
    return openness


def _disc_offsets(light: Light) -> Array:
    """Points spread over the lamp's disc, (3, 1, S): the middle, four on the rim, then the rest."""
    steps = np.arange(_NUM_LIGHT_SAMPLES) + 0.5
    angle = steps * math.pi * (3.0 - math.sqrt(5.0))
    distance = np.sqrt(steps / _NUM_LIGHT_SAMPLES)
    angle[:_NUM_PROBES] = 0.5 * math.pi * np.arange(_NUM_PROBES)
    distance[:_NUM_PROBES] = [0.0, *[0.95] * (_NUM_PROBES - 1)]
    facing = np.array(light.position) / np.linalg.norm(light.position)
    across = np.cross(facing, (0.0, 0.0, 1.0))
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(across, facing)], axis=1) * light.radius
    offsets: Array = axes @ np.stack([distance * np.cos(angle), distance * np.sin(angle)])
    return offsets[:, None, :]


def _rays_near(
    shape: Shape, origins: Array, directions: Array, margin: float = 0.0
) -> NDArray[np.int64]:
    """Indices of the rays that come near enough to the shape to be worth testing."""
    bounds = shape.bounds()
    if bounds is None:
        return np.arange(directions.shape[1])
    toward = bounds[0][:, None] - origins
    along = np.maximum(dot(toward, directions), 0.0)
    missed = dot(toward, toward) - along * along / dot(directions, directions)
    return np.flatnonzero(missed <= (bounds[1] + margin) ** 2)


def _length(vectors: Array) -> Array:
    return np.asarray(np.sqrt(dot(vectors, vectors)))


def _edges(hit: NDArray[np.int64], color: Array) -> NDArray[np.int64]:
    """Flat indices of the pixels that differ from a neighbour in shape or clearly in brightness."""
    brightness = color.sum(axis=0) / 3.0
    is_edge = np.zeros(hit.shape, bool)
    for axis in (0, 1):
        step = (np.diff(hit, axis=axis) != 0) | (np.abs(np.diff(brightness, axis=axis)) > 0.06)
        first, second = (slice(None, -1), slice(None)), (slice(1, None), slice(None))
        is_edge[first[::1] if axis == 0 else first[::-1]] |= step
        is_edge[second[::1] if axis == 0 else second[::-1]] |= step
    return np.flatnonzero(is_edge)
