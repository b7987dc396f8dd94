"""Start the perception node for a camera or a recording; `--show-args` is the manual.

Thin on purpose: what the arguments mean stands in `calibnet_ros.startup`, and `perception_node
--camera NAME --ros-args --params-file FILE` does the same job without launch.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from calibnet_ros import launch_actions, startup


def generate_launch_description() -> LaunchDescription:
    arguments = launch_actions.declared(startup.PERCEPTION_ARGUMENTS)
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    values = launch_actions.given(context, startup.PERCEPTION_ARGUMENTS)
    return launch_actions.perception(values, startup.camera_remappings(values))
