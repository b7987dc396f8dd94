"""Pens, tools, clamps, tape: things with thin parts, most of them lying."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from calibnet_core.data.scenes.parts import Box, Capsule, Cylinder, Ellipsoid, Part
from calibnet_core.data.scenes.things.making import (
    Array,
    Maker,
    at,
    disc,
    layered,
    lengthwise,
    moved,
    oval,
    rod,
    turn,
    turned,
)
from calibnet_core.data.scenes.things.meshes import (
    filleted,
    lathe,
    prism,
    rounded_box,
    scaled,
    tube,
)

_LYING = turn("y", 90.0)


def marker(make: Maker) -> list[Part]:
    """A pen with its cap on or off, lying."""
    radius, length = make.between(0.0045, 0.012), make.between(0.11, 0.16)
    body, cap = make.material("plain_plastic", "label", "wood"), make.material("plain_plastic")
    parts = [disc(body, radius, 0.0, length)]
    if make.chance(0.6):
        parts.append(disc(cap, 1.12 * radius, 0.65 * length, 1.05 * length))
    else:
        tip = [(0, 0), (0.8 * radius, 0), (0.25 * radius, 2.2 * radius), (0, 2.6 * radius)]
        parts.append(Part(solid=lathe(tip, 12), material=cap, position=at(0.0, 0.0, length)))
    return turned(parts, _LYING)


def screwdriver(make: Maker) -> list[Part]:
    """A thick grip and a thin blade, lying."""
    radius, grip = make.between(0.01, 0.018), make.between(0.07, 0.12)
    shaft = make.between(0.05, 0.17)
    profile = [(0, 0), (0.8 * radius, 0), (radius, 0.15 * grip), (radius, 0.6 * grip)]
    profile += [(0.65 * radius, 0.8 * grip), (0.8 * radius, grip), (0, grip)]
    parts = [
        Part(
            solid=lathe(filleted(profile, 0.006), 14),
            material=make.material("plain_plastic", "rubber", "wood"),
        ),
        disc(make.material("metal"), make.between(0.0025, 0.005), grip - 0.01, grip + shaft),
    ]
    return turned(parts, _LYING)


def hammer(make: Maker) -> list[Part]:
    """A handle with a head across its end, lying."""
    length, thick = make.between(0.18, 0.3), make.between(0.009, 0.015)
    head, radius = make.between(0.07, 0.12), make.between(0.011, 0.018)
    metal = make.material("metal", "metal", "rubber", "wood")
    path = [(0, 0, 0), (0.35 * length, 0, 0), (0.5 * length, 0, 0), (length, 0, 0)]
    handle = tube(path, np.array([1.0, 1.1, 0.75, 0.7]) * thick, 10)
    parts = [
        Part(
            solid=scaled(handle, (1.0, 1.2, 0.8)),
            material=make.material("wood", "rubber", "plain_plastic"),
        ),
        rod(metal, radius, at(length, 0.0, 0.0), at(length, -0.5 * head, 0.0)),
    ]
    if make.chance(0.4):  # a mallet
        end = at(length, 0.5 * head, 0.0)
        return [*parts, rod(metal, radius, at(length, 0.0, 0.0), end)]
    claw = [(-0.8 * radius, 0), (0.8 * radius, 0), (0.9 * radius, 0.3 * head)]
    claw += [
        (-0.2 * radius, 0.65 * head),
        (-0.6 * radius, 0.63 * head),
        (-0.7 * radius, 0.3 * head),
    ]
    place = at(length, -0.002, -0.75 * radius)
    return [*parts, Part(solid=prism(claw, 1.5 * radius), material=metal, position=place)]


def power_drill(make: Maker) -> list[Part]:
    """A motor with chuck and bit, a slanted grip and a battery, lying or standing."""
    radius, motor = make.between(0.024, 0.036), make.between(0.09, 0.14)
    height = make.between(0.1, 0.14)
    shell = make.material("plain_plastic")
    dark = make.material("plain_plastic", "rubber")
    chuck = [(0, 0), (0.75 * radius, 0), (0.75 * radius, 0.02), (0.4 * radius, 0.045), (0, 0.045)]
    case = [(0, 0), (0.85 * radius, 0), (radius, 0.015), (radius, 0.7 * motor)]
    case += [(0.75 * radius, motor), (0, motor)]
    lean = make.between(0.0, 0.03)
    grip = layered(
        oval(0.05, 0.036, 0.8, 14),
        [(0.0, 0.85), (0.5 * height, 0.75), (height, 0.95)],
        np.array([(-lean, 0.0), (-lean / 2, 0.0), (0.0, 0.0)]),
    )
    back = -0.55 * motor
    parts = [
        lengthwise(lathe(case, 20), shell, at(back, 0.0, height)),
        lengthwise(lathe(chuck, 16), dark, at(back + motor - 0.002, 0.0, height)),
        Part(solid=grip, material=make.pick(shell, dark), position=at(-0.015, 0.0, 0.0)),
        Part(
            solid=rounded_box((make.between(0.08, 0.12), 0.07, make.between(0.025, 0.05)), 0.008),
            material=dark,
            position=at(-lean - 0.005, 0.0, 0.0),
        ),
    ]
    if make.chance(0.6):
        bit = Cylinder(radius=0.003, height=make.between(0.03, 0.07))
        tip = at(back + motor + 0.04 + bit.height / 2, 0.0, height)
        parts.append(lengthwise(bit, make.material("metal"), tip))
    return turned(parts, turn("x", 90.0)) if make.chance(0.5) else parts


def screw_clamp(make: Maker) -> list[Part]:
    """A C of metal with a screw through one of its ends, lying."""
    width, length = make.between(0.05, 0.1), make.between(0.07, 0.16)
    bar, depth = make.between(0.009, 0.016), make.between(0.01, 0.02)
    outline = [(0, 0), (width, 0), (width, bar), (bar, bar), (bar, length - bar)]
    outline += [(width, length - bar), (width, length), (0, length)]
    metal = make.material("metal", "plain_plastic")
    screw, x, z = make.material("metal"), width - 0.5 * bar, depth / 2
    reach = make.between(0.2, 0.8) * (length - 2 * bar)
    top, bottom = length + make.between(0.015, 0.05), length - bar - reach
    half = make.between(0.015, 0.03)
    return [
        Part(solid=prism(filleted(outline, 0.25 * bar, is_loop=True), depth), material=metal),
        rod(screw, 0.3 * bar, at(x, bottom, z), at(x, top, z)),
        rod(screw, 0.6 * bar, at(x, bottom, z), at(x, bottom + 0.006, z)),
        rod(screw, 0.2 * bar, at(x - half, top - 0.004, z), at(x + half, top - 0.004, z)),
    ]


def spring_clamp(make: Maker) -> list[Part]:
    """Two crossed levers, with a spring between and pads on their tips, lying."""
    grip, jaw = make.between(0.05, 0.1), make.between(0.035, 0.07)
    spread, bite = make.between(14.0, 30.0), make.between(4.0, 22.0)
    thick, width = make.between(0.008, 0.013), make.between(0.012, 0.022)
    shell, pad = make.material("plain_plastic", "metal"), make.material("rubber", "plain_plastic")
    parts = [disc(make.material("metal"), 0.9 * thick, -0.6 * width, 0.6 * width)]
    for side in (-1.0, 1.0):
        handle = Part(
            solid=rounded_box((grip, thick, width), 0.3 * thick),
            material=shell,
            position=at(-0.5 * grip, 0.5 * thick * side, 0.0),
        )
        arm = Part(
            solid=rounded_box((jaw, 0.8 * thick, 0.9 * width), 0.25 * thick),
            material=shell,
            position=at(0.45 * jaw, 0.55 * thick * side, 0.0),
        )
        end = Part(
            solid=Box(size=(1.1 * thick, 1.1 * thick, 0.95 * width)),
            material=pad,
            position=at(0.92 * jaw, 0.45 * thick * side, 0.0),
        )
        parts += turned([handle], turn("z", -side * spread))
        parts += turned([arm, end], turn("z", side * bite))
    return parts


def scissors(make: Maker) -> list[Part]:
    """Two pointed blades on a pivot, with a loop on each, lying."""
    blade, wide = make.between(0.06, 0.11), make.between(0.006, 0.011)
    shank, loop = make.between(0.03, 0.05), make.between(0.014, 0.02)
    opening = make.between(3.0, 25.0)
    metal, grip = make.material("metal"), make.material("plain_plastic", "rubber", "metal")
    thick = make.between(0.003, 0.0055)
    angles = np.linspace(0.0, 2.0 * np.pi, 6, endpoint=False)
    section = np.array([loop, 0.0]) + thick * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring = scaled(lathe(section, 14), (make.between(1.2, 1.6), 1.0, 1.0))
    outline = [(-shank, -0.5 * wide), (0, -0.6 * wide), (blade, 0.4 * wide)]
    outline += [(0.9 * blade, 0.58 * wide), (0, 0.6 * wide), (-shank, 0.5 * wide)]
    sheet = Part(solid=prism(outline, 0.0025), material=metal, position=at(0.0, 0.0, -0.0025))
    eye = Part(solid=ring, material=grip, position=at(-shank - loop, -0.35 * loop, 0.0))
    half = turned([sheet, eye], turn("z", opening / 2))
    # The other half is the same one turned over.
    return [*half, *turned(half, turn("x", 180.0)), disc(metal, 0.5 * wide, -0.0045, 0.0045)]


def tape_roll(make: Maker) -> list[Part]:
    """A ring of tape about a core, lying or standing on its edge."""
    hole, width = make.between(0.012, 0.04), make.between(0.012, 0.055)
    outer = hole + make.between(0.008, 0.025)
    core = hole + 0.003
    tape = [(core, 0), (outer, 0), (outer, width), (core, width)]
    ring = [(hole, 0), (core + 0.0005, 0), (core + 0.0005, width), (hole, width)]
    parts = [
        Part(solid=lathe(tape), material=make.material("plain_plastic", "rubber", "fabric")),
        Part(solid=lathe(ring), material=make.material("paper", "plain_plastic")),
    ]
    return turned(parts, _LYING) if make.chance(0.3) else parts


def torch(make: Maker) -> list[Part]:
    """A pocket lamp with a wide head, lying or standing on it."""
    radius, length = make.between(0.01, 0.02), make.between(0.08, 0.18)
    head = radius * make.between(1.1, 1.9)
    profile = [(0, 0), (0.9 * head, 0), (head, 0.004), (head, 0.15 * length)]
    profile += [(radius, 0.3 * length), (radius, length), (0, length)]
    body = make.material("metal", "plain_plastic", "rubber")
    parts = [
        Part(solid=lathe(profile, 20), material=body),
        disc(make.material("glass_like", "metal"), 0.8 * head, -0.001, 0.002),
        disc(make.material("rubber", "plain_plastic"), 1.06 * radius, 0.5 * length, 0.9 * length),
    ]
    return turned(parts, _LYING) if make.chance(0.7) else parts


def cutlery(make: Maker) -> list[Part]:
    """A spoon or a spatula, lying."""
    length, wide = make.between(0.1, 0.2), make.between(0.012, 0.03)
    material = make.material("metal", "wood", "plain_plastic")
    rise = make.between(0.005, 0.02)
    path = filleted([(0, 0, 0.3 * rise), (0.6 * length, 0, rise), (length, 0, 0)], 0.03)
    handle = scaled(tube(path, np.linspace(0.005, 0.003, len(path)), 6), (1.0, 1.3, 0.8))
    parts = [Part(solid=handle, material=material)]
    if make.chance(0.6):
        radii = (1.5 * wide, wide, make.between(0.004, 0.008))
        middle = at(length + 1.3 * wide, 0.0, 0.0)
        return [*parts, Part(solid=Ellipsoid(radii=radii), material=material, position=middle)]
    outline = filleted(
        [(0, -0.5 * wide), (3 * wide, -wide), (3 * wide, wide), (0, 0.5 * wide)],
        0.3 * wide,
        is_loop=True,
    )
    place = at(length - 0.005, 0.0, -0.001)
    return [*parts, Part(solid=prism(outline, 0.003), material=material, position=place)]


def brush(make: Maker) -> list[Part]:
    """A handle with a block of bristles, lying on them or on its back."""
    handle, head = make.between(0.07, 0.16), make.between(0.03, 0.09)
    wide, thick = make.between(0.012, 0.05), make.between(0.008, 0.015)
    body = make.material("plain_plastic", "wood")
    bristles = Box(size=(0.9 * head, 0.85 * wide, make.between(0.01, 0.03)))
    parts = [
        Part(
            solid=Capsule(radius=0.6 * thick, length=handle),
            material=body,
            rotation=_LYING,
            position=at(-handle / 2, 0.0, 0.0),
        ),
        Part(
            solid=rounded_box((head, wide, thick), 0.3 * thick),
            material=body,
            position=at(head / 2, 0.0, 0.0),
        ),
        Part(
            solid=bristles,
            material=make.material("fabric", "foam", "rubber"),
            position=at(head / 2, 0.0, -(thick + bristles.size[2]) / 2),
        ),
    ]
    return turned(parts, turn("x", make.pick(0.0, 90.0, 180.0)))


def cable_coil(make: Maker) -> list[Part]:
    """A loose coil of cable with a plug at its end."""
    radius, thick = make.between(0.03, 0.07), make.between(0.003, 0.006)
    turns = make.between(1.6, 2.6)
    angles = np.linspace(0.0, 2.0 * np.pi * turns, round(12 * turns))
    wobble = radius * (1.0 + 0.1 * np.sin(angles * make.between(0.6, 0.9)))
    rise = 2.1 * thick * angles / (2.0 * np.pi)
    path: Array = np.stack([wobble * np.cos(angles), wobble * np.sin(angles), rise], axis=1)
    material = make.material("plain_plastic", "rubber")
    plug = rounded_box((0.018, 0.035, 0.014), 0.004)
    end: ArrayLike = path[-1]
    facing = turn("z", float(np.degrees(angles[-1])))
    return [
        Part(solid=tube(path, thick, 6), material=material),
        *moved(turned([Part(solid=plug, material=material)], facing), np.asarray(end, np.float64)),
    ]
