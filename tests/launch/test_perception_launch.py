from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from calibnet_ros.camera_presets import PRESETS

# The repository's own launch/ folder imports as an empty package, so a class is asked for.
try:
    from launch import LaunchContext, LaunchDescription
    from launch.actions import DeclareLaunchArgument
except ImportError:
    pytest.skip("needs launch and launch_ros of a ROS distribution", allow_module_level=True)

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "perception.launch.py"


@pytest.fixture(scope="module")
def launch_file() -> dict:
    return runpy.run_path(str(LAUNCH_FILE))


def test_every_argument_says_what_it_is_for(launch_file: dict) -> None:
    description = launch_file["generate_launch_description"]()
    assert isinstance(description, LaunchDescription)
    declared = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert len(declared) == len(launch_file["ARGUMENTS"])
    assert all(argument.description for argument in declared)


@pytest.mark.parametrize("camera", PRESETS)
def test_every_camera_starts_one_node(launch_file: dict, camera: str) -> None:
    context = LaunchContext()
    for name, default, _, _ in launch_file["ARGUMENTS"]:
        context.launch_configurations[name] = default if isinstance(default, str) else ""
    context.launch_configurations["camera"] = camera
    (node,) = launch_file["start"](context)
    assert node.node_package == "calibnet_ros"
