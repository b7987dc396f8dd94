"""Rooms: floor, walls, furniture, and a place where things stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibnet_core.data.scenes.parts import Box, Cylinder, Material, Part, Thing
from calibnet_core.data.scenes.surfaces.materials import fit_to_front
from calibnet_core.data.scenes.world import Placed

_Array = NDArray[np.float64]
MakeMaterial = Callable[[np.random.Generator, str], Material]
_WALL_M = 0.1
_HIGH_M = 2.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Support:
    """Where things stand: a level rectangle.

    Attributes:
        center: (3,) metres in the world, on the surface.
        yaw: of the rectangle about the vertical, radians; its y axis points away from who stands
            before it.
        half_size: half its edges along x and y in metres.
        headroom: free height above it in metres.
        approach: half the angle in radians from which it can be looked at, about its front.
    """

    center: _Array
    yaw: float
    half_size: tuple[float, float]
    headroom: float = 2.0
    approach: float = math.pi

    def to_world(self, points: _Array) -> _Array:
        """(N, 3) points of the rectangle's frame in the world."""
        return np.asarray(points @ _turn(self.yaw).T + self.center)


@dataclass(frozen=True, kw_only=True, eq=False)
class Room:
    """What does not move, and where things stand in it.

    Attributes:
        kind: what things stand on.
        placed: all of it, labelled 0.
        support: the place for things.
    """

    kind: str
    placed: tuple[Placed, ...]
    support: Support

    @property
    def carries(self) -> tuple[str, ...]:
        """Names of what things may touch from above."""
        return (self.kind, "cloth", "sheet", "rug")


def sample_room(rng: np.random.Generator, make_material: MakeMaterial) -> Room:
    """Furnish a room about a table, a shelf, a counter or a free piece of floor."""
    kinds = ("table", "counter", "shelf", "floor")
    kind = str(rng.choice(kinds, p=(0.6, 0.15, 0.12, 0.13)))
    stand, support, wall_m = _STANDS[kind](rng, make_material)
    shell = _shell(rng, make_material, support, wall_m)
    mats = _mats(rng, make_material, support)
    around = _surroundings(rng, make_material, support)
    afar = [replace(entry, throws_shadow=False) for entry in (*shell, *around)]
    return Room(kind=kind, placed=(*afar, *stand, *mats), support=support)


_Stand = tuple[list[Placed], Support, float | None]


def _table(rng: np.random.Generator, make_material: MakeMaterial) -> _Stand:
    top, leg = make_material(rng, "table_top"), make_material(rng, "table_leg")
    height, thick = rng.uniform(0.4, 1.0), rng.uniform(0.015, 0.06)
    half = (rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.6))
    yaw = rng.uniform(-0.3, 0.3)
    parts = []
    if rng.random() < 0.15:
        half = (half[1], half[1])
        parts.append(_part(Cylinder(radius=half[0] * 1.2, height=thick), top, z=height - thick / 2))
        parts.append(_part(Cylinder(radius=0.05, height=height), leg, z=height / 2 - thick))
    else:
        parts.append(_slab(2 * half[0], 2 * half[1], thick, top, z=height - thick / 2))
        width = rng.uniform(0.03, 0.08)
        parts += [
            _slab(
                width,
                width,
                height - thick,
                leg,
                x=x * (half[0] - width),
                y=y * (half[1] - width),
                z=(height - thick) / 2,
            )
            for x in (-1, 1)
            for y in (-1, 1)
        ]
    table = _standing(Thing(name="table", parts=tuple(parts)), yaw=yaw)
    support = Support(center=np.array([0.0, 0.0, height]), yaw=yaw, half_size=half)
    return [table], support, None


def _counter(rng: np.random.Generator, make_material: MakeMaterial) -> _Stand:
    top, body = make_material(rng, "table_top"), make_material(rng, "cabinet")
    height, thick = rng.uniform(0.7, 1.0), rng.uniform(0.02, 0.06)
    half = (rng.uniform(0.6, 1.4), rng.uniform(0.28, 0.4))
    parts = (
        _slab(2 * half[0], 2 * half[1], thick, top, z=height - thick / 2),
        _slab(
            2 * half[0] - 0.02,
            2 * half[1] - 0.04,
            height - thick,
            body,
            y=0.02,
            z=(height - thick) / 2,
        ),
    )
    support = Support(
        center=np.array([0.0, 0.0, height]), yaw=0.0, half_size=half, approach=math.radians(60)
    )
    return [_standing(Thing(name="counter", parts=parts))], support, half[1] + 0.01


