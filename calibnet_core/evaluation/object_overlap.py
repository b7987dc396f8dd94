"""Overlap and boundary precision, recall and F of segmented objects.

The protocol of unseen-object segmentation, after Xie et al., "The Best of Both Modes" (CoRL 2019):
predictions and objects are paired one to one so that the sum of their F is the highest, and pixels
are counted within pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, hypot

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.perception.mask_codec import label_image

BOUNDARY_TOLERANCE = 0.003
"""Distance at which boundaries still agree, as a share of the image diagonal; rounded up."""

FOUND_ABOVE = 0.75
"""An object counts as found when it overlaps with F above this."""


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """Pixels that agree, of those predicted and of those annotated.

    `right` and `recovered` are the same number for overlap; for boundaries they differ.
    """

    right: int = 0
    predicted: int = 0
    recovered: int = 0
    annotated: int = 0

    @property
    def precision(self) -> float:
        """In per cent; 100 where nothing was predicted, for nothing of that was wrong."""
        return 100.0 * self.right / self.predicted if self.predicted else 100.0

    @property
    def recall(self) -> float:
        """In per cent; 100 where nothing was there to be found."""
        return 100.0 * self.recovered / self.annotated if self.annotated else 100.0

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall in per cent; 0 where just one side has pixels."""
        if bool(self.predicted) != bool(self.annotated):
            return 0.0
        total = self.precision + self.recall
        return 2.0 * self.precision * self.recall / total if total else 0.0

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            right=self.right + other.right,
            predicted=self.predicted + other.predicted,
            recovered=self.recovered + other.recovered,
            annotated=self.annotated + other.annotated,
        )


@dataclass(frozen=True, kw_only=True)
class ImageOverlap:
    """How predictions and objects of one image agree.

    Attributes:
        overlap: pixels of the masks.
        boundary: pixels of their boundaries.
        num_objects: objects annotated.
        num_found: objects whose pair has F above `FOUND_ABOVE`.
        pairs: (index of the object, index of the prediction) of all that share a pixel.
    """

    overlap: PixelCounts
    boundary: PixelCounts
    num_objects: int
    num_found: int
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class OverlapMeans:
    """Figures in per cent, NaN where there is nothing to average."""

    overlap_precision: float
    overlap_recall: float
    overlap_f: float
    boundary_precision: float
    boundary_recall: float
    boundary_f: float
    found_above_75: float


@dataclass(frozen=True, kw_only=True)
class OverlapFigures:
    """The figures of a set under both conventions.

    Attributes:
        per_image: mean of the images' figures, the convention of published tables; the share of
            objects found is averaged over images that have objects.
        pooled: pixels and objects of all images counted together, so that large objects and full
            images weigh more.
        num_images, num_objects, num_found: what was counted.
    """

    per_image: OverlapMeans
    pooled: OverlapMeans
    num_images: int
    num_objects: int
    num_found: int


class ObjectOverlap:
    """Running figures of a set; nothing of a single image is kept.

    Args:
        boundary_tolerance: distance at which boundaries still agree, as a share of the image's
            diagonal, rounded up to whole pixels; in [0, 0.1].
    """

    def __init__(self, *, boundary_tolerance: float = BOUNDARY_TOLERANCE) -> None:
        if not 0.0 <= boundary_tolerance <= 0.1:
            raise EvaluationError(
                f"the boundary tolerance is {boundary_tolerance}; choose a share of the image "
                "diagonal from 0 to 0.1"
            )
        self.boundary_tolerance = boundary_tolerance
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._sums = _Sums()

    def update(
        self,
        gt_masks: NDArray[np.bool_],
        masks: NDArray[np.bool_],
        *,
        is_outside: NDArray[np.bool_] | None = None,
    ) -> ImageOverlap:
        """Add one image.

        Args:
            gt_masks: (N, H, W) objects.
            masks: (K, H, W) predictions, best first: where they overlap the first keeps the pixel,
                for the protocol knows one object a pixel.
            is_outside: (H, W) pixels that count for nothing unless an object covers them, such as
                crowds.

        Returns:
            The figures of this image.

        Raises:
            EvaluationError: the sizes differ.
        """
        if gt_masks.shape[1:] != masks.shape[1:]:
            raise EvaluationError(
                f"objects have size {gt_masks.shape[1:]} but predictions {masks.shape[1:]} "
                "(height, width); bring predictions to the size of the image"
            )
        labels = label_image(masks).astype(np.int64)
        if is_outside is not None:
            labels[is_outside & ~gt_masks.any(axis=0)] = 0
        radius = ceil(self.boundary_tolerance * hypot(*labels.shape))
        image = _compare(gt_masks, labels, len(masks), radius)
        self._sums.add(image)
        return image

    def compute(self) -> OverlapFigures:
        """The figures of all images since the start or the last `reset`."""
        return self._sums.figures()


