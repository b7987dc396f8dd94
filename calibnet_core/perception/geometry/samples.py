"""Which readings of the depth image show an object's surface."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.geometry.values import GeometrySettings
from calibnet_core.perception.mask_codec import Roi

_LEAST_READING_M = 1e-3
STEEPEST = 5.67
"""Surfaces up to 80 degrees from facing the camera are followed; the tangent of that angle."""
_NOISE_LIMIT = 4.0  # standard deviations that two neighbours may differ by
_SHARES = (0.05, 0.5, 0.95)
_LEAST_PIECE = 4  # samples; smaller pieces beside a large surface are flying pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """An object's part of the image, with as much around it as erosion looks at.

    Attributes:
        window: its rows and columns of the image.
        mask: (h, w) bool.
        is_usable: (h, w) bool, mask pixels with a depth within the limits.
        depth_m: (h, w) float32, a view of the image.
        num_pixels, num_usable: of the mask, and of those.
    """

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]
    is_usable: NDArray[np.bool_]
    depth_m: NDArray[np.float32]
    num_pixels: int
    num_usable: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceSamples:
    """Readings of an object's surface on a regular grid of pixels.

    Attributes:
        rows, columns: slices of the crop, equally spaced, that the grid stands on.
        stride: their spacing in pixels.
        erode: pixels that were taken off the mask's rim.
        depth_m: (h, w) float32 of the grid, NaN where it is not usable.
        is_kept: (h, w) bool, the readings that show the surface.
        is_open: (h, w) bool, where the mask has surface but no reading to trust: rim and holes.
        ordered_depth_m: (N,) float32, theirs; the least, the median, the greatest and what
            percentiles are made from are in their places of the ascending order.
    """

    rows: slice
    columns: slice
    stride: int
    erode: int
    depth_m: NDArray[np.float32]
    is_kept: NDArray[np.bool_]
    is_open: NDArray[np.bool_]
    ordered_depth_m: NDArray[np.float32]

    def percentiles(self) -> tuple[float, float, float]:
        """Percentiles 5, 50 and 95 of depth in metres, by linear interpolation."""
        last = self.ordered_depth_m.size - 1
        places = [share * last for share in _SHARES]
        lower = [int(place) for place in places]
        pairs = self.ordered_depth_m.take([*lower, *(min(place + 1, last) for place in lower)])
        values = pairs.tolist()
        near, median, far = (
            low + (place - int(place)) * (high - low)
            for place, low, high in zip(places, values[:3], values[3:], strict=True)
        )
        return near, median, far


def crop_object(
    depth_m: NDArray[np.float32],
    mask: NDArray[np.bool_],
    roi: Roi,
    settings: GeometrySettings,
) -> Crop:
    """Cut one object out of the images.

    Args:
        depth_m: (H, W) metres.
        mask: (H, W) of the object.
        roi: its tight box.
        settings: see there.
    """
    margin = settings.erode
    top, left = max(0, roi.y_offset - margin), max(0, roi.x_offset - margin)
    window = (
        slice(top, roi.y_offset + roi.height + margin),
        slice(left, roi.x_offset + roi.width + margin),
    )
    inside, depth = np.ascontiguousarray(mask[window]), depth_m[window]
    least = max(settings.min_m, _LEAST_READING_M)
    usable = depth >= least
    usable &= depth <= settings.max_m
    usable &= inside
    return Crop(
        window=window,
        mask=inside,
        is_usable=usable,
        depth_m=depth,
        num_pixels=int(np.count_nonzero(inside)),
        num_usable=int(np.count_nonzero(usable)),
    )


def sample_surface(
    crop: Crop, settings: GeometrySettings, image_size: tuple[int, int]
) -> SurfaceSamples | None:
    """Choose the readings that an object is measured by.

    The rim of the mask is left out, then a grid of pixels is taken, then what does not belong to
    the surface is left out. Objects that this leaves too few points of, small or thin ones, are
    sampled at every pixel, and if need be with half as much of the rim left out, and half of that,
    down to none.

    Args:
        crop: the object.
        settings: see there.
        image_size: (height, width) of the whole image.

    Returns:
        None where there are fewer than `min_points` readings.
    """
    if crop.num_usable < settings.min_points:
        return None
    # As if the focal length were the image's longer side, which it is within a factor of two, so
    # that depth statistics do not depend on whether the camera is calibrated.
    pixel = 1.0 / max(image_size)
    attempts = [(settings.erode, settings.stride)]
    erode = settings.erode
    if settings.stride > 1:
        attempts.append((erode, 1))
    while erode > 0:
        erode //= 2
        attempts.append((erode, 1))
    for erode, stride in attempts:
        samples = _sample(crop, erode, stride, settings, pixel)
        if samples is not None:
            return samples
    return None


def _sample(
    crop: Crop, erode: int, stride: int, settings: GeometrySettings, pixel: float
) -> SurfaceSamples | None:
    # The grid stands on the same pixels whatever the mask, so that it does not move with the rim.
    rows = slice(-crop.window[0].start % stride, None, stride)
    columns = slice(-crop.window[1].start % stride, None, stride)
    usable = crop.is_usable[rows, columns]
    depth = np.where(usable, crop.depth_m[rows, columns], np.float32(np.nan))
    if erode:
        # Beyond the border of the image nothing is known, so no rim begins there: OpenCV's way.
        inner = cv2.erode(crop.mask.view(np.uint8), _square(2 * erode + 1))
        usable = usable & inner[rows, columns].view(np.bool_)
    if np.count_nonzero(usable) < settings.min_points:
        return None
    ordered = _in_order(depth[usable])
    kept = _without_outliers(depth, usable, ordered, settings, STEEPEST * stride * pixel)
    if kept is not usable:
        ordered = _in_order(depth[kept])
        if ordered.size < settings.min_points:
            return None
    return SurfaceSamples(
        rows=rows,
        columns=columns,
        stride=stride,
        erode=erode,
        depth_m=depth,
        is_kept=kept,
        is_open=crop.mask[rows, columns] & ~usable,
        ordered_depth_m=ordered,
    )


def _in_order(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) readings, as `SurfaceSamples.ordered_depth_m`: half the cost of sorting them."""
    last = depth_m.size - 1
    places = {0, depth_m.size // 2, last}
    for share in _SHARES:
        lower = int(share * last)
        places |= {lower, min(lower + 1, last)}
    depth_m.partition(tuple(places))
    return depth_m


@lru_cache
def _square(size: int) -> NDArray[np.uint8]:
    return np.ones((size, size), np.uint8)


def _without_outliers(
    depth: NDArray[np.float32],
    usable: NDArray[np.bool_],
    ordered: NDArray[np.float32],
    settings: GeometrySettings,
    steepest: float,
) -> NDArray[np.bool_]:
    """Leave out what is neither near the median depth nor joined to the object's main surface.

    The median deviation alone would cut the ends off whatever points away from the camera. Two
    neighbours are joined unless their depth differs by more than slope and noise explain; what
    hangs together with the largest such piece is surface, however far it reaches. Other pieces
    stand or fall with the test, and the smallest fall with it. Where no reading is far from the
    median, all stay.
    """
    half = ordered.size // 2
    median = float(ordered[half])
    reach = max(median - float(ordered[0]), float(ordered[-1]) - median)
    # Half the readings lie within the median deviation: counting them is less than finding it.
    enough = reach / (1.4826 * settings.outlier_mad)
    if (
        np.count_nonzero(np.abs(ordered - median) < enough) <= half
        or reach <= settings.outlier_mad * settings.depth_noise * median**2
    ):
        return usable
    deviation = 1.4826 * float(np.partition(np.abs(ordered - median), half)[half])
    limit = settings.outlier_mad * max(deviation, settings.depth_noise * median * median)
    z = np.where(usable, depth, np.float32(np.nan))
    least_step = _NOISE_LIMIT * settings.depth_noise
    step = z * (np.float32(steepest) + np.float32(least_step) * z)
    height, width = z.shape
    # Samples and the joints between them, drawn as pixels: connected pixels are pieces.
    drawing = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    drawing[::2, ::2] = usable
    drawing[::2, 1::2] = np.abs(z[:, 1:] - z[:, :-1]) <= step[:, 1:]
    drawing[1::2, ::2] = np.abs(z[1:] - z[:-1]) <= step[1:]
    count, labels = cv2.connectedComponents(drawing, connectivity=4)
    if count <= 2:
        return usable
    pieces = labels[::2, ::2]
    sizes = np.bincount(pieces[usable], minlength=count)
    main = int(sizes.argmax())
    kept = np.abs(z - median) <= limit
    if 2 * sizes[main] >= ordered.size:
        kept &= (sizes >= _LEAST_PIECE)[pieces]
    kept |= pieces == main
    kept &= usable
    return kept
