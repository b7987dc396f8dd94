"""A scene from a seed: a room, things that fell into place in it, and light."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibnet_core.data.analytic_scene import Camera
from calibnet_core.data.scenes.parts import SceneError, Thing
from calibnet_core.data.scenes.rendering import Lamp, Lighting, ray_directions
from calibnet_core.data.scenes.rooms import Room, Support, sample_room
from calibnet_core.data.scenes.surfaces.materials import make_material
from calibnet_core.data.scenes.things.families import bounds, sample_thing
from calibnet_core.data.scenes.world import Placed, World

_Array = NDArray[np.float64]
_SETTLE_S = 1.2
_RESTLESS_M_S = 0.25
_GAP_M = 0.004
_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_NUM_CAMERA_ATTEMPTS = 12
_PROBES = (12, 16)
_NEAREST_M = 0.25


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """What scenes are like.

    Attributes:
        size: (height, width) of the pictures in pixels.
        num_things: (fewest, most) things in a scene.
    """

    size: tuple[int, int] = (240, 320)
    num_things: tuple[int, int] = (1, 16)

    def __post_init__(self) -> None:
        if min(self.size) < 16 or max(self.size) > 4096:
            raise SceneError(f"scene size is {self.size}; choose 16 to 4096 pixels a side")
        if not 1 <= self.num_things[0] <= self.num_things[1] <= 100:
            raise SceneError(
                f"scene num_things is {self.num_things}; choose fewest and most from 1 to 100"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Things at rest in a lit room.

    Attributes:
        room: where.
        world: all of it; label k is thing k of `names`, counted from 1.
        names: of the kinds of the things.
        lighting: the light.
    """

    room: Room
    world: World
    names: tuple[str, ...]
    lighting: Lighting


def sample_scene(rng: np.random.Generator, settings: SceneSettings) -> Scene:
    """Furnish a room, drop things into place and light it."""
    room = sample_room(rng, make_material)
    fewest, most = settings.num_things
    # As many scenes of few things as of many.
    count = round(math.exp(rng.uniform(math.log(fewest), math.log(most + 0.49))))
    things = [sample_thing(rng, make_material) for _ in range(count)]
    placed = drop(things, room.support, rng)
    world = World([*room.placed, *placed])
    _take_away_what_fell(world, room.support, world.settle(_SETTLE_S))
    return Scene(
        room=room,
        world=world,
        names=tuple(thing.name for thing in things),
        lighting=sample_lighting(rng, room.support),
    )


def drop(things: list[Thing], support: Support, rng: np.random.Generator) -> list[Placed]:
    """Places above the support, from which things fall onto each other but do not overlap yet."""
    spread = rng.uniform(0.25, 0.9)
    middle = rng.uniform(-0.3, 0.3, 2) * support.half_size
    occupied: list[tuple[_Array, _Array]] = []
    placed = []
    for label, thing in enumerate(things, start=1):
        turn = _pose(rng)
        low, high = bounds(thing)
        corners = (low + _CORNERS * (high - low)) @ turn.T
        low, high = corners.min(axis=0), corners.max(axis=0)
        room_left = np.maximum(0.0, np.array(support.half_size) - (high - low)[:2] / 2)
        x, y = np.clip(
            middle + spread * rng.normal(0.0, 0.45, 2) * support.half_size, -room_left, room_left
        )
        shift = np.array([x, y, 0.0]) - np.array([*((low + high)[:2] / 2), low[2]])
        low, high = low + shift, high + shift
        # Onto what is there already; the tallest pile that its outline meets.
        lift = _GAP_M + max(
            (
                top[2]
                for bottom, top in occupied
                if (low[:2] < top[:2]).all() and (high[:2] > bottom[:2]).all()
            ),
            default=0.0,
        )
        low[2], high[2], shift[2] = low[2] + lift, high[2] + lift, shift[2] + lift
        if high[2] > support.headroom:
            continue
        occupied.append((low, high))
        facing = np.asarray(Rotation.from_euler("z", support.yaw).as_matrix())
        placed.append(
            Placed(
                thing=thing,
                rotation=facing @ turn,
                position=support.to_world(shift[None])[0],
                label=label,
            )
        )
    return placed


def _pose(rng: np.random.Generator) -> _Array:
    """(3, 3): mostly upright, sometimes lying on a side, seldom any way at all."""
    kind = rng.random()
    if kind < 0.1:
        return np.asarray(Rotation.random(random_state=rng).as_matrix(), np.float64)
    yaw = Rotation.from_euler("z", rng.uniform(-math.pi, math.pi))
    if kind < 0.35:
        axis = str(rng.choice(("x", "y")))
        yaw *= Rotation.from_euler(axis, rng.choice((-1, 1)) * math.pi / 2)
    return np.asarray(yaw.as_matrix(), np.float64)


