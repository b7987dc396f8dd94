"""Where captions go, so that they stay in the picture and off one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Plate: TypeAlias = tuple[int, int, int, int]
"""A filled rectangle in pixels: left, top, right, bottom; the last two exclusive."""

_STEP = 2  # pixels between the places that are tried


def free_corner(
    wanted: tuple[int, int],
    size: tuple[int, int],
    canvas: Sequence[int],
    taken: Sequence[Plate],
) -> tuple[int, int]:
    """Choose where to put a plate.

    Args:
        wanted: (left, top) where it should be.
        size: (width, height) of the plate.
        canvas: height and width of the picture first.
        taken: plates that it must not touch.

    Returns:
        (left, top) of the nearest place in the picture that is free; the nearest in the picture
        where none is.
    """
    width, height = size
    left = _nearest(wanted[0], width, canvas[1])
    top = _nearest(wanted[1], height, canvas[0])
    if not any(
        left < x1 and x0 < left + width and top < y1 and y0 < top + height
        for x0, y0, x1, y1 in taken
    ):
        return left, top
    lefts = np.arange(0, max(0, canvas[1] - width) + 1, _STEP)
    tops = np.arange(0, max(0, canvas[0] - height) + 1, _STEP)[:, np.newaxis]
    is_free = np.ones((len(tops), len(lefts)), np.bool_)
    for x0, y0, x1, y1 in taken:
        is_free &= (lefts + width <= x0) | (lefts >= x1) | (tops + height <= y0) | (tops >= y1)
    if not is_free.any():
        return left, top
    # Upwards and downwards costs less: a caption beside its object looks like its neighbour's.
    cost = 4 * (lefts - left) ** 2 + (tops - top) ** 2
    row, column = divmod(int(np.where(is_free, cost, cost.max() + 1).argmin()), len(lefts))
    return int(lefts[column]), int(tops[row, 0])


def _nearest(wanted: int, extent: int, room: int) -> int:
    return min(max(wanted, 0), max(0, room - extent))
