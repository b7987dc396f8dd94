"""Keeps ROS inside this machine and its files in a temporary folder, and runs nodes for tests."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.shared import REPOSITORY

if TYPE_CHECKING:
    from tests.support.ros import Robot

_LOGS = tempfile.TemporaryDirectory(prefix="calibnet_ros_log_")
_PROFILE = str(REPOSITORY / "config/fastdds_profile_loopback.xml")

# All of this must stand before rclpy or a message is imported. Child processes inherit it.
for _name, _value in {
    "ROS_DOMAIN_ID": str(1 + os.getpid() % 101),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_PYTHON_CHECK_FIELDS": "1",
    "ROS_LOG_DIR": _LOGS.name,
    "FASTRTPS_DEFAULT_PROFILES_FILE": _PROFILE,
    "FASTDDS_DEFAULT_PROFILES_FILE": _PROFILE,
}.items():
    os.environ.setdefault(_name, _value)
if "PYTEST_XDIST_WORKER" in os.environ:  # workers beside this one have the same environment
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)

StartRobot = Callable[..., "Robot"]


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """A context of rclpy for nodes in this process."""
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture(scope="module")
def start_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRobot]:
    """Starts perception nodes, see `Robot`; they end with the module."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")
    from tests.support.ros import Robot

    folder = tmp_path_factory.mktemp("nodes")
    robots: list[Robot] = []

    def start(**options: Any) -> Robot:
        robots.append(Robot(folder / f"node{len(robots)}.log", **options))
        return robots[-1]

    yield start
    for robot in robots:
        if robot.process.is_alive:
            robot.process.send(signal.SIGTERM)  # they end side by side
    for robot in robots:
        robot.close()
