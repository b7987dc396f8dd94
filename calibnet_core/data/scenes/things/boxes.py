"""Boxes, books, cartons, packets, bricks: things with flat sides."""

from __future__ import annotations

import numpy as np

from calibnet_core.data.scenes.parts import Box, Part
from calibnet_core.data.scenes.things.making import (
    Array,
    Maker,
    at,
    disc,
    layered,
    oval,
    turn,
    turned,
    upright,
)
from calibnet_core.data.scenes.things.meshes import (
    filleted,
    loft,
    prism,
    rounded_box,
    superellipsoid,
)

_BOARD_M = 0.002


def cereal_box(make: Maker) -> list[Part]:
    """A tall carton on its narrow side."""
    return _carton(
        make, make.between(0.035, 0.09), make.between(0.11, 0.23), make.between(0.16, 0.33)
    )


def small_box(make: Maker) -> list[Part]:
    """A carton that fits in a hand."""
    return _carton(
        make, make.between(0.03, 0.13), make.between(0.04, 0.13), make.between(0.02, 0.12)
    )


def flat_box(make: Maker) -> list[Part]:
    """A carton on its broad side, some with a lid that stands out a little."""
    width, depth = make.between(0.12, 0.33), make.between(0.08, 0.27)
    height = make.between(0.015, 0.08)
    parts = _carton(make, width, depth, height)
    if make.chance(0.25) and height > 0.03:
        lid = make.between(0.25, 0.6) * height
        size = (width + 2 * _BOARD_M, depth + 2 * _BOARD_M, lid)
        middle = at(0.0, 0.0, height + _BOARD_M - lid / 2)
        parts.append(Part(solid=Box(size=size), material=make.print_for(width), position=middle))
    return parts


def parcel(make: Maker) -> list[Part]:
    """A larger box of any proportions."""
    edges = [make.between(0.1, 0.28) for _ in range(3)]
    return _carton(make, *edges)


def book(make: Maker) -> list[Part]:
    """Pages between covers, lying."""
    width, length = make.between(0.1, 0.22), make.between(0.14, 0.3)
    thickness = make.between(0.008, 0.055)
    cover, inset = make.print_for(length), make.between(0.0, 0.005)
    board = min(make.between(0.0008, 0.003), thickness / 5)
    pages = (width - inset, length - 2 * inset, thickness - 2 * board)
    sheet = Box(size=(width, length, board))
    return [
        Part(solid=sheet, material=cover, position=at(0.0, 0.0, board / 2)),
        Part(solid=sheet, material=cover, position=at(0.0, 0.0, thickness - board / 2)),
        Part(
            solid=Box(size=(board, length, thickness)),
            material=cover,
            position=at(-(width + board) / 2, 0.0, thickness / 2),
        ),
        Part(
            solid=Box(size=pages),
            material=make.material("paper"),
            position=at(-inset / 2, 0.0, thickness / 2),
        ),
    ]


def drink_carton(make: Maker) -> list[Part]:
    """A carton with a gabled roof and a fin, some with a screw cap."""
    width, depth = make.between(0.05, 0.1), make.between(0.05, 0.1)
    height, roof = make.between(0.08, 0.21), make.between(0.25, 0.5) * width
    fin, tip = 0.003, roof + make.between(0.008, 0.018)
    gable = [(-width / 2, 0), (width / 2, 0), (fin, roof), (fin, tip), (-fin, tip), (-fin, roof)]
    printed = make.print_for(height)
    parts = [
        Part(
            solid=Box(size=(width, depth, height)),
            material=printed,
            position=at(0.0, 0.0, height / 2),
        ),
        Part(
            solid=prism(gable, depth),
            material=printed,
            rotation=turn("x", 90.0),
            position=at(0.0, depth / 2, height),
        ),
    ]
    if make.chance(0.5):
        slope = float(np.degrees(np.arctan2(roof, width / 2)))
        cap = disc(make.material("plain_plastic"), 0.2 * width, -0.01, 0.012)
        middle = at(width / 4, 0.0, height + roof / 2)
        parts += [
            Part(
                solid=cap.solid,
                material=cap.material,
                rotation=turn("y", slope),
                position=middle,
            )
        ]
    return parts


