"""The edge of an object in space: its surface led on to the edge of its mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.geometry.samples import STEEPEST
from calibnet_core.perception.geometry.surface import SampledObject, Surface

_Array = NDArray[np.float64]


def outlines(objects: Sequence[SampledObject], surfaces: Sequence[Surface]) -> list[_Array]:
    """Lead surfaces on from the sampling grid to the edge of the mask.

    From the first and the last place of each row and column of the grid the plane there is followed
    over the pixels that the grid left out, and half a pixel more, to the edge of the last one.

    Args:
        objects: one or more.
        surfaces: theirs.

    Returns:
        For each object (3, R) points in metres.
    """
    ends = [_grid_ends(*pair) for pair in zip(objects, surfaces, strict=True)]
    chosen = [at for at, _ in ends]
    points, scale, slopes = (
        np.concatenate([v.take(at, axis=1) for v, at in zip(values, chosen, strict=True)], axis=1)
        for values in (
            [surface.directions for surface in surfaces],
            [surface.scale for surface in surfaces],
            [surface.slopes for surface in surfaces],
        )
    )
    start = np.concatenate([s.smooth.take(at) for s, at in zip(surfaces, chosen, strict=True)])
    pixels = np.concatenate([step for _, step in ends], axis=1)
    step = pixels * scale
    limit = start * np.minimum(STEEPEST * np.abs(step).sum(axis=0), 0.5)
    change = (slopes * pixels).sum(axis=0)
    points[:2] += step
    points /= start + np.maximum(np.minimum(change, limit), -limit)
    return np.split(points, np.cumsum([at.size for at in chosen])[:-1], axis=1)


def _grid_ends(thing: SampledObject, surface: Surface) -> tuple[NDArray[np.intp], _Array]:
    """(R,) indices of a surface's outermost places, and (2, R) pixels from there to the edge."""
    samples, mask = thing.samples, thing.mask
    number = np.full(samples.is_kept.shape, -1, np.intp)
    number.ravel()[surface.places] = np.arange(surface.places.size)
    index, reach = [], []
    for full, places, grid in (  # down the columns, along the rows
        (np.ascontiguousarray(mask[:, samples.columns].T), number.T, samples.rows),
        (mask[samples.rows], number, samples.columns),
    ):
        lines, width = np.flatnonzero(full.any(axis=1)), places[0].size
        first = full.argmax(axis=1)[lines] - grid.start
        last = full.shape[1] - 1 - full[:, ::-1].argmax(axis=1)[lines] - grid.start
        for edge, place, sign in (
            (first, (first + (grid.step - 1)) // grid.step, -1.0),
            (last, last // grid.step, 1.0),
        ):
            inside = np.maximum(np.minimum(place, width - 1), 0)
            index.append(places[lines, inside])
            reach.append((np.abs(inside * grid.step - edge) + 0.5) * sign)
    at = np.concatenate(index)
    pixels = np.zeros((2, at.size))
    on_columns = index[0].size + index[1].size
    pixels[1, :on_columns] = np.concatenate(reach[:2])
    pixels[0, on_columns:] = np.concatenate(reach[2:])
    known = np.flatnonzero(at >= 0)
    return at[known], pixels[:, known]
