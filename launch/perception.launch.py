"""Start the perception node for a camera or a recording.

Thin on purpose: topics live in `calibnet_ros.camera_presets` and settings in the parameter file, so
`perception_node --camera NAME --ros-args --params-file FILE` does the same job without launch.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from calibnet_ros.camera_presets import PRESETS, remappings

DEFAULT_PARAMETERS = PathJoinSubstitution(
    [FindPackageShare("calibnet_ros"), "config", "perception.yaml"]
)
BOOLEAN = ["true", "false"]

# Name, default, description, choices.
ARGUMENTS = (
    ("camera", "realsense", "Whose topics to read.", list(PRESETS)),
    ("camera_namespace", "", "Put in front of the camera's topics.", None),
    ("start_driver", "false", "Start the RealSense driver, depth aligned to colour.", BOOLEAN),
    ("color_topic", "", "Colour image topic; overrides the camera's.", None),
    ("depth_topic", "", "Aligned depth image topic; overrides the camera's.", None),
    ("info_topic", "", "Colour CameraInfo topic; overrides the camera's.", None),
    ("params_file", DEFAULT_PARAMETERS, "Parameter file of the node.", None),
    ("namespace", "", "Namespace of the node.", None),
    ("node_name", "calibnet", "Name of the node.", None),
    ("device", "", "auto, cpu, cuda or cuda:N; empty leaves it to params_file.", None),
    ("weights", "", "Weights file; empty leaves it to params_file.", None),
    ("score_threshold", "", "Instances must score above this; empty: params_file.", None),
    ("autostart", "true", "Configure and activate without a lifecycle manager.", BOOLEAN),
    ("lifecycle_manager", "false", "Start Nav2's lifecycle manager for the node.", BOOLEAN),
    ("use_sim_time", "false", "Read the time from /clock; a bag switches it on.", BOOLEAN),
    ("rviz", "false", "Start RViz.", BOOLEAN),
    ("foxglove", "false", "Start the Foxglove bridge.", BOOLEAN),
    ("bag", "", "Play this recording, with its clock.", None),
    ("bag_rate", "1.0", "Speed of the recording.", None),
    ("bag_loop", "false", "Play the recording again and again.", BOOLEAN),
    ("log_level", "info", "Least severe messages to log.", ["debug", "info", "warn", "error"]),
    ("respawn", "true", "Start the node again two seconds after it died.", BOOLEAN),
)


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, default, description, choices in ARGUMENTS
    ]
    return LaunchDescription(
        [
            *arguments,
            OpaqueFunction(function=start),
            Node(
                package="rviz2",
                executable="rviz2",
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
            Node(
                package="foxglove_bridge",
                executable="foxglove_bridge",
                condition=IfCondition(LaunchConfiguration("foxglove")),
            ),
        ]
    )


def start(context: LaunchContext) -> list:
    """The actions whose shape depends on the arguments' values."""
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    is_true = {name: value[name].lower() == "true" for name in value}
    use_sim_time = is_true["use_sim_time"] or bool(value["bag"])
    overrides = {"use_sim_time": use_sim_time, "autostart": is_true["autostart"]}
    if value["device"]:
        overrides["model.device"] = value["device"]
    if value["weights"]:
        overrides["model.weights"] = value["weights"]
    if value["score_threshold"]:
        overrides["detection.score_threshold"] = float(value["score_threshold"])
    if is_true["lifecycle_manager"]:
        overrides["autostart"] = False
    actions = [
        Node(
            package="calibnet_ros",
            executable="perception_node",
            name=value["node_name"],
            namespace=value["namespace"],
            parameters=[value["params_file"], overrides],
            remappings=remappings(
                value["camera"],
                camera_namespace=value["camera_namespace"],
                color_topic=value["color_topic"],
                depth_topic=value["depth_topic"],
                info_topic=value["info_topic"],
            ),
            arguments=["--ros-args", "--log-level", value["log_level"]],
            output="screen",
            respawn=is_true["respawn"],
            respawn_delay=2.0,
        )
    ]
    if is_true["start_driver"]:
        actions.append(realsense_driver())
    if value["bag"]:
        command = ["ros2", "bag", "play", value["bag"], "--clock", "--rate", value["bag_rate"]]
        actions.append(ExecuteProcess(cmd=command + ["--loop"] * is_true["bag_loop"]))
    if is_true["lifecycle_manager"]:
        actions.append(nav2_lifecycle_manager(value["node_name"], use_sim_time))
    return actions


def realsense_driver() -> IncludeLaunchDescription:
    path = PathJoinSubstitution([FindPackageShare("realsense2_camera"), "launch", "rs_launch.py"])
    settings = {"align_depth.enable": "true", "enable_sync": "true"}
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=settings.items()
    )


def nav2_lifecycle_manager(node_name: str, use_sim_time: bool) -> Node:
    return Node(
        package="nav2_lifecycle_manager",
        executable="lifecycle_manager",
        name="lifecycle_manager_perception",
        parameters=[
            {
                "node_names": [node_name],
                "autostart": True,
                "use_sim_time": use_sim_time,
                # The node offers no bond yet; without this the manager would wait for one.
                "bond_timeout": 0.0,
            }
        ],
    )
