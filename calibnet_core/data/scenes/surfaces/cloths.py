"""Endless cloth, carpet and wallpaper. All repeat without a seam."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.scenes.surfaces import paint
from calibnet_core.data.scenes.surfaces.paint import Size, Texture


def stripes(rng: np.random.Generator, size: Size) -> Texture:
    """Bands of a few widths and colours, upright, level or slanting."""
    height, width = size
    across = np.arange(width, dtype=np.float32) / np.float32(width)
    down = np.arange(height, dtype=np.float32)[:, None] / np.float32(height)
    turns = ((0, 1), (1, 0), (1, 1), (1, -1))[rng.choice(4, p=(0.4, 0.4, 0.1, 0.1))]
    place = (down * turns[0] + across * turns[1] + np.zeros(size, np.float32)) % np.float32(1)
    return _cloth_finish(rng, np.take(_bands(rng), (place * 255).astype(np.uint8), axis=0))


def checks(rng: np.random.Generator, size: Size) -> Texture:
    """Gingham, tartan and windowpane checks."""
    height, width = size
    warp = _bands(rng, pale=rng.random() < 0.5)
    weft = warp if rng.random() < 0.8 else _bands(rng)
    upright = np.broadcast_to(warp[np.arange(width) * 256 // width], (height, width, 3))
    level = weft[np.arange(height) * 256 // height][:, None]
    woven = (upright.astype(np.uint16) + level) // 2
    return _cloth_finish(rng, woven.astype(np.uint8))


def dots(rng: np.random.Generator, size: Size) -> Texture:
    """Round dots in rows on one colour."""
    height, width = size
    rows, columns = 2 * int(rng.integers(1, 5)), int(rng.integers(2, 8))
    down = np.arange(height)[:, None] * rows / height
    across = np.arange(width) * columns / width + 0.5 * (down.astype(int) % 2)
    pitch = min(height / rows, width / columns)
    place = np.hypot((down % 1 - 0.5) * height / rows, (across % 1 - 0.5) * width / columns)
    ground = paint.object_color(rng)
    dot = paint.filled(size, paint.contrasting(rng, ground))
    cover = pitch * rng.uniform(0.12, 0.4) - place + 0.5
    return _cloth_finish(rng, paint.mix(paint.filled(size, ground), dot, cover))


def fabric(rng: np.random.Generator, size: Size) -> Texture:
    """Plain weave, twill, knit or melange in one or two yarns."""
    height, width = size
    base = paint.room_color(rng) if rng.random() < 0.6 else paint.object_color(rng)
    other = paint.similar(rng, base, rng.choice((0.05, 0.2, 0.6)))
    pitch = int(rng.choice((2, 3, 4, 6)))
    # Even, so that over and under go on across the borders.
    rows, columns = (2 * max(pixels // (2 * pitch), 1) for pixels in size)
    down = np.arange(height)[:, None] * rows / height
    across = np.arange(width) * columns / width
    kind = rng.integers(3)
    if kind == 0:
        over = (down.astype(int) + across.astype(int)) % 2 == 0
        bulge = np.where(over, np.sin(np.pi * (down % 1)), np.sin(np.pi * (across % 1)))
    elif kind == 1:
        over = ((down + across) % 1) < 0.55
        bulge = np.sin(2 * np.pi * (down + across))
    else:
        over = np.abs(across % 1 - 0.5) < 0.2
        bulge = np.sin(2 * np.pi * (down + 2 * np.abs(across % 1 - 0.5)))
    texture = paint.mix(paint.filled(size, base), paint.filled(size, other), over)
    texture = paint.shade(texture, bulge, rng.uniform(0.05, 0.2))
    streaks = paint.noise(rng, size, (rows, 2), 1) + paint.noise(rng, size, (2, columns), 1)
    return paint.shade(texture, streaks, rng.uniform(0.01, 0.08))


def carpet(rng: np.random.Generator, size: Size) -> Texture:
    """Pile in one colour or mixed yarns."""
    base = paint.room_color(rng)
    other = paint.similar(rng, base, rng.choice((0.05, 0.15, 0.3)))
    fine = paint.noise(rng, size, (size[0] // 2, size[1] // 2), octaves=2, gain=1.0)
    broad = paint.noise(rng, size, (3, 3), octaves=3)
    texture = paint.ramp(fine + broad * np.float32(rng.uniform(0, 0.6)), (base, other), spread=3.0)
    return paint.shade(texture, fine, rng.uniform(0.05, 0.2))


def rug(rng: np.random.Generator, size: Size) -> Texture:
    """A symmetrical ornament in a few flat colours, for rugs, damask and patterned tiles."""
    field = _mirrored(paint.noise(rng, size, (8, 8), octaves=2, gain=0.7))
    tones = [paint.room_color(rng), paint.object_color(rng), paint.room_color(rng)]
    tones.append(paint.contrasting(rng, tones[0]))
    level = np.clip(np.floor(field * rng.uniform(0.8, 2.0)) + 2, 0, 3).astype(np.uint8)
    texture = np.take(np.stack(tones).astype(np.uint8), level, axis=0)
    fine = paint.noise(rng, size, (size[0] // 2, size[1] // 2), octaves=2, gain=1.0)
    return paint.shade(texture, fine, 0.08)


def wallpaper(rng: np.random.Generator, size: Size) -> Texture:
    """A pale ground with a repeated ornament in a related colour."""
    ground = paint.muted_color(rng)
    ink = paint.similar(rng, ground, rng.choice((0.1, 0.25, 0.6)))
    tile = (max(size[0] // 2, 8), max(size[1] // 2, 8))
    motif = _mirrored(paint.noise(rng, tile, (6, 6), octaves=2))
    repeats = (2 + size[0] // tile[0], 2 + size[1] // tile[1])
    field = np.tile(motif, repeats)[: size[0], : size[1]]
    cover = (np.abs(field) - np.float32(0.5)) * (1 if rng.random() < 0.5 else -1) * 6
    texture = paint.mix(paint.filled(size, ground), paint.filled(size, ink), cover)
    return paint.shade(texture, paint.noise(rng, size, (2, 2), octaves=3), rng.uniform(0.0, 0.035))


def _bands(rng: np.random.Generator, *, pale: bool = False) -> NDArray[np.uint8]:
    """(256, 3) colours across one repeat of stripes."""
    ground = paint.neutral_color(rng) if pale else paint.object_color(rng)
    inks = [ground, paint.contrasting(rng, ground), paint.object_color(rng)]
    repeats = int(rng.choice((1, 2, 4, 8)))
    steps = int(rng.integers(2, 7))
    widths = rng.dirichlet(np.full(steps, rng.choice((2.0, 50.0))))
    edges = np.cumsum(widths)[:-1]
    which = np.searchsorted(edges, np.arange(256) * repeats / 256 % 1)
    order = np.where(np.arange(steps) % 2 == 0, 0, rng.integers(1, 3, steps))
    return np.stack(inks).astype(np.uint8)[order[which]]


def _cloth_finish(rng: np.random.Generator, texture: Texture) -> Texture:
    """Sometimes a fine thread, always a little unevenness."""
    size = (texture.shape[0], texture.shape[1])
    if rng.random() < 0.5:
        threads = (np.arange(size[0])[:, None] + np.arange(size[1])) % 2 * 2 - 1
        texture = paint.shade(texture, threads, rng.uniform(0.02, 0.08))
    return paint.shade(texture, paint.noise(rng, size, (3, 3), octaves=4), rng.uniform(0.01, 0.05))


def _mirrored(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """A field made the same left and right, above and below."""
    both: NDArray[np.float32] = field + field[::-1]
    both = both + both[:, ::-1]
    return np.asarray(both / (both.std() + 1e-6), np.float32)


CLOTHS: dict[str, Callable[[np.random.Generator, Size], Texture]] = {
    "stripes": stripes,
    "checks": checks,
    "dots": dots,
    "fabric": fabric,
    "carpet": carpet,
    "rug": rug,
    "wallpaper": wallpaper,
}
"""Cloth and wallpaper by name."""
