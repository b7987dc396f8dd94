"""A furnished scene, a camera path through it, and the faults of a real depth sensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.analytic_scene.rendering import Camera, RenderedFrame, Scene, render
from calibnet_core.data.analytic_scene.shapes import (
    Box,
    Cylinder,
    Material,
    Pattern,
    Plane,
    Shape,
    Sphere,
    Vector,
)
from calibnet_core.structures import FrameError

_TABLE_TOP_M = 0.72

_Thing = Sphere | Box | Cylinder
_Make = Callable[[np.random.Generator], _Thing]

_RED: Vector = (0.72, 0.06, 0.05)
_ORANGE: Vector = (0.90, 0.30, 0.03)
_YELLOW: Vector = (0.92, 0.62, 0.08)
_GREEN: Vector = (0.10, 0.42, 0.16)
_TEAL: Vector = (0.04, 0.40, 0.42)
_BLUE: Vector = (0.06, 0.16, 0.58)
_PURPLE: Vector = (0.30, 0.10, 0.42)
_CREAM: Vector = (0.86, 0.80, 0.66)
_STEEL: Vector = (0.55, 0.57, 0.60)


def add_sensor_faults(depth_m: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """Depth as an inexpensive sensor gives it: whole millimetres, holes along edges and elsewhere.

    Args:
        depth_m: (H, W) metres.
        seed: of the random holes.

    Returns:
        (H, W) float32 metres, NaN where nothing was measured.
    """
    reach = 2
    jump = np.zeros(depth_m.shape, bool)
    filled = np.nan_to_num(depth_m)
    padded = np.pad(filled, reach, mode="edge")
    height, width = depth_m.shape
    for shift in (*range(-reach, 0), *range(1, reach + 1)):
        above = padded[reach + shift : reach + shift + height, reach : reach + width]
        beside = padded[reach : reach + height, reach + shift : reach + shift + width]
        # Only the far side of an edge is in the shadow of the projector.
        jump |= filled - np.minimum(above, beside) > 0.03 * filled
    dropout = np.random.default_rng(seed).random(depth_m.shape) < 0.002
    quantised = np.rint(depth_m * 1000.0) / 1000.0
    return np.where(jump | dropout, np.nan, quantised).astype(np.float32)


def demo_scene(seed: int = 0) -> Scene:
    """A room with a table and about seven objects on it, placed so that none touches another."""
    rng = np.random.default_rng(seed)
    choice = rng.permutation(len(_MENU))[: rng.integers(6, 9)]
    placed: list[_Thing] = []
    for thing in (_MENU[index](rng) for index in choice):
        for _ in range(200):
            x, y = rng.uniform(-0.48, 0.48), rng.uniform(-0.24, 0.24)
            candidate = replace(thing, center=(x, y, thing.center[2]))
            if all(_gap(candidate, other) > 0.015 for other in placed):
                placed.append(candidate)
                break
    return Scene(background=_room(), objects=tuple(placed))


def render_sequence(
    num_frames: int, size: tuple[int, int] = (480, 640), seed: int = 0
) -> Iterator[RenderedFrame]:
    """Render `demo_scene(seed)` frame by frame from a camera that moves slowly round the table.

    Args:
        num_frames: how many frames; the camera moves by the same small step each frame.
        size: (height, width) in pixels.
        seed: chooses and places the objects.

    Raises:
        FrameError: a number is below 1.
    """
    if num_frames < 1 or min(size) < 1:
        raise FrameError(
            f"cannot render {num_frames} frames of size {size}; choose 1 or more of each"
        )
    scene = demo_scene(seed)
    for index in range(num_frames):
        angle = 0.35 * math.sin(0.02 * index) - 0.1
        position = (1.08 * math.sin(angle), -1.08 * math.cos(angle), 1.36)
        camera = Camera.looking_at((0.0, 0.0, 0.76), position=position, size=size)
        yield render(scene, camera)


def _gap(first: _Thing, second: _Thing) -> float:
    """Free distance between the footprints, taken as circles, in metres."""
    distance = math.hypot(first.center[0] - second.center[0], first.center[1] - second.center[1])
    return distance - _reach(first) - _reach(second)


def _reach(thing: _Thing) -> float:
    return math.hypot(*thing.half_extents[:2]) if isinstance(thing, Box) else thing.radius


def _ball(low: float, high: float, material: Material) -> _Make:
    def make(rng: np.random.Generator) -> Sphere:
        radius = rng.uniform(low, high)
        return Sphere(center=(0.0, 0.0, _TABLE_TOP_M + radius), radius=radius, material=material)

    return make


def _carton(half_extents: Vector, material: Material) -> _Make:
    def make(rng: np.random.Generator) -> Box:
        yaw, scale = rng.uniform(-math.pi / 2, math.pi / 2), rng.uniform(0.9, 1.1)
        x, y, z = (scale * value for value in half_extents)
        center = (0.0, 0.0, _TABLE_TOP_M + z)
        return Box(center=center, half_extents=(x, y, z), yaw=yaw, material=material)

    return make


def _can(radius: float, half_height: float, material: Material) -> _Make:
    def make(rng: np.random.Generator) -> Cylinder:
        scale = rng.uniform(0.9, 1.1)
        center = (0.0, 0.0, _TABLE_TOP_M + scale * half_height)
        return Cylinder(
            center=center,
            radius=scale * radius,
            half_height=scale * half_height,
            material=material,
        )

    return make


def _looks(
    color: Vector, second: Vector, pattern: Pattern, scale_m: float, gloss: float = 0.2
) -> Material:
    return Material(color=color, second_color=second, pattern=pattern, scale_m=scale_m, gloss=gloss)


_MENU: tuple[_Make, ...] = (
    _ball(0.085, 0.11, _looks(_RED, _CREAM, "segments", 8, 0.5)),
    _ball(0.04, 0.05, _looks(_ORANGE, (0.95, 0.42, 0.06), "mottled", 0.006, 0.25)),
    _ball(0.055, 0.07, _looks(_TEAL, _YELLOW, "stripes", 0.03, 0.6)),
    _carton((0.09, 0.035, 0.14), _looks(_BLUE, _CREAM, "stripes", 0.07)),
    _carton((0.12, 0.085, 0.022), _looks(_GREEN, (0.16, 0.52, 0.22), "mottled", 0.03)),
    _carton((0.055, 0.055, 0.055), _looks(_PURPLE, (0.80, 0.55, 0.85), "checker", 0.0275)),
    _carton((0.075, 0.05, 0.06), _looks((0.56, 0.38, 0.20), (0.44, 0.28, 0.13), "wood", 0.03, 0.0)),
    _can(0.036, 0.062, _looks(_RED, _STEEL, "stripes", 0.045, 0.7)),
    _can(0.045, 0.05, _looks(_CREAM, _BLUE, "stripes", 0.02, 0.4)),
    _can(0.03, 0.11, _looks(_GREEN, (0.05, 0.25, 0.09), "mottled", 0.02, 0.8)),
    _can(0.075, 0.03, _looks(_YELLOW, _ORANGE, "segments", 12, 0.3)),
)


def _room() -> tuple[Shape, ...]:
    oak = _looks((0.33, 0.17, 0.08), (0.50, 0.29, 0.15), "wood", 0.05, 0.12)
    tiles = _looks((0.34, 0.33, 0.32), (0.42, 0.41, 0.39), "checker", 0.3, 0.05)
    # A white panel up to 0.9 m, paint above.
    paint = _looks((0.74, 0.73, 0.69), (0.36, 0.50, 0.54), "stripes", 0.9, 0.0)
    thickness, width, depth, leg = 0.018, 0.66, 0.40, 0.03
    table = Box(
        center=(0.0, 0.0, _TABLE_TOP_M - thickness),
        half_extents=(width, depth, thickness),
        material=oak,
    )
    legs = [
        Box(
            center=(
                side * (width - 2 * leg),
                end * (depth - 2 * leg),
                _TABLE_TOP_M / 2 - thickness,
            ),
            half_extents=(leg, leg, _TABLE_TOP_M / 2 - thickness),
            material=oak,
        )
        for side in (-1, 1)
        for end in (-1, 1)
    ]
    floor = Plane(point=(0.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0), material=tiles)
    wall = Plane(point=(0.0, 1.25, 0.0), normal=(0.0, -1.0, 0.0), material=paint)
    return (floor, wall, table, *legs)
