"""Scores that mean what they say: a map from the network's score to the chance of being right.

Right is an instance that is matched to a labelled object at an overlap (IoU) of 0.5 or more. The
map is fitted on labelled images, kept in the weights file and applied by the pipeline
(`ros_interface.md`, section 4.1, row 4).
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.config import ConfigError, build_section, require

MAX_KNOTS = 32
MIN_DETECTIONS = 50
"""Fewer tell nothing about ten ranges of score."""

_OWN_SHARE = 0.01
"""How much of the network's score is mixed in, so that where isotonic regression is flat the order
of the scores survives. No probability moves by more.
"""
_PRIOR = np.linspace(0.0, 1.0, 21)
"""Scores of imagined detections, one each, that are right just as often as their score says."""
_MAX_TEXT = 16_384
"""Characters; 32 knots need 1500."""


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """A rising, piecewise linear map from score to probability.

    Attributes:
        raw: 2 to `MAX_KNOTS` scores of the network, rising from 0 to 1.
        calibrated: for each the probability of being right in [0, 1], rising.
        dataset: name of the set that it was fitted on.
        date: day of the fit, ISO 8601.
        num_detections: how many detections it rests on.

    Raises:
        ConfigError: a value is out of range; the message names it.
    """

    raw: tuple[float, ...]
    calibrated: tuple[float, ...]
    dataset: str
    date: str
    num_detections: int

    def __post_init__(self) -> None:
        raw, calibrated = np.asarray(self.raw), np.asarray(self.calibrated)
        require(
            2 <= len(raw) <= MAX_KNOTS and len(raw) == len(calibrated),
            "the numbers of knots (raw, calibrated)",
            (len(raw), len(calibrated)),
            f"the same number twice, from 2 to {MAX_KNOTS}",
        )
        # Written so that NaN fails.
        require(
            raw[0] == 0.0 and raw[-1] == 1.0 and bool((np.diff(raw) > 0.0).all()),
            "raw",
            self.raw,
            "scores that rise from 0 to 1",
        )
        require(
            bool(calibrated[0] >= 0.0)
            and bool(calibrated[-1] <= 1.0)
            and bool((np.diff(calibrated) > 0.0).all()),
            "calibrated",
            self.calibrated,
            "probabilities that rise within 0 to 1",
        )
        require(
            0 < len(self.dataset) <= 300 and self.dataset.isprintable(),
            "dataset",
            self.dataset[:300],
            "a name of 1 to 300 printable characters",
        )
        try:
            is_day = datetime.date.fromisoformat(self.date).isoformat() == self.date
        except ValueError:
            is_day = False
        require(is_day, "date", self.date[:40], "a day as YYYY-MM-DD")
        require(self.num_detections >= 0, "num_detections", self.num_detections, "0 or more")

    def __call__(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Probabilities of being right for scores of any shape in [0, 1].

        A higher score never gets a lower probability. Scores that differ by less than about 1e-5
        may get the same one, for float32 ends there.
        """
        probabilities: NDArray[np.float64] = np.interp(scores, self.raw, self.calibrated)
        return probabilities.astype(np.float32)

    def to_json(self) -> str:
        """The map as text, for the metadata of a weights file."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ScoreMap:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: the text is no such map; the message says what is wrong with it.
        """
        if len(text) > _MAX_TEXT:
            raise ConfigError(f"it has {len(text)} characters; expected at most {_MAX_TEXT}")
        try:
            return build_section(cls, json.loads(text), "")
        except ConfigError:
            raise
        except (ValueError, RecursionError, OverflowError) as error:
            raise ConfigError(f"it is no readable JSON ({error})") from error


def fit_score_map(
    scores: Sequence[float] | NDArray[np.floating[Any]],
    is_right: Sequence[bool] | NDArray[np.bool_],
    *,
    dataset: str,
    date: str,
) -> ScoreMap:
    """Fit the map by isotonic regression: of all rising maps the one nearest to the data.

    Detections are put into at most 29 groups of similar score, a knot each. To them come 21
    imagined detections, spread evenly, that are right just as often as their score says: where
    detections are few the network's score is believed, and nothing is ever certain.

    Args:
        scores: (D,) raw scores in [0, 1].
        is_right: (D,) whether each was matched to an object.
        dataset: name of the set, for the record.
        date: day of the fit as YYYY-MM-DD, for the record.

    Raises:
        ConfigError: there are fewer than `MIN_DETECTIONS`, or a score is no number from 0 to 1.
    """
    # Rounded, so that no two knots are closer than float64 can tell.
    values = np.asarray(scores, np.float64).round(6)
    right = np.asarray(is_right, np.float64)
    require(
        len(values) >= MIN_DETECTIONS,
        "the number of detections",
        len(values),
        f"a larger set: calibration needs at least {MIN_DETECTIONS}",
    )
    is_score = (values >= 0.0) & (values <= 1.0)
    require(bool(is_score.all()), "a score", values[~is_score][:1], "scores from 0 to 1")
    values, right = np.concatenate((values, _PRIOR)), np.concatenate((right, _PRIOR))
    groups = np.digitize(values, _group_edges(values))
    mass = np.bincount(groups).astype(np.float64)
    is_filled = mass > 0.0
    mass = mass[is_filled]
    means = np.bincount(groups, values)[is_filled] / mass
    shares = np.bincount(groups, right)[is_filled] / mass
    rising = nearest_rising(shares, mass)
    raw = np.unique(np.concatenate(([0.0], means, [1.0])))
    calibrated = (1.0 - _OWN_SHARE) * np.interp(raw, means, rising) + _OWN_SHARE * raw
    return ScoreMap(
        raw=tuple(raw.tolist()),
        calibrated=tuple(calibrated.tolist()),
        dataset=dataset,
        date=date,
        num_detections=len(scores),
    )


def nearest_rising(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The sequence without a fall that is nearest to (K,) values in weighted least squares.

    Neighbours that fall are pooled into their mean until none does. scipy has this too, but the
    releases that come with the supported systems do not.
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            before = pools.pop()
            mass = before[1] + pool[1]
            mean = (before[0] * before[1] + pool[0] * pool[1]) / mass
            pool = (mean, mass, before[2] + pool[2])
        pools.append(pool)
    means, _, lengths = zip(*pools, strict=True)
    return np.repeat(np.array(means), lengths)


def _group_edges(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between the groups: half of them share out the scores, half the range from 0 to 1."""
    shares = np.linspace(0.0, 1.0, MAX_KNOTS // 2)[1:-1]
    return np.unique(np.concatenate((shares, np.quantile(scores, shares))))
