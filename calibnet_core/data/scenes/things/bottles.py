"""Tins, cans, jars and bottles: closed vessels with lids and labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from calibnet_core.data.scenes.parts import Cylinder, Part
from calibnet_core.data.scenes.things.making import (
    Maker,
    at,
    disc,
    layered,
    lengthwise,
    oval,
    upright,
)
from calibnet_core.data.scenes.things.meshes import filleted, lathe, rounded_box, tube

_PROUD_M = 0.0004  # how far a label stands out, so that no ray finds what is under it


def tin_can(make: Maker) -> list[Part]:
    """A tin of soup or, lower, of fish: a metal body with rims and a sunk lid."""
    radius = make.between(0.026, 0.055)
    height = make.between(0.03, 0.055) if make.chance(0.4) else make.between(0.07, 0.15)
    rim, sunk = 0.0035, make.between(0.001, 0.004)
    outer, inner = 1.025 * radius, 0.97 * radius
    profile = [(0, 0), (outer, 0), (outer, rim), (radius, rim + 0.001)]
    profile += [(radius, height - rim - 0.001), (outer, height - rim), (outer, height)]
    profile += [(inner, height), (inner, height - sunk), (0, height - sunk)]
    parts = [Part(solid=lathe(profile), material=make.material("metal"))]
    if make.chance(0.9):
        label = make.label_for(height)
        parts.append(disc(label, radius + _PROUD_M, rim + 0.001, height - rim - 0.001))
    return parts


def drinks_can(make: Maker) -> list[Part]:
    """A tapered metal can with a printed side."""
    radius, height = make.between(0.025, 0.034), make.between(0.085, 0.17)
    neck = make.between(0.75, 0.85) * radius
    profile = [(0, 0.004), (0.72 * radius, 0.004), (0.76 * radius, 0), (radius, 0.011)]
    profile += [(radius, height - 0.018), (neck, height - 0.003), (neck, height)]
    profile += [(0.93 * neck, height), (0.9 * neck, height - 0.004), (0, height - 0.004)]
    metal = make.material("metal")
    side = disc(make.label_for(height), radius + _PROUD_M, 0.011, height - 0.018)
    return [Part(solid=lathe(profile), material=metal), side]


def jar(make: Maker) -> list[Part]:
    """A round vessel with a neck and a wide lid."""
    radius, height = make.between(0.025, 0.055), make.between(0.05, 0.16)
    lid = min(make.between(0.01, 0.025), 0.3 * height)
    neck, shoulder = make.between(0.75, 0.98) * radius, height - lid - make.between(0.004, 0.015)
    profile = [
        (0, 0),
        (radius, 0),
        (radius, shoulder),
        (neck, height - lid),
        (neck, height),
        (0, height),
    ]
    body = make.material("glass_like", "plain_plastic", "ceramic")
    parts = [
        Part(solid=lathe(filleted(profile, 0.006)), material=body),
        disc(make.material("metal", "plain_plastic"), 1.04 * neck, height - lid, height + 0.001),
    ]
    if make.chance(0.7):
        parts.append(_label(make, radius, 0.15 * shoulder, 0.85 * shoulder))
    return parts


def bottle(make: Maker) -> list[Part]:
    """A round bottle with a slim neck and a cap; straight, waisted, round or conical."""
    radius, height = make.between(0.022, 0.048), make.between(0.12, 0.31)
    neck, collar = make.between(0.25, 0.5) * radius, make.between(0.82, 0.92) * height
    shoulder = make.between(0.45, 0.8) * collar
    waist = make.pick(1.0, 1.0, make.between(0.8, 0.95))
    foot = make.pick(1.0, 1.0, make.between(0.7, 1.2))
    profile = [(0, 0), (foot * radius, 0), (radius * (1 + foot) / 2 * waist, 0.5 * shoulder)]
    profile += [(radius, shoulder), (neck, collar), (neck, height), (0, height)]
    body = make.material("glass_like", "plain_plastic", "plain_plastic", "metal")
    cap = min(make.between(0.01, 0.03), 0.9 * (height - collar))
    parts = [
        Part(solid=lathe(filleted(profile, make.between(0.004, 0.03))), material=body),
        disc(make.material("plain_plastic", "metal"), 1.15 * neck, height - cap, height + 0.002),
    ]
    if waist == foot == 1.0 and make.chance(0.8):
        low = make.between(0.15, 0.35)
        parts.append(_label(make, radius, low * shoulder, 0.85 * shoulder))
    return parts


def squeeze_bottle(make: Maker) -> list[Part]:
    """A flattened bottle with a nozzle, such as for mustard, shampoo or glue."""
    width, height = make.between(0.045, 0.095), make.between(0.09, 0.2)
    outline = oval(width, width * make.between(0.45, 0.9), make.between(0.6, 1.0))
    waist = make.between(0.8, 1.0)
    neck = make.between(0.3, 0.45)
    levels: list[tuple[float, ArrayLike]] = [(0.0, 0.92), (0.03 * height, 1.0)]
    levels += [(0.3 * height, (1 + waist) / 2), (0.5 * height, waist), (0.7 * height, 0.98)]
    levels += [(0.86 * height, 0.85), (0.95 * height, neck + 0.15), (height, neck)]
    radius = 0.75 * neck * width / 2
    printed = make.chance(0.5)
    body = make.label_for(height) if printed else make.material("plain_plastic")
    tip = make.between(0.15, 0.8) * radius
    rise = make.between(0.012, 0.045)
    cap = [(0, 0), (1.5 * radius, 0), (1.5 * radius, 0.5 * rise), (tip, rise), (0, rise)]
    return [
        upright(layered(outline, levels), body),
        Part(
            solid=lathe(cap, 16),
            material=make.material("plain_plastic"),
            position=at(0.0, 0.0, height - 0.002),
        ),
    ]


def cleaner_bottle(make: Maker) -> list[Part]:
    """A big bottle whose neck stands aside, with a handle over the gap."""
    width, height = make.between(0.08, 0.13), make.between(0.18, 0.28)
    outline = oval(width, width * make.between(0.5, 0.75), make.between(0.5, 0.9))
    shoulder = make.between(0.5, 0.62) * height
    aside = -make.between(0.12, 0.2) * width
    levels: list[tuple[float, ArrayLike]] = [(0.0, 0.94), (0.02 * height, 1.0), (shoulder, 1.0)]
    levels += [(shoulder + 0.14 * height, 0.62), (0.86 * height, 0.36), (0.94 * height, 0.28)]
    shifts = np.zeros((len(levels), 2))
    shifts[3:, 0] = 0.8 * aside, aside, aside
    body = make.material("plain_plastic")
    grip = make.between(0.008, 0.012)
    path = filleted(
        [
            (aside, 0.0, 0.88 * height),
            (0.36 * width, 0.0, 0.84 * height),
            (0.4 * width, 0.0, shoulder - 0.01),
        ],
        0.02,
    )
    cap = disc(make.material("plain_plastic"), 0.18 * width, 0.92 * height, height)
    parts = [
        Part(solid=layered(outline, levels, shifts), material=body),
        Part(solid=tube(path, grip), material=body),
        replace(cap, position=cap.position + at(aside, 0.0, 0.0)),
    ]
    if make.chance(0.8):
        low, high = 0.12 * height, 0.9 * shoulder
        wrap = layered(outline, [(low, 1.01), (high, 1.01)])
        parts.append(upright(wrap, make.label_for(high - low)))
    return parts


def spray_bottle(make: Maker) -> list[Part]:
    """A bottle with a pistol head: nozzle, body and trigger."""
    width, height = make.between(0.05, 0.09), make.between(0.12, 0.2)
    outline = oval(width, width * make.between(0.6, 1.0), make.between(0.7, 1.0))
    levels: list[tuple[float, ArrayLike]] = [
        (0.0, 0.95),
        (0.03 * height, 1.0),
        (0.55 * height, 1.0),
    ]
    levels += [(0.75 * height, 0.8), (0.92 * height, 0.35), (height, 0.3)]
    head, colour = make.between(0.06, 0.09), make.material("plain_plastic")
    top = height + make.between(0.025, 0.035)
    trigger = [
        (0.25 * head, 0, top - 0.01),
        (0.4 * head, 0, top - 0.03),
        (0.35 * head, 0, top - 0.06),
    ]
    body = make.material("plain_plastic", "label")
    return [
        upright(layered(outline, levels), body),
        disc(colour, 0.2 * width, height - 0.005, top),
        Part(
            solid=rounded_box((head, 0.022, 0.026), 0.008),
            material=colour,
            position=at(0.15 * head, 0.0, top),
        ),
        lengthwise(Cylinder(radius=0.007, height=0.02), colour, at(0.65 * head, 0.0, top + 0.003)),
        Part(solid=tube(trigger, 0.005, 6), material=make.material("plain_plastic")),
    ]


def _label(make: Maker, radius: float, bottom: float, top: float) -> Part:
    return disc(make.label_for(top - bottom), radius + _PROUD_M, bottom, top)
