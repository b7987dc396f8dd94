from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from calibnet_core.perception.figures import STAGES, StreamFigures
from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.perceiver import Perception
from tests.support.perceptions import discs, make_perception

SIZE = (12, 16)
NO_TIMES: dict[str, float] = {}


def found(ratios: Sequence[float], *, has_depth: bool = True, is_measured: bool = True):
    """As many objects as ratios; what is not measured has the ratio of its class's default."""
    geometry = [
        ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS, depth_valid_ratio=ratio)
        if is_measured
        else ObjectGeometry(status=GeometryStatus.DISABLED)
        for ratio in ratios
    ]
    masks = discs(SIZE, len(ratios)) if ratios else np.zeros((0, *SIZE), np.bool_)
    return make_perception(masks, geometry=geometry, has_depth=has_depth)


EMPTY: Perception = found([])


def test_before_the_first_result_every_figure_is_there_and_nan() -> None:
    figures = StreamFigures()
    values = figures.values()
    assert len(values) == 3 * len(STAGES) + 4
    assert set(values.values()) == {"nan"}
    assert math.isnan(figures.p95_ms())
    assert math.isnan(figures.depth_validity())


def test_latencies_are_percentiles_by_stage_in_milliseconds() -> None:
    figures = StreamFigures()
    for step in range(101):
        figures.add(EMPTY, {"inference": float(step), "total": 2.0 * step}, 0)
    values = figures.values()
    names = ("p50", "p95", "p99")
    assert [values[f"inference_{name}_ms"] for name in names] == ["50.0", "95.0", "99.0"]
    assert [values[f"latency_{name}_ms"] for name in names] == ["100.0", "190.0", "198.0"]
    assert figures.p95_ms() == pytest.approx(190.0)
    assert values["publish_p50_ms"] == "nan"


def test_a_clock_that_stands_still_gives_no_negative_latency() -> None:
    figures = StreamFigures()
    figures.add(EMPTY, {"queue": -0.001}, 0)
    assert figures.values()["queue_p50_ms"] == "0.0"


def test_offsets_and_counts_are_means_over_the_results_that_have_them() -> None:
    figures = StreamFigures()
    figures.add(found([0.5, 0.7]), NO_TIMES, -9_000_000)
    figures.add(found([1.0]), NO_TIMES, 3_000_000)
    figures.add(EMPTY, NO_TIMES, None)  # without depth there is no offset
    values = figures.values()
    assert values["pair_offset_mean_ms"] == "-3.00"
    assert values["pair_offset_max_ms"] == "9.00"
    assert values["instances_mean"] == "1.00"
    # Every frame counts the same: (0.6 + 1.0) / 2.
    assert values["depth_valid_ratio_mean"] == "0.800"


def test_only_measured_objects_tell_of_depth() -> None:
    figures = StreamFigures()
    figures.add(found([0.0], is_measured=False), NO_TIMES, 0)
    figures.add(found([0.0], has_depth=False), NO_TIMES, None)
    figures.add(EMPTY, NO_TIMES, 0)
    assert math.isnan(figures.depth_validity())
    figures.add(found([0.0]), NO_TIMES, 0)
    assert figures.depth_validity() == 0.0


def test_depth_validity_is_that_of_the_last_half_second() -> None:
    figures = StreamFigures()
    figures.add(found([0.0]), NO_TIMES, 0)
    for _ in range(14):
        figures.add(found([1.0]), NO_TIMES, 0)
    assert figures.depth_validity() == pytest.approx(14 / 15)
    figures.add(found([1.0]), NO_TIMES, 0)
    assert figures.depth_validity() == 1.0
    for _ in range(15):  # no object any more, so nothing is known of depth
        figures.add(EMPTY, NO_TIMES, 0)
    assert math.isnan(figures.depth_validity())


def test_the_windows_hold_the_newest_and_a_restart_forgets() -> None:
    figures = StreamFigures()
    figures.add(found([1.0]), {"total": 1e6}, 10**12)
    for _ in range(512):
        figures.add(found([1.0]), {"total": 1.0}, 10**6)
    values = figures.values()
    assert (values["latency_p99_ms"], values["pair_offset_max_ms"]) == ("1.0", "1.00")
    figures.restart()
    assert set(figures.values().values()) == {"nan"}
