"""The node's process ends cleanly however it is told to."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy

from calibnet_ros import command
from calibnet_ros.command import main
from tests.support.ros import STUB, NodeProcess, Robot, node_command, wait_for
from tests.support.stub_perception_node import sleep_order

pytestmark = [pytest.mark.ros, pytest.mark.alone]

# What the node promises. A run that exceeds it is one that waits for something it should not.
PROMISE_S = 2.0
SHARED_MEMORY = Path("/dev/shm")


def assert_ends_cleanly(process: NodeProcess, within_s: float = PROMISE_S) -> None:
    started = time.monotonic()
    code = process.exit_code()
    assert code == 0, process.log
    assert time.monotonic() - started < within_s, process.log
    for word in ("Traceback", "ERROR", "Exception", "terminate called"):
        assert word not in process.log, process.log


@pytest.fixture
def robot(start_robot) -> Robot:
    robot = start_robot()
    robot.wait_until_connected()
    return robot


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_node(start_robot, signal_number):
    robot = start_robot(parameters={"autostart": signal_number == signal.SIGINT})
    robot.wait_for(lambda: robot.reports, "the first diagnostics")
    robot.process.send(signal_number)
    assert_ends_cleanly(robot.process)


@pytest.mark.parametrize(
    ("signal_number", "inference_s"),
    [(signal.SIGINT, 0.5), (signal.SIGTERM, 0.5), (signal.SIGINT, 10.0)],
)
def test_a_signal_ends_a_node_that_infers(robot, signal_number, inference_s):
    slow_ns = robot.send_pair(robot.next_stamp(), order=sleep_order(inference_s))
    robot.process.wait_for_line(f"inferring {slow_ns}")
    robot.process.send(signal_number)
    assert_ends_cleanly(robot.process)


def test_only_the_first_interruption_interrupts():
    interrupted = command._FirstInterruption()
    with pytest.raises(KeyboardInterrupt):
        interrupted(signal.SIGINT, None)
    interrupted(signal.SIGINT, None)  # wherever the clean-up has got to


def test_further_interruptions_do_not_break_the_clean_up(robot):
    slow_ns = robot.send_pair(robot.next_stamp(), order=sleep_order(1.0))
    robot.process.wait_for_line(f"inferring {slow_ns}")
    # The terminal's, that of a launch file which passes it on, and those of an impatient user.
    for gap_s in (0.0, 0.002, 0.05, 0.3, 0.3):
        robot.process.send(signal.SIGINT)
        time.sleep(gap_s)  # the distance is what is tried here
    assert_ends_cleanly(robot.process)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_that_loads_its_model(start_robot, signal_number):
    robot = start_robot(environment={"STUB_LOADING_S": "1.0"})
    robot.process.wait_for_line("stub: loading")
    robot.process.send(signal_number)
    # What loads cannot always be interrupted, so nothing is promised about the time.
    assert_ends_cleanly(robot.process, within_s=20.0)


def test_a_signal_ends_a_node_in_the_middle_of_a_stream(robot):
    for _ in range(30):
        robot.send_pair(robot.next_stamp())
    robot.process.send(signal.SIGTERM)
    assert_ends_cleanly(robot.process)


@pytest.mark.parametrize("inference_s", [0.0, 3.0])
def test_the_log_file_holds_every_line_to_the_end(start_robot, tmp_path, inference_s):
    robot = start_robot(environment={"ROS_LOG_DIR": str(tmp_path / "log")})
    robot.wait_until_connected()
    slow_ns = robot.send_pair(robot.next_stamp(), order=sleep_order(inference_s))
    robot.process.wait_for_line(f"inferring {slow_ns}")
    robot.process.send(signal.SIGTERM)
    assert_ends_cleanly(robot.process)
    (log_file,) = (tmp_path / "log").iterdir()
    lines = [line for line in robot.process.log.splitlines() if "robot" in line]
    assert any("is ready" in line for line in lines)
    assert any("slow to end" in line for line in lines) == (inference_s > 0)
    assert log_file.read_text().splitlines() == lines


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason=f"{SHARED_MEMORY} is a folder of Linux")
def test_no_shared_memory_is_left_behind(tmp_path):
    before = set(SHARED_MEMORY.iterdir())
    process = NodeProcess(node_command(STUB, "/lone", {}, {}), tmp_path / "node.log")
    try:
        process.wait_for_line("is ready")
        made = set(SHARED_MEMORY.iterdir()) - before
        assert made
        process.send(signal.SIGTERM)
        assert_ends_cleanly(process)
        assert made.isdisjoint(SHARED_MEMORY.iterdir())
    finally:
        process.end()


def test_an_unknown_camera_ends_with_code_2_and_the_known_ones(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["--camera", "kinect1"])
    assert ending.value.code == 2
    told = capsys.readouterr().err
    assert "usage:" in told
    assert "azure_kinect" in told


def test_a_misspelt_argument_ends_with_code_2_and_its_name(tmp_path):
    process = NodeProcess(["-m", STUB, "--camra", "realsense"], tmp_path / "node.log")
    try:
        wait_for(lambda: not process.is_alive or process.lines("stub:"), "an end or a beginning")
        assert not process.is_alive
        assert process.exit_code() == 2
        assert "usage:" in process.log
        assert "--camra" in process.log
    finally:
        process.end()


def test_a_preset_remaps_the_inputs_and_the_users_own_remapping_wins(tmp_path):
    context = rclpy.Context()
    rclpy.init(context=context)
    watcher = rclpy.create_node("watcher", context=context)
    command = node_command(STUB, "/preset", {}, {"depth/image": "/my/depth"})
    place = command.index("--ros-args")
    command[place:place] = ["--camera", "realsense", "--camera-namespace", "/left"]
    process = NodeProcess(command, tmp_path / "node.log")
    try:
        process.wait_for_line("is ready")
        for topic in (
            "/left/camera/camera/color/image_raw",
            "/my/depth",
            "/left/camera/camera/color/camera_info",
        ):
            wait_for(lambda name=topic: watcher.count_subscribers(name), f"a reader of {topic}")
        aligned = "/left/camera/camera/aligned_depth_to_color/image_raw"
        assert watcher.count_subscribers(aligned) == 0
    finally:
        process.end()
        watcher.destroy_node()
        rclpy.shutdown(context=context)
