"""Materials by what they are for, and the colour that a material gives to points of a surface."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.scenes.parts import Material
from calibnet_core.data.scenes.surfaces import textures
from calibnet_core.data.scenes.surfaces.cloths import (
    carpet,
    checks,
    dots,
    fabric,
    rug,
    stripes,
    wallpaper,
)
from calibnet_core.data.scenes.surfaces.prints import (
    kraft,
    label,
    packaging,
    page,
    poster,
    screen,
)

_STRANGE_SHARE = 0.15
_PIXELS = {"small": (64, 80, 96), "middle": (96, 112, 128, 160), "large": (128, 160, 192)}

Range = tuple[float, float]


@dataclass(frozen=True)
class _Look:
    """One way that a purpose may look.

    Attributes:
        share: weight among the looks of its purpose.
        maker: paints the texture.
        tile_m: range of metres that the texture's height covers.
        gloss: range.
        detail: size of the texture.
    """

    share: float
    maker: textures.Maker
    tile_m: Range
    gloss: Range
    detail: Literal["small", "middle", "large"] = "small"


_DULL, _SATIN, _SHINY, _POLISHED = (0.0, 0.08), (0.05, 0.3), (0.3, 0.7), (0.6, 1.0)
_NEAR, _FAR = (0.08, 0.3), (0.3, 1.0)

_OBJECT_LOOKS: dict[str, tuple[_Look, ...]] = {
    "cardboard_print": (
        _Look(8, packaging, (0.1, 0.3), (0.0, 0.4), "middle"),
        _Look(1.5, kraft, (0.15, 0.4), _DULL, "middle"),
        _Look(0.5, poster, (0.1, 0.3), (0.0, 0.4), "middle"),
    ),
    "label": (_Look(1, label, (0.1, 0.28), (0.1, 0.8), "middle"),),
    "plain_plastic": (
        _Look(8, textures.plain, _NEAR, (0.1, 0.8)),
        _Look(0.7, stripes, _NEAR, _SATIN),
        _Look(0.6, textures.clouds, _NEAR, _SATIN),
        _Look(0.4, textures.pebbles, (0.03, 0.1), _SATIN),
    ),
    "ceramic": (
        _Look(6, textures.plain, _NEAR, (0.4, 1.0)),
        _Look(1.5, textures.terrazzo, (0.06, 0.2), _SHINY),
        _Look(1, stripes, _NEAR, _SHINY),
        _Look(0.7, dots, _NEAR, _SHINY),
        _Look(0.7, rug, _NEAR, _SHINY, "middle"),
        _Look(0.6, textures.clouds, _NEAR, _SHINY),
    ),
    "metal": (
        _Look(7, textures.brushed_metal, (0.15, 0.4), (0.4, 1.0)),
        _Look(1.5, textures.plain, _NEAR, _POLISHED),
        _Look(1, textures.rust, _NEAR, _SATIN, "middle"),
        _Look(0.5, textures.pebbles, (0.03, 0.1), _SHINY),
    ),
    "wood": (
        _Look(8, textures.wood, (0.04, 0.25), (0.0, 0.3)),
        _Look(1, textures.planks, (0.1, 0.3), _SATIN, "middle"),
        _Look(1, textures.cork, (0.04, 0.12), _DULL),
    ),
    "fruit": (_Look(1, textures.fruit_skin, (0.1, 0.3), (0.05, 0.5)),),
    "fabric": (
        _Look(4, fabric, (0.05, 0.2), _DULL, "middle"),
        _Look(1.5, stripes, (0.05, 0.25), _DULL),
        _Look(1.5, checks, (0.05, 0.25), _DULL),
        _Look(1, dots, (0.05, 0.25), _DULL),
        _Look(1, carpet, (0.05, 0.2), _DULL),
        _Look(0.7, wallpaper, (0.1, 0.3), _DULL, "middle"),
        _Look(0.6, rug, (0.1, 0.4), _DULL, "middle"),
    ),
    "foam": (
        _Look(3, textures.sponge, (0.04, 0.15), _DULL),
        _Look(1, textures.plain, _NEAR, _DULL),
        _Look(0.5, textures.pebbles, (0.05, 0.15), _DULL),
    ),
    "paper": (
        _Look(4, page, (0.15, 0.35), _DULL, "middle"),
        _Look(1.5, textures.plain, _NEAR, _DULL),
        _Look(1, packaging, (0.15, 0.35), _SATIN, "middle"),
        _Look(0.6, kraft, (0.15, 0.4), _DULL, "middle"),
        _Look(0.6, wallpaper, (0.1, 0.3), _DULL, "middle"),
    ),
    "rubber": (
        _Look(3, textures.plain, _NEAR, _DULL),
        _Look(1, fabric, (0.03, 0.08), _DULL),
        _Look(0.7, textures.terrazzo, (0.06, 0.2), _DULL),
    ),
    "glass_like": (
        _Look(5, textures.glass, (0.1, 0.3), _POLISHED),
        _Look(1, textures.plain, _NEAR, _POLISHED),
    ),
}

_ROOM_LOOKS: dict[str, tuple[_Look, ...]] = {
    "table_top": (
        _Look(5, textures.wood, (0.3, 1.0), (0.0, 0.5), "large"),
        _Look(2.5, textures.painted, _FAR, (0.0, 0.5)),
        _Look(1.2, textures.planks, (0.3, 1.0), (0.0, 0.4), "large"),
        _Look(0.9, textures.marble, (0.4, 1.0), _SHINY, "large"),
        _Look(0.6, textures.terrazzo, (0.2, 0.6), _SATIN, "large"),
        _Look(0.6, checks, (0.08, 0.4), _DULL, "middle"),
        _Look(0.4, stripes, (0.1, 0.5), _DULL, "middle"),
        _Look(0.6, fabric, (0.1, 0.3), _DULL, "middle"),
        _Look(0.4, textures.tiles, (0.2, 0.6), _SHINY, "middle"),
        _Look(0.3, textures.brushed_metal, _FAR, _SHINY, "middle"),
        _Look(0.3, textures.concrete, (0.4, 1.0), _DULL, "large"),
        _Look(0.3, wallpaper, (0.2, 0.6), _DULL, "middle"),
        _Look(0.2, textures.clouds, _FAR, _DULL, "middle"),
    ),
    "table_leg": (
        _Look(5, textures.upright_wood, (0.1, 0.4), (0.0, 0.4)),
        _Look(4, textures.painted, _FAR, (0.0, 0.5)),
        _Look(2, textures.brushed_metal, (0.2, 0.6), _SHINY),
    ),
    "wall": (
        _Look(6, textures.wall_paint, (0.4, 1.5), _DULL, "middle"),
        _Look(1, wallpaper, (0.3, 1.2), _DULL, "middle"),
        _Look(0.7, textures.bricks, (0.3, 0.7), _DULL, "large"),
        _Look(0.6, textures.concrete, (0.8, 2.0), _DULL, "large"),
        _Look(0.5, textures.tiles, (0.2, 0.8), _SHINY, "middle"),
        _Look(0.5, textures.planks, (0.4, 1.2), _SATIN, "large"),
        _Look(0.4, stripes, (0.2, 1.0), _DULL, "middle"),
    ),
    "floor": (
        _Look(4, textures.planks, (0.3, 1.2), (0.0, 0.4), "large"),
        _Look(2.5, textures.tiles, (0.4, 1.5), (0.0, 0.6), "large"),
        _Look(2.5, carpet, (0.3, 0.8), _DULL, "large"),
        _Look(1, textures.concrete, (0.7, 1.5), _DULL, "large"),
        _Look(0.8, textures.terrazzo, (0.3, 0.9), _SATIN, "large"),
        _Look(0.8, textures.marble, (0.6, 1.5), _SHINY, "large"),
        _Look(0.7, textures.painted, (0.3, 1.5), _SATIN),
        _Look(0.5, textures.wood, (0.3, 1.2), _SATIN, "large"),
        _Look(0.4, textures.pebbles, (0.4, 1.2), _DULL, "large"),
    ),
    "shelf": (
        _Look(5, textures.wood, (0.2, 0.7), (0.0, 0.4), "middle"),
        _Look(4, textures.painted, _FAR, (0.0, 0.4)),
        _Look(0.7, textures.brushed_metal, _FAR, _SHINY),
    ),
    "cabinet": (
        _Look(3, textures.wood, (0.3, 0.9), (0.0, 0.4), "large"),
        _Look(2, textures.upright_wood, (0.3, 0.9), (0.0, 0.4), "large"),
        _Look(5, textures.painted, _FAR, (0.0, 0.5)),
        _Look(0.6, textures.brushed_metal, _FAR, _SHINY),
        _Look(0.6, textures.planks, (0.3, 0.9), _SATIN, "large"),
    ),
    "cushion": (
        _Look(4, fabric, (0.08, 0.3), _DULL, "middle"),
        _Look(1.5, carpet, (0.15, 0.4), _DULL, "middle"),
        _Look(1, stripes, (0.1, 0.4), _DULL, "middle"),
        _Look(1, checks, (0.08, 0.4), _DULL, "middle"),
        _Look(1, wallpaper, (0.2, 0.5), _DULL, "middle"),
        _Look(0.6, dots, (0.1, 0.4), _DULL, "middle"),
        _Look(0.7, textures.pebbles, (0.1, 0.3), _SATIN, "middle"),
    ),
    "carpet": (
        _Look(3, carpet, (0.3, 0.8), _DULL, "large"),
        _Look(3, rug, (0.6, 2.0), _DULL, "large"),
        _Look(0.7, stripes, (0.3, 1.0), _DULL, "middle"),
        _Look(0.5, checks, (0.3, 1.0), _DULL, "middle"),
    ),
    "picture": (
        _Look(5, poster, (0.3, 0.8), (0.0, 0.5), "middle"),
        _Look(0.6, page, (0.3, 0.6), _DULL, "middle"),
        _Look(0.5, textures.clouds, (0.3, 0.8), _DULL, "middle"),
    ),
    "screen": (_Look(1, screen, (0.25, 0.5), (0.3, 0.9), "middle"),),
    "door": (
        _Look(4, textures.upright_wood, (0.4, 1.2), _SATIN, "large"),
        _Look(4, textures.painted, _FAR, _SATIN),
        _Look(0.5, textures.planks, (0.4, 1.2), _SATIN, "large"),
    ),
}

OBJECT_PURPOSES: tuple[str, ...] = tuple(_OBJECT_LOOKS)
"""Purposes of things that lie on tables."""

ROOM_PURPOSES: tuple[str, ...] = tuple(_ROOM_LOOKS)
"""Purposes of furniture, floors and walls."""

_LOOKS = {**_OBJECT_LOOKS, **_ROOM_LOOKS}
_KINDS = tuple(textures.TEXTURES.values())

_LEVEL = np.arange(256) / 255
_LINEAR = np.where(_LEVEL <= 0.04045, _LEVEL / 12.92, ((_LEVEL + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)

# Seen from outside with z up, a side's own axes run to the right and down. Sides are +x, -x, +y,
# -y, +z, -z.
_RIGHT_AXIS = np.array((1, 1, 0, 0, 0, 0))
_DOWN_AXIS = np.array((2, 2, 2, 2, 1, 1))
_RIGHT_SIGN = np.array((1, -1, -1, 1, 1, -1), np.float32)
# No two alike, so that sides show different pieces; the front, -y, has the middle in its middle.
_SHIFT_RIGHT = np.array((0.471, 0.237, 0.709, 0.0, 0.118, 0.863), np.float32)
_SHIFT_DOWN = np.array((0.353, 0.581, 0.167, 0.0, 0.811, 0.419), np.float32)
_ROW_LENGTH = 512
_FLOOR = 0.7  # least cosine between the normal and up


def make_material(rng: np.random.Generator, purpose: str) -> Material:
    """A random material fit for a purpose.

    About one in seven materials of objects is any texture at all, so that looks tell little about
    what a thing is.

    Args:
        rng: chooses and paints.
        purpose: one of `OBJECT_PURPOSES` or `ROOM_PURPOSES`.

    Raises:
        ValueError: the purpose is unknown.
    """
    looks = _LOOKS.get(purpose)
    if looks is None:
        raise ValueError(f"no material for purpose '{purpose}'; use one of {', '.join(_LOOKS)}")
    shares = np.array([look.share for look in looks])
    look = looks[rng.choice(len(looks), p=shares / shares.sum())]
    maker, tile_m, gloss = look.maker, rng.uniform(*look.tile_m), rng.uniform(*look.gloss)
    if purpose in _OBJECT_LOOKS and rng.random() < _STRANGE_SHARE:
        maker, tile_m = _KINDS[rng.integers(len(_KINDS))], rng.uniform(0.05, 0.4)
    height, width = rng.choice(_PIXELS[look.detail], 2)
    return Material(
        texture=maker(rng, (int(height), int(width))),
        projection="cylinder" if purpose == "label" else "box",
        tile_m=float(tile_m),
        gloss=float(gloss),
    )


def fit_to_front(material: Material, width_m: float, height_m: float) -> Material:
    """The material with its texture stretched so that one copy fills the front, -y, of a box.

    Args:
        material: such as a picture or a screen.
        width_m: of the front, positive.
        height_m: of the front, positive.
    """
    height = material.texture.shape[0]
    width = max(round(height * width_m / height_m), 1)
    texture = cv2.resize(material.texture, (width, height), interpolation=cv2.INTER_AREA)
    # The width covers width / height times as much, which is exact only for whole pixels.
    return replace(
        material, texture=np.asarray(texture, np.uint8), projection="box", tile_m=height_m
    )


def sample_texture(
    material: Material, points: NDArray[Any], normals: NDArray[Any]
) -> NDArray[np.float32]:
    """The colour of a material at points of a surface, interpolated between pixels.

    Prints stand upright on upright sides and are not mirrored. The middle of the texture lies at
    the origin's height around a `cylinder`, and in the middle of the front, -y, of a `box`.

    Args:
        material: how the surface looks.
        points: (N, 3) metres in the part's frame.
        normals: (N, 3) outward, of any length, in the part's frame.

    Returns:
        (N, 3) float32 linear RGB in [0, 1].

    Raises:
        ValueError: the arrays are not both (N, 3).
    """
    if points.ndim != 2 or points.shape[1] != 3 or points.shape != normals.shape:
        raise ValueError(
            f"points {points.shape} and normals {normals.shape} must both be (N, 3) of one N"
        )
    points = np.asarray(points, np.float32)
    if material.projection == "cylinder":
        right, down = _around(material, points, normals)
    else:
        right, down = _on_sides(material, points, normals)
    colors = _look_up(material.texture, right, down)
    if material.lining is not None:
        inside = _faces_inwards(points, normals)
        colors[inside] = sample_texture(material.lining, points[inside], normals[inside])
    return colors


def _faces_inwards(points: NDArray[np.float32], normals: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) where a vessel about the z axis is seen from within: its wall, its floor, its rim."""
    outwards = points[:, 0] * normals[:, 0] + points[:, 1] * normals[:, 1]
    upwards = normals[:, 2] > _FLOOR * np.linalg.norm(normals, axis=1)
    return np.asarray((outwards < 0) | upwards)


