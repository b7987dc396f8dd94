"""What the node says in its log, and how often."""

from __future__ import annotations

import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import BackwardJump
from calibnet_ros import reports


class Log:
    """Collects what a logger would print."""

    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(("info", text))

    def warning(self, text):
        self.lines.append(("warning", text))

    def error(self, text):
        self.lines.append(("error", text))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def now(monkeypatch):
    """The monotonic clock, to be set by hand."""
    seconds = [100.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: seconds[0])
    return seconds


def test_each_kind_of_fault_is_logged_once_in_ten_seconds(log, now):
    reporter = reports.Reporter(log)
    for _ in range(3):
        reporter.dropped("color", DropReason.BAD_SIZE, "too short")
        reporter.dropped("depth", DropReason.BAD_SIZE, "too short")
        reporter.dropped("color", DropReason.BAD_STAMP, "no stamp")
    assert log.lines == [
        ("warning", "dropped color (bad_size): too short"),
        ("warning", "dropped depth (bad_size): too short"),
        ("warning", "dropped color (bad_stamp): no stamp"),
    ]
    now[0] += 9.9
    reporter.dropped("color", DropReason.BAD_SIZE, "too short")
    assert len(log.lines) == 3
    now[0] += 0.2
    reporter.dropped("color", DropReason.BAD_SIZE, "too short")
    assert len(log.lines) == 4


def test_the_newest_fault_is_remembered_even_when_it_is_not_logged(log, now):
    reporter = reports.Reporter(log)
    assert reporter.last_error == ""
    reporter.dropped("color", DropReason.BAD_SIZE, "first")
    now[0] += 1
    reporter.dropped("color", DropReason.BAD_SIZE, "second")
    assert len(log.lines) == 1
    assert reporter.last_error == "dropped color (bad_size): second"
    assert reporter.last_error_at == 101.0


def test_a_failed_inference_is_an_error(log, now):
    reporter = reports.Reporter(log)
    reporter.failed("inference failed: out of memory")
    reporter.failed("inference failed: out of memory")
    assert log.lines == [("error", "inference failed: out of memory")]
    assert reporter.last_error == "inference failed: out of memory"


def test_frames_that_differ_are_told_of_once_for_ever(log, now):
    reporter = reports.Reporter(log)
    for _ in range(3):
        reporter.frame_ids("color_frame", "depth_frame")
        now[0] += 1000
    reporter.frame_ids("same", "same")
    assert [(level, "'color_frame'" in text, "align" in text) for level, text in log.lines] == [
        ("warning", True, True)
    ]


def test_every_backward_jump_is_told(log, now):
    reporter = reports.Reporter(log)
    for _ in range(2):
        reporter.backward_jump(BackwardJump("depth", 3_500_000_000, 1_000_000_000))
    assert len(log.lines) == 2
    assert log.lines[0][0] == "info"
    assert "depth stamps went back by 2.500 s" in log.lines[0][1]


def test_clocks_that_disagree_are_told_with_both_ways_out(log, now):
    reporter = reports.Reporter(log)
    reporter.clocks(7.25)
    ((level, text),) = log.lines
    assert level == "warning"
    assert "7.2 s ahead" in text
    assert "synchronise" in text
    assert "use_sim_time" in text
