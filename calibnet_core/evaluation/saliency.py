"""Mean absolute error and maximum F of saliency maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibnet_core.evaluation.errors import EvaluationError

_LEVELS = 256
_BETA_SQUARED = 0.3  # Achanta et al., "Frequency-tuned salient region detection" (CVPR 2009), eq. 9


@dataclass(frozen=True, kw_only=True)
class SaliencyFigures:
    """The figures of a set.

    Attributes:
        mae: mean absolute difference of map and truth, averaged over the images, in [0, 1]; NaN
            without images.
        max_f: the highest point of the mean F curve over the 256 levels, in [0, 1]; NaN where no
            image has anything salient.
        num_images: images added.
    """

    mae: float
    max_f: float
    num_images: int


class SaliencyMaps:
    """Running figures; of an image two numbers and one curve are added up, nothing else is kept.

    F weighs precision more than recall, with beta squared 0.3. Maps are taken as they are: they are
    not stretched to the full range, for a robot sees them unstretched. Images in which nothing is
    salient have no F and count for the error alone.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._errors, self._num_images, self._num_salient = 0.0, 0, 0
        self._f_sums = np.zeros(_LEVELS, np.float64)

    def update(
        self,
        saliency: NDArray[np.uint8],
        truth: NDArray[np.bool_],
        *,
        is_outside: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add an image.

        Args:
            saliency: (H, W) uint8, 255 is surely salient.
            truth: (H, W) bool.
            is_outside: (H, W) bool, pixels that count for nothing.

        Raises:
            EvaluationError: the sizes differ.
        """
        if saliency.shape != truth.shape:
            raise EvaluationError(
                f"the saliency map is {saliency.shape} but its truth {truth.shape} (height, "
                "width); make them at the size of the image"
            )
        counted = np.ones(truth.shape, np.bool_) if is_outside is None else ~is_outside
        on = np.bincount(saliency[counted & truth], minlength=_LEVELS)
        off = np.bincount(saliency[counted & ~truth], minlength=_LEVELS)
        num_on, num_pixels = int(on.sum()), int(on.sum() + off.sum())
        if not num_pixels:
            return
        levels = np.arange(_LEVELS)
        error = int((on * (_LEVELS - 1 - levels)).sum() + (off * levels).sum())
        self._errors += error / ((_LEVELS - 1) * num_pixels)
        self._num_images += 1
        if not num_on:
            return
        # Level t takes every pixel of at least t.
        right = np.cumsum(on[::-1])[::-1].astype(np.float64)
        taken = right + np.cumsum(off[::-1])[::-1]
        precision = right / np.maximum(taken, 1)
        recall = right / num_on
        weighted = np.maximum(_BETA_SQUARED * precision + recall, np.finfo(np.float64).tiny)
        self._f_sums += (1.0 + _BETA_SQUARED) * precision * recall / weighted
        self._num_salient += 1

    def compute(self) -> SaliencyFigures:
        """The figures of all images since the start or the last `reset`."""
        images, salient = self._num_images, self._num_salient
        return SaliencyFigures(
            mae=self._errors / images if images else math.nan,
            max_f=float(self._f_sums.max()) / salient if salient else math.nan,
            num_images=images,
        )