def _shelf(rng: np.random.Generator, make_material: MakeMaterial) -> _Stand:
    board, back = make_material(rng, "shelf"), make_material(rng, "shelf")
    half = (rng.uniform(0.35, 0.7), rng.uniform(0.14, 0.25))
    thick, gap = rng.uniform(0.015, 0.035), rng.uniform(0.28, 0.5)
    count = int(rng.integers(3, 6))
    high = count * (gap + thick)
    levels = [level * (gap + thick) + thick / 2 + 0.05 for level in range(count + 1)]
    parts = [_slab(2 * half[0], 2 * half[1], thick, board, z=z) for z in levels]
    parts += [
        _slab(thick, 2 * half[1], high + 0.1, board, x=side * half[0], z=high / 2 + 0.05)
        for side in (-1, 1)
    ]
    if rng.random() < 0.7:
        parts.append(_slab(2 * half[0], 0.01, high + 0.1, back, y=half[1], z=high / 2 + 0.05))
    level = int(rng.integers(1, count))
    support = Support(
        center=np.array([0.0, 0.0, levels[level] + thick / 2]),
        yaw=0.0,
        half_size=(half[0] - thick, half[1] - 0.02),
        headroom=gap - 0.01,
        approach=math.radians(40),
    )
    return [_standing(Thing(name="shelf", parts=tuple(parts)))], support, half[1] + 0.02


def _floor(rng: np.random.Generator, make_material: MakeMaterial) -> _Stand:
    half = (rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9))
    placed = []
    if rng.random() < 0.4:
        rug = _slab(3 * half[0], 3 * half[1], 0.006, make_material(rng, "carpet"), z=0.003)
        placed.append(_standing(Thing(name="rug", parts=(rug,)), yaw=rng.uniform(-0.5, 0.5)))
    height = 0.006 if placed else 0.0
    support = Support(center=np.array([0.0, 0.0, height]), yaw=0.0, half_size=half)
    return placed, support, None


_STANDS: dict[str, Callable[[np.random.Generator, MakeMaterial], _Stand]] = {
    "table": _table,
    "counter": _counter,
    "shelf": _shelf,
    "floor": _floor,
}


def _shell(
    rng: np.random.Generator, make_material: MakeMaterial, support: Support, wall_m: float | None
) -> list[Placed]:
    """Floor and walls; `wall_m` is how far behind the support the first one stands."""
    floor = _slab(14.0, 14.0, _WALL_M, make_material(rng, "floor"), z=-_WALL_M / 2)
    paint = make_material(rng, "wall")
    shell = [_standing(Thing(name="floor", parts=(floor,)))]
    reach = max(support.half_size) + 0.3
    distances = [wall_m or rng.uniform(reach, 4.0), *rng.uniform(max(reach, 1.2), 5.0, 3)]
    first = 0.0 if wall_m else rng.uniform(0.0, 2 * math.pi)
    for side, distance in enumerate(distances):
        if side and rng.random() < 0.3:
            continue
        wall = _slab(14.0, _WALL_M, _HIGH_M, paint, y=distance + _WALL_M / 2, z=_HIGH_M / 2)
        parts = [wall]
        parts += [_hanging(rng, make_material, distance) for _ in range(int(rng.integers(0, 3)))]
        yaw = first + side * math.pi / 2
        shell.append(_standing(Thing(name="wall", parts=tuple(parts)), yaw=yaw))
    return shell


def _hanging(rng: np.random.Generator, make_material: MakeMaterial, distance: float) -> Part:
    """A picture, a screen or a door on a wall."""
    purpose = str(rng.choice(("picture", "screen", "door"), p=(0.5, 0.2, 0.3)))
    material = make_material(rng, purpose)
    if purpose == "door":
        size, z = (0.9, 2.0), 1.0
    else:
        size, z = (rng.uniform(0.25, 1.2), rng.uniform(0.25, 0.9)), rng.uniform(0.9, 1.8)
        material = fit_to_front(material, *size)
    x = rng.uniform(-2.0, 2.0)
    return _slab(size[0], 0.03, size[1], material, x=x, y=distance - 0.01, z=z)


