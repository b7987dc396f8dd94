"""Endless printed matter: packaging, labels, pages, posters, screens. All text is invented."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from calibnet_core.data.scenes.surfaces import paint
from calibnet_core.data.scenes.surfaces.paint import Color, Size, Texture

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_VOWELS, _CONSONANTS = "aeiouy", "bcdfghklmnprstvz"

Box = tuple[int, int, int, int]  # top, left, bottom, right


def packaging(rng: np.random.Generator, size: Size) -> Texture:
    """One side of a printed carton: colour blocks, a brand, a picture, small print, a barcode."""
    height, width = size
    ground = paint.vivid_color(rng) if rng.random() < 0.7 else paint.neutral_color(rng)
    canvas = paint.filled(size, ground)
    if rng.random() < 0.4:
        _gradient(canvas, ground, paint.similar(rng, ground, 0.5))
    for _ in range(rng.integers(0, 3)):
        _block(rng, canvas)
    if rng.random() < 0.6:
        _picture(rng, canvas, _area(rng, size, (0.3, 0.6)))
    for _ in range(rng.integers(0, 3)):
        _disc(rng, canvas)
    top = int(rng.uniform(0.03, 0.5) * height)
    band = (top, int(0.05 * width), int(top + rng.uniform(0.14, 0.4) * height), int(0.95 * width))
    _headline(rng, canvas, band)
    if rng.random() < 0.8:
        _paragraph(rng, canvas, _area(rng, size, (0.15, 0.4)))
    if rng.random() < 0.35:
        _headline(rng, canvas, _area(rng, size, (0.15, 0.5)))
    if rng.random() < 0.25:
        _barcode(rng, canvas, _area(rng, size, (0.15, 0.25)))
    return _worn(rng, canvas)


def kraft(rng: np.random.Generator, size: Size) -> Texture:
    """Brown board of a shipping box: flutes, a stamp, at times tape and a white label."""
    height, width = size
    base = paint.hsv(rng.normal(0.085, 0.01), rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.8))
    canvas = paint.filled(size, base)
    flutes = np.sin(np.arange(height) * (2 * np.pi * (height // 4) / height))[:, None]
    canvas = paint.shade(canvas, flutes + np.zeros(size), rng.uniform(0.0, 0.03))
    if rng.random() < 0.6:
        _headline(rng, canvas, _area(rng, size, (0.15, 0.4)), base * np.float32(0.3))
    if rng.random() < 0.4:
        left = int(rng.uniform(0.3, 0.5) * width)
        tape = canvas[:, left : left + max(width // 6, 2)]
        tape[:] = tape * np.float32(0.7) + paint.hsv(0.1, 0.35, 0.85) * np.float32(0.3)
    if rng.random() < 0.35:
        area = _area(rng, size, (0.25, 0.4))
        _view(canvas, area)[:] = 240
        _paragraph(rng, canvas, area, paint.hsv(0, 0, 0.1))
    return _worn(rng, canvas)


def label(rng: np.random.Generator, size: Size) -> Texture:
    """A band of print around the middle of one colour; the width goes once round."""
    height, width = size
    canvas = paint.filled(size, paint.object_color(rng))
    top, bottom = int(rng.uniform(0.0, 0.3) * height), int(rng.uniform(0.7, 1.0) * height)
    half = width // 2
    front = packaging(rng, (bottom - top, half))
    back = paint.filled((bottom - top, width - half), front[0, 0].astype(np.float32))
    _paragraph(rng, back, _area(rng, (bottom - top, half), (0.4, 0.8)))
    if rng.random() < 0.6:
        _barcode(rng, back, _area(rng, (bottom - top, half), (0.2, 0.35)))
    if rng.random() < 0.5:
        back = np.ascontiguousarray(front if width % 2 == 0 else back)
    canvas[top:bottom, :half], canvas[top:bottom, half:] = front, back
    if rng.random() < 0.5:
        edge = paint.contrasting(rng, front[0, 0].astype(np.float32))
        thick = max(height // 40, 1)
        canvas[top : top + thick], canvas[bottom - thick : bottom] = edge, edge
    return canvas


def page(rng: np.random.Generator, size: Size) -> Texture:
    """Paper with text: columns, headings, now and then a picture or a ruled sheet."""
    height, width = size
    canvas = paint.filled(size, paint.hsv(0.12, rng.uniform(0, 0.12), rng.uniform(0.82, 1.0)))
    kind = rng.random()
    if kind < 0.15:
        canvas[:: max(height // 16, 4)] = paint.hsv(0.58, 0.3, 0.8)
    elif kind > 0.3:
        columns, ink = int(rng.integers(1, 3)), paint.hsv(0.6, 0.2, rng.uniform(0.05, 0.3))
        for column in range(columns):
            left = int(width * (0.06 + column * 0.92 / columns))
            right = int(width * (0.94 / columns + column * 0.92 / columns))
            _paragraph(rng, canvas, (int(0.2 * height), left, int(0.95 * height), right), ink)
        _headline(rng, canvas, (int(0.04 * height), left, int(0.17 * height), right), ink)
        if rng.random() < 0.35:
            _picture(rng, canvas, _area(rng, size, (0.25, 0.45)))
    return _worn(rng, canvas)


def poster(rng: np.random.Generator, size: Size) -> Texture:
    """A framed picture: landscape, photograph, abstract shapes or lettering."""
    height, width = size
    canvas = paint.filled(size, paint.neutral_color(rng))
    edge = int(rng.uniform(0.0, 0.12) * min(size))
    inner = (edge, edge, height - edge, width - edge)
    kind = rng.integers(4)
    if kind == 0:
        _landscape(rng, canvas, inner)
    elif kind == 1:
        _picture(rng, canvas, inner, whole=True)
    elif kind == 2:
        view = _view(canvas, inner)
        view[:] = paint.muted_color(rng)
        for _ in range(rng.integers(3, 9)):
            (_block, _disc)[rng.integers(2)](rng, view)
    else:
        _view(canvas, inner)[:] = packaging(rng, (height - 2 * edge, width - 2 * edge))
    if rng.random() < 0.35:
        _headline(rng, canvas, (int(0.7 * height), 2 * edge, int(0.9 * height), width - 2 * edge))
    if edge > 1:
        frame = tuple(float(value) for value in paint.object_color(rng) * np.float32(0.7))
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), frame, max(edge // 2, 1))
    return canvas


def screen(rng: np.random.Generator, size: Size) -> Texture:
    """A display: dark, a desktop with windows, or a full picture; in a dark frame."""
    height, width = size
    canvas = paint.filled(size, paint.hsv(0.6, 0.1, rng.uniform(0.03, 0.1)))
    edge = max(min(size) // 24, 1)
    view = canvas[edge : height - edge, edge : width - edge]
    kind = rng.random()
    if kind < 0.4:
        haze = np.linspace(0, rng.uniform(0, 40), view.shape[0])[:, None, None]
        view[:] = view + haze.astype(np.uint8)
    elif kind < 0.6:
        _landscape(rng, canvas, (edge, edge, height - edge, width - edge))
    else:
        _gradient(view, paint.vivid_color(rng), paint.object_color(rng))
        for _ in range(rng.integers(1, 4)):
            area = _area(rng, (view.shape[0], view.shape[1]), (0.35, 0.7))
            window = _view(view, area)
            window[:] = 245 if rng.random() < 0.6 else 35
            window[: max(len(window) // 10, 1)] = paint.object_color(rng)
            _paragraph(rng, view, area)
    return canvas


def _view(canvas: Texture, area: Box) -> Texture:
    top, left, bottom, right = area
    return canvas[top:bottom, left:right]


def _area(rng: np.random.Generator, size: Size, share: tuple[float, float]) -> Box:
    """A random box inside a picture whose edges are shares of its edges, at least 4 pixels."""
    height, width = (max(int(rng.uniform(*share) * pixels), 4) for pixels in size)
    top = int(rng.integers(0, max(size[0] - height, 0) + 1))
    left = int(rng.integers(0, max(size[1] - width, 0) + 1))
    return top, left, min(top + height, size[0]), min(left + width, size[1])


def _scalar(color: Color) -> tuple[float, float, float]:
    return float(color[0]), float(color[1]), float(color[2])


def _average(view: Texture) -> Color:
    return np.array(cv2.mean(view)[:3], np.float32)


def _gradient(canvas: Texture, first: Color, last: Color) -> None:
    t = np.linspace(0, 1, len(canvas), dtype=np.float32)[:, None, None]
    canvas[:] = first * (1 - t) + last * t


def _block(rng: np.random.Generator, canvas: Texture) -> None:
    """A band across, a band down, a slanted half or a free rectangle."""
    height, width = canvas.shape[:2]
    color = _scalar(paint.object_color(rng))
    top, left, bottom, right = _area(rng, (height, width), (0.15, 0.6))
    kind = rng.integers(4)
    if kind == 0:
        canvas[top:bottom] = color
    elif kind == 1:
        canvas[:, left:right] = color
    elif kind == 2:
        corners = [(0, bottom), (width, top), (width, height), (0, height)]
        cv2.fillPoly(canvas, [np.array(corners, np.int32)], color, cv2.LINE_AA)
    else:
        canvas[top:bottom, left:right] = color


def _disc(rng: np.random.Generator, canvas: Texture) -> None:
    """A disc, ring or tilted ellipse, also cut by the border."""
    height, width = canvas.shape[:2]
    center = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
    radius = rng.uniform(0.08, 0.5) * min(height, width)
    axes = (max(int(radius), 1), max(int(radius * rng.choice((1.0, 0.5))), 1))
    thickness = -1 if rng.random() < 0.75 else max(int(radius) // 5, 1)
    color = _scalar(paint.object_color(rng))
    angle = float(rng.uniform(0, 180))
    cv2.ellipse(canvas, center, axes, angle, 0, 360, color, thickness, cv2.LINE_AA)


def _picture(rng: np.random.Generator, canvas: Texture, area: Box, *, whole: bool = False) -> None:
    """Something like a photograph: lit round bodies over a blurred ground, in a box or an oval."""
    view = _view(canvas, area)
    size = (view.shape[0], view.shape[1])
    ground = paint.object_color(rng)
    photo = paint.ramp(
        paint.noise(rng, size, (2, 2), octaves=4, gain=0.6),
        (paint.similar(rng, ground, 0.3), ground, paint.similar(rng, ground, 0.5)),
    )
    base = paint.vivid_color(rng)
    for _ in range(rng.integers(2, 7)):
        color = paint.similar(rng, base, 0.15)
        x, y = rng.uniform(0, size[1]), rng.uniform(0.2, 1) * size[0]
        radius = rng.uniform(0.12, 0.35) * min(size)
        # Light from above left: each body is three discs, dark, own colour and highlight.
        for scale, gain in ((1.0, 0.55), (0.82, 1.0), (0.35, 1.35)):
            offset = radius * (1 - scale) * 0.5
            center = (int(x - offset), int(y - offset))
            tone = _scalar(np.minimum(color * np.float32(gain), 255))
            cv2.circle(photo, center, max(int(radius * scale), 1), tone, -1)
    photo = np.asarray(cv2.blur(photo, (3, 3)), np.uint8)
    if whole or rng.random() < 0.5:
        view[:] = photo
        return
    cover = np.zeros(size, np.uint8)
    center, axes = (size[1] // 2, size[0] // 2), (size[1] // 2, size[0] // 2)
    cv2.ellipse(cover, center, axes, 0, 0, 360, 1, -1)
    view[cover > 0] = photo[cover > 0]


def _landscape(rng: np.random.Generator, canvas: Texture, area: Box) -> None:
    """A sky and two or three ridges."""
    view = _view(canvas, area)
    height, width = view.shape[:2]
    sky = paint.hsv(rng.choice((0.58, 0.55, 0.08)), rng.uniform(0.1, 0.6), rng.uniform(0.6, 1))
    _gradient(view, sky, paint.similar(rng, sky, 0.2))
    rows = np.arange(height)[:, None]
    ground = paint.hsv(rng.choice((0.3, 0.1, 0.6)), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.8))
    for ridge in range(int(rng.integers(2, 5))):
        line = paint.noise(rng, (1, width), (1, 2), octaves=5)[0] * height * rng.uniform(0.02, 0.1)
        below = rows > height * (0.35 + 0.17 * ridge) + line
        color = paint.similar(rng, ground * np.float32(1 - 0.2 * ridge), 0.1)
        view[below] = color.astype(np.uint8)
    grain = paint.noise(rng, (height, width), (8, 8), octaves=3, gain=0.8)
    view[:] = paint.shade(np.ascontiguousarray(view), grain, 0.08)


def _headline(
    rng: np.random.Generator, canvas: Texture, area: Box, ink: Color | None = None
) -> None:
    """One invented word as large as its box allows, at times on a panel or with an outline."""
    top, left, bottom, right = area
    if bottom - top < 5 or right - left < 8:
        return
    behind = _average(_view(canvas, area))
    if ink is None and rng.random() < 0.3:
        behind = paint.contrasting(rng, behind)
        _view(canvas, area)[:] = behind
    color = _scalar(paint.contrasting(rng, behind) if ink is None else ink)
    word, font = _word(rng), _FONTS[rng.integers(len(_FONTS))]
    (wide, high), _ = cv2.getTextSize(word, font, 1.0, 1)
    scale = min(0.92 * (right - left) / wide, 0.75 * (bottom - top) / high)
    weight = max(round(scale * rng.uniform(1.0, 4.0)), 1)
    origin = (
        int(left + (right - left - scale * wide) / 2),
        int(bottom - (bottom - top - scale * high) / 2),
    )
    if rng.random() < 0.25:
        shadow = _scalar(paint.contrasting(rng, np.array(color, np.float32)))
        cv2.putText(canvas, word, origin, font, scale, shadow, weight + 2, cv2.LINE_AA)
    cv2.putText(canvas, word, origin, font, scale, color, weight, cv2.LINE_AA)


def _word(rng: np.random.Generator) -> str:
    length = int(rng.integers(2, 9))
    first = int(rng.integers(2))
    kinds = [(_VOWELS, _CONSONANTS)[(place + first) % 2] for place in range(length)]
    word = "".join(kind[rng.integers(len(kind))] for kind in kinds)
    if rng.random() < 0.15:
        word += str(rng.integers(1, 1000))
    return word.upper() if rng.random() < 0.5 else word.capitalize()


def _paragraph(
    rng: np.random.Generator, canvas: Texture, area: Box, ink: Color | None = None
) -> None:
    """Rows of dashes that read as small print from afar."""
    view = _view(canvas, area)
    height, width = view.shape[:2]
    if height < 3 or width < 4:
        return
    pitch = int(rng.integers(3, 7))
    rows = -(-height // pitch)
    letters = rng.random((rows, width)) < 0.85
    gaps = rng.random((rows, width)) < 1 / (1.8 * pitch)
    marks = letters & ~gaps
    ends = width * np.where(rng.random(rows) < 0.25, rng.uniform(0.2, 1, rows), 0.97)
    marks &= (np.arange(width) > 1) & (np.arange(width) < ends[:, None])
    cover = np.repeat(marks, pitch, axis=0)[:height].astype(np.float32)
    cover *= (np.arange(height) % pitch < max(pitch // 2, 1))[:, None]
    if ink is None:
        ink = paint.contrasting(rng, _average(view))
    cover *= np.float32(rng.uniform(0.4, 0.85))
    view[:] = paint.mix(np.ascontiguousarray(view), paint.filled((height, width), ink), cover)


def _barcode(rng: np.random.Generator, canvas: Texture, area: Box) -> None:
    view = _view(canvas, area)
    view[:] = 250
    bars = np.repeat(rng.random(view.shape[1]) < 0.5, rng.integers(1, 3))[: view.shape[1]]
    bars[:2] = bars[-2:] = False
    view[1:-2, bars] = 15


def _worn(rng: np.random.Generator, canvas: Texture) -> Texture:
    """A little uneven, as print on a handled surface is."""
    size = (canvas.shape[0], canvas.shape[1])
    return paint.shade(canvas, paint.noise(rng, size, (2, 2), octaves=3), rng.uniform(0, 0.03))


PRINTS: dict[str, Callable[[np.random.Generator, Size], Texture]] = {
    "packaging": packaging,
    "kraft": kraft,
    "label": label,
    "page": page,
    "poster": poster,
    "screen": screen,
}
"""Printed matter by name; of these only a label meets itself, left to right."""
