"""The launch files' shared actions. Imports launch, which only a ROS distribution has."""

from __future__ import annotations

from collections.abc import Sequence

from launch import LaunchContext, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from calibnet_ros import startup
from calibnet_ros.share import share_path


def declared(arguments: Sequence[startup.Argument]) -> list[DeclareLaunchArgument]:
    """Declarations of a launch file's arguments."""
    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.help,
            choices=list(argument.choices) or None,
        )
        for argument in arguments
    ]


def given(context: LaunchContext, arguments: Sequence[startup.Argument]) -> dict[str, str]:
    """The values of the arguments."""
    return {
        argument.name: LaunchConfiguration(argument.name).perform(context) for argument in arguments
    }


def perception(
    values: startup.Values,
    rules: startup.Rules,
    cameras: Sequence[startup.CameraSource] = (),
) -> list[LaunchDescriptionEntity]:
    """The node, and whatever else the arguments ask for.

    Raises:
        ValueError: the values contradict each other.
    """
    startup.check(values)
    actions: list[LaunchDescriptionEntity] = [
        Node(
            package="calibnet_ros",
            executable="perception_node",
            name=values["node_name"],
            namespace=values["namespace"],
            parameters=[
                str(startup.parameter_file(values)),
                _typed(startup.node_parameters(values, cameras)),
            ],
            remappings=rules,
            arguments=["--ros-args", "--log-level", values["log_level"]],
            output="screen",
            respawn=startup.is_true(values, "respawn"),
            respawn_delay=startup.RESPAWN_DELAY_S,
        )
    ]
    if startup.is_true(values, "start_driver"):
        actions.append(_realsense_driver(values))
    if values["bag"]:
        actions.append(ExecuteProcess(cmd=startup.bag_command(values), output="screen"))
    if startup.is_true(values, "lifecycle_manager"):
        actions.append(
            Node(
                package="nav2_lifecycle_manager",
                executable="lifecycle_manager",
                name="lifecycle_manager_perception",
                namespace=values["namespace"],
                parameters=[_typed(startup.lifecycle_manager_parameters(values))],
                output="screen",
            )
        )
    clock = {"use_sim_time": startup.uses_sim_time(values)}
    if startup.is_true(values, "rviz"):
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(share_path("config/perception.rviz"))],
                parameters=[clock],
                remappings=startup.viewer_remappings(values, cameras),
            )
        )
    if startup.is_true(values, "foxglove"):
        actions.append(
            Node(package="foxglove_bridge", executable="foxglove_bridge", parameters=[clock])
        )
    return actions


def _realsense_driver(values: startup.Values) -> IncludeLaunchDescription:
    path = PathJoinSubstitution([FindPackageShare("realsense2_camera"), "launch", "rs_launch.py"])
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path),
        launch_arguments=startup.driver_settings(values).items(),
    )


def _typed(parameters: startup.Parameters) -> dict[str, object]:
    # Launch reads a bare text as YAML, where a file named 1 would become a number.
    return {
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in parameters.items()
    }