Place = tuple[NDArray[np.float32], NDArray[np.float32]]


def _on_sides(material: Material, points: NDArray[np.float32], normals: NDArray[Any]) -> Place:
    """Repeats to the right and down, (N,) each, on the side that each normal faces most."""
    x, y, z = points.T
    along_x, along_y, along_z = np.abs(normals).T
    is_x = (along_x >= along_y) & (along_x >= along_z)
    is_z = ~is_x & (along_z > along_y)
    side = np.where(is_x, 0, np.where(is_z, 4, 2))
    facing = np.where(is_x, normals[:, 0], np.where(is_z, normals[:, 2], normals[:, 1]))
    side += facing < 0
    height, width = material.texture.shape[:2]
    down = np.where(is_z, y, z) * np.float32(-1 / material.tile_m)
    right = np.where(is_x, y, x) * np.float32(height / (width * material.tile_m))
    right = right * _RIGHT_SIGN[side] + (_SHIFT_RIGHT + np.float32(0.5))[side]
    return right, down + (_SHIFT_DOWN + np.float32(0.5))[side]


def _around(material: Material, points: NDArray[np.float32], normals: NDArray[Any]) -> Place:
    """Repeats to the right and down, (N,) each: once round z, the caps as on a box."""
    right = np.arctan2(points[:, 1], points[:, 0]) * np.float32(0.5 / math.pi)
    down = np.float32(0.5) - points[:, 2] * np.float32(1 / material.tile_m)
    caps = np.flatnonzero(np.abs(normals[:, 2]) > np.hypot(normals[:, 0], normals[:, 1]))
    right[caps], down[caps] = _on_sides(material, points[caps], normals[caps])
    return right, down


def _look_up(
    texture: NDArray[np.uint8], right: NDArray[np.float32], down: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, 3) linear RGB at places counted in repeats of the texture."""
    number = len(right)
    # cv2 takes pictures of limited width and height, so the points become rows of one.
    columns = np.zeros((-(-number // _ROW_LENGTH) or 1, _ROW_LENGTH), np.float32)
    rows = np.zeros_like(columns)
    columns.ravel()[:number] = (right - np.floor(right)) * texture.shape[1] - np.float32(0.5)
    rows.ravel()[:number] = (down - np.floor(down)) * texture.shape[0] - np.float32(0.5)
    picked = cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(cv2.LUT(picked, _LINEAR), np.float32).reshape(-1, 3)[:number]