def _take_away_what_fell(world: World, support: Support, speeds: _Array) -> None:
    """What left the support, or has not come to rest on it, is no part of the scene."""
    _, positions = world.poses()
    fallen = [
        index
        for index, entry in enumerate(world.placed)
        if entry.label
        and (positions[index][2] < support.center[2] - 0.05 or speeds[index] > _RESTLESS_M_S)
    ]
    world.take_away(fallen)


def sample_lighting(rng: np.random.Generator, support: Support) -> Lighting:
    """One to three lamps overhead, and what the room throws back."""
    lamps = []
    for index in range(int(rng.integers(1, 4))):
        angle, distance = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.2, 2.5)
        height = rng.uniform(0.8, 2.2)
        offset = np.array([distance * math.cos(angle), distance * math.sin(angle), height])
        if support.headroom < 1.0:  # in a shelf it comes from the front
            offset[1], offset[2] = -abs(offset[1]) - 1.0, offset[2] * 0.5
        strength = rng.uniform(0.5, 2.0) * float(offset @ offset) / (1 + index)
        lamps.append(
            Lamp(
                position=support.center + offset,
                color=(strength * _light_color(rng)).astype(np.float32),
                casts_shadows=index == 0,
            )
        )
    sky = rng.uniform(0.15, 1.2) * _light_color(rng)
    ground = rng.uniform(0.3, 0.9) * sky
    return Lighting(
        lamps=tuple(lamps),
        sky=sky.astype(np.float32),
        ground=ground.astype(np.float32),
        far=(rng.uniform(0.0, 1.0) * sky).astype(np.float32),
    )


def _light_color(rng: np.random.Generator) -> _Array:
    warm = rng.normal(0.05, 0.1)
    return np.asarray(np.exp([warm, 0.0, -warm]))


def sample_camera(scene: Scene, rng: np.random.Generator, settings: SceneSettings) -> Camera:
    """A camera that sees at least one of the things and touches nothing.

    Raises:
        SceneError: no place was found; take another seed.
    """
    for _ in range(_NUM_CAMERA_ATTEMPTS):
        camera = _try_camera(scene, rng, settings.size)
        if _sees_something(scene.world, camera):
            return camera
    raise SceneError("no camera sees any of the scene's things; take another seed")


def _try_camera(scene: Scene, rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    support = scene.room.support
    _, positions = scene.world.poses()
    things = [
        position
        for position, entry in zip(positions, scene.world.placed, strict=True)
        if entry.label and position[2] > support.center[2] - 0.05
    ]
    target = things[int(rng.integers(len(things)))].copy() if things else support.center.copy()
    target = 0.5 * (target + np.mean(things or [support.center], axis=0))
    target += rng.normal(0.0, 0.06, 3)
    focal = math.exp(rng.uniform(math.log(0.75), math.log(1.7)))
    distance = rng.uniform(0.45, 1.3) * (0.4 + 0.6 * focal)
    elevation = math.radians(rng.uniform(12.0, 70.0))
    if support.headroom < 1.0:
        elevation = math.radians(rng.uniform(-5.0, 30.0))
    angle = support.yaw - math.pi / 2 + rng.uniform(-support.approach, support.approach)
    position = target + distance * np.array(
        [
            math.cos(elevation) * math.cos(angle),
            math.cos(elevation) * math.sin(angle),
            math.sin(elevation),
        ]
    )
    camera = Camera.looking_at(tuple(target), position=tuple(position), size=size, focal=focal)
    roll = Rotation.from_euler("z", rng.normal(0.0, 0.06)).as_matrix()
    return replace(camera, rotation=camera.rotation @ roll)


def _sees_something(world: World, camera: Camera) -> bool:
    size = (camera.intrinsics.height, camera.intrinsics.width)
    rows, columns = (
        (grid.ravel() + 0.5) * edge / cells
        for grid, edge, cells in zip(
            np.mgrid[: _PROBES[0], : _PROBES[1]],
            size,
            _PROBES,
            strict=True,
        )
    )
    hits = world.cast(camera.position, ray_directions(camera, rows, columns))
    met = hits.part[hits.part >= 0]
    return bool(met.size and world.labels[met].any() and hits.distance.min() > _NEAREST_M)
