"""The sampling grids of all objects of a frame on one canvas, to be worked on at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.camera_rays import camera_rays, pixel_footprints
from calibnet_core.perception.geometry.samples import Crop, SurfaceSamples
from calibnet_core.structures import CameraIntrinsics

TAP_REACH = 2
"""Samples on either side of a place that its window takes in."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledObject:
    """An object's part of the image and the samples that were taken there."""

    crop: Crop
    samples: SurfaceSamples


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """The grids of K objects, one below the other.

    Between them is so much room that no window around a place of one grid sees another. Places are
    counted along the rows, so that those of an object lie together, in the order of the objects.

    Attributes:
        width: of the canvas.
        origins: (K,) places of the grids' first corners, in ascending order.
        spreads: (K,) samples between neighbours of a window, so that it reaches over the rim that
            was taken off, and beyond.
        is_kept, is_open: (P,) bool, as in `SurfaceSamples`.
        depth_m: (P,) float32, NaN where it is not usable and beside the grids.
        rays: (P,) complex64, x + iy, so that one look-up serves both; 0 beside the grids.
        footprint: (P,) float32 area of the pixels at 1 m; 0 beside the grids.
    """

    width: int
    origins: NDArray[np.intp]
    spreads: NDArray[np.intp]
    is_kept: NDArray[np.bool_]
    is_open: NDArray[np.bool_]
    depth_m: NDArray[np.float32]
    rays: NDArray[np.complex64]
    footprint: NDArray[np.float32]

    def bounds(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """(K + 1,) where the objects' shares of ascending places begin and end."""
        bounds = np.empty(self.origins.size + 1, np.intp)
        bounds[:-1] = places.searchsorted(self.origins)
        bounds[-1] = places.size
        return bounds


def lay_out(objects: Sequence[SampledObject], intrinsics: CameraIntrinsics) -> Canvas:
    """Draw the grids of one or more objects on a canvas.

    Args:
        objects: one or more.
        intrinsics: of the image.
    """
    grids = [thing.samples for thing in objects]
    spreads = [-(-(-(-grid.erode // grid.stride) + 1) // TAP_REACH) for grid in grids]
    margin = TAP_REACH * max(spreads)
    # What is right of one row is left of the next, so that one margin serves both sides.
    width = margin + max(grid.is_kept.shape[1] for grid in grids)
    ends = list(
        itertools.accumulate((grid.is_kept.shape[0] + margin for grid in grids), initial=margin + 1)
    )
    shape = (ends[-1] + 1, width)
    is_kept, is_open = np.zeros(shape, bool), np.zeros(shape, bool)
    depth_m, footprint = np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32)
    rays = np.zeros(shape, np.complex64)
    by_stride = {stride: _rays_on_grid(intrinsics, stride) for stride in {g.stride for g in grids}}
    for thing, grid, top in zip(objects, grids, ends, strict=False):
        rows, columns = grid.is_kept.shape
        here = (slice(top, top + rows), slice(columns))
        all_rays, all_footprints = by_stride[grid.stride]
        row, column = _first_place(thing)
        seen = (slice(row, row + rows), slice(column, column + columns))
        is_kept[here] = grid.is_kept
        is_open[here] = grid.is_open
        depth_m[here] = grid.depth_m
        rays[here] = all_rays[seen]
        footprint[here] = all_footprints[seen]
    return Canvas(
        width=width,
        origins=np.array(ends[:-1]) * width,
        spreads=np.array(spreads),
        is_kept=is_kept.ravel(),
        is_open=is_open.ravel(),
        depth_m=depth_m.ravel(),
        rays=rays.ravel(),
        footprint=footprint.ravel(),
    )


@lru_cache(maxsize=8)
def _rays_on_grid(
    intrinsics: CameraIntrinsics, stride: int
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Rays and footprints of every so many rows and columns, where all grids stand.

    Kept side by side they take up a fraction of the cache lines that they do in the whole image.
    """
    rays = camera_rays(intrinsics)[::stride, ::stride].copy().view(np.complex64)[..., 0]
    return rays, pixel_footprints(intrinsics)[::stride, ::stride].copy()


def _first_place(thing: SampledObject) -> tuple[int, int]:
    """Row and column, among those in the image that grids stand on, where an object's begins."""
    (down, across), grid = thing.crop.window, thing.samples
    return (
        (down.start + grid.rows.start) // grid.stride,
        (across.start + grid.columns.start) // grid.stride,
    )
