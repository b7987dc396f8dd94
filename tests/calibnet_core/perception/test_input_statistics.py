"""Stamps, pairs and depths summed up: worked cases, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.perception.input_statistics import (
    summarise_depth,
    summarise_stamps,
    try_pairing,
)
from calibnet_core.perception.pairing import PairerConfig

MS = 1_000_000


def test_a_worked_stream() -> None:
    stamps = [0, 100 * MS, 200 * MS, 200 * MS, 300 * MS, 500 * MS, 450 * MS]
    summary = summarise_stamps(stamps)
    assert (summary.count, summary.num_zero) == (7, 1)
    assert (summary.num_repeated, summary.num_backward) == (1, 1)
    assert summary.period_s == pytest.approx(0.1)
    assert summary.rate_hz == pytest.approx(10.0)
    assert summary.longest_gap_s == pytest.approx(0.2)
    assert summary.jitter_s == pytest.approx(0.0)  # of 0, 0 and 0.1 the 95th percentile below


def test_streams_without_a_period_have_no_rate() -> None:
    for stamps in ([], [0, 0], [5], [5, 5], [5, 4]):
        summary = summarise_stamps(stamps)
        assert summary.rate_hz == 0.0
        assert math.isnan(summary.jitter_s)


@given(st.integers(1, 10**9), st.integers(2, 50), st.integers(1, 2**60))
def test_an_even_stream_has_its_rate_and_no_jitter(period: int, count: int, start: int) -> None:
    summary = summarise_stamps([start + index * period for index in range(count)])
    assert summary.rate_hz == pytest.approx(1e9 / period)
    assert summary.jitter_s == pytest.approx(0.0, abs=1e-12)
    assert summary.longest_gap_s == pytest.approx(period / 1e9)


def test_pairs_offsets_and_losses_of_a_worked_case() -> None:
    arrivals = []
    for index in range(1, 11):
        arrivals.append(("color", index * 100 * MS))
        if index % 2:
            arrivals.append(("depth", index * 100 * MS + 6 * MS))
    arrivals.append(("color", 0))  # without a stamp: left out
    trial = try_pairing(arrivals)
    assert trial.num_pairs == 5
    assert trial.offset_median_s == pytest.approx(0.006)
    assert trial.offset_max_s == pytest.approx(0.006)
    assert trial.tolerance_s == pytest.approx(0.025)
    assert trial.unpaired_depth == {}
    assert sum(trial.unpaired_color.values()) <= 5
    assert trial.nearest_s == pytest.approx((0.006 + 0.094) / 2)


def test_depth_beyond_the_tolerance_does_not_pair_and_its_distance_is_known() -> None:
    arrivals = [
        entry
        for index in range(1, 31)
        for entry in (("color", index * 100 * MS), ("depth", index * 100 * MS - 40 * MS))
    ]
    trial = try_pairing(arrivals, PairerConfig(queue=1))
    assert trial.num_pairs == 0
    assert math.isnan(trial.offset_median_s)
    assert trial.nearest_s == pytest.approx(0.04)
    assert trial.unpaired_color["no_partner"] > 20


def test_a_loop_is_one_backward_jump() -> None:
    once = [(stream, index * 33 * MS) for index in range(1, 61) for stream in ("color", "depth")]
    trial = try_pairing(once + once)
    assert trial.num_backward_jumps == 1
    assert trial.num_pairs >= 118


@given(st.lists(st.tuples(st.sampled_from(["color", "depth"]), st.integers(-(2**62), 2**62))))
def test_no_message_is_counted_twice(arrivals: list[tuple[str, int]]) -> None:
    trial = try_pairing(arrivals)  # type: ignore[arg-type]
    for stream, unpaired in (("color", trial.unpaired_color), ("depth", trial.unpaired_depth)):
        given_ = sum(name == stream and bool(stamp) for name, stamp in arrivals)
        assert trial.num_pairs + sum(unpaired.values()) <= given_


def test_depth_is_summed_up_over_images_against_numpy() -> None:
    rng = np.random.default_rng(0)
    images = [rng.uniform(0.3, 5, (20, 30)).astype(np.float32) for _ in range(3)]
    images[0][:10] = np.nan
    summary = summarise_depth(images)
    assert summary.num_images == 3
    assert summary.valid_share == pytest.approx(1500 / 1800)
    values = np.stack(images).ravel()
    assert summary.median_m == pytest.approx(np.nanmedian(values))
    assert summary.near_m == pytest.approx(np.nanpercentile(values, 5))
    assert summary.far_m == pytest.approx(np.nanpercentile(values, 95))


def test_no_depth_has_no_figures() -> None:
    for images in ([], [np.full((4, 4), np.nan, np.float32)]):
        summary = summarise_depth(images)
        assert summary.valid_share == 0.0
        assert math.isnan(summary.median_m)
