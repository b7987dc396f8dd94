"""Launch files where launch is installed; what they wrap is tested with calibnet_ros.startup."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from calibnet_ros import startup
from calibnet_ros.camera_presets import PRESETS
from tests.support.shared import REPOSITORY

# The repository's own launch/ folder imports as an empty package, so a class is asked for.
try:
    from launch import LaunchContext, LaunchDescription
    from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
    from launch_ros.actions import Node
except ImportError:
    pytest.skip("needs launch and launch_ros of a ROS distribution", allow_module_level=True)

FILES = {
    "perception": startup.PERCEPTION_ARGUMENTS,
    "multi_camera": startup.MULTI_CAMERA_ARGUMENTS,
    "evaluate": startup.EVALUATE_ARGUMENTS,
}
NEEDED = {"perception": {}, "multi_camera": {"cameras": "front=generic"}, "evaluate": {"bag": "b"}}
SWITCHED = {"bag": "b.mcap", "score_threshold": "0.3", "cameras": "a=realsense@/a, b=orbbec"}


def started(name: str, **given: str) -> list[Any]:
    """What a launch file starts."""
    context = LaunchContext()
    context.launch_configurations.update(
        {argument.name: argument.default or "" for argument in FILES[name]} | NEEDED[name] | given
    )
    return runpy.run_path(str(REPOSITORY / f"launch/{name}.launch.py"))["start"](context)


@pytest.mark.parametrize("name", FILES)
def test_every_argument_says_what_it_is_for(name: str) -> None:
    module = runpy.run_path(str(REPOSITORY / f"launch/{name}.launch.py"))
    description = module["generate_launch_description"]()
    assert isinstance(description, LaunchDescription)
    declared = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert [argument.name for argument in declared] == [a.name for a in FILES[name]]
    assert all(argument.description for argument in declared)


@pytest.mark.parametrize("camera", PRESETS)
def test_every_preset_starts_one_node(camera: str) -> None:
    for actions in (
        started("perception", camera=camera),
        started("multi_camera", cameras=f"front={camera}@/front, back={camera}@/back"),
    ):
        (node,) = actions
        assert (node.node_package, node.node_executable) == ("calibnet_ros", "perception_node")
    assert len(started("evaluate", camera=camera)) == 1


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, arguments in FILES.items() for argument in arguments],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_value_of_every_argument_starts(name: str, argument: startup.Argument) -> None:
    for value in argument.choices or (SWITCHED.get(argument.name, "1"),):
        assert started(name, **{argument.name: value})


def test_driver_recording_manager_and_viewers_start_beside_the_node() -> None:
    with_driver = started("perception", start_driver="true")
    assert [type(action) for action in with_driver] == [Node, IncludeLaunchDescription]
    others = started(
        "perception", bag="b.mcap", lifecycle_manager="true", rviz="true", foxglove="true"
    )
    assert any(type(action) is ExecuteProcess for action in others)
    packages = [action.node_package for action in others if isinstance(action, Node)]
    assert packages == ["calibnet_ros", "nav2_lifecycle_manager", "rviz2", "foxglove_bridge"]
