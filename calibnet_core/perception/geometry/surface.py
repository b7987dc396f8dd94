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

from calibnet_core.perception.geometry.canvas import TAP_REACH, Canvas, SampledObject
from calibnet_core.perception.geometry.samples import STEEPEST, SurfaceSamples
from calibnet_core.structures import CameraIntrinsics

_Array = NDArray[np.float64]

_CHOSEN_SAMPLES = 200
"""About so many samples stand for the surface where not all are needed."""
_TAPS = 2 * TAP_REACH + 1
_TAP_ROWS, _TAP_COLUMNS = (
    taps.ravel() - float(TAP_REACH) for taps in np.indices((_TAPS, _TAPS), float)
)


def _moment_matrix() -> NDArray[np.float32]:
    """(50, 9): sums over pairs of presence and inverse depth, by row and column of the window."""
    ones, x, y = np.ones(25), _TAP_COLUMNS, _TAP_ROWS
    matrix = np.zeros((25, 2, 9))
    matrix[:, 0, :6] = np.stack([ones, x, y, x * x, x * y, y * y], axis=1)
    matrix[:, 1, 6:] = np.stack([ones, x, y], axis=1)
    return matrix.reshape(50, 9).astype(np.float32)


_MOMENTS = _moment_matrix()
_RIDGE = 1e-3  # square samples
_ENOUGH = 9  # samples around a point that tell noise from shape
_ENOUGH_TO_FILL = 5
_NOISE_LIMIT = 3.0
_STEEPEST_AREA = 5.76
"""A surface at 80 degrees has so many times the area that it shows; steeper ones count as that."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surfaces:
    """The surfaces of K objects at M places of their sampling grids, a plane around each.

    The places of an object are some of its samples, the ends of the grid's rows and columns, and
    all places without a sample that samples stand around.

    Attributes:
        bounds: (K + 1,) where the objects' shares of the places begin and end; none is empty.
        places: (M,) where they are on the canvas, ascending.
        is_open: (M,) bool, where there is no sample.
        directions: (3, M) rays x, y, 1.
        scale: (2, M) width and height of the places' pixels at 1 m.
        inverse_depth: (M,) per metre: of a sample, or what its surroundings say.
        smooth: (M,) the same without noise.
        slopes: (2, M) change of inverse depth by one column and by one row of pixels.
        normals: (3, M) unit normals.
        area: (M,) of the surface that each pixel shows, square metres.
        noise: (K,) standard deviation of inverse depth, per metre: what is left beside the planes.
    """

    bounds: NDArray[np.intp]
    places: NDArray[np.intp]
    is_open: NDArray[np.bool_]
    directions: _Array
    scale: _Array
    inverse_depth: _Array
    smooth: _Array
    slopes: _Array
    normals: _Array
    area: _Array
    noise: _Array


def fit_surfaces(
    objects: Sequence[SampledObject], canvas: Canvas, intrinsics: CameraIntrinsics
) -> Surfaces:
    """Fit planes to what surrounds samples and open places.

    An open place lies on the plane through the samples around it. Where depth was measured there
    and differs from the plane's by no more than noise and a bend of the surface explain, it is
    taken: near the limb of a round object a plane falls short.

    All objects are worked on at once, since each has too few places to keep numpy busy.

    Args:
        objects: one or more.
        canvas: their grids.
        intrinsics: of the image.
    """
    depths = [thing.samples.ordered_depth_m for thing in objects]
    middles = np.array([1.0 / float(depth[depth.size // 2]) for depth in depths])
    places = np.flatnonzero(_wanted(objects, canvas))
    around = _windows(canvas, places, middles)
    by_place = around.view(np.float32) @ _MOMENTS
    is_open = canvas.is_open.take(places)
    known = np.flatnonzero(~is_open | (by_place[:, 0] >= _ENOUGH_TO_FILL))
    sums = by_place.take(known, axis=0).T.astype(np.float64, order="C")
    is_open, places = is_open.take(known), places.take(known)
    bounds = canvas.bounds(places)
    counts = np.diff(bounds)

    count = sums[0]
    mx, my, xx, xy, yy, mw, xw, yw = sums[1:] / count
    # Where all samples around are in line the slope across it becomes 0 rather than anything.
    xx = xx - mx * mx + _RIDGE
    yy = yy - my * my + _RIDGE
    xy, xw, yw = xy - mx * my, xw - mx * mw, yw - my * mw
    slopes = np.empty((2, places.size))
    np.subtract(yy * xw, xy * yw, out=slopes[0])
    np.subtract(xx * yw, xy * xw, out=slopes[1])
    slopes /= xx * yy - xy * xy

    is_full = np.flatnonzero((count >= _ENOUGH) & ~is_open)
    values = around.take(known.take(is_full), axis=0).imag
    squares = np.einsum("ij,ij->i", values, values)
    explained = count * (mw * mw + slopes[0] * xw + slopes[1] * yw)
    left = (squares - explained.take(is_full)) / (count.take(is_full) - 3.0)
    cuts = is_full.searchsorted(bounds).tolist()
    noise = np.array([_noise(left[first:last]) for first, last in itertools.pairwise(cuts)])

    middle, step, nearest, farthest, slack = np.repeat(
        [
            middles,
            canvas.spreads * [float(thing.samples.stride) for thing in objects],
            [1.0 / float(depth[0]) for depth in depths],
            [1.0 / float(depth[-1]) for depth in depths],
            _NOISE_LIMIT * noise,
        ],
        counts,
        axis=1,
    )
    mw += middle
    change = slopes[0] * mx + slopes[1] * my
    pixel = STEEPEST / math.sqrt(intrinsics.fx * intrinsics.fy)
    limit = mw * np.minimum(pixel * step * (np.abs(mx) + np.abs(my)), 0.5)
    fitted = mw - np.maximum(np.minimum(change, limit), -limit)
    here = np.reciprocal(canvas.depth_m.take(places), dtype=np.float64)
    slack += is_open * (0.5 * np.abs(fitted - mw))
    near = np.maximum(np.minimum(fitted, here + slack), here - slack)
    inverse_depth = np.where(is_open & (near != fitted), fitted, here)
    smooth = np.where(is_open, inverse_depth, np.maximum(np.minimum(near, nearest), farthest))
    slopes /= step

    rays, footprint = canvas.rays.take(places), canvas.footprint.take(places)
    directions = np.ones((3, places.size))
    directions[0], directions[1] = rays.real, rays.imag
    scale = np.empty((2, places.size))
    np.sqrt(footprint * (intrinsics.fy / intrinsics.fx), out=scale[0])
    np.divide(footprint, scale[0], out=scale[1])
    normals = np.empty_like(directions)
    np.divide(slopes, scale, out=normals[:2])
    normals[2] = smooth - normals[0] * directions[0] - normals[1] * directions[1]
    steepness = np.sqrt(np.add.reduce(normals * normals, axis=0))
    normals /= steepness
    area = footprint * np.minimum(steepness / smooth, _STEEPEST_AREA) / (smooth * smooth)
    return Surfaces(
        bounds=bounds,
        places=places,
        is_open=is_open,
        directions=directions,
        scale=scale,
        inverse_depth=inverse_depth,
        smooth=smooth,
        slopes=slopes,
        normals=normals,
        area=area,
        noise=noise,
    )


def _windows(canvas: Canvas, places: NDArray[np.intp], middles: _Array) -> NDArray[np.complex64]:
    """(M, 25) presence, and inverse depth less the object's `middle`, around places.

    The two lie side by side, so that one look-up and one product serve both; less the middle, so
    that squares keep their digits.
    """
    pairs = np.zeros((canvas.is_kept.size, 2), np.float32)
    pairs[:, 0] = canvas.is_kept
    starts = [0, *canvas.origins[1:].tolist(), canvas.is_kept.size]
    for middle, part in zip(middles.tolist(), itertools.pairwise(starts), strict=True):
        here = slice(*part)
        inverse = np.reciprocal(canvas.depth_m[here]) - np.float32(middle)
        np.copyto(pairs[here, 1], inverse, where=canvas.is_kept[here])
    taps = (_TAP_ROWS * canvas.width + _TAP_COLUMNS).astype(np.intp)
    if canvas.spreads.min() == canvas.spreads.max():
        around = places[:, None] + canvas.spreads[0] * taps
    else:
        spreads = np.repeat(canvas.spreads, np.diff(canvas.bounds(places)))
        around = places[:, None] + spreads[:, None] * taps
    windows: NDArray[np.complex64] = pairs.view(np.complex64).ravel().take(around)
    return windows


def _noise(variances: _Array) -> float:
    if not variances.size:
        return 0.0
    half = variances.size // 2
    return math.sqrt(max(float(np.partition(variances, half)[half]), 0.0))


def _wanted(objects: Sequence[SampledObject], canvas: Canvas) -> NDArray[np.bool_]:
    """(P,) bool, places of the canvas that get a plane if there are samples around."""
    wanted = canvas.is_open.copy()
    picture = wanted.reshape(-1, canvas.width)
    for thing, origin in zip(objects, canvas.origins.tolist(), strict=True):
        height, width = thing.samples.is_kept.shape
        top = origin // canvas.width
        _choose(thing.samples, picture[top : top + height, :width])
    return wanted


def _choose(samples: SurfaceSamples, wanted: NDArray[np.bool_]) -> None:
    """Mark some samples, evenly spaced, in a picture of the grid."""
    kept = samples.is_kept
    count = samples.ordered_depth_m.size
    spacing = max(1, round(math.sqrt(count / _CHOSEN_SAMPLES)))
    lattice = kept[::spacing, ::spacing]
    wanted[::spacing, ::spacing] |= lattice
    if 2 * spacing * spacing * np.count_nonzero(lattice) < count:  # depth has a pattern of its own
        wanted[np.unravel_index(np.flatnonzero(kept)[:: spacing * spacing], kept.shape)] = True
    if not samples.erode:  # with a rim the ends of rows and columns are open
        for grid, taken in ((kept, wanted), (kept.T, wanted.T)):
            lines = np.flatnonzero(grid.any(axis=0))
            taken[grid.argmax(axis=0)[lines], lines] = True
            taken[grid.shape[0] - 1 - grid[::-1].argmax(axis=0)[lines], lines] = True