def _mats(rng: np.random.Generator, make_material: MakeMaterial, support: Support) -> list[Placed]:
    """Sheets that lie flat on the support: a cloth, a mat, paper. They are no objects."""
    mats = []
    if rng.random() < 0.15:
        half = support.half_size
        cloth = _slab(2 * half[0], 2 * half[1], 0.002, make_material(rng, "fabric"), z=0.001)
        place = support.to_world(np.zeros((1, 3)))[0]
        mats.append(_at(Thing(name="cloth", parts=(cloth,)), place, support.yaw))
    for index in range(int(rng.integers(0, 3))):
        purpose = str(rng.choice(("fabric", "paper", "cardboard_print", "rubber")))
        size = rng.uniform(0.1, 0.4, 2)
        thick = rng.uniform(0.0005, 0.002) + 0.0005 * index
        sheet = _slab(size[0], size[1], thick, make_material(rng, purpose), z=thick / 2 + 0.002)
        spread = np.array([*(rng.uniform(-0.7, 0.7, 2) * support.half_size), 0.0])
        place = support.to_world(spread[None])[0]
        yaw = rng.uniform(-math.pi, math.pi)
        mats.append(_at(Thing(name="sheet", parts=(sheet,)), place, yaw))
    return mats


def _surroundings(
    rng: np.random.Generator, make_material: MakeMaterial, support: Support
) -> list[Placed]:
    """Furniture that stands farther away."""
    placed = []
    for _ in range(int(rng.integers(0, 5))):
        make = _FURNITURE[int(rng.integers(len(_FURNITURE)))]
        angle = rng.uniform(0.0, 2 * math.pi)
        if support.approach < math.pi:  # only before the wall
            angle = rng.uniform(-math.pi, 0.0)
        distance = math.hypot(*support.half_size) + rng.uniform(0.6, 2.5)
        place = np.array([distance * math.cos(angle), distance * math.sin(angle), 0.0])
        placed.append(_at(make(rng, make_material), place, rng.uniform(-math.pi, math.pi)))
    return placed


def _chair(rng: np.random.Generator, make_material: MakeMaterial) -> Thing:
    seat, leg = make_material(rng, "cushion"), make_material(rng, "table_leg")
    width, height = rng.uniform(0.38, 0.5), rng.uniform(0.4, 0.5)
    parts = [
        _slab(width, width, 0.05, seat, z=height),
        _slab(width, 0.04, 0.45, seat, y=width / 2, z=height + 0.28),
    ]
    parts += [
        _slab(0.035, 0.035, height, leg, x=x * width * 0.43, y=y * width * 0.43, z=height / 2)
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return Thing(name="chair", parts=tuple(parts))


def _cabinet(rng: np.random.Generator, make_material: MakeMaterial) -> Thing:
    body = make_material(rng, "cabinet")
    size = rng.uniform((0.4, 0.35, 0.5), (1.2, 0.6, 1.9))
    parts = [_slab(size[0], size[1], size[2], body, z=size[2] / 2)]
    front = make_material(rng, "cabinet") if rng.random() < 0.4 else body
    for row in range(int(rng.integers(1, 4))):
        z = (row + 0.5) * size[2] / 3
        parts.append(_slab(size[0] * 0.92, 0.02, size[2] * 0.28, front, y=-size[1] / 2, z=z))
        parts.append(_slab(0.12, 0.03, 0.015, front, y=-size[1] / 2 - 0.02, z=z))
    return Thing(name="cabinet", parts=tuple(parts))


def _sofa(rng: np.random.Generator, make_material: MakeMaterial) -> Thing:
    cloth, width = make_material(rng, "cushion"), rng.uniform(0.9, 2.0)
    parts = [
        _slab(width, 0.8, 0.4, cloth, z=0.2),
        _slab(width, 0.2, 0.8, cloth, y=0.35, z=0.4),
        _slab(0.18, 0.8, 0.6, cloth, x=width / 2, z=0.3),
        _slab(0.18, 0.8, 0.6, cloth, x=-width / 2, z=0.3),
    ]
    return Thing(name="sofa", parts=tuple(parts))


_FURNITURE = (_chair, _chair, _cabinet, _sofa)


def _part(solid: Box | Cylinder, material: Material, *, z: float) -> Part:
    return Part(solid=solid, material=material, position=np.array([0.0, 0.0, z]))


def _slab(
    width: float,
    depth: float,
    height: float,
    material: Material,
    *,
    x: float = 0.0,
    y: float = 0.0,
    z: float,
) -> Part:
    solid = Box(size=(float(width), float(depth), float(height)))
    return Part(solid=solid, material=material, position=np.array([x, y, z]))


def _standing(thing: Thing, yaw: float = 0.0) -> Placed:
    return _at(thing, np.zeros(3), yaw)


def _at(thing: Thing, place: _Array, yaw: float) -> Placed:
    return Placed(thing=thing, rotation=_turn(yaw), position=place)


def _turn(yaw: float) -> _Array:
    return np.asarray(Rotation.from_euler("z", yaw).as_matrix(), np.float64)
