"""What the node says in its log, and how often."""

from __future__ import annotations

from types import SimpleNamespace

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
    """The reporter's clock, to be set by hand."""
    seconds = [100.0]
    monkeypatch.setattr(reports, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def calibration(focal_length):
    k = [focal_length, 0.0, 31.5, 0.0, focal_length, 23.5, 0.0, 0.0, 1.0]
    return SimpleNamespace(width=64, height=48, k=k, distortion_model="")


def test_each_kind_of_fault_is_logged_once_in_ten_seconds(log, now):
    reporter = reports.Reporter(log)
    for _ in range(3):
        reporter.dropped("color", DropReason.BAD_SIZE, "too short")
        reporter.dropped("depth", DropReason.BAD_SIZE, "too short")
        reporter.dropped("color", DropReason.BAD_STAMP, "no stamp")
        reporter.withheld("~/points", "no calibration")
        reporter.withheld("~/overlay", "no calibration")
    assert log.lines == [
        ("warning", "dropped color (bad_size): too short"),
        ("warning", "dropped depth (bad_size): too short"),
        ("warning", "dropped color (bad_stamp): no stamp"),
        ("warning", "~/points withheld: no calibration"),
        ("warning", "~/overlay withheld: no calibration"),
    ]
    now[0] += 9.9
    reporter.dropped("color", DropReason.BAD_SIZE, "too short")
    assert len(log.lines) == 5
    now[0] += 0.2
    reporter.dropped("color", DropReason.BAD_SIZE, "too short")
    assert len(log.lines) == 6


def test_lines_of_a_camera_with_a_name_begin_with_it(log, now):
    reporter = reports.Reporter(log, "left")
    reporter.dropped("color", DropReason.BAD_SIZE, "too short")
    reporter.failed("inference failed")
    reporter.incompatible("a publisher cannot be heard")
    reporter.withheld("~/points", "no depth")
    reporter.clocks(2.0)
    reporter.frame_ids("a_link", "b")
    reporter.camera_info_changed(calibration(60.0), calibration(30.0))
    reporter.backward_jump(BackwardJump("depth", 2, 1))
    assert len(log.lines) == 9
    assert {text.startswith("left: ") for _, text in log.lines} == {True}


def test_the_newest_fault_is_remembered_even_when_it_is_not_logged(log, now):
    reporter = reports.Reporter(log)
    assert reporter.last_error == ""
    reporter.dropped("color", DropReason.BAD_SIZE, "first")
    now[0] += 1
    reporter.dropped("color", DropReason.BAD_SIZE, "second")
    assert len(log.lines) == 1
    assert reporter.last_error == "dropped color (bad_size): second"
    assert reporter.last_error_at == 101.0
    reporter.forget()
    assert reporter.last_error == ""
    reporter.remember("no such file")
    assert (reporter.last_error, len(log.lines)) == ("no such file", 1)


def test_a_failed_inference_is_an_error(log, now):
    reporter = reports.Reporter(log)
    reporter.failed("inference failed: out of memory")
    reporter.failed("inference failed: out of memory")
    assert log.lines == [("error", "inference failed: out of memory")]
    assert reporter.last_error == "inference failed: out of memory"


def test_what_does_not_change_is_told_once_for_ever(log, now):
    reporter = reports.Reporter(log)
    for _ in range(3):
        reporter.frame_ids("color_frame", "depth_frame")
        reporter.frame_ids("camera_link", "camera_link")
        reporter.incompatible("a publisher of /a cannot be heard")
        reporter.incompatible("a publisher of /b cannot be heard")
        reporter.color_encoding("8UC3")
        reporter.color_encoding("rgb8")
        now[0] += 1000
    reporter.frame_ids("same", "same")
    levels = [level for level, _ in log.lines]
    assert levels == ["warning", "info", "warning", "warning", "info"]
    assert "'color_frame'" in log.lines[0][1]
    assert "align" in log.lines[0][1]
    assert "'camera_link'" in log.lines[1][1]
    assert "8UC3" in log.lines[4][1]
    assert "blue, green, red" in log.lines[4][1]


def test_a_calibration_that_changes_all_the_time_does_not_fill_the_log(log, now):
    """As that of a camera with autofocus does."""
    reporter = reports.Reporter(log)
    for step in range(300):
        reporter.camera_info_changed(calibration(60.0 + step), calibration(61.0 + step))
        now[0] += 0.033
    assert [level for level, _ in log.lines] == ["info"]
    assert "60.0" in log.lines[0][1]
    assert "61.0" in log.lines[0][1]
    assert reporter.last_error == ""


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
