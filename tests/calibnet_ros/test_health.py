"""What diagnostics are made from, read off a camera in this process."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import threading

import rclpy
from rclpy.lifecycle import LifecycleNode

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.figures import STAGES
from calibnet_ros.frame_input import COLOR, DEPTH, INFO
from calibnet_ros.health import Round, camera_health
from calibnet_ros.parameter_schema import DEFAULTS
from calibnet_ros.reports import Reporter
from calibnet_ros.requests import FrameRequests
from calibnet_ros.stream import Camera, Stream
from tests.support.perceptions import discs, known_geometry, make_perception
from tests.support.ros import color_msg, depth_msg

pytestmark = pytest.mark.ros

FRAME_NS = 100_000_000


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = LifecycleNode("healthy", namespace="robot", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def reporter(node):
    return Reporter(node.get_logger())


@pytest.fixture
def camera(node, reporter):
    requests = FrameRequests(node, str)
    return Camera(node, "left", DEFAULTS, reporter=reporter, requests=requests)


@pytest.fixture
def is_wanted():
    """Whether pairs are; to be changed by the test."""
    return [True]


@pytest.fixture
def stream(node, camera, is_wanted):
    return Stream.open(
        node,
        camera,
        DEFAULTS,
        changed=threading.Condition(),
        is_wanted=lambda stamp_ns: is_wanted[0],
    )


def send_pair(stream, frame):
    stream.input.intake.add_depth(depth_msg(frame * FRAME_NS))
    stream.input.intake.add_color(color_msg(frame * FRAME_NS))


def health_of(camera, reporter, *, last=None, this=None, **values):
    given = {**DEFAULTS, **{name.replace("__", "."): value for name, value in values.items()}}
    this = Round() if this is None else this
    last = Round() if last is None else last
    return camera_health(
        "left", camera, reporter, given, is_enabled=True, this=this, last=last
    ), this


def test_before_configuring_and_while_inactive_only_the_newest_fault_is_known(reporter, camera):
    reporter.remember("no such file")
    for known in (None, camera):
        health, this = health_of(known, reporter)
        assert (health.name, health.counts, health.last_error) == ("left", None, "no such file")
        assert 0 <= health.last_error_age_s < 10
        assert this.counts == {}


def test_a_round_keeps_its_counters_for_the_next_to_compare(reporter, camera, stream):
    send_pair(stream, 1)
    first, this = health_of(camera, reporter, last=Round(at=90.0), this=Round(at=100.0))
    assert (first.counts.paired, first.counts_before) == (1, None)
    assert this.counts == {"left": first.counts}
    send_pair(stream, 2)
    second, _ = health_of(camera, reporter, last=this, this=Round(at=100.5))
    assert (second.counts.paired, second.counts_before) == (2, first.counts)
    assert second.elapsed_s == 0.5
    second.counts.check()


def test_the_figures_are_those_of_the_stream(reporter, camera, stream):
    health, _ = health_of(camera, reporter)
    assert math.isnan(health.p95_ms)
    assert math.isnan(health.depth_validity)
    stream.withheld = 3
    seen = make_perception(discs((24, 32), 1), geometry=[known_geometry()])
    stream.figures.add(seen, dict.fromkeys(STAGES, 40.0), 2_000_000)
    health, _ = health_of(camera, reporter)
    assert health.p95_ms == pytest.approx(40.0)
    assert health.figures["withheld_transformed"] == "3"
    assert health.figures["pair_offset_mean_ms"] == "2.00"
    assert health.depth_validity == seen.geometry[0].depth_valid_ratio


def test_silent_inputs_are_told_by_their_own_names(reporter, camera, stream):
    send_pair(stream, 1)
    assert health_of(camera, reporter)[0].silent == {}
    health, _ = health_of(camera, reporter, input__timeout=-1.0)  # everything is silent by now
    assert set(health.silent) == {COLOR, DEPTH, INFO}
    assert "/robot/left/color/image" in health.silent[COLOR]
    assert "remap 'left/color/image'" in health.silent[COLOR]


# --- the stream itself ----------------------------------------------------------------------------


def test_a_newer_pair_takes_the_place_of_the_waiting_one_and_is_counted(stream):
    for frame in (1, 2, 3):
        send_pair(stream, frame)
    assert stream.mailbox.take(timeout_s=0).color.stamp_ns == 3 * FRAME_NS
    assert [stream.take_skipped(), stream.take_skipped()] == [2, 0]
    stream.end(None)
    counts = stream.snapshot()
    counts.check()
    assert (counts.published, counts.in_flight) == (1, 0)
    assert counts.dropped_pairs == {DropReason.SUPERSEDED: 2}


def test_what_nobody_wants_is_counted_as_paused_and_not_as_skipped(stream, is_wanted):
    is_wanted[0] = False
    send_pair(stream, 1)
    is_wanted[0] = True
    send_pair(stream, 2)
    counts = stream.snapshot()
    counts.check()
    assert counts.dropped_pairs == {DropReason.PAUSED: 1}
    assert (counts.in_flight, stream.take_skipped()) == (1, 0)


def test_closing_counts_what_waits_and_what_is_at_work_still_counts_when_it_ends(camera, stream):
    send_pair(stream, 1)
    assert stream.mailbox.take(timeout_s=0)
    send_pair(stream, 2)
    stream.close()
    assert camera.stream is None
    counts = stream.snapshot()
    counts.check()
    assert (counts.in_flight, counts.dropped_pairs) == (1, {DropReason.SHUTDOWN: 1})
    stream.end(DropReason.SHUTDOWN)
    counts = stream.snapshot()
    counts.check()
    assert (counts.in_flight, counts.dropped_pairs) == (0, {DropReason.SHUTDOWN: 2})


def test_a_jump_back_in_time_is_told_and_makes_figures_begin_anew(reporter, stream):
    stream.figures.add(make_perception(discs((24, 32), 2)), dict.fromkeys(STAGES, 40.0), 0)
    send_pair(stream, 50)
    send_pair(stream, 1)
    assert math.isnan(stream.figures.p95_ms())
    assert stream.snapshot().backward_jumps == 1


def test_as_many_results_are_kept_as_asked_for_and_the_newest_comes_first(node, reporter):
    seen = [make_perception(discs((24, 32), 1)) for _ in range(3)]
    requests = FrameRequests(node, str)
    for history, kept in ((2, [seen[2], seen[1]]), (0, [])):
        values = {**DEFAULTS, "output.history": history}
        camera = Camera(node, "", values, reporter=reporter, requests=requests)
        for perception in seen:
            camera.remember(perception)
        assert camera.remembered() == kept
        camera.destroy()


def test_why_no_frame_comes_is_told_from_what_is_known_best(reporter, camera, stream, monkeypatch):
    reporter.remember("dropped color (bad_size): too short")
    assert camera.what_is_missing() == "dropped color (bad_size): too short"
    monkeypatch.setattr(stream.silence, "check", lambda counts, timeout_s: {COLOR: "nothing"})
    assert camera.what_is_missing() == "nothing"
    stream.close()
    assert "activate" in camera.what_is_missing()
