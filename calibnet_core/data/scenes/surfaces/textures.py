"""Endless pictures of surfaces: stone, timber, cloth, metal, skin of fruit, and what is printed.

Every function paints another picture at each call: (h, w, 3) uint8 sRGB, for any (h, w) from about
16 pixels a side. All but the prints repeat without a seam.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.scenes.surfaces import paint
from calibnet_core.data.scenes.surfaces.cloths import CLOTHS
from calibnet_core.data.scenes.surfaces.paint import Color, Size, Texture
from calibnet_core.data.scenes.surfaces.prints import PRINTS

Maker = Callable[[np.random.Generator, Size], Texture]

# Hue, saturation and value of the two tones between which a skin varies, and of its stains.
_FRUIT: tuple[tuple[tuple[float, float, float], ...], ...] = (
    ((0.075, 0.95, 0.95), (0.065, 0.97, 0.85), (0.09, 0.95, 1.0)),  # orange
    ((0.14, 0.85, 0.96), (0.13, 0.9, 0.88), (0.17, 0.75, 0.85)),  # lemon
    ((0.98, 0.85, 0.62), (0.0, 0.9, 0.45), (0.1, 0.7, 0.85)),  # red apple
    ((0.21, 0.7, 0.72), (0.24, 0.75, 0.6), (0.18, 0.55, 0.82)),  # green apple
    ((0.135, 0.75, 0.92), (0.14, 0.8, 0.82), (0.08, 0.7, 0.3)),  # banana
    ((0.01, 0.9, 0.8), (0.02, 0.92, 0.68), (0.04, 0.9, 0.85)),  # tomato
    ((0.16, 0.55, 0.72), (0.2, 0.5, 0.6), (0.08, 0.6, 0.5)),  # pear
    ((0.05, 0.6, 0.92), (0.09, 0.65, 0.95), (0.98, 0.75, 0.75)),  # peach
    ((0.1, 0.42, 0.66), (0.09, 0.5, 0.52), (0.07, 0.55, 0.38)),  # potato
    ((0.85, 0.6, 0.22), (0.9, 0.6, 0.14), (0.8, 0.4, 0.36)),  # plum, aubergine
    ((0.27, 0.6, 0.3), (0.25, 0.55, 0.2), (0.22, 0.5, 0.4)),  # cucumber, avocado
    ((0.28, 0.7, 0.35), (0.24, 0.6, 0.6), (0.2, 0.4, 0.7)),  # melon
)


def plain(rng: np.random.Generator, size: Size, color: Color | None = None) -> Texture:
    """One colour, scarcely mottled."""
    base = paint.object_color(rng) if color is None else color
    field = paint.noise(rng, size, (2, 2), octaves=3)
    texture = paint.shade(paint.filled(size, base), field, rng.uniform(0.0, 0.035))
    return paint.shade(texture, paint.grain(rng, size), rng.uniform(0.0, 0.03))


def painted(rng: np.random.Generator, size: Size) -> Texture:
    """A painted or laminated board, faintly uneven."""
    return plain(rng, size, paint.room_color(rng))


def wall_paint(rng: np.random.Generator, size: Size) -> Texture:
    """A painted wall: mostly pale, faintly uneven, at times stippled by the roller."""
    color = paint.room_color(rng)
    if rng.random() < 0.75:
        color = 255 - (255 - color) * np.float32(rng.uniform(0.15, 0.5))
    texture = plain(rng, size, color)
    if rng.random() < 0.4:
        relief = _relief(paint.noise(rng, size, (40, 40), 2))
        texture = paint.shade(texture, relief, rng.uniform(0.005, 0.025))
    return texture


def clouds(rng: np.random.Generator, size: Size) -> Texture:
    """Fractal noise in two to five colours."""
    base = paint.object_color(rng)
    relation = rng.choice((0.1, 0.3, 1.0))
    colors = [base] + [paint.similar(rng, base, relation) for _ in range(rng.integers(1, 5))]
    start = 1 << int(rng.integers(1, 4))
    field = paint.noise(rng, size, (start, start), octaves=5, gain=rng.uniform(0.4, 0.85))
    return paint.ramp(field, colors)


def wood(rng: np.random.Generator, size: Size) -> Texture:
    """Timber with its grain across, that is along the width."""
    height = size[0]
    base = paint.wood_color(rng)
    contrast = rng.choice((0.06, 0.14, 0.28))
    warp = paint.noise(rng, size, (3, 1), octaves=2) * np.float32(rng.uniform(0.2, 1.1))
    if rng.random() < 0.35:
        warp = warp + _knots(rng, size)
    rings = int(rng.integers(2, 9))
    down = np.arange(height, dtype=np.float32)[:, None] * np.float32(rings / height)
    phase = (down + warp) % np.float32(1)
    # Late wood is dark and narrow, and ends more sharply than it begins.
    late = phase ** np.float32(rng.uniform(1.5, 4.0)) * np.minimum((1 - phase) * 6, 1)
    fibres = paint.noise(rng, size, (height // 2, 3), octaves=2, gain=0.8)
    field = late * np.float32(-1.6) + fibres * np.float32(0.45) + np.float32(0.4)
    field += paint.noise(rng, size, (2, 1), octaves=2) * np.float32(0.3)
    dark = base * np.float32(1 - 1.6 * contrast) * np.array((1.0, 0.96, 0.9), np.float32)
    light = np.minimum(base * np.float32(1 + contrast), 255)
    return paint.ramp(field, (dark, base, light), spread=1.6)


def upright_wood(rng: np.random.Generator, size: Size) -> Texture:
    """Timber with its grain down, that is along the height, as in legs and doors."""
    return np.ascontiguousarray(wood(rng, size[::-1]).transpose(1, 0, 2))


def planks(rng: np.random.Generator, size: Size) -> Texture:
    """Boards laid side by side with staggered ends, or small parquet squares."""
    height, width = size
    timber = wood(rng, size)
    rows = int(rng.choice((2, 3, 4, 6)))
    row = np.arange(height) * rows // height
    if rng.random() < 0.2 and height == width:
        column = np.arange(width) * rows // width
        turned = (row[:, None] + column) % 2 == 1
        timber = np.where(turned[..., None], timber.transpose(1, 0, 2), timber)
        board = row[:, None] * rows + column
    else:
        ends = rng.integers(0, width, rows)[row]
        # Two boards to a row, each cut elsewhere from the log.
        second = (np.arange(width) + ends[:, None]) % width < width * rng.uniform(0.35, 0.65)
        board = row[:, None] * 2 + second
        columns = (np.arange(width) + rng.integers(0, width, rows)[row][:, None]) % width
        pixels = np.arange(height)[:, None] * width + columns
        timber = np.take(timber.reshape(-1, 3), pixels, axis=0)
    tone = rng.normal(0, 1, rows * rows * 2 + 2).astype(np.float32)[board]
    timber = paint.shade(timber, tone, rng.uniform(0.02, 0.12))
    return paint.shade(timber, _borders(board), -rng.uniform(0.15, 0.6))


def tiles(rng: np.random.Generator, size: Size) -> Texture:
    """A grid of glazed or stone tiles with joints."""
    count = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    return _masonry(rng, size, count, paint.room_color(rng), bond=rng.random() < 0.2)


def bricks(rng: np.random.Generator, size: Size) -> Texture:
    """A brick wall: red, yellow, grey or painted."""
    hue = rng.choice((0.02, 0.05, 0.1))
    base = paint.hsv(hue, rng.uniform(0.1, 0.65), rng.uniform(0.35, 0.85))
    if rng.random() < 0.25:
        base = paint.neutral_color(rng)
    rows = 2 * int(rng.integers(2, 5))
    return _masonry(rng, size, (rows, max(rows // 3, 1)), base, bond=True)


def marble(rng: np.random.Generator, size: Size) -> Texture:
    """Polished stone: clouds crossed by thin veins."""
    base = paint.neutral_color(rng) if rng.random() < 0.6 else paint.muted_color(rng)
    vein = paint.similar(rng, paint.contrasting(rng, base), 0.2) * np.float32(0.5) + base * 0.5
    texture = paint.ramp(
        paint.noise(rng, size, (2, 2), octaves=5, gain=0.6),
        (paint.similar(rng, base, 0.12), base, paint.similar(rng, base, 0.08)),
    )
    strength = paint.noise(rng, size, (2, 2), octaves=2) * np.float32(0.3)
    distance = np.abs(paint.noise(rng, size, (1, 2), octaves=5, gain=0.55))
    # Few hills cross zero at much the same places, so the veins are moved elsewhere.
    distance = np.roll(distance, rng.integers(0, size), axis=(0, 1))
    veins = np.maximum(1 - distance * np.float32(rng.uniform(5, 14)), 0)
    return paint.mix(texture, paint.filled(size, vein), veins * (strength + np.float32(0.6)))


def terrazzo(rng: np.random.Generator, size: Size) -> Texture:
    """Chips or specks of a few colours set in one ground: terrazzo, granite, speckled glaze."""
    ground = paint.room_color(rng)
    number = int(rng.choice((120, 300, 900)))
    names, distance = paint.cells(rng, size, number)
    reach = math.sqrt(size[0] * size[1] / number)
    chips = [paint.similar(rng, ground, rng.choice((0.15, 0.4))) for _ in range(4)]
    chips.append(paint.object_color(rng))
    kinds = np.stack(chips).astype(np.uint8)[rng.integers(0, len(chips), 2 * number + 1)]
    radius = (rng.random(2 * number + 1) * rng.uniform(0.3, 0.9) * reach).astype(np.float32)
    chip = np.take(radius, names) - distance + np.float32(0.5)
    return paint.mix(plain(rng, size, ground), np.take(kinds, names, axis=0), chip)


def pebbles(rng: np.random.Generator, size: Size) -> Texture:
    """Cells side by side with dark seams: flagstones, leather, foam beads, hammered finish."""
    number = int(rng.choice((12, 60, 250, 700)))
    names, distance = paint.cells(rng, size, number)
    base = paint.object_color(rng)
    tone = rng.normal(0, 1, 2 * number + 1).astype(np.float32)[names]
    reach = math.sqrt(size[0] * size[1] / number)
    texture = paint.shade(paint.filled(size, base), tone, rng.uniform(0.0, 0.15))
    texture = paint.shade(texture, 0.5 - distance / np.float32(reach), rng.uniform(0.05, 0.35))
    return paint.shade(texture, _borders(names), -rng.uniform(0.1, 0.4))


def cork(rng: np.random.Generator, size: Size) -> Texture:
    """Pressed granules in browns with dark specks."""
    number = size[0] * size[1] // 40
    names, _ = paint.cells(rng, size, number)
    tone = rng.normal(0, 0.8, 2 * number + 1).astype(np.float32)[names]
    field = tone + paint.noise(rng, size, (16, 16), octaves=3) * np.float32(0.6)
    base = paint.hsv(rng.normal(0.085, 0.008), rng.uniform(0.4, 0.6), rng.uniform(0.6, 0.8))
    dark = base * np.float32(0.55)
    texture = paint.ramp(field, (dark, base * np.float32(0.9), base, base * np.float32(1.12)))
    specks = paint.noise(rng, size, (size[0] // 4, size[1] // 4), octaves=2) > 2.0
    return paint.shade(texture, specks, -0.5)


def concrete(rng: np.random.Generator, size: Size) -> Texture:
    """Cast or rendered surfaces: grey clouds, fine grain and pores."""
    base = paint.hsv(rng.uniform(0.05, 0.15), rng.uniform(0, 0.12), rng.uniform(0.35, 0.85))
    field = paint.noise(rng, size, (2, 2), octaves=6, gain=rng.uniform(0.55, 0.8))
    texture = paint.shade(paint.filled(size, base), field, rng.uniform(0.04, 0.12))
    pores = paint.noise(rng, size, (size[0] // 5, size[1] // 5), octaves=2) > rng.uniform(1.9, 3)
    texture = paint.shade(texture, pores, -rng.uniform(0.1, 0.4))
    return paint.shade(texture, paint.grain(rng, size), rng.uniform(0.02, 0.1))


def brushed_metal(rng: np.random.Generator, size: Size) -> Texture:
    """Steel, aluminium, brass, copper or dark metal with level scratches and broad reflections."""
    hue, saturation = ((0.6, 0.04), (0.1, 0.05), (0.12, 0.45), (0.06, 0.5))[
        rng.choice(4, p=(0.5, 0.25, 0.15, 0.1))
    ]
    base = paint.hsv(hue, saturation, rng.uniform(0.35, 0.8))
    broad = paint.noise(rng, size, (1, 3) if rng.random() < 0.5 else (3, 1), octaves=2)
    texture = paint.shade(paint.filled(size, base), broad, rng.uniform(0.05, 0.25))
    scratches = paint.noise(rng, size, (size[0], 2), octaves=2, gain=0.7)
    return paint.shade(texture, scratches, rng.uniform(0.0, 0.08))


def rust(rng: np.random.Generator, size: Size) -> Texture:
    """Paint that flakes from rusty metal."""
    coat = plain(rng, size, paint.object_color(rng))
    dark, light = paint.hsv(0.04, 0.7, 0.22), paint.hsv(0.065, 0.8, 0.6)
    metal = paint.ramp(paint.noise(rng, size, (8, 8), octaves=4, gain=0.8), (dark, light))
    edge = paint.noise(rng, size, (3, 3), octaves=5, gain=0.6) - np.float32(rng.uniform(0.2, 1.8))
    texture = paint.shade(coat, np.exp(-((edge * 5) ** 2)), -0.3)
    return paint.mix(texture, metal, edge * 6)


def fruit_skin(rng: np.random.Generator, size: Size) -> Texture:
    """Skins of fruit and vegetables: two near tones, blush or bruises, pores."""
    first, second, stain = (
        paint.similar(rng, paint.hsv(*tone), 0.04) for tone in _FRUIT[rng.integers(len(_FRUIT))]
    )
    streaky = (2, 8) if rng.random() < 0.35 else (2, 2)
    texture = paint.ramp(paint.noise(rng, size, streaky, octaves=4, gain=0.55), (first, second))
    patch = paint.noise(rng, size, streaky, octaves=4, gain=0.5) - np.float32(rng.uniform(0.3, 2))
    texture = paint.mix(texture, paint.filled(size, stain), patch * np.float32(0.6))
    pores = paint.noise(rng, size, (size[0] // 4, size[1] // 4), octaves=1)
    if rng.random() < 0.5:
        return paint.shade(texture, np.minimum(pores, 0.5), rng.uniform(0.02, 0.07))
    return paint.shade(texture, pores > 2.2, rng.choice((-0.25, 0.3)))


def sponge(rng: np.random.Generator, size: Size) -> Texture:
    """Foam with open pores in a few sizes."""
    base = paint.object_color(rng)
    pitch = int(rng.choice((3, 5, 8)))
    field = paint.noise(rng, size, (size[0] // pitch, size[1] // pitch), octaves=2, gain=0.7)
    texture = paint.shade(paint.filled(size, base), np.minimum(field, 1), 0.06)
    holes = np.maximum(-field - np.float32(rng.uniform(0.6, 1.5)), 0)
    return paint.shade(texture, np.minimum(holes * 3, 1), -rng.uniform(0.2, 0.5))


def glass(rng: np.random.Generator, size: Size) -> Texture:
    """Clear or tinted glass as a flat picture: a weak tint, dark bands and bright streaks."""
    tint = paint.hsv(
        rng.choice((0.3, 0.45, 0.55, 0.1)), rng.uniform(0, 0.35), rng.uniform(0.2, 0.8)
    )
    bands = paint.noise(rng, size, (1, 4), octaves=3, gain=0.7)
    texture = paint.shade(paint.filled(size, tint), bands, rng.uniform(0.1, 0.3))
    white = paint.filled(size, paint.hsv(0.55, 0.03, 0.96))
    streaks = (paint.noise(rng, size, (1, 8), octaves=2) - np.float32(1.7)) * np.float32(0.9)
    return paint.mix(texture, white, streaks)


def _masonry(
    rng: np.random.Generator, size: Size, count: tuple[int, int], base: Color, *, bond: bool
) -> Texture:
    """Blocks in rows with joints; with `bond` every other row is shifted by half a block."""
    height, width = size
    rows, columns = count
    # Half a pixel in, so that the joints lie alike on both sides of the border.
    down = (np.arange(height)[:, None] + 0.5) * rows / height
    shift = 0.5 * (down.astype(int) % 2) if bond and rows % 2 == 0 else 0.0
    across = ((np.arange(width) + 0.5) * columns / width + shift) % columns
    block = down.astype(int) * columns + across.astype(int)
    tone = rng.normal(0, 1, rows * columns).astype(np.float32)[block]
    if rng.random() < 0.35 and not bond and rows % 2 == columns % 2 == 0:
        tone = np.where((down.astype(int) + across.astype(int)) % 2 == 0, 3.0, -3.0)
    face = paint.noise(rng, size, (4, 4), octaves=4, gain=rng.uniform(0.4, 0.9))
    texture = paint.shade(paint.filled(size, base), tone, rng.uniform(0.0, 0.13))
    texture = paint.shade(texture, face, rng.uniform(0.0, 0.06))
    edge = np.minimum(_from_whole(down) * height / rows, _from_whole(across) * width / columns)
    grout = paint.similar(rng, paint.neutral_color(rng), 0.1) * np.float32(0.6) + base * 0.3
    joint = plain(rng, size, np.minimum(grout, 255).astype(np.float32))
    return paint.mix(texture, joint, rng.uniform(0.6, 2.2) - edge)


def _from_whole(value: NDArray[Any]) -> NDArray[np.float32]:
    """Distance to the nearest whole number."""
    distance: NDArray[np.float32] = np.abs(value - np.rint(value)).astype(np.float32)
    return distance


def _knots(rng: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """(h, w) ring numbers to add, so that rings run round one or two knots."""
    height, width = size
    total = np.zeros(size, np.float32)
    for _ in range(rng.integers(1, 3)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        down = (np.arange(height, dtype=np.float32)[:, None] - y + height / 2) % height - height / 2
        across = (np.arange(width, dtype=np.float32) - x + width / 2) % width - width / 2
        radius = rng.uniform(0.04, 0.09) * height
        squared = (down / radius) ** 2 + (across / (2.2 * radius)) ** 2
        total += np.exp(-np.sqrt(squared + 0.1)).astype(np.float32) * np.float32(rng.uniform(2, 4))
    return total


def _relief(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slopes of a field lit from above, standard deviation 1."""
    slope = field - np.roll(field, 1, axis=0)
    return np.asarray(slope / (slope.std() + 1e-6), np.float32)


def _borders(names: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour belongs to another cell."""
    beside = names != np.roll(names, -1, axis=1)
    return np.asarray(beside | (names != np.roll(names, -1, axis=0)), np.bool_)


SURFACES: dict[str, Maker] = {
    **CLOTHS,
    "plain": plain,
    "painted": painted,
    "wall_paint": wall_paint,
    "clouds": clouds,
    "wood": wood,
    "upright_wood": upright_wood,
    "planks": planks,
    "tiles": tiles,
    "bricks": bricks,
    "marble": marble,
    "terrazzo": terrazzo,
    "pebbles": pebbles,
    "cork": cork,
    "concrete": concrete,
    "brushed_metal": brushed_metal,
    "rust": rust,
    "fruit_skin": fruit_skin,
    "sponge": sponge,
    "glass": glass,
}
"""Surfaces that repeat without a seam, by name."""

TEXTURES: dict[str, Maker] = {**SURFACES, **PRINTS}
"""Every kind of texture, by name."""
