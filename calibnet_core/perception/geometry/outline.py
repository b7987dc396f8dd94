"""The edge of an object in space: its surface led on to the edge of its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.geometry.canvas import Canvas, SampledObject
from calibnet_core.perception.geometry.samples import STEEPEST
from calibnet_core.perception.geometry.surface import Surfaces

_Array = NDArray[np.float64]
_Indices = NDArray[np.intp]

_OUTWARD = np.array([-1.0, 1.0])
_ROUND_UP = np.array([1, 0])


def outlines(
    objects: Sequence[SampledObject], canvas: Canvas, surfaces: Surfaces
) -> tuple[_Array, _Indices]:
    """Lead surfaces on from the sampling grid to the edge of the mask.

    From the first and the last place of each row and column of the grid the plane there is followed
    over the pixels that the grid left out, and half a pixel more, to the edge of the last one.

    Args:
        objects: K, one or more.
        canvas: their grids.
        surfaces: theirs.

    Returns:
        (3, R) points in metres, and (K + 1,) where the objects' shares of them begin and end.
    """
    at, pixels, bounds = _grid_ends(objects, canvas, surfaces)
    points, start = surfaces.directions.take(at, axis=1), surfaces.smooth.take(at)
    step = pixels * surfaces.scale.take(at, axis=1)
    # Of the two steps of a point one is 0.
    limit = start * np.minimum(STEEPEST * np.abs(step[0] + step[1]), 0.5)
    change = np.add.reduce(surfaces.slopes.take(at, axis=1) * pixels, axis=0)
    points[:2] += step
    points /= start + np.maximum(np.minimum(change, limit), -limit)
    return points, bounds


def _grid_ends(
    objects: Sequence[SampledObject], canvas: Canvas, surfaces: Surfaces
) -> tuple[_Indices, _Array, _Indices]:
    """Where the rows and columns of the grids end.

    Returns:
        (R,) indices of the surfaces' outermost places, (2, R) pixels from there to the edge, and
        (K + 1,) where the objects' shares of them begin and end.
    """
    lines = _draw_lines(objects, canvas)
    number, first, last = _first_and_last(lines.pixels)
    grid_start, step, last_cell, first_place, place_step, is_row, owner = lines.table.take(
        number, axis=1
    )[:, :, None]
    edges = np.stack([first, last], axis=1) - grid_start
    # The first place at or after the mask's first pixel, the last one at or before its last.
    cells = (edges + (step - 1) * _ROUND_UP) // step
    cells = np.maximum(np.minimum(cells, last_cell), 0)
    reach = (np.abs(cells * step - edges) + 0.5) * _OUTWARD
    index = np.full(canvas.is_kept.size, -1, np.intp)
    index[surfaces.places] = np.arange(surfaces.places.size)
    at = index.take(first_place + cells * place_step).ravel()
    known = np.flatnonzero(at >= 0)
    pixels = np.stack([reach * is_row, reach * (1 - is_row)]).reshape(2, -1)
    shares = np.repeat(owner[:, 0], 2).take(known).searchsorted(np.arange(len(objects) + 1))
    return at.take(known), pixels.take(known, axis=1), shares


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lines:
    """The rows and columns of pixels that grids stand on, one below the other.

    Attributes:
        pixels: (L, n) bool of the masks; the last is always False.
        table: (7, L) of each line: its pixel that the grid begins at, the grid's spacing, the
            number of its last place on the line, where on the canvas its first place is and how
            far apart they are there, whether it is a row, and the object's number.
    """

    pixels: NDArray[np.bool_]
    table: _Indices


def _draw_lines(objects: Sequence[SampledObject], canvas: Canvas) -> _Lines:
    shapes = [thing.samples.is_kept.shape for thing in objects]
    longest = max(max(thing.crop.mask.shape) for thing in objects)
    pixels = np.zeros((sum(rows + columns for rows, columns in shapes), longest + 1), bool)
    blocks, lengths, across = [], [], []
    begin = 0
    for owner, (thing, origin) in enumerate(zip(objects, canvas.origins.tolist(), strict=True)):
        mask, grid, (rows, columns) = thing.crop.mask, thing.samples, shapes[owner]
        middle, end = begin + columns, begin + columns + rows
        pixels[begin:middle, : mask.shape[0]] = mask[:, grid.columns].T
        pixels[middle:end, : mask.shape[1]] = mask[grid.rows]
        blocks += [
            (grid.rows.start, grid.stride, rows - 1, origin - begin, canvas.width, 0, owner),
            (
                grid.columns.start,
                grid.stride,
                columns - 1,
                origin - middle * canvas.width,
                1,
                1,
                owner,
            ),
        ]
        lengths += [columns, rows]
        across += [1, canvas.width]
        begin = end
    table = np.repeat(np.array(blocks).T, lengths, axis=1)
    table[3] += np.arange(begin) * np.repeat(across, lengths)
    return _Lines(pixels=pixels, table=table)


def _first_and_last(lines: NDArray[np.bool_]) -> tuple[_Indices, _Indices, _Indices]:
    """Numbers of the lines with a True, and where on each the first and the last one are.

    Args:
        lines: (L, n); the last of each is False, so that none runs into the next.
    """
    flat, length = lines.ravel(), lines.shape[1]
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        changes = np.concatenate([[0], changes])
    starts, stops = changes[::2], changes[1::2]
    number = starts // length
    is_new = number[1:] != number[:-1]
    firsts = np.flatnonzero(np.concatenate([[True], is_new]))
    lasts = np.flatnonzero(np.concatenate([is_new, [True]]))
    number = number.take(firsts)
    before = number * length
    return number, starts.take(firsts) - before, stops.take(lasts) - 1 - before
