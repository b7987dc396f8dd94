"""Do scores mean what they say: of detections with score 0.8, are 80 % right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.evaluation.errors import EvaluationError


@dataclass(frozen=True, kw_only=True)
class ScoreBin:
    """Detections whose score lies in [low, high); the last bin includes 1.

    Attributes:
        low, high: edges, in [0, 1].
        count: detections in the bin.
        mean_score: mean of their scores in [0, 1], NaN without detections.
        share_right: share of them that is right in [0, 1], NaN without detections.
    """

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The reliability table and what it amounts to.

    Attributes:
        expected_error: mean gap between score and share of right detections over the bins, weighted
            by their counts (ECE), in per cent; NaN without detections.
        max_error: the widest gap of a bin, in per cent; NaN without detections.
        bins: the table, from score 0 to 1.
    """

    expected_error: float
    max_error: float
    bins: tuple[ScoreBin, ...]

    @property
    def num_detections(self) -> int:
        """Detections in all bins."""
        return sum(entry.count for entry in self.bins)


class ScoreCalibration:
    """Running reliability table with bins of equal width; single detections are not kept.

    Args:
        num_bins: from 1 to 1000.
    """

    def __init__(self, *, num_bins: int = 10) -> None:
        if not 1 <= num_bins <= 1000:
            raise EvaluationError(f"{num_bins} bins of scores; choose a number from 1 to 1000")
        self.num_bins = num_bins
        self.reset()

    def reset(self) -> None:
        """Forget all detections."""
        self._counts = np.zeros(self.num_bins, np.int64)
        self._num_right = np.zeros(self.num_bins, np.int64)
        self._score_sums = np.zeros(self.num_bins, np.float64)

    def update(
        self,
        scores: Sequence[float] | NDArray[np.floating[Any]],
        is_right: Sequence[bool] | NDArray[np.bool_],
    ) -> None:
        """Add detections.

        Args:
            scores: (D,) in [0, 1].
            is_right: (D,) whether each was matched to an object.

        Raises:
            EvaluationError: a score is no number from 0 to 1, or the lengths differ.
        """
        values, right = np.asarray(scores, np.float64), np.asarray(is_right, np.bool_)
        if values.shape != right.shape:
            raise EvaluationError(
                f"{values.size} scores for {right.size} detections; give one for each"
            )
        if not ((values >= 0.0) & (values <= 1.0)).all():
            worst = values[~((values >= 0.0) & (values <= 1.0))][0]
            raise EvaluationError(
                f"a detection has score {worst}; calibration needs scores from 0 to 1"
            )
        # Compared with the edges themselves: a product such as 0.7 * 10 may round across one.
        inner_edges = self._edges()[1:-1]
        index = np.searchsorted(inner_edges, values, side="right")
        self._counts += np.bincount(index, minlength=self.num_bins)
        self._num_right += np.bincount(index[right], minlength=self.num_bins)
        self._score_sums += np.bincount(index, weights=values, minlength=self.num_bins)

    def compute(self) -> Calibration:
        """The table of all detections since the start or the last `reset`."""
        filled = np.maximum(self._counts, 1)
        is_empty = self._counts == 0
        mean_scores = np.where(is_empty, np.nan, self._score_sums / filled)
        shares = np.where(is_empty, np.nan, self._num_right / filled)
        gaps = np.abs(mean_scores - shares)
        total = int(self._counts.sum())
        weighted = np.where(is_empty, 0.0, gaps * self._counts).sum()
        edges = self._edges()
        return Calibration(
            expected_error=100.0 * float(weighted) / total if total else float("nan"),
            max_error=100.0 * float(np.nanmax(gaps)) if total else float("nan"),
            bins=tuple(
                ScoreBin(
                    low=float(edges[number]),
                    high=float(edges[number + 1]),
                    count=int(self._counts[number]),
                    mean_score=float(mean_scores[number]),
                    share_right=float(shares[number]),
                )
                for number in range(self.num_bins)
            ),
        )

    def _edges(self) -> NDArray[np.float64]:
        return np.arange(self.num_bins + 1) / self.num_bins
