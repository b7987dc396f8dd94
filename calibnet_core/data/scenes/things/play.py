"""Balls, fruit, toys, stones and shoes: round and irregular things."""

from __future__ import annotations

import numpy as np

from calibnet_core.data.scenes.parts import Box, Capsule, Cylinder, Ellipsoid, Part, Solid
from calibnet_core.data.scenes.things.making import Array, Maker, at, disc, rod, turn, turned
from calibnet_core.data.scenes.things.meshes import (
    convex_hull,
    lathe,
    loft,
    prism,
    rounded_box,
    superellipsoid,
    tube,
)


def ball(make: Maker) -> list[Part]:
    """A ball or an egg."""
    radius = make.between(0.02, 0.075)
    stretch = make.pick(1.0, 1.0, make.between(1.1, 1.5))
    material = make.material("rubber", "plain_plastic", "fabric", "foam", "wood", "label")
    solid = Ellipsoid(radii=(radius * stretch, radius, radius))
    return [Part(solid=solid, material=material, position=at(0.0, 0.0, radius))]


def fruit(make: Maker) -> list[Part]:
    """An apple, a pear, a lemon or the like, with a stalk."""
    radius, slim = make.between(0.022, 0.048), make.between(0.8, 1.25)
    angles = np.linspace(-np.pi / 2, np.pi / 2, 11)
    rise = np.sin(angles)
    radii = np.cos(angles) * (1.0 + make.between(-0.35, 0.1) * np.clip(rise, 0.0, 1.0))
    heights = slim * rise
    if make.chance(0.5):  # sunk about the stalk
        heights = heights - make.between(0.1, 0.3) * np.exp(-((radii / 0.35) ** 2)) * np.sign(rise)
    else:  # drawn out to tips
        heights = heights + make.between(0.0, 0.25) * np.exp(-((radii / 0.3) ** 2)) * np.sign(rise)
    radii[[0, -1]] = 0.0
    profile = radius * np.stack([radii, heights], axis=1)
    parts = [Part(solid=lathe(profile, 20), material=make.material("fruit"))]
    if make.chance(0.6):
        top = at(0.0, 0.0, float(profile[-1, 1]))
        tip = top + at(make.between(-0.006, 0.006), 0.0, make.between(0.006, 0.016))
        parts.append(rod(make.material("wood"), 0.0018, top - at(0.0, 0.0, 0.004), tip))
    return parts


def banana(make: Maker) -> list[Part]:
    """A bent, edged fruit that lies on its side; some in a bunch."""
    length, thick = make.between(0.13, 0.2), make.between(0.013, 0.02)
    bend = make.between(0.9, 1.8)
    material = make.material("fruit")
    share = np.linspace(0.0, 1.0, 11)
    radii = thick * np.array([0.3, 0.32, 0.62, 0.88, 1, 1, 1, 0.95, 0.8, 0.5, 0.25])
    around = bend * (share - 0.5)
    reach = length / bend
    parts = []
    for index in range(make.pick(1, 1, 1, 2, 3)):
        path = np.stack(
            [reach * np.sin(around), reach * (1.0 - np.cos(around)), 0.0 * share], axis=1
        )
        path -= path[0]
        one = Part(solid=tube(path, radii, 6), material=material)
        spread = turn("z", index * make.between(12.0, 22.0))
        parts += turned([one], spread @ turn("y", 6.0 * index))
    return parts


def long_food(make: Maker) -> list[Part]:
    """A cucumber, a carrot or a sausage, lying."""
    length, thick = make.between(0.09, 0.24), make.between(0.01, 0.028)
    taper = make.between(0.25, 1.0)
    share = np.linspace(0.0, 1.0, 8)
    ends = np.array([0.35, 0.85, 1, 1, 1, 1, 0.85, 0.35])
    path = np.stack([length * share, make.between(-0.03, 0.03) * share**2, 0.0 * share], axis=1)
    body = tube(path, thick * ends * (1.0 + (taper - 1.0) * share), 12)
    return [Part(solid=body, material=make.material("fruit"))]


