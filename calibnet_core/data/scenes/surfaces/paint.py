"""What textures are painted with: likely colours, seamless random fields and ways to mix them.

Colours are (3,) float32 sRGB, 0 to 255. Fields are (h, w) float32 and meet themselves across the
borders, so what is painted by them repeats without a seam.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float32]
Field = NDArray[np.float32]
Texture = NDArray[np.uint8]
Size = tuple[int, int]

# Hue, saturation, value.
_WOODS = (
    (0.10, 0.30, 0.85),
    (0.09, 0.42, 0.76),
    (0.085, 0.52, 0.66),
    (0.07, 0.58, 0.52),
    (0.055, 0.60, 0.36),
    (0.04, 0.62, 0.40),
    (0.06, 0.45, 0.24),
    (0.10, 0.12, 0.62),
    (0.10, 0.10, 0.86),
)


def hsv(hue: float, saturation: float, value: float) -> Color:
    """A colour from hue (turns, any number), saturation and value (clipped to [0, 1])."""
    s, v = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, s, v), np.float32) * np.float32(255)


def neutral_color(rng: np.random.Generator) -> Color:
    """White, black or a grey, scarcely tinted."""
    value = (rng.uniform(0.8, 1.0), rng.uniform(0.04, 0.2), rng.uniform(0.2, 0.8))
    return hsv(rng.random(), rng.uniform(0, 0.06), value[rng.choice(3, p=(0.5, 0.2, 0.3))])


def muted_color(rng: np.random.Generator) -> Color:
    """A colour of walls and furniture: mostly warm, weak and rather light."""
    hue = rng.normal(0.09, 0.04) if rng.random() < 0.65 else rng.random()
    return hsv(hue, 0.55 * rng.beta(1.5, 3.5), 0.2 + 0.75 * rng.beta(2.5, 1.5))


def vivid_color(rng: np.random.Generator) -> Color:
    """A strong colour of packaging, toys and clothes; red, yellow and blue are common."""
    hue = rng.random()
    if rng.random() < 0.6:
        hue = (0.0, 0.04, 0.13, 0.36, 0.6)[rng.integers(5)] + rng.normal(0, 0.025)
    return hsv(hue, rng.uniform(0.55, 1.0), rng.uniform(0.35, 0.98))


def wood_color(rng: np.random.Generator) -> Color:
    """The middle tone of a timber, from bleached to nearly black."""
    hue, saturation, value = _WOODS[rng.integers(len(_WOODS))]
    return hsv(
        hue + rng.normal(0, 0.01),
        saturation * rng.uniform(0.7, 1.15),
        value * rng.uniform(0.85, 1.12),
    )


def object_color(rng: np.random.Generator) -> Color:
    """The colour of a household object: often strong, often white, at times that of a table."""
    makers = (vivid_color, neutral_color, muted_color, wood_color)
    return makers[rng.choice(4, p=(0.42, 0.28, 0.22, 0.08))](rng)


def room_color(rng: np.random.Generator) -> Color:
    """The colour of furniture, floors and walls: seldom strong."""
    makers = (muted_color, neutral_color, vivid_color)
    return makers[rng.choice(3, p=(0.6, 0.33, 0.07))](rng)


def similar(rng: np.random.Generator, color: Color, amount: float) -> Color:
    """A colour near another: `amount` 0.05 is the next piece of one batch, 0.5 a relation."""
    scaled = color * np.exp(rng.normal(0, amount)) + rng.normal(0, 60 * amount, 3)
    return np.asarray(np.clip(scaled, 0, 255), np.float32)


def contrasting(rng: np.random.Generator, color: Color) -> Color:
    """An ink that can be read on a colour: often white or black, else a strong colour."""
    light = brightness(color) > 128
    if rng.random() < 0.55:
        return hsv(0.1, 0.03, 0.08 if light else 0.97)
    ink = vivid_color(rng)
    if abs(brightness(ink) - brightness(color)) < 60:
        ink = ink * np.float32(0.3) if light else 255 - (255 - ink) * np.float32(0.35)
    return np.asarray(ink, np.float32)


def brightness(color: Color) -> float:
    """Luma, 0 to 255."""
    return float(color @ np.array((0.299, 0.587, 0.114), np.float32))


def noise(
    rng: np.random.Generator,
    size: Size,
    cells: tuple[int, int],
    octaves: int = 4,
    gain: float = 0.5,
) -> Field:
    """Smooth random hills in several sizes, as a field of mean 0 and standard deviation 1.

    Args:
        rng: gives the hills.
        size: (h, w) of the field.
        cells: hills down and across in the coarsest octave; unequal numbers give streaks.
        octaves: each has twice as many hills as the one before, up to one a pixel.
        gain: height of each octave as a share of that before.
    """
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        rows, columns = (min(n << octave, pixels) for n, pixels in zip(cells, size, strict=True))
        # Even odds: the spline sums them to bell-shaped ones, and they are drawn much faster.
        hills = (rng.random((rows, columns), dtype=np.float32) - np.float32(0.5)) * gain**octave
        total += _spline(rows, size[0]) @ hills @ _spline(columns, size[1]).T
    total -= total.mean()
    total /= total.std() + np.float32(1e-6)
    return total


def grain(rng: np.random.Generator, size: Size) -> Field:
    """Independent pixels, uniform in [-1, 1]."""
    return rng.random(size, dtype=np.float32) * np.float32(2) - np.float32(1)


def cells(rng: np.random.Generator, size: Size, number: int) -> tuple[NDArray[np.int32], Field]:
    """Divide the plane among random seeds, each pixel to its nearest.

    Args:
        rng: places the seeds.
        size: (h, w).
        number: of seeds; a few less where two fall on one pixel.

    Returns:
        (h, w) int32 names of cells, from 0 and below 2 * `number` + 1, and (h, w) distances to the
        seed in pixels.
    """
    height, width = size
    seeds = np.unique(rng.integers(0, height * width, number))
    names = np.zeros(size, np.int32)
    free = np.ones(size, np.uint8)
    names.ravel()[seeds] = rng.permutation(2 * number)[: len(seeds)] + 1
    free.ravel()[seeds] = 0
    margin = min(int(2 * np.sqrt(height * width / number)) + 2, height, width)
    padded = cv2.copyMakeBorder(free, *(margin,) * 4, cv2.BORDER_WRAP)
    distance, labels = cv2.distanceTransformWithLabels(
        padded, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # The labels count the seeds in reading order, those repeated in the margin included.
    inner = (slice(margin, margin + height), slice(margin, margin + width))
    rows, columns = np.nonzero(padded == 0)
    owner = np.concatenate(([0], names[(rows - margin) % height, (columns - margin) % width]))
    return owner[labels[inner]].astype(np.int32), np.asarray(distance[inner], np.float32)


def ramp(field: Field, colors: Sequence[Color], spread: float = 2.0) -> Texture:
    """Colour a field: -`spread` becomes the first colour, +`spread` the last, beyond is clipped.

    Returns:
        (h, w, 3) uint8 sRGB.
    """
    stops = np.linspace(0, 255, len(colors))
    channels = np.stack(colors, axis=1)
    table = np.stack([np.interp(np.arange(256), stops, channel) for channel in channels], axis=1)
    level = np.clip(field * np.float32(127.5 / spread) + np.float32(127.5), 0, 255)
    index = level.astype(np.uint8)
    return np.asarray(np.take(table.astype(np.uint8), index, axis=0), np.uint8)


def filled(size: Size, color: Color) -> Texture:
    """(h, w, 3) uint8 of one colour."""
    texture: Texture = np.tile(np.clip(color, 0, 255).astype(np.uint8), (*size, 1))
    return texture


def shade(texture: Texture, field: NDArray[Any], strength: float) -> Texture:
    """Lighten where a field is positive and darken where it is negative.

    Args:
        texture: (h, w, 3) uint8.
        field: broadcasts to (h, w), in the main within [-1, 1] or of standard deviation 1.
        strength: share of the brightness that a field of 1 adds.

    Returns:
        (h, w, 3) uint8.
    """
    factor = np.broadcast_to(field, texture.shape[:2]).astype(np.float32)
    factor *= np.float32(strength)
    factor += np.float32(1)
    np.maximum(factor, 0, out=factor)
    # cv2 multiplies and rounds bytes several times faster than numpy casts them back and forth.
    return np.asarray(cv2.multiply(texture, cv2.merge((factor,) * 3), dtype=cv2.CV_8U), np.uint8)


def mix(below: Texture, above: Texture, cover: NDArray[Any]) -> Texture:
    """Lay one texture over another.

    Args:
        below: (h, w, 3) uint8.
        above: (h, w, 3) uint8.
        cover: broadcasts to (h, w); 0 shows the one below, 1 the one above; bool or float, clipped.

    Returns:
        (h, w, 3) uint8.
    """
    over = np.clip(np.broadcast_to(cover, below.shape[:2]).astype(np.float32), 0, 1)
    return np.asarray(cv2.blendLinear(above, below, over, np.float32(1) - over), np.uint8)


@lru_cache(maxsize=512)
def _spline(cells: int, pixels: int) -> Field:
    """(pixels, cells) weights of a cubic B-spline through a closed row of cells."""
    place = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    first = np.floor(place).astype(int)
    t = place - first
    weights = np.zeros((pixels, cells), np.float32)
    parts = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    for step, part in enumerate(parts, start=-1):
        np.add.at(weights, (np.arange(pixels), (first + step) % cells), part)
    return weights
