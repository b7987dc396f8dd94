"""What all kinds of things are made with: chance, materials and placed parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibnet_core.data.scenes.parts import Cylinder, Material, Mesh, Part, Solid
from calibnet_core.data.scenes.things.meshes import loft

Array = NDArray[np.float64]
MakeMaterial = Callable[[np.random.Generator, str], Material]
Choice = TypeVar("Choice")


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Draws sizes and materials.

    Attributes:
        rng: where chance comes from.
        make_material: material for a purpose such as `ceramic`.
    """

    rng: np.random.Generator
    make_material: MakeMaterial

    def between(self, low: float, high: float) -> float:
        """Any number from low to high."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return bool(self.rng.random() < share)

    def pick(self, *options: Choice) -> Choice:
        """One of the options, all as likely."""
        return options[int(self.rng.integers(len(options)))]

    def material(self, *purposes: str) -> Material:
        """Material for one of the purposes."""
        return self.make_material(self.rng, self.pick(*purposes))

    def print_for(self, longest: float) -> Material:
        """Printed cardboard of which one picture covers most of an edge of that length."""
        printed = self.material("cardboard_print")
        return replace(printed, projection="box", tile_m=longest * self.between(0.6, 1.6))

    def label_for(self, height: float) -> Material:
        """A label that goes once around z and is as high as its part."""
        return replace(self.material("label"), projection="cylinder", tile_m=height)


def at(x: float, y: float, z: float) -> Array:
    """(3,) position in metres."""
    return np.array([x, y, z])


def turn(axis: str, degrees: float) -> Array:
    """(3, 3) rotation about `x`, `y` or `z`, counter-clockwise when seen from its positive end."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = cosine
    rotation[first, second], rotation[second, first] = -sine, sine
    return rotation


def turned(parts: Iterable[Part], rotation: Array) -> list[Part]:
    """Parts turned together about the thing's origin."""
    return [
        replace(part, rotation=rotation @ part.rotation, position=rotation @ part.position)
        for part in parts
    ]


def moved(parts: Iterable[Part], offset: Array) -> list[Part]:
    """Parts moved together by (3,) metres."""
    return [replace(part, position=part.position + offset) for part in parts]


def disc(material: Material, radius: float, bottom: float, top: float) -> Part:
    """An upright cylinder on the z axis between two heights."""
    return Part(
        solid=Cylinder(radius=radius, height=top - bottom),
        material=material,
        position=at(0.0, 0.0, (bottom + top) / 2.0),
    )


def upright(mesh: Mesh, material: Material) -> Part:
    """A part whose own origin is moved to the middle of its height, as labels expect."""
    heights = mesh.vertices[:, 2]
    middle = at(0.0, 0.0, float(heights.min() + heights.max()) / 2.0)
    solid = Mesh(vertices=mesh.vertices - middle, faces=mesh.faces)
    return Part(solid=solid, material=material, position=middle)


def rod(material: Material, radius: float, start: Array, end: Array) -> Part:
    """A cylinder from one point to another."""
    length = float(np.linalg.norm(end - start))
    axis = (end - start) / length
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    side /= np.linalg.norm(side)
    return Part(
        solid=Cylinder(radius=radius, height=length),
        material=material,
        rotation=np.stack([side, np.cross(axis, side), axis], axis=1),
        position=(start + end) / 2.0,
    )


def lengthwise(solid: Solid, material: Material, position: Array) -> Part:
    """A part whose own z axis points along x of the thing."""
    return Part(solid=solid, material=material, rotation=turn("y", 90.0), position=position)


def oval(width: float, depth: float, power: float = 1.0, segments: int = 20) -> Array:
    """(S, 2) outline about the origin.

    Args:
        width: whole, along x, in metres.
        depth: whole, along y, in metres.
        power: 1 for an ellipse, towards 0 for a rectangle.
        segments: number of points.
    """
    angles: Array = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    around: Array = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.sign(around) * np.abs(around) ** power * (width / 2.0, depth / 2.0)


def layered(
    outline: Array, levels: Sequence[tuple[float, ArrayLike]], shifts: Array | None = None
) -> Mesh:
    """Stack one outline at several heights.

    Args:
        outline: (S, 2), convex.
        levels: (height, scale) pairs; a scale is a number or one for each of x and y.
        shifts: (L, 2) of the outlines' centres.
    """
    rings = np.empty((len(levels), len(outline), 3))
    for ring, (height, scale) in zip(rings, levels, strict=True):
        ring[:, :2] = outline * np.asarray(scale, float)
        ring[:, 2] = height
    if shifts is not None:
        rings[..., :2] += shifts[:, None]
    return loft(rings)
