"""An object's surface as local planes: they smooth it, and lead it on to the edge of the mask.

A plane n·p = d seen along the ray (x, y, 1) has the inverse depth 1/z = n·(x, y, 1) / d. That is
linear in the image, and its noise is the same at every distance where depth is triangulated. So
planes are fitted to inverse depth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.geometry.samples import STEEPEST, SurfaceSamples
from calibnet_core.structures import CameraIntrinsics

_Array = NDArray[np.float64]

_CHOSEN_SAMPLES = 200
"""About so many samples stand for the surface where not all are needed."""
_TAP_ROWS, _TAP_COLUMNS = (taps.ravel() - 2.0 for taps in np.indices((5, 5), float))
_MIDDLE_TAP = 12


def _moment_matrix() -> _Array:
    """(9, 50): sums over pairs of presence and inverse depth, by row and column of the window."""
    ones, x, y = np.ones(25), _TAP_COLUMNS, _TAP_ROWS
    matrix = np.zeros((25, 2, 9))
    matrix[:, 0, :6] = np.stack([ones, x, y, x * x, x * y, y * y], axis=1)
    matrix[:, 1, 6:] = np.stack([ones, x, y], axis=1)
    return np.ascontiguousarray(matrix.reshape(50, 9).T)


_MOMENTS = _moment_matrix()
_RIDGE = 1e-3  # square samples
_ENOUGH = 9  # samples around a point that tell noise from shape
_ENOUGH_TO_FILL = 5
_NOISE_LIMIT = 3.0
_STEEPEST_AREA = 5.76
"""A surface at 80 degrees has so many times the area that it shows; steeper ones count as that."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """An object's surface at M places of the sampling grid, a plane around each.

    The places are some of the samples, the ends of the grid's rows and columns, and all
    places without a sample that samples stand around.

    Attributes:
        places: (M,) where they are in the grid, counted along the rows.
        is_open: (M,) bool, where there is no sample.
        directions: (3, M) rays x, y, 1.
        scale: (2, M) width and height of the places' pixels at 1 m.
        inverse_depth: (M,) per metre: of a sample, or what its surroundings say.
        smooth: (M,) the same without noise.
        slopes: (2, M) change of inverse depth by one column and by one row of pixels.
        normals: (3, M) unit normals.
        area: (M,) of the surface that each pixel shows, square metres.
        noise: standard deviation of inverse depth, per metre: what is left beside the planes.
    """

    places: NDArray[np.intp]
    is_open: NDArray[np.bool_]
    directions: _Array
    scale: _Array
    inverse_depth: _Array
    smooth: _Array
    slopes: _Array
    normals: _Array
    area: _Array
    noise: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledObject:
    """What a surface is fitted to.

    Attributes:
        mask: (h, w) bool, of the crop that the samples are from.
        samples: the object's.
        rays: (n, 2) float32 of the grid's places, counted along the rows.
        footprint: (n,) float32 area of their pixels at 1 m.
    """

    mask: NDArray[np.bool_]
    samples: SurfaceSamples
    rays: NDArray[np.float32]
    footprint: NDArray[np.float32]


def fit_surfaces(objects: Sequence[SampledObject], intrinsics: CameraIntrinsics) -> list[Surface]:
    """Fit planes to what surrounds samples and open places.

    An open place lies on the plane through the samples around it. Where depth was measured there
    and differs from the plane's by no more than noise and a bend of the surface explain, it is
    taken: near the limb of a round object a plane falls short.

    All objects are worked on at once, since each has too few places to keep numpy busy.

    Args:
        objects: one or more.
        intrinsics: of the image.
    """
    windows = [_windows(thing.samples) for thing in objects]
    starts = np.cumsum([0, *(window.pairs.size for window in windows)])
    pairs = np.concatenate([window.pairs for window in windows])
    around = pairs.take(
        np.concatenate([w.around + start for w, start in zip(windows, starts, strict=False)])
    )
    sums = _MOMENTS @ around.view(np.float64).T
    is_open = around[:, _MIDDLE_TAP].real == 0.0
    known = np.flatnonzero(~is_open | (sums[0] >= _ENOUGH_TO_FILL))
    sums, is_open = sums.take(known, axis=1), is_open[known]
    places = np.concatenate([window.places for window in windows])[known]
    bounds = [0, *np.cumsum([window.places.size for window in windows]).tolist()]
    bounds = np.searchsorted(known, bounds).tolist()
    counts = np.diff(bounds)
    parts = [slice(*pair) for pair in itertools.pairwise(bounds)]

    count = sums[0]
    mx, my, xx, xy, yy, mw, xw, yw = sums[1:] / count
    # Where all samples around are in line the slope across it becomes 0 rather than anything.
    xx = xx - mx * mx + _RIDGE
    yy = yy - my * my + _RIDGE
    xy, xw, yw = xy - mx * my, xw - mx * mw, yw - my * mw
    determinant = xx * yy - xy * xy
    slopes = np.stack([yy * xw - xy * yw, xx * yw - xy * xw])
    slopes /= determinant

    is_full = np.flatnonzero((count >= _ENOUGH) & ~is_open)
    values = around.take(known[is_full], axis=0).imag
    squares = np.einsum("ij,ij->i", values, values)
    explained = mw * mw + slopes[0] * xw + slopes[1] * yw
    left = (squares - (count * explained)[is_full]) / (count[is_full] - 3.0)
    cuts = np.searchsorted(is_full, bounds).tolist()
    noise = [_noise(left[first:last]) for first, last in itertools.pairwise(cuts)]

    mw = mw + np.repeat([window.middle for window in windows], counts)
    change = -(slopes[0] * mx + slopes[1] * my)
    step = np.repeat([float(window.step) for window in windows], counts)
    pixel = STEEPEST / math.sqrt(intrinsics.fx * intrinsics.fy)
    limit = mw * np.minimum(step * pixel * (np.abs(mx) + np.abs(my)), 0.5)
    fitted = mw + np.maximum(np.minimum(change, limit), -limit)
    here = np.concatenate(
        [t.samples.depth_m.ravel()[places[part]] for t, part in zip(objects, parts, strict=True)]
    )
    here = np.reciprocal(here, dtype=np.float64)
    slack = np.repeat([_NOISE_LIMIT * value for value in noise], counts)
    slack += is_open * (0.5 * np.abs(fitted - mw))
    near = np.maximum(np.minimum(fitted, here + slack), here - slack)
    inverse_depth = np.where(is_open & ~(near == fitted), fitted, here)
    ends = [thing.samples.sorted_depth_m[[0, -1]].tolist() for thing in objects]
    nearest, farthest = np.repeat(1.0 / np.array(ends).T, counts, axis=1)
    smooth = np.where(is_open, inverse_depth, np.maximum(np.minimum(near, nearest), farthest))
    slopes /= step

    directions = np.ones((3, places.size))
    footprint = np.empty(places.size)
    for thing, part in zip(objects, parts, strict=True):
        directions[:2, part] = thing.rays.take(places[part], axis=0).T
        footprint[part] = thing.footprint.take(places[part])
    scale = np.empty((2, places.size))
    np.sqrt(footprint * (intrinsics.fy / intrinsics.fx), out=scale[0])
    np.divide(footprint, scale[0], out=scale[1])
    normals = np.empty_like(directions)
    np.divide(slopes, scale, out=normals[:2])
    normals[2] = smooth - (normals[:2] * directions[:2]).sum(axis=0)
    steepness = np.sqrt((normals * normals).sum(axis=0))
    normals /= steepness
    area = footprint * np.minimum(steepness / smooth, _STEEPEST_AREA) / (smooth * smooth)
    return [
        Surface(
            places=places[part],
            is_open=is_open[part],
            directions=directions[:, part],
            scale=scale[:, part],
            inverse_depth=inverse_depth[part],
            smooth=smooth[part],
            slopes=slopes[:, part],
            normals=normals[:, part],
            area=area[part],
            noise=value,
        )
        for part, value in zip(parts, noise, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Windows:
    """What surrounds the places of one object.

    Attributes:
        places: (M,) where they are in the grid.
        pairs: flat complex grid with a margin: presence, and inverse depth less `middle`.
        around: (M, 25) where in `pairs` the places of each window are.
        middle: a typical inverse depth, so that squares keep their digits.
        step: pixels between neighbours of a window.
    """

    places: NDArray[np.intp]
    pairs: NDArray[np.complex128]
    around: NDArray[np.intp]
    middle: float
    step: int


def _windows(samples: SurfaceSamples) -> _Windows:
    kept, ascending = samples.is_kept, samples.sorted_depth_m
    height, width = kept.shape
    # Wide enough to reach over the rim that was taken off, and beyond.
    spread = -(-(-(-samples.erode // samples.stride) + 1) // 2)
    margin = 2 * spread
    wide = width + 2 * margin
    middle = 1.0 / float(ascending[ascending.size // 2])
    # Presence and inverse depth side by side, so that one look-up and one product serve both.
    pairs = np.zeros((height + 2 * margin, wide), np.complex128)
    inner = pairs[margin : margin + height, margin : margin + width]
    inner[kept] = (1.0 - 1j * middle) + 1j / samples.depth_m[kept]
    places = np.flatnonzero(_wanted(samples))
    rows, columns = np.divmod(places, width)
    taps = ((_TAP_ROWS * wide + _TAP_COLUMNS) * spread).astype(np.intp)
    around = ((rows + margin) * wide + columns + margin)[:, None] + taps
    return _Windows(
        places=places,
        pairs=pairs.ravel(),
        around=around,
        middle=middle,
        step=spread * samples.stride,
    )


def _noise(variances: _Array) -> float:
    if not variances.size:
        return 0.0
    half = variances.size // 2
    return math.sqrt(max(float(np.partition(variances, half)[half]), 0.0))


def _wanted(samples: SurfaceSamples) -> NDArray[np.bool_]:
    """(h, w) bool, places of the grid that get a plane if there are samples around."""
    kept = samples.is_kept
    wanted = samples.is_open.copy()
    count = samples.sorted_depth_m.size
    spacing = max(1, round(math.sqrt(count / _CHOSEN_SAMPLES)))
    lattice = kept[::spacing, ::spacing]
    wanted[::spacing, ::spacing] |= lattice
    if 2 * spacing * spacing * np.count_nonzero(lattice) < count:  # depth has a pattern of its own
        wanted.ravel()[np.flatnonzero(kept)[:: spacing * spacing]] = True
    if not samples.erode:  # with a rim the ends of rows and columns are open
        for grid, taken in ((kept, wanted), (kept.T, wanted.T)):
            lines = np.flatnonzero(grid.any(axis=0))
            taken[grid.argmax(axis=0)[lines], lines] = True
            taken[grid.shape[0] - 1 - grid[::-1].argmax(axis=0)[lines], lines] = True
    return wanted
