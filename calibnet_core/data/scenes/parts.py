"""What rendered things are made of: rigid parts, each with a solid and a material."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class SceneError(ValueError):
    """A scene cannot be made; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A cuboid about the origin.

    Attributes:
        size: (x, y, z) whole edges in metres.
    """

    size: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Cylinder:
    """A cylinder about the origin, along z; metres."""

    radius: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Capsule:
    """A rod with round ends about the origin, along z; metres.

    Attributes:
        radius: of the rod and its ends.
        length: between the centres of its ends.
    """

    radius: float
    length: float


@dataclass(frozen=True, kw_only=True)
class Ellipsoid:
    """An ellipsoid about the origin.

    Attributes:
        radii: (x, y, z) half axes in metres.
    """

    radii: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """A closed surface of triangles.

    Things collide with its convex hull and are seen through its triangles.

    Attributes:
        vertices: (V, 3) float64 metres.
        faces: (F, 3) int32 places of vertices, counter-clockwise when seen from outside.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]


Solid = Box | Cylinder | Capsule | Ellipsoid | Mesh


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """How a surface looks.

    Attributes:
        texture: (h, w, 3) uint8 sRGB; it repeats in both directions.
        projection: how the texture lies on a part, in the part's own frame. `box`: on each side by
            the two axes that lie in it. `cylinder`: once around z, and on top and bottom as `box`.
        tile_m: metres that the texture's height covers; its width covers as many times more as it
            has more pixels, or once around for `cylinder`.
        gloss: 0 dull to 1 polished: strength of the highlights.
        lining: what it looks like instead where the surface faces the part's z axis, or up: the
            inside of a vessel. The gloss stays.
    """

    texture: NDArray[np.uint8]
    projection: Literal["box", "cylinder"] = "box"
    tile_m: float = 0.2
    gloss: float = 0.0
    lining: Material | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A solid with its place in the thing that it belongs to.

    Attributes:
        solid: the shape.
        material: how it looks.
        rotation: (3, 3) from the part's frame to the thing's.
        position: (3,) metres, of the part's origin in the thing's frame.
    """

    solid: Solid
    material: Material
    rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    position: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True, kw_only=True, eq=False)
class Thing:
    """Parts that move as one.

    Attributes:
        name: of its kind, such as `mug`.
        parts: at least one; the thing stands upright on z = 0 of its frame, about the z axis.
    """

    name: str
    parts: tuple[Part, ...]
