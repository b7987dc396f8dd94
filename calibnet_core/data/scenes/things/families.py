"""Things about the house, no two alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.scenes.parts import Box, Capsule, Cylinder, Ellipsoid, Part, Thing
from calibnet_core.data.scenes.things import bottles, boxes, play, tools, vessels
from calibnet_core.data.scenes.things.making import MakeMaterial, Maker, moved

_Array = NDArray[np.float64]
Family = Callable[[Maker], list[Part]]

FAMILIES: dict[str, tuple[Family, float]] = {
    "cereal box": (boxes.cereal_box, 3.0),
    "small box": (boxes.small_box, 3.0),
    "flat box": (boxes.flat_box, 2.0),
    "parcel": (boxes.parcel, 1.0),
    "open carton": (boxes.open_carton, 1.0),
    "drink carton": (boxes.drink_carton, 1.0),
    "book": (boxes.book, 1.5),
    "oblong tin": (boxes.oblong_tin, 1.5),
    "wood block": (boxes.wood_block, 1.0),
    "foam brick": (boxes.foam_brick, 1.0),
    "soap bar": (boxes.soap_bar, 0.7),
    "packet": (boxes.packet, 1.5),
    "remote control": (boxes.remote_control, 1.0),
    "folded cloth": (boxes.folded_cloth, 0.7),
    "wedge": (boxes.wedge, 0.5),
    "tin can": (bottles.tin_can, 3.0),
    "drinks can": (bottles.drinks_can, 1.5),
    "jar": (bottles.jar, 1.5),
    "bottle": (bottles.bottle, 2.0),
    "squeeze bottle": (bottles.squeeze_bottle, 1.5),
    "cleaner bottle": (bottles.cleaner_bottle, 1.2),
    "spray bottle": (bottles.spray_bottle, 0.8),
    "mug": (vessels.mug, 2.5),
    "cup": (vessels.cup, 2.0),
    "glass": (vessels.glass, 0.8),
    "bowl": (vessels.bowl, 2.5),
    "plate": (vessels.plate, 1.0),
    "pitcher": (vessels.pitcher, 1.2),
    "pan": (vessels.pan, 0.7),
    "lidded pot": (vessels.lidded_pot, 0.6),
    "marker": (tools.marker, 1.2),
    "screwdriver": (tools.screwdriver, 0.8),
    "hammer": (tools.hammer, 0.7),
    "power drill": (tools.power_drill, 1.2),
    "screw clamp": (tools.screw_clamp, 0.8),
    "spring clamp": (tools.spring_clamp, 1.2),
    "scissors": (tools.scissors, 1.2),
    "tape roll": (tools.tape_roll, 0.8),
    "torch": (tools.torch, 0.6),
    "cutlery": (tools.cutlery, 0.8),
    "brush": (tools.brush, 0.6),
    "cable coil": (tools.cable_coil, 0.5),
    "ball": (play.ball, 1.0),
    "fruit": (play.fruit, 1.5),
    "banana": (play.banana, 1.2),
    "long food": (play.long_food, 0.6),
    "stone": (play.stone, 0.8),
    "blob": (play.blob, 0.8),
    "stacked toy": (play.stacked_toy, 1.0),
    "joined toy": (play.joined_toy, 1.2),
    "toy car": (play.toy_car, 0.8),
    "building brick": (play.building_brick, 0.6),
    "shoe": (play.shoe, 0.7),
    "candle": (play.candle, 0.6),
}
"""What can be made, by name: how, and how often beside the others."""

_NAMES = tuple(FAMILIES)
_SHARES = np.array([weight for _, weight in FAMILIES.values()])
_SHARES /= _SHARES.sum()


def sample_thing(rng: np.random.Generator, make_material: MakeMaterial) -> Thing:
    """Make a thing of any kind.

    Args:
        rng: where chance comes from.
        make_material: material for one of the purposes `cardboard_print`, `label`,
            `plain_plastic`, `ceramic`, `metal`, `wood`, `fruit`, `fabric`, `foam`, `paper`,
            `rubber` and `glass_like`.

    Returns:
        A thing on z = 0 with its middle on the z axis and a longest edge of 3.5 to 36 cm.
    """
    name = _NAMES[int(rng.choice(len(_NAMES), p=_SHARES))]
    return make_thing(name, rng, make_material)


def make_thing(name: str, rng: np.random.Generator, make_material: MakeMaterial) -> Thing:
    """Make a thing of one kind, as `sample_thing` does.

    Raises:
        ValueError: `FAMILIES` has no such name.
    """
    if name not in FAMILIES:
        raise ValueError(f"there is no kind of thing called '{name}'; take one of {list(FAMILIES)}")
    family, _ = FAMILIES[name]
    loose = Thing(name=name, parts=tuple(family(Maker(rng=rng, make_material=make_material))))
    low, high = bounds(loose)
    foot = np.array([*(low + high)[:2] / 2.0, low[2]])
    return Thing(name=name, parts=tuple(moved(loose.parts, -foot)))


def bounds(thing: Thing) -> _Array:
    """Lowest and highest coordinates, (2, 3) metres, of a thing in its own frame."""
    every = [_part_bounds(part) for part in thing.parts]
    low = reduce(np.minimum, [low for low, _ in every])
    high = reduce(np.maximum, [high for _, high in every])
    return np.stack([low, high])


def _part_bounds(part: Part) -> tuple[_Array, _Array]:
    """Lowest and highest corner, (3,) each, of a part in its thing's frame."""
    solid, turn = part.solid, part.rotation
    across = np.hypot(turn[:, 0], turn[:, 1])
    upright = np.abs(turn[:, 2])
    match solid:
        case Box():
            half = np.abs(turn) @ solid.size / 2.0
        case Cylinder():
            half = across * solid.radius + upright * solid.height / 2.0
        case Capsule():
            half = solid.radius + upright * solid.length / 2.0
        case Ellipsoid():
            half = np.linalg.norm(turn * solid.radii, axis=1)
        case _:
            points = solid.vertices @ turn.T + part.position
            return points.min(axis=0), points.max(axis=0)
    return part.position - half, part.position + half