def stone(make: Maker) -> list[Part]:
    """An irregular convex lump."""
    points = make.rng.normal(size=(int(make.rng.integers(9, 40)), 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    radii = [make.between(0.025, 0.08) for _ in range(3)]
    # Four fixed corners, since no random points may all lie to one side.
    corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) * 0.577
    hull = convex_hull(np.concatenate([points, corners]) * radii)
    purposes = ("wood", "foam", "paper", "ceramic", "rubber")
    return [Part(solid=hull, material=make.material(*purposes))]


def blob(make: Maker) -> list[Part]:
    """A smooth body between box, ball and double cone."""
    radii = tuple(make.between(0.022, 0.08) for _ in range(3))
    exponents = (make.between(0.2, 1.4), make.between(0.2, 1.4))
    solid = superellipsoid((radii[0], radii[1], radii[2]), exponents)
    purposes = ("plain_plastic", "ceramic", "fabric", "rubber", "foam", "metal", "label")
    return [Part(solid=solid, material=make.material(*purposes))]


def stacked_toy(make: Maker) -> list[Part]:
    """Blocks, discs and balls fixed on top of each other."""
    size, top = make.between(0.04, 0.09), 0.0
    parts = []
    for _ in range(int(make.rng.integers(2, 5))):
        height = make.between(0.35, 1.0) * size
        solid = _toy_block(make, size, height)
        material = make.material("plain_plastic", "plain_plastic", "wood", "foam")
        aside = make.between(-0.08, 0.08) * size
        middle = at(aside, make.between(-0.08, 0.08) * size, top + height / 2)
        facing = turn("z", make.between(0.0, 90.0))
        parts.append(Part(solid=solid, material=material, rotation=facing, position=middle))
        top, size = top + 0.93 * height, size * make.between(0.65, 1.0)
    return parts


def joined_toy(make: Maker) -> list[Part]:
    """A body with limbs that stick out anywhere: figures, gadgets, nothing known."""
    size = make.between(0.035, 0.08)
    body = make.material("plain_plastic", "wood", "fabric", "rubber", "metal")
    parts = [Part(solid=_toy_block(make, size, make.between(0.5, 1.5) * size), material=body)]
    for _ in range(int(make.rng.integers(1, 6))):
        heading = make.rng.normal(size=3)
        heading /= np.linalg.norm(heading)
        length, thick = make.between(0.5, 1.1) * size, make.between(0.08, 0.22) * size
        material = make.pick(body, make.material("plain_plastic", "rubber", "metal"))
        limb = rod(material, thick, 0.2 * size * heading, length * heading)
        if make.chance(0.5):
            capsule = Capsule(radius=thick, length=length)
            limb = Part(
                solid=capsule,
                material=material,
                rotation=limb.rotation,
                position=0.5 * length * heading,
            )
        parts.append(limb)
    return parts


def toy_car(make: Maker) -> list[Part]:
    """A body with a cabin on four wheels."""
    length, width = make.between(0.06, 0.16), make.between(0.035, 0.07)
    wheel, height = make.between(0.1, 0.17) * length, make.between(0.15, 0.25) * length
    paint = make.material("plain_plastic", "metal", "wood")
    low, high = 0.7 * wheel, 0.7 * wheel + height
    outline = np.array([(-0.32, 0), (0.25, 0), (0.1, 1), (-0.25, 1)]) * (length, 0.9 * height)
    parts = [
        Part(
            solid=rounded_box((length, width, height), 0.2 * height, 1),
            material=paint,
            position=at(0.0, 0.0, (low + high) / 2),
        ),
        Part(
            solid=prism(outline, 0.85 * width),
            material=make.pick(paint, make.material("glass_like", "plain_plastic")),
            rotation=turn("x", 90.0),
            position=at(0.0, 0.425 * width, high - 0.001),
        ),
    ]
    tyre = make.material("rubber", "plain_plastic")
    for x in (-0.3 * length, 0.3 * length):
        for y in (-0.5 * width, 0.5 * width):
            half = at(0.0, 0.06 * length, 0.0)
            parts.append(rod(tyre, wheel, at(x, y, wheel) - half, at(x, y, wheel) + half))
    return parts


def building_brick(make: Maker) -> list[Part]:
    """A toy brick with studs."""
    pitch = make.between(0.015, 0.026)
    columns, rows = make.pick(2, 3, 4), make.pick(1, 2)
    height = make.between(0.6, 1.3) * pitch
    material = make.material("plain_plastic")
    parts = [
        Part(
            solid=Box(size=(columns * pitch + 0.01, rows * pitch + 0.01, height)),
            material=material,
            position=at(0.0, 0.0, height / 2),
        )
    ]
    stud = Cylinder(radius=0.3 * pitch, height=0.22 * pitch)
    for column in range(columns):
        for row in range(rows):
            x, y = (column - (columns - 1) / 2) * pitch, (row - (rows - 1) / 2) * pitch
            place = at(x, y, height + stud.height / 2)
            parts.append(Part(solid=stud, material=material, position=place))
    return parts


def shoe(make: Maker) -> list[Part]:
    """A sole with a low upper."""
    length, width = make.between(0.16, 0.29), make.between(0.06, 0.1)
    high, sole = make.between(0.06, 0.1), make.between(0.012, 0.025)
    share = np.linspace(0.0, 1.0, 9)
    wide = width * np.array([0.45, 0.68, 0.72, 0.72, 0.8, 0.95, 1.0, 0.85, 0.4])
    tall = high * np.array([0.75, 1.0, 0.98, 0.9, 0.75, 0.58, 0.5, 0.42, 0.2])
    upper = _half_round(length * share, wide, tall)
    flat = _half_round(length * (1.03 * share - 0.015), 1.06 * wide, np.full(9, sole))
    return [
        Part(
            solid=upper, material=make.material("fabric", "rubber"), position=at(0, 0, 0.8 * sole)
        ),
        Part(solid=flat, material=make.material("rubber", "foam")),
        Part(  # the dark opening
            solid=Ellipsoid(radii=(0.19 * length, 0.33 * width, 0.2 * high)),
            material=make.material("fabric", "paper"),
            position=at(0.22 * length, 0.0, 0.8 * sole + 0.88 * high),
        ),
    ]


def candle(make: Maker) -> list[Part]:
    """A pillar of wax with a wick, or a plain round block."""
    radius, height = make.between(0.02, 0.05), make.between(0.025, 0.14)
    purposes = ("plain_plastic", "wood", "rubber", "foam", "ceramic")
    parts = [disc(make.material(*purposes), radius, 0.0, height)]
    if make.chance(0.5):
        parts.append(disc(make.material("fabric"), 0.0015, 0.0, height + 0.008))
    return parts


def _toy_block(make: Maker, size: float, height: float) -> Solid:
    kind = make.pick("box", "rounded", "cylinder", "ellipsoid", "cone", "prism")
    depth = make.between(0.6, 1.0) * size
    if kind == "box":
        return Box(size=(size, depth, height))
    if kind == "rounded":
        return rounded_box((size, depth, height), 0.2 * min(depth, height))
    if kind == "cylinder":
        return Cylinder(radius=size / 2, height=height)
    if kind == "ellipsoid":
        return Ellipsoid(radii=(size / 2, depth / 2, height / 2))
    low, high = -height / 2, height / 2
    tip = make.between(0.1, 0.4) * size
    segments = 20 if kind == "cone" else make.pick(3, 4, 5, 6)
    return lathe([(0, low), (size / 2, low), (tip, high), (0, high)], segments)


def _half_round(along: Array, wide: Array, tall: Array) -> Solid:
    """A body on z = 0 of half ovals across x, of given width and height at each station."""
    angles = np.linspace(0.0, np.pi, 9)
    level = np.cos(angles)
    across = np.sign(level) * np.abs(level) ** 0.6
    up = np.sin(angles).round(12) ** 0.6
    rings = np.empty((len(along), len(angles), 3))
    rings[..., 0] = along[:, None]
    rings[..., 1] = wide[:, None] / 2 * across
    rings[..., 2] = tall[:, None] * up
    return loft(rings)
