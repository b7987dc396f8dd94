"""Parameters of the running node, over the wire."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from rcl_interfaces.srv import DescribeParameters, ListParameters

from calibnet_ros.parameters import SCHEMA, Change
from tests.support.ros import NS_PER_MS, NodeProcess, depth_msg, node_command, wait_for

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot()
    robot.wait_until_connected()
    return robot


def test_every_parameter_is_declared_and_described(robot):
    names = robot.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    assert {row.name for row in SCHEMA} <= set(names)
    request = DescribeParameters.Request(names=[row.name for row in SCHEMA])
    descriptors = robot.call(DescribeParameters, "describe_parameters", request).descriptors
    for row, descriptor in zip(SCHEMA, descriptors, strict=True):
        assert descriptor.description.startswith(row.help)
        assert descriptor.read_only == (row.change is Change.LAUNCH)
        for choice in row.choices:
            assert choice in descriptor.additional_constraints


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("detection.score_threshold", 1.5, ["detection.score_threshold"]),
        ("detection.score_threshold", -0.1, ["detection.score_threshold"]),
        ("detection.score_threshold", math.nan, ["detection.score_threshold"]),
        ("detection.mask_threshold", 0.0, ["detection.mask_threshold"]),
        ("detection.max_instances", 0, ["detection.max_instances"]),
        ("sync.mode", "sometimes", ["sync.mode", "nearest, exact, latest"]),
        ("sync.tolerance", 0.0001, ["sync.tolerance", "0.0005"]),
        ("sync.queue", 31, ["sync.queue"]),
        ("input.timeout", math.inf, ["input.timeout"]),
        ("depth.unit", "cm", ["depth.unit", "auto, m, mm"]),
        ("depth.min", 20.0, ["depth.min", "depth.max"]),
        ("depth.max", 0.05, ["depth.min", "depth.max"]),
        ("output.mask_encoding", "png", ["output.mask_encoding", "bits, mono8, rle, none"]),
        ("model.name", "calibnet_r18", ["model.name", "calibnet_r50"]),
        ("detection.score_threshold", "high", []),
        ("autostart", False, []),
        ("diagnostics.period", 2.0, []),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_a_reason(robot, name, value, words):
    before = robot.get_parameter(name)
    result = robot.set_parameters(**{name.replace(".", "__"): value})[0]
    assert not result.successful
    assert result.reason
    assert [word for word in words if word not in result.reason] == []
    assert robot.get_parameter(name) == before


def test_two_values_that_only_fit_together_are_taken_together(robot):
    assert robot.set_parameters_together(depth__min=20.0, depth__max=30.0).successful
    assert robot.get_parameter("depth.min") == 20.0
    assert not robot.set_parameters_together(depth__min=3.0, depth__max=2.0).successful
    assert robot.get_parameter("depth.max") == 30.0
    assert robot.set_parameters_together(depth__min=0.1, depth__max=10.0).successful


def test_a_changed_threshold_shows_in_the_next_result_and_in_the_model_info(robot):
    assert len(robot.ask().instances) == 2
    assert robot.set_parameters(detection__hysteresis=0.0)[0].successful
    assert robot.set_parameters(detection__score_threshold=0.85)[0].successful
    msg = robot.ask()
    assert [instance.score for instance in msg.instances] == pytest.approx([0.9])
    wait_for(
        lambda: robot.model_infos[-1].score_threshold == pytest.approx(0.85), "the new model_info"
    )
    assert robot.set_parameters(detection__score_threshold=0.5)[0].successful
    assert len(robot.ask().instances) == 2
    robot.set_parameters(detection__hysteresis=0.1)


def test_an_object_that_is_shown_stays_while_its_score_is_within_the_hysteresis(robot):
    assert [instance.score for instance in robot.ask().instances] == pytest.approx([0.9, 0.8])
    robot.set_parameters(detection__score_threshold=0.85)
    assert len(robot.ask().instances) == 2  # 0.8 is above 0.85 less 0.1
    robot.set_parameters(detection__score_threshold=0.95)
    assert len(robot.ask().instances) == 1  # 0.9 is above 0.95 less 0.1, 0.8 is not
    robot.set_parameters(detection__score_threshold=0.5)
    assert len(robot.ask().instances) == 2


def test_limits_on_instances_show_in_the_next_result_and_in_the_model_info(robot):
    robot.set_parameters(detection__max_instances=1, detection__mask_threshold=0.25)
    assert len(robot.ask().instances) == 1
    wait_for(lambda: robot.model_infos[-1].max_instances == 1, "the new model_info")
    assert robot.model_infos[-1].mask_threshold == pytest.approx(0.25)
    robot.set_parameters(detection__max_instances=50, detection__min_area=330)
    assert [instance.area for instance in robot.ask().instances] == [336]
    robot.set_parameters(detection__min_area=64, detection__mask_threshold=0.5)


def test_model_info_is_not_repeated_when_nothing_of_it_changed(robot):
    robot.ask()
    known = len(robot.model_infos)
    robot.set_parameters(input__timeout=3.0, output__mask_encoding="rle")
    robot.ask()
    robot.set_parameters(detection__score_threshold=0.55)
    wait_for(
        lambda: robot.model_infos[-1].score_threshold == pytest.approx(0.55), "the new model_info"
    )
    robot.set_parameters(detection__score_threshold=0.5, output__mask_encoding="bits")
    thresholds = [info.score_threshold for info in robot.model_infos[known:]]
    assert thresholds[0] == pytest.approx(0.55)


def test_a_changed_tolerance_takes_effect_at_once(robot):
    robot.ask()
    assert robot.set_parameters(sync__tolerance=0.002)[0].successful
    far_ns = robot.next_stamp()
    robot.send_pair(far_ns, depth=depth_msg(far_ns + 4 * NS_PER_MS))
    robot.ask()
    assert robot.results_for(far_ns) == []
    assert robot.set_parameters(sync__tolerance=0.0)[0].successful


def test_what_needs_a_new_configuration_leaves_the_running_one_alone(robot):
    robot.ask()
    before = robot.counters()
    assert robot.set_parameters(sync__mode="exact", depth__unit="m")[0].successful
    # The mode in force still allows a distance, and the unit still follows from the encoding.
    near_ns = robot.next_stamp()
    robot.send_pair(near_ns, depth=depth_msg(near_ns + 4 * NS_PER_MS))
    robot.counters_after(
        lambda now: (
            now["received_color"] > before["received_color"]
            and now["received_depth"] > before["received_depth"]
            and now["in_flight"] == 0
        )
    )
    answered = robot.results_for(near_ns)
    robot.set_parameters(sync__mode="nearest", depth__unit="auto")
    assert len(answered) == 1
    assert answered[0].instances[0].mask_quality == pytest.approx(0.15)


def test_pairs_beyond_the_highest_age_are_dropped_and_counted(robot):
    before = robot.counters()
    robot.set_parameters(input__max_age=1.0)
    old_ns = robot.send_pair(robot.next_stamp())
    after = robot.counters_after(lambda now: now["dropped_pairs.too_old"] > 0)
    assert after["dropped_pairs.too_old"] - before["dropped_pairs.too_old"] == 1
    assert robot.results_for(old_ns) == []
    robot.set_parameters(input__max_age=0.0)
    robot.ask()


def test_silence_of_an_input_is_told_with_its_topic_and_the_way_out(robot):
    robot.set_parameters(input__timeout=0.1)
    status = robot.wait_for(
        lambda: next((s for s, _ in [robot.fresh_report()] if s.level == b"\x02"), None),
        "an error in the diagnostics",
    )
    robot.set_parameters(input__timeout=3.0)
    topic = f"{robot.namespace}/color/image"
    assert f"nothing on {topic}" in status.message
    assert "1 publisher" in status.message
    assert "RELIABLE" in status.message


def test_silence_of_an_input_that_nobody_publishes_names_driver_and_remapping(start_robot):
    robot = start_robot(
        parameters={"input.timeout": 0.1}, remaps={"depth/image": "/nobody/publishes/this"}
    )
    robot.wait_for_state("active")
    status = robot.wait_for(
        lambda: next(
            (s for s, _ in [robot.fresh_report()] if "/nobody/publishes/this" in s.message), None
        ),
        "an error in the diagnostics",
    )
    assert "nobody publishes it; start the camera driver, or remap 'depth/image'" in status.message


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("detection.score_threshold:=1.5", ["detection.score_threshold"]),
        ("detection.score_threshold:=1", ["detection.score_threshold"]),
        ("sync.mode:=sometimes", ["sync.mode", "nearest, exact, latest"]),
    ],
)
def test_a_bad_value_at_launch_is_told_before_any_frame_is_lost(tmp_path, parameter, words):
    command = node_command("tests.support.stub_perception_node", "/launched", {}, {})
    process = NodeProcess([*command, "-p", parameter], tmp_path / "node.log")
    try:
        wait_for(
            lambda: all(word in process.log for word in words) or not process.is_alive,
            "a word about the parameter",
        )
        assert [word for word in words if word not in process.log] == []
        assert "Traceback" not in process.log
        assert "is ready" not in process.log
    finally:
        process.end()
