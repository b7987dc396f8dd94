"""What the node makes of things that are not there: depth, calibration, memory of the device."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask, InstanceMaskArray
from diagnostic_msgs.msg import DiagnosticStatus

from tests.support.ros import (
    GREEN_DEPTH_M,
    RED_DEPTH_M,
    SIZE,
    camera_info_msg,
    color_msg,
    image_msg,
    scene_depth_m,
    value_of,
    wait_for,
)
from tests.support.stub_perception_node import FULL_MEMORY, NO_MEMORY, NOT_FINITE

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot(parameters={"input.timeout": 0.5, "input.size_mismatch": "resize_depth"})
    robot.wait_until_connected()
    return robot


def statuses(msg):
    return {instance.geometry_status for instance in msg.instances}


def report_with(robot, *words):
    """Wait for a camera's status that holds all of `words`."""

    def found():
        status, _ = robot.fresh_report()
        return status if all(word in status.message for word in words) else None

    return robot.wait_for(found, f"diagnostics with {words}")


def test_geometry_is_metres_in_the_optical_frame(robot):
    msg = robot.ask()
    near, far = msg.instances
    assert statuses(msg) == {InstanceMask.GEOMETRY_OK}
    assert near.centroid.z == pytest.approx(RED_DEPTH_M, abs=1e-3)
    assert far.centroid.z == pytest.approx(GREEN_DEPTH_M, abs=1e-3)
    assert near.centroid.x < 0 < far.centroid.x  # red is left of the middle, green right of it
    assert near.depth_valid_ratio == 1.0
    assert near.box_size.z == pytest.approx(0, abs=0.02)


def test_without_calibration_masks_are_published_and_diagnostics_ask_for_it(start_robot):
    robot = start_robot(parameters={"input.timeout": 0.5})
    robot.sends_info = False
    robot.wait_until_connected()
    msg = robot.ask()
    assert len(msg.instances) == 2
    assert statuses(msg) == {InstanceMask.GEOMETRY_NO_CAMERA_INFO}

    def warned():
        robot.ask()
        status, _ = robot.fresh_report()
        is_told = "no geometry without calibration" in status.message
        return status if is_told and "color/camera_info" in status.message else None

    assert robot.wait_for(warned, "the warning").level == DiagnosticStatus.WARN
    robot.info.publish(camera_info_msg())
    wait_for(lambda: statuses(robot.ask()) == {InstanceMask.GEOMETRY_OK}, "geometry")


def test_a_calibration_that_cannot_be_used_is_told_with_the_reason(start_robot):
    robot = start_robot(parameters={"input.timeout": 0.5})
    robot.sends_info = False
    robot.wait_until_connected()
    for changes, words in (
        ({"k": [0.0] * 9, "p": [0.0] * 12}, ["no focal length"]),
        ({"height": 480, "width": 640}, ["640x480", "64x48"]),
        ({"distortion_model": "purple", "d": [0.1] * 5}, ["purple"]),
    ):

        def warned(changes=changes, words=words):
            robot.info.publish(camera_info_msg(**changes))
            robot.ask()
            status, _ = robot.fresh_report()
            return status if all(word in status.message for word in words) else None

        assert robot.wait_for(warned, f"a warning with {words}").level == DiagnosticStatus.WARN
    robot.sends_info = True
    robot.wait_for(lambda: statuses(robot.ask()) == {InstanceMask.GEOMETRY_OK}, "geometry")
    status, _ = robot.fresh_report()
    assert "no geometry" not in status.message


