from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.perception.accounting import (
    DropReason,
    FrameLedger,
    LatencyWindow,
    LedgerImbalance,
)


def balanced_ledger() -> FrameLedger:
    """Six colour and five depth messages: three pairs, of which one is published."""
    ledger = FrameLedger()
    for _ in range(6):
        ledger.color_received()
    for _ in range(5):
        ledger.depth_received()
    ledger.color_dropped(DropReason.NO_PARTNER)
    ledger.color_dropped(DropReason.BAD_SIZE)
    ledger.depth_dropped(DropReason.NO_PARTNER)
    for _ in range(3):
        ledger.paired()
    ledger.pair_dropped(DropReason.SUPERSEDED)
    ledger.published()
    return ledger


def test_the_laws_hold_for_a_hand_worked_case() -> None:
    snapshot = balanced_ledger().snapshot(waiting_color=1, waiting_depth=1, in_flight=1)
    snapshot.check()
    assert snapshot.received_color == 6
    assert snapshot.received_depth == 5
    assert snapshot.dropped_color == {DropReason.NO_PARTNER: 1, DropReason.BAD_SIZE: 1}
    assert snapshot.dropped_depth == {DropReason.NO_PARTNER: 1}
    assert snapshot.dropped_pairs == {DropReason.SUPERSEDED: 1}
    assert (snapshot.paired, snapshot.published) == (3, 1)


@pytest.mark.parametrize(
    ("waiting_color", "waiting_depth", "in_flight", "words"),
    [
        (0, 1, 1, r"received_color == .* fails: 6 != 3 \+ 2 \+ 0; 1 left without being counted"),
        (2, 1, 1, r"received_color == .* fails: 6 != 3 \+ 2 \+ 2; 1 counted twice"),
        (1, 1, 0, r"paired == published .* fails: 3 != 1 \+ 1 \+ 0; 1 left without"),
        (1, 3, 1, r"received_depth == .* fails: 5 != 3 \+ 1 \+ 3; 2 counted twice"),
    ],
)
def test_a_queue_that_contradicts_the_counters_is_an_imbalance(
    waiting_color: int, waiting_depth: int, in_flight: int, words: str
) -> None:
    snapshot = balanced_ledger().snapshot(
        waiting_color=waiting_color, waiting_depth=waiting_depth, in_flight=in_flight
    )
    with pytest.raises(LedgerImbalance, match=words):
        snapshot.check()


def test_an_imbalance_is_an_assertion_error() -> None:
    assert issubclass(LedgerImbalance, AssertionError)


def test_the_depth_law_is_left_out_when_the_waiting_depth_is_unknown() -> None:
    ledger = FrameLedger()
    ledger.depth_received()
    ledger.snapshot(waiting_color=0, in_flight=0).check()


def test_colour_frames_that_go_on_alone_consume_no_depth() -> None:
    ledger = FrameLedger()
    ledger.color_received()
    ledger.paired(with_depth=False)
    ledger.published()
    snapshot = ledger.snapshot(waiting_color=0, waiting_depth=0, in_flight=0)
    snapshot.check()
    assert (snapshot.paired, snapshot.paired_without_depth) == (1, 1)


def test_a_snapshot_does_not_change_afterwards() -> None:
    ledger = FrameLedger()
    ledger.color_received()
    ledger.color_dropped(DropReason.PAUSED)
    snapshot = ledger.snapshot(waiting_color=0, in_flight=0)
    ledger.color_received()
    ledger.color_dropped(DropReason.PAUSED)
    assert snapshot.received_color == 1
    assert snapshot.dropped_color == {DropReason.PAUSED: 1}
    with pytest.raises(TypeError):
        snapshot.dropped_color[DropReason.PAUSED] = 5  # type: ignore[index]


def test_reset_sets_every_counter_to_zero() -> None:
    ledger = balanced_ledger()
    ledger.info_received()
    ledger.backward_jumped()
    assert ledger.snapshot(waiting_color=1, in_flight=1).received_info == 1
    assert ledger.snapshot(waiting_color=1, in_flight=1).backward_jumps == 1
    ledger.reset()
    empty = FrameLedger().snapshot(waiting_color=0, in_flight=0)
    assert ledger.snapshot(waiting_color=0, in_flight=0) == empty


def test_counts_from_many_threads_are_all_kept() -> None:
    ledger = FrameLedger()

    def count() -> None:
        for _ in range(2000):
            ledger.color_received()
            ledger.color_dropped(DropReason.TOO_OLD)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = ledger.snapshot(waiting_color=0, in_flight=0)
    snapshot.check()
    assert snapshot.dropped_color == {DropReason.TOO_OLD: 8000}


def test_no_other_thread_counts_while_the_ledger_is_held() -> None:
    ledger = FrameLedger()
    thread = threading.Thread(target=ledger.color_received)
    with ledger.atomically():
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        assert ledger.snapshot(waiting_color=0, in_flight=0).received_color == 0
    thread.join()
    assert ledger.snapshot(waiting_color=1, in_flight=0).received_color == 1


def test_drop_reasons_are_words_for_diagnostics() -> None:
    assert DropReason("no_partner") is DropReason.NO_PARTNER
    assert DropReason.NO_PARTNER.value == "no_partner"
    assert len({reason.value for reason in DropReason}) == len(DropReason)


def test_percentiles_of_a_hand_worked_window() -> None:
    window = LatencyWindow()
    for milliseconds in range(101):  # 0, 1, ... 100 ms: percentile p is p ms
        window.add(milliseconds / 1000)
    summary = window.percentiles()
    assert summary.count == 101
    assert summary.p50_ms == pytest.approx(50.0)
    assert summary.p95_ms == pytest.approx(95.0)
    assert summary.p99_ms == pytest.approx(99.0)


def test_an_empty_window_has_no_percentiles() -> None:
    window = LatencyWindow()
    window.add(0.1)
    window.clear()
    summary = window.percentiles()
    assert summary.count == 0
    assert all(math.isnan(p) for p in (summary.p50_ms, summary.p95_ms, summary.p99_ms))


@given(
    st.lists(st.floats(0.0, 10.0), min_size=1, max_size=30), st.integers(min_value=1, max_value=8)
)
def test_the_window_keeps_only_the_newest(latencies_s: list[float], size: int) -> None:
    window = LatencyWindow(size)
    for latency_s in latencies_s:
        window.add(latency_s)
    summary = window.percentiles()
    kept_s = latencies_s[-size:]
    assert summary.count == len(kept_s)
    assert summary.p50_ms == pytest.approx(1000 * float(np.median(kept_s)))
    assert summary.p50_ms <= summary.p95_ms <= summary.p99_ms


@pytest.mark.parametrize("latency_s", [-0.001, math.nan, math.inf])
def test_an_impossible_latency_is_refused(latency_s: float) -> None:
    with pytest.raises(ValueError, match="monotonic clock"):
        LatencyWindow().add(latency_s)


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="size 0 holds nothing"):
        LatencyWindow(0)
