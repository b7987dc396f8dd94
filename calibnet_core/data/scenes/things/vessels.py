"""Mugs, bowls, plates, jugs, pans: open vessels that one can look into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibnet_core.data.scenes.parts import Material, Mesh, Part
from calibnet_core.data.scenes.things.making import Array, Maker, at, disc, upright
from calibnet_core.data.scenes.things.meshes import lathe, tube


def mug(make: Maker) -> list[Part]:
    """A cup with a handle, some of them filled."""
    radius, height = make.between(0.032, 0.05), make.between(0.065, 0.12)
    outer = _cup_side(make, radius * make.between(0.75, 1.0), radius, height)
    material = make.material("ceramic", "ceramic", "ceramic", "metal", "plain_plastic", "label")
    wall = make.between(0.0025, 0.005)
    parts = [upright(vessel(outer, wall), _lined(make, material))]
    low, high = make.between(0.12, 0.3) * height, make.between(0.75, 0.92) * height
    reach, grip = make.between(0.022, 0.038), make.between(0.004, 0.007)
    parts.append(_handle(outer, wall, low, high, reach, grip, material))
    return parts + _filling(make, outer, wall, 0.2)


def cup(make: Maker) -> list[Part]:
    """A beaker without a handle."""
    radius, height = make.between(0.03, 0.05), make.between(0.05, 0.15)
    outer = _cup_side(make, radius * make.between(0.6, 1.0), radius, height)
    wall = make.between(0.0015, 0.004)
    material = make.material("plain_plastic", "paper", "ceramic", "metal", "label")
    body = upright(vessel(outer, wall), _lined(make, material))
    return [body, *_filling(make, outer, wall, 0.2)]


def glass(make: Maker) -> list[Part]:
    """A tumbler or a glass with a stem."""
    material, wall = make.material("glass_like"), make.between(0.0015, 0.003)
    radius, height = make.between(0.028, 0.045), make.between(0.07, 0.15)
    if make.chance(0.6):
        outer = _cup_side(make, radius * make.between(0.7, 1.0), radius, height)
        return [
            Part(solid=vessel(outer, wall), material=material),
            *_filling(make, outer, wall, 0.4),
        ]
    stem, bowl_height = make.between(0.04, 0.09), make.between(0.06, 0.1)
    rise = np.array([0.0, 0.1, 0.3, 0.6, 1.0])
    swell = np.array([0.25, 0.75, 1.0, 1.0, make.between(0.75, 1.05)])
    outer = np.stack([radius * swell, stem + bowl_height * rise], axis=1)
    inner = outer[::-1] - (wall, 0.0)
    foot = make.between(0.7, 0.95) * radius
    base = [(0, 0), (foot, 0), (foot, 0.002), (0.005, 0.006), (0.004, stem - 0.003)]
    bottom = [(0, stem + wall)]
    inner[:, 1] = np.maximum(inner[:, 1], stem + wall)
    return [Part(solid=lathe(np.concatenate([base, outer, inner, bottom])), material=material)]


def bowl(make: Maker) -> list[Part]:
    """A round bowl, shallow or deep."""
    radius, height = make.between(0.05, 0.12), make.between(0.035, 0.085)
    foot, power = make.between(0.3, 0.6) * radius, make.between(0.45, 1.0)
    share = np.linspace(0.0, 1.0, 7)
    outer = np.stack(
        [foot + (radius - foot) * np.sin(share * np.pi / 2) ** power, height * share**1.6], axis=1
    )
    wall = make.between(0.0025, 0.005)
    material = make.material("ceramic", "ceramic", "plain_plastic", "metal", "wood")
    parts = [Part(solid=vessel(outer, wall), material=_lined(make, material))]
    return parts + _filling(make, outer, wall, 0.15)


def plate(make: Maker) -> list[Part]:
    """A flat plate with a raised brim."""
    radius, height = make.between(0.065, 0.14), make.between(0.012, 0.028)
    well = make.between(0.55, 0.75) * radius
    outer = np.array(
        [
            (0.9 * well, 0.0),
            (well, 0.35 * height),
            (0.75 * well + 0.25 * radius, 0.7 * height),
            (radius, height),
        ]
    )
    material = make.material("ceramic", "ceramic", "plain_plastic", "metal", "paper")
    return [Part(solid=vessel(outer, make.between(0.003, 0.005)), material=material)]


def pitcher(make: Maker) -> list[Part]:
    """A jug with a handle and a lip opposite to it."""
    radius, height = make.between(0.042, 0.07), make.between(0.12, 0.25)
    outer = _cup_side(make, radius * make.between(0.9, 1.25), radius, height)
    wall = make.between(0.003, 0.005)
    material = make.material("plain_plastic", "ceramic", "metal", "glass_like")
    body = _with_lip(vessel(outer, wall), height, make.between(0.01, 0.025))
    low, high = make.between(0.15, 0.35) * height, make.between(0.8, 0.93) * height
    reach, grip = make.between(0.035, 0.055), make.between(0.006, 0.01)
    handle = _handle(outer, wall, low, high, reach, grip, material)
    lined = Part(solid=body, material=_lined(make, material))
    return [lined, handle, *_filling(make, outer, wall, 0.15)]


def pan(make: Maker) -> list[Part]:
    """A pan or a pot with one long handle."""
    radius, height = make.between(0.055, 0.1), make.between(0.025, 0.085)
    outer = np.array([(radius * make.between(0.8, 1.0), 0.0), (radius, height)])
    metal, wall = make.material("metal", "metal", "ceramic"), make.between(0.002, 0.004)
    length, tilt = make.between(0.09, 0.14), make.between(0.0, 0.025)
    level = make.between(0.7, 0.9) * height
    start = at(_radius_at(outer, level) - wall / 2, 0.0, level)
    path = np.stack([start, start + at(0.25 * length, 0, tilt), start + at(length, 0, 1.3 * tilt)])
    grip = make.material("plain_plastic", "wood", "metal")
    radii = np.array([0.6, 0.9, 1.0]) * make.between(0.007, 0.011)
    return [
        Part(solid=vessel(outer, wall), material=_lined(make, metal)),
        Part(solid=tube(path, radii), material=grip),
    ]


def lidded_pot(make: Maker) -> list[Part]:
    """A round pot with a domed lid, a knob and two small handles."""
    radius, height = make.between(0.04, 0.1), make.between(0.04, 0.12)
    dome = make.between(0.1, 0.4) * radius
    share = np.linspace(0.0, np.pi / 2, 5)
    lid = np.stack([1.03 * radius * np.cos(share), height + dome * np.sin(share)], axis=1)
    lid[-1, 0] = 0.0
    material = make.material("ceramic", "metal", "plain_plastic")
    knob = 0.12 * radius + 0.004
    parts = [
        disc(material, radius, 0.0, height),
        Part(
            solid=lathe([(0, height - 0.003), (1.03 * radius, height - 0.003), *lid]),
            material=material,
        ),
        disc(
            make.material("plain_plastic", "metal", "wood"),
            knob,
            height,
            height + dome + 1.5 * knob,
        ),
    ]
    if make.chance(0.6):
        side = np.array([(radius, 0.0), (radius, height)])
        low, high = 0.55 * height, 0.8 * height
        ear = _handle(side, 0.004, low, high, 0.018, 0.004, material)
        mirror = replace(ear, rotation=np.diag([-1.0, -1.0, 1.0]))
        parts += [ear, mirror]
    return parts


def vessel(outer: Array, wall: float, segments: int = 28) -> Mesh:
    """A hollow body open at the top.

    Args:
        outer: (N, 2) radii and heights of its side, from the foot at height 0 to the rim.
        wall: thickness of side and floor, in metres.
        segments: as for `lathe`.
    """
    along = np.gradient(outer, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inner = outer + wall * np.stack([-along[:, 1], along[:, 0]], axis=1)
    inner = np.maximum(inner[::-1], (0.2 * wall, wall))
    return lathe(np.concatenate([[(0.0, 0.0)], outer, inner, [(0.0, wall)]]), segments)


def _lined(make: Maker, outside: Material) -> Material:
    """Often another look inside: glazed or coated, or short of light.

    Little light gets into a deep vessel, and the renderer knows nothing of light that is thrown
    back and forth; a darker lining stands for both.
    """
    kind = make.pick("bare", "coated", "dim")
    if kind == "coated":
        return replace(outside, lining=make.material("ceramic", "plain_plastic", "metal"))
    if kind == "dim":
        dimmed = outside.texture * make.between(0.25, 0.85)
        return replace(outside, lining=replace(outside, texture=dimmed.astype(np.uint8)))
    return outside


def _cup_side(make: Maker, foot: float, rim: float, height: float) -> Array:
    """(N, 2) straight, bellied or round-footed side from the foot to the rim."""
    style = make.pick("straight", "belly", "round")
    if style == "straight":
        return np.array([(foot - 0.002, 0.0), (foot, 0.003), (rim, height)])
    share = np.linspace(0.0, 1.0, 6)
    radii = foot + (rim - foot) * share
    if style == "belly":
        radii = radii * (1 + make.between(-0.08, 0.15) * np.sin(share * np.pi))
    else:
        radii = radii * (1 - make.between(0.2, 0.45) * (1 - share) ** 4)
    return np.stack([radii, height * share], axis=1)


def _radius_at(outer: Array, height: float) -> float:
    return float(np.interp(height, outer[:, 1], outer[:, 0]))


def _handle(
    outer: Array,
    wall: float,
    low: float,
    high: float,
    reach: float,
    grip: float,
    material: Material,
) -> Part:
    """A bow on the +x side between two heights, rooted in the middle of the wall."""
    angles = np.linspace(np.pi / 2, -np.pi / 2, 9)
    heights = (low + high) / 2 + (high - low) / 2 * np.sin(angles)
    out = reach * np.abs(np.cos(angles)).clip(1e-6) ** 0.7
    straight = np.linspace(_radius_at(outer, high), _radius_at(outer, low), len(angles)) - wall / 2
    path = np.stack([straight + out, np.zeros_like(out), heights], axis=1)
    return Part(solid=tube(path, grip), material=material)


def _filling(make: Maker, outer: Array, wall: float, share: float) -> list[Part]:
    """In this share of cases a level surface of something to drink or to eat."""
    if not make.chance(share):
        return []
    top = make.between(0.45, 0.85) * float(outer[-1, 1])
    # The sides are flat between their corners, so they lie a little further in.
    radius = 0.993 * _radius_at(outer, top - 0.001) - wall / 2
    material = make.material("plain_plastic", "fruit", "foam")
    return [disc(material, radius, top - 0.001, top)]


def _with_lip(body: Mesh, height: float, length: float) -> Mesh:
    """Pull the rim out towards -x."""
    x, y, z = body.vertices.T
    rise = np.clip((z / height - 0.75) / 0.25, 0.0, 1.0)
    facing = np.clip(-x / np.maximum(np.hypot(x, y), 1e-9), 0.0, 1.0) ** 6
    vertices = body.vertices.copy()
    vertices[:, 0] -= length * facing * rise
    return Mesh(vertices=vertices, faces=body.faces)