def open_carton(make: Maker) -> list[Part]:
    """Four walls and a floor, some with flaps that hang outwards; one can see and reach in."""
    wall = make.between(0.002, 0.005)
    width, depth = make.between(0.08, 0.24), make.between(0.08, 0.22)
    height = make.between(0.03, 0.18)
    material = make.material("cardboard_print", "plain_plastic", "wood")
    half_x, half_y = (width - wall) / 2, (depth - wall) / 2
    shapes: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = [
        ((width, depth, wall), (0.0, 0.0, wall / 2)),
        ((wall, depth, height), (half_x, 0.0, height / 2)),
        ((wall, depth, height), (-half_x, 0.0, height / 2)),
        ((width - 2 * wall, wall, height), (0.0, half_y, height / 2)),
        ((width - 2 * wall, wall, height), (0.0, -half_y, height / 2)),
    ]
    parts = [
        Part(solid=Box(size=size), material=material, position=at(*middle))
        for size, middle in shapes
    ]
    if make.chance(0.4):
        length = make.between(0.2, 0.4) * min(width, depth, 0.11)
        for half, edge, heading in ((half_y, width, 0), (half_x, depth, 90)):
            for degrees in (heading, heading + 180):
                lift = make.between(-60.0, 75.0)
                flap = Part(
                    solid=Box(size=(edge - 2 * wall, length, wall)),
                    material=material,
                    rotation=turn("x", lift),
                    position=at(0.0, half, height) + turn("x", lift)[:, 1] * length / 2,
                )
                parts += turned([flap], turn("z", degrees))
    return parts


def oblong_tin(make: Maker) -> list[Part]:
    """A low metal tin with round corners, rims and a label, such as holds fish or meat."""
    width, depth = make.between(0.07, 0.12), make.between(0.045, 0.08)
    height, corner = make.between(0.022, 0.095), make.between(0.2, 0.45) * depth
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, depth / 2)
    outline = filleted(corners, corner, is_loop=True)
    rim, recess = 0.003, make.between(0.001, 0.004)
    levels = [(0, 1.02), (rim, 1.02), (rim + 0.001, 0.99), (height - rim - 0.001, 0.99)]
    levels += [(height - rim, 1.02), (height, 1.02), (height, 0.97), (height - recess, 0.97)]
    tin = Part(solid=layered(outline, levels), material=make.material("metal"))
    label = layered(outline, [(rim + 0.001, 1.0), (height - rim - 0.001, 1.0)])
    if make.chance(0.25):
        return [tin]
    return [tin, upright(label, make.label_for(height))]


def wood_block(make: Maker) -> list[Part]:
    """A sawn piece of wood."""
    square = make.between(0.03, 0.1)
    size = (square, square * make.pick(1.0, make.between(0.3, 1.0)), make.between(0.05, 0.24))
    return [_block(make, size, "wood")]


def foam_brick(make: Maker) -> list[Part]:
    """A brick or a sponge of foam with slightly round edges."""
    size = (make.between(0.05, 0.12), make.between(0.05, 0.09), make.between(0.02, 0.06))
    solid = rounded_box(size, make.between(0.002, 0.3 * size[2]))
    return [Part(solid=solid, material=make.material("foam"), position=at(0, 0, size[2] / 2))]


def soap_bar(make: Maker) -> list[Part]:
    """A smooth pillow that lies flat."""
    radii = (make.between(0.03, 0.055), make.between(0.02, 0.035), make.between(0.01, 0.02))
    exponents = (make.between(0.35, 1.0), make.between(0.35, 1.0))
    return [
        Part(
            solid=superellipsoid(radii, exponents),
            material=make.material("plain_plastic", "rubber", "ceramic"),
            position=at(0.0, 0.0, radii[2]),
        )
    ]