@dataclass(kw_only=True)
class _Sums:
    overlap: PixelCounts = field(default_factory=PixelCounts)
    boundary: PixelCounts = field(default_factory=PixelCounts)
    num_images: int = 0
    num_with_objects: int = 0
    num_objects: int = 0
    num_found: int = 0
    means: NDArray[np.float64] = field(default_factory=lambda: np.zeros(6))
    found: float = 0.0

    def add(self, image: ImageOverlap) -> None:
        self.overlap += image.overlap
        self.boundary += image.boundary
        self.num_images += 1
        self.num_objects += image.num_objects
        self.num_found += image.num_found
        self.means += _six(image.overlap, image.boundary)
        if image.num_objects:
            self.num_with_objects += 1
            self.found += 100.0 * image.num_found / image.num_objects

    def figures(self) -> OverlapFigures:
        nan = float("nan")
        means = self.means / self.num_images if self.num_images else np.full(6, nan)
        pooled = _six(self.overlap, self.boundary) if self.num_images else np.full(6, nan)
        found = self.found / self.num_with_objects if self.num_objects else nan
        pooled_found = 100.0 * self.num_found / self.num_objects if self.num_objects else nan
        return OverlapFigures(
            per_image=OverlapMeans(**_named(means), found_above_75=found),
            pooled=OverlapMeans(**_named(pooled), found_above_75=pooled_found),
            num_images=self.num_images,
            num_objects=self.num_objects,
            num_found=self.num_found,
        )


def boundary_pixels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of an (H, W) mask with a neighbour above, below, left or right outside the mask.

    The edge of the image is no boundary: the object may go on beyond it.
    """
    padded = np.pad(mask, 1, mode="edge")
    is_inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~is_inner


def _compare(
    gt_masks: NDArray[np.bool_], labels: NDArray[np.int64], num_masks: int, radius: int
) -> ImageOverlap:
    shared = np.array(
        [np.bincount(labels[mask], minlength=num_masks + 1)[1:] for mask in gt_masks], np.int64
    ).reshape(len(gt_masks), num_masks)
    gt_areas = gt_masks.sum(axis=(1, 2))
    areas = np.bincount(labels.ravel(), minlength=num_masks + 1)[1:]
    pair_f = 2.0 * shared / np.maximum(gt_areas[:, np.newaxis] + areas[np.newaxis], 1)
    rows, columns = linear_sum_assignment(pair_f, maximize=True)
    pairs = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if shared[i, j]]
    num_shared = sum(int(shared[pair]) for pair in pairs)

    gt_boundaries = [boundary_pixels(mask) for mask in gt_masks]
    boundaries = [boundary_pixels(labels == number) for number in range(1, num_masks + 1)]
    return ImageOverlap(
        overlap=PixelCounts(
            right=num_shared,
            predicted=int(areas.sum()),
            recovered=num_shared,
            annotated=int(gt_areas.sum()),
        ),
        boundary=PixelCounts(
            right=sum(_num_near(boundaries[j], gt_boundaries[i], radius) for i, j in pairs),
            predicted=_total(boundaries),
            recovered=sum(_num_near(gt_boundaries[i], boundaries[j], radius) for i, j in pairs),
            annotated=_total(gt_boundaries),
        ),
        num_objects=len(gt_masks),
        num_found=sum(bool(pair_f[pair] > FOUND_ABOVE) for pair in pairs),
        pairs=tuple(pairs),
    )


def _num_near(pixels: NDArray[np.bool_], others: NDArray[np.bool_], radius: int) -> int:
    """How many pixels lie within `radius` of one of the others."""
    reach = np.arange(-radius, radius + 1)
    disc = (reach[:, np.newaxis] ** 2 + reach**2 <= radius**2).astype(np.uint8)
    return int((cv2.dilate(others.astype(np.uint8), disc) > 0)[pixels].sum())


def _total(masks: Iterable[NDArray[np.bool_]]) -> int:
    return sum(int(mask.sum()) for mask in masks)


def _six(overlap: PixelCounts, boundary: PixelCounts) -> NDArray[np.float64]:
    return np.array([getattr(c, name) for c in (overlap, boundary) for name in _NAMES])


def _named(values: NDArray[np.float64]) -> dict[str, float]:
    names = [f"{kind}_{name}" for kind in ("overlap", "boundary") for name in _NAMES]
    return dict(zip(names, values.tolist(), strict=True))


_NAMES = ("precision", "recall", "f")
