"""What the paper's data set analyses measure on one image.

"The paper" is CalibNet (RGB-D salient instance segmentation), section III-B. Where it names a
quantity without a formula, the docstring says what was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets.dataset import RgbdSample
from calibnet_core.structures import RgbdFrame

Mask = NDArray[np.bool_]
NearIs = Literal["dark", "bright"]

GRID = 64
"""Cells along each side of the map of instances, whatever the shape of the image."""
_LEVELS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageMeasures:
    """Measures of one image; crowds are no instances, but they are foreground.

    Attributes:
        size: (height, width) in pixels.
        areas_px: (n,) pixels of each instance.
        center_distances: (n,), see `center_distances`.
        margin_distances: (n,), see `margin_distances`.
        coverage: (GRID, GRID) float64, sum over the instances of the share of each cell that they
            cover; rows run down.
        object_iou: IoU of labelled foreground and salient region; None without region label, or
            where both are empty.
        depth_iou: IoU of near depth and salient region; None where nothing was measured, or both
            are empty.
    """

    size: tuple[int, int]
    areas_px: NDArray[np.int64]
    center_distances: NDArray[np.float64]
    margin_distances: NDArray[np.float64]
    coverage: NDArray[np.float64]
    object_iou: float | None
    depth_iou: float | None


def measure_image(
    sample: RgbdSample, region: Mask | None = None, near_is: NearIs = "dark"
) -> ImageMeasures:
    """Measure one image.

    Args:
        sample: image and masks.
        region: (H, W), the salient objects as one region. None takes the union of the masks for the
            comparison with depth.
        near_is: how 8-bit pictures of depth show what is near. The paper turns the thresholded
            picture around so that near objects are foreground, which fits "dark".
    """
    masks = sample.masks[~sample.is_crowd]
    labelled: Mask = np.asarray(sample.masks.any(axis=0))
    near, is_measured = near_region(sample.frame, near_is)
    salient = labelled if region is None else region
    return ImageMeasures(
        size=sample.frame.size,
        areas_px=masks.sum(axis=(1, 2), dtype=np.int64),
        center_distances=center_distances(masks),
        margin_distances=margin_distances(masks),
        coverage=coverage(masks),
        object_iou=None if region is None else iou(labelled, region),
        depth_iou=iou(near & is_measured, salient & is_measured) if is_measured.any() else None,
    )


def center_distances(masks: Mask) -> NDArray[np.float64]:
    """Distance of each instance's centre of gravity from the image centre.

    The paper shows where centres lie and gives no number; this one is in half diagonals of the
    image: 0 in the middle, 1 in a corner.

    Args:
        masks: (n, H, W), none of them empty.

    Returns:
        (n,) in [0, 1].
    """
    return np.array([_distances(mask, to_mean=True) for mask in masks], np.float64)


def margin_distances(masks: Mask) -> NDArray[np.float64]:
    """Distance of each instance's outermost pixel from the image centre, in half diagonals.

    A measure beside the paper's, for large instances have their centre in the middle of the image
    whatever they are.

    Args:
        masks: (n, H, W), none of them empty.

    Returns:
        (n,) in [0, 1].
    """
    return np.array([_distances(mask, to_mean=False) for mask in masks], np.float64)


def _distances(mask: Mask, *, to_mean: bool) -> float:
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    # Pixel centres, as seen from the middle of the image.
    y, x = rows + 0.5 - height / 2, columns + 0.5 - width / 2
    half_diagonal = np.hypot(height, width) / 2
    distance = np.hypot(y.mean(), x.mean()) if to_mean else np.hypot(y, x).max()
    return float(distance / half_diagonal)


def coverage(masks: Mask) -> NDArray[np.float64]:
    """Sum of the masks on one grid, for the map of figure 6; each cell averages its pixels.

    Args:
        masks: (n, H, W).

    Returns:
        (GRID, GRID), each value in [0, n].
    """
    total = masks.sum(axis=0, dtype=np.float64)
    return _averaged(_averaged(total).T).T


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the rows of (length, n) in GRID cells of equal height, parts of rows included."""
    length = len(values)
    edges = np.linspace(0.0, length, GRID + 1)
    rows = np.minimum(edges.astype(int), length - 1)
    # The integral at a cell's edge: all rows before it and a part of the row that it cuts.
    integral = np.cumsum(values, axis=0) - values
    at_edges = integral[rows] + (edges - rows)[:, None] * values[rows]
    # Differences of sums may end a rounding error below 0.
    cells: NDArray[np.float64] = np.maximum(np.diff(at_edges, axis=0), 0.0) * (GRID / length)
    return cells


def near_region(frame: RgbdFrame, near_is: NearIs = "dark") -> tuple[Mask, Mask]:
    """Part the depth of an image into near and far with Otsu's threshold (paper, III-B4).

    The paper thresholds 8-bit pictures. Measured depth is cut at its 1st and 99th percentile and
    spread over 256 levels first, as single wrong pixels would set the range otherwise; pixels
    without a measurement take no part.

    Returns:
        Near pixels and measured pixels, both (H, W). Depth without contrast has nothing near.
    """
    if frame.depth_map is not None:
        is_measured = np.ones(frame.size, np.bool_)
        levels = frame.depth_map
        is_upper = _above_otsu(levels.reshape(-1)).reshape(frame.size)
        if levels.min() == levels.max():
            return np.zeros(frame.size, np.bool_), is_measured
        return is_upper if near_is == "bright" else ~is_upper, is_measured
    depth_m = frame.depth_m
    assert depth_m is not None
    is_measured = np.isfinite(depth_m) & (depth_m > 0)
    near = np.zeros(frame.size, np.bool_)
    if is_measured.any():
        values = depth_m[is_measured].astype(np.float64)
        first, last = np.percentile(values, (1, 99))
        if last > first:
            share = np.clip((values - first) / (last - first), 0.0, 1.0)
            near[is_measured] = ~_above_otsu(np.round(share * (_LEVELS - 1)).astype(np.uint8))
    return near, is_measured


def _above_otsu(levels: NDArray[np.uint8]) -> Mask:
    """Which of (n,) levels lie above the threshold that parts them best [Otsu 1979]."""
    _, upper = cv2.threshold(levels[:, None], 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above: Mask = upper[:, 0].astype(np.bool_)
    return above


def iou(first: Mask, second: Mask) -> float | None:
    """Shared pixels over pixels of either; None where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else None