def test_another_calibration_in_the_middle_of_the_stream_is_followed_and_logged(robot):
    before = robot.ask().instances[0].centroid
    robot.sends_info = False
    k = [30.0, 0.0, 31.5, 0.0, 30.0, 23.5, 0.0, 0.0, 1.0]
    p = [30.0, 0.0, 31.5, 0.0, 0.0, 30.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    robot.info.publish(camera_info_msg(k=k, p=p))
    assert robot.process.wait_for_line("INFO", "the camera info changed", "60.0", "30.0")
    after = robot.ask().instances[0].centroid
    robot.sends_info = True
    assert after.x == pytest.approx(2 * before.x, rel=1e-3)  # half the focal length
    assert after.z == pytest.approx(before.z)


def test_depth_without_any_measurement_is_told_when_it_lasts(robot):
    nothing = np.zeros(SIZE, "<u2")

    def warned():
        stamp_ns = robot.next_stamp()
        depth = image_msg(nothing, "16UC1", stamp_ns)
        msg = robot.answer(robot.send_pair(stamp_ns, depth=depth))
        assert len(msg.instances) == 2
        assert statuses(msg) == {InstanceMask.GEOMETRY_TOO_FEW_POINTS}
        status, _ = robot.fresh_report()
        return "hardly any object has depth" in status.message

    robot.wait_for(warned, "the warning")


def test_without_depth_nothing_is_published_where_it_is_required(robot):
    robot.ask()
    stamp_ns = robot.next_stamp()
    robot.color.publish(color_msg(stamp_ns))
    status = report_with(robot, "depth/image")
    assert status.level == DiagnosticStatus.ERROR
    assert "nothing on" in status.message
    assert robot.results_for(stamp_ns) == []


def test_without_depth_colour_goes_on_alone_where_depth_is_not_required(robot):
    robot.ask()
    assert robot.set_parameters(input__require_depth=False)[0].successful
    answered = len(robot.results)
    for _ in range(12):
        last_ns = robot.next_stamp()
        robot.color.publish(color_msg(last_ns))
    msg = robot.answer(last_ns)  # the newest is answered at once: nothing waits for depth any more
    assert msg.status == InstanceMaskArray.STATUS_DEPTH_MISSING
    assert (msg.depth_offset.sec, msg.depth_offset.nanosec) == (0, 0)
    assert statuses(msg) == {InstanceMask.GEOMETRY_NO_DEPTH}
    assert len(robot.results) > answered
    counters = robot.counters()
    assert counters["paired_without_depth"] > 0
    robot.assert_balanced()
    robot.ask()  # the first depth image says that depth is back; the next pair has it
    assert robot.ask().status == InstanceMaskArray.STATUS_OK
    robot.set_parameters(input__require_depth=True)


def test_depth_of_another_size_is_brought_to_that_of_colour_where_that_is_asked_for(robot):
    stamp_ns = robot.next_stamp()
    half = np.ascontiguousarray(scene_depth_m()[::2, ::2])
    msg = robot.answer(robot.send_pair(stamp_ns, depth=image_msg(half, "32FC1", stamp_ns)))
    assert msg.instances[0].depth_median == pytest.approx(RED_DEPTH_M)


def test_too_little_memory_costs_resolution_and_is_told_in_the_status(robot):
    assert robot.ask(order=FULL_MEMORY).status == InstanceMaskArray.STATUS_REDUCED_INPUT
    assert robot.ask().status == InstanceMaskArray.STATUS_OK


def test_an_answer_that_is_not_finite_is_dropped_and_the_weights_are_named(robot):
    before = robot.counters()
    stamp_ns = robot.send_pair(robot.next_stamp(), order=NOT_FINITE)
    robot.counters_after(
        lambda now: now["dropped_pairs.not_finite"] == before["dropped_pairs.not_finite"] + 1
    )
    assert robot.results_for(stamp_ns) == []
    assert robot.process.wait_for_line("ERROR", "not_finite", "57ab57ab")


def test_a_camera_that_is_unplugged_and_comes_back_is_served_again_without_a_restart(robot):
    """A camera that stops for longer than every timeout, and starts again."""
    track = robot.ask().instances[0].track_id
    report_with(robot, "nothing on", "color/image", "depth/image")
    after = robot.answer(robot.send_pair(robot.next_stamp(periods=50)))
    assert len(after.instances) == 2
    assert after.instances[0].track_id > track  # five seconds are too long to be the same

    def is_heard():
        robot.ask()  # on a busy machine a report may be farther off than the silence that it tells
        return "nothing on" not in robot.fresh_report()[0].message

    robot.wait_for(is_heard, "a report that hears both streams")
    robot.assert_balanced()


def test_no_memory_at_all_ends_unconfigured_with_the_reason(start_robot):
    robot = start_robot()
    robot.wait_until_connected()
    robot.send_pair(robot.next_stamp(), order=NO_MEMORY)
    assert robot.process.wait_for_line("ERROR", "too little memory", "stopping")
    robot.wait_for(lambda: robot.state() == "unconfigured", "the node to stop")
    status, _ = robot.fresh_report()
    assert status.level == DiagnosticStatus.ERROR
    assert "too little memory" in status.message


def test_the_counters_show_rates_offsets_and_stages(robot):
    for _ in range(5):
        robot.ask()
    status, _ = robot.fresh_report()
    for key in (
        "rate_color_hz",
        "rate_published_hz",
        "pair_offset_mean_ms",
        "queue_p50_ms",
        "inference_p95_ms",
        "publish_p99_ms",
        "latency_p50_ms",
        "instances_mean",
        "depth_valid_ratio_mean",
    ):
        assert not math.isnan(float(value_of(status, key))), key
    assert value_of(status, "clock_type") == "system"
