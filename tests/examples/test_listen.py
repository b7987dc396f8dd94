"""The example subscribers in Python and C++."""

from __future__ import annotations

import array
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask
from sensor_msgs.msg import RegionOfInterest

from tests.support.ros import NodeProcess
from tests.support.shared import REPOSITORY

if TYPE_CHECKING:
    from tests.support.ros import Robot

EXAMPLES = REPOSITORY / "examples"
SAID = [
    "3: score 0.82, 1.50 m away, 3 pixels from (40, 7) on",
    "3: score 0.82, distance unknown, no mask: a mask of height 2, width 3 in encoding bits takes "
    "2 bytes, not 1; pass the height and width of its roi",
]
"""What both languages say about one instance, sound and damaged."""


@pytest.fixture(scope="module")
def listen() -> ModuleType:
    spec = importlib.util.spec_from_file_location("listen", EXAMPLES / "listen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python_tells_id_score_distance_and_mask(listen: ModuleType) -> None:
    instance = InstanceMask(
        instance_id=3,
        score=0.825,
        depth_median=1.5,
        roi=RegionOfInterest(x_offset=40, y_offset=7, height=2, width=3),
        mask_encoding=InstanceMask.MASK_ENCODING_BITS,
        mask_data=array.array("B", b"\xc0\x20"),
    )
    said = [listen.describe(instance)]
    instance.depth_median = float("nan")
    instance.mask_data.pop()
    assert [*said, listen.describe(instance)] == SAID


@pytest.mark.ros
def test_listen_py_prints_what_a_running_node_publishes(
    start_robot: Callable[..., Robot], tmp_path: Path
) -> None:
    robot = start_robot()
    robot.wait_until_connected()
    remap = f"/calibnet/instances:={robot.node_name}/instances"
    command = [str(EXAMPLES / "listen.py"), "--ros-args", "-r", remap]
    listener = NodeProcess(command, tmp_path / "listen.log")
    try:

        def told() -> list[str]:
            assert listener.is_alive, listener.log
            robot.ask()
            return listener.lines("  2: score 0.80, ")

        robot.wait_for(told, "the listener to tell of the second object")
        listener.send(signal.SIGINT)
        assert listener.exit_code() == 0, listener.log
    finally:
        listener.end()
    text = r"\d+\.\d{3} s, camera_color_optical_frame: 2 objects\n"
    # The boxes of the stub's scene: 16x20 and 14x24 pixels.
    text += r"  1: score 0\.90, (1\.50 m away|distance unknown), 320 pixels from \(8, 10\) on\n"
    text += r"  2: score 0\.80, (2\.50 m away|distance unknown), 336 pixels from \(36, 30\) on\n"
    assert re.search(text, listener.log), listener.log


def message_headers() -> list[str]:
    """Include options for the generated C++ messages and what they rest on."""
    prefixes = [Path(sys.prefix), *map(Path, filter(None, _ament_prefixes()))]
    for prefix in prefixes:
        if (prefix / "include/calibnet_ros/calibnet_ros/msg/instance_mask.hpp").is_file():
            folders = sorted(path for path in (prefix / "include").iterdir() if path.is_dir())
            return [option for folder in folders for option in ("-isystem", str(folder))]
    return pytest.skip("the C++ messages are not installed")


def _ament_prefixes() -> list[str]:
    return os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)


def test_cpp_says_the_same_through_the_real_messages(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path / "describe"
    source = Path(__file__).with_name("describe_test.cpp")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{REPOSITORY / 'include'}"]
    command = ["c++", *flags, f"-I{EXAMPLES}", *message_headers(), source, "-o", program]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == SAID


def test_listen_cpp_compiles_where_rclcpp_is_installed(tmp_path: Path) -> None:
    prefixes = [Path(sys.prefix), *map(Path, filter(None, _ament_prefixes()))]
    if not any((prefix / "share/rclcpp/cmake").is_dir() for prefix in prefixes):
        pytest.skip("rclcpp is not installed")
    for step in (["-S", EXAMPLES, "-B", tmp_path], ["--build", tmp_path]):
        done = subprocess.run(["cmake", *step], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