def packet(make: Maker) -> list[Part]:
    """A crumpled bag or sachet with two flat seams, lying or standing."""
    width, length = make.between(0.05, 0.2), make.between(0.08, 0.27)
    thickness = make.between(0.15, 0.4) * min(width, length)
    share = np.linspace(0.0, 1.0, 10)
    swell = np.sin(np.pi * np.clip(share * 1.2 - 0.1, 0.0, 1.0)) ** make.between(0.5, 0.9)
    outline = oval(1.0, 1.0, make.between(0.5, 0.9), 16)
    levels = [
        (length * t, (width * (1 - 0.1 * s), max(thickness * s, 0.002)))
        for t, s in zip(share.tolist(), swell.tolist(), strict=True)
    ]
    bag = layered(outline, levels, shifts=_crumple(make, len(share)))
    # What does not lie on a seam is dented, which no two bags are alike in.
    dents = make.rng.normal(0.0, 0.03, len(bag.vertices)) * bag.vertices[:, 1]
    bag.vertices[:, 1] += dents
    part = Part(solid=bag, material=make.print_for(length))
    return [part] if make.chance(0.3) else turned([part], turn("x", 90.0))


def _crumple(make: Maker, count: int) -> Array:
    """(count, 2) shifts of layers across a bag."""
    shifts = np.zeros((count, 2))
    shifts[:, 1] = np.cumsum(make.rng.normal(0.0, 0.0012, count))
    return shifts


def remote_control(make: Maker) -> list[Part]:
    """A flat slab with rows of buttons."""
    width, length = make.between(0.035, 0.075), make.between(0.11, 0.2)
    height = make.between(0.009, 0.025)
    slab = rounded_box((width, length, height), 0.45 * height)
    parts = [
        Part(solid=slab, material=make.material("plain_plastic"), position=at(0, 0, height / 2))
    ]
    if make.chance(0.3):  # a telephone: a screen in place of the buttons
        screen = Box(size=(0.85 * width, 0.8 * length, 0.001))
        glass = make.material("glass_like", "plain_plastic")
        return [*parts, Part(solid=screen, material=glass, position=at(0, 0, height))]
    keys = make.material("rubber", "plain_plastic")
    columns, rows = make.pick(2, 3), make.pick(2, 3, 4)
    key = Box(size=(0.6 * width / columns, 0.5 * length / (rows + 1), 0.004))
    parts += [
        Part(
            solid=key,
            material=keys,
            position=at(
                (column + 0.5) / columns * width * 0.85 - width * 0.425,
                (row + 0.5) / (rows + 1) * length * 0.85 - length * 0.425,
                height,
            ),
        )
        for column in range(columns)
        for row in range(rows)
    ]
    return parts


def folded_cloth(make: Maker) -> list[Part]:
    """A stack of soft layers with uneven edges."""
    width, depth = make.between(0.08, 0.25), make.between(0.08, 0.2)
    layer = make.between(0.006, 0.014)
    cloth = make.material("fabric")
    parts = []
    for index in range(int(make.rng.integers(1, 5))):
        size = (width * make.between(0.9, 1.0), depth * make.between(0.9, 1.0), layer)
        middle = at(0.0, 0.0, layer * (0.5 + 0.95 * index))
        parts.append(Part(solid=rounded_box(size, 0.45 * layer), material=cloth, position=middle))
    return parts


def wedge(make: Maker) -> list[Part]:
    """A box whose top slopes, such as a door stop, a charger or a piece of cheese."""
    width, depth = make.between(0.04, 0.14), make.between(0.03, 0.1)
    low, high = make.between(0.005, 0.04), make.between(0.03, 0.09)
    base = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, depth / 2)
    bottom = np.column_stack([base, np.zeros(4)])
    # Shortened along x only, which keeps every side flat.
    top = np.column_stack([base * (make.between(0.7, 1.0), 1.0), [low, high, high, low]])
    material = make.material("plain_plastic", "wood", "foam", "rubber")
    return [Part(solid=loft(np.stack([bottom, top])), material=material)]


def _carton(make: Maker, width: float, depth: float, height: float) -> list[Part]:
    size = (width, depth, height)
    part = Part(
        solid=Box(size=size),
        material=make.print_for(max(size)),
        position=at(0.0, 0.0, height / 2),
    )
    return [part]


def _block(make: Maker, size: tuple[float, float, float], purpose: str) -> Part:
    edge = make.between(0.01, 0.08) * min(size)
    solid = rounded_box(size, edge, 1) if make.chance(0.4) else Box(size=size)
    return Part(solid=solid, material=make.material(purpose), position=at(0.0, 0.0, size[2] / 2))
