"""Start one perception node for several cameras, which share its model.

`--show-args` is the manual. Camera NAME publishes on /calibnet/NAME/instances and so on.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from calibnet_ros import launch_actions, startup


def generate_launch_description() -> LaunchDescription:
    arguments = launch_actions.declared(startup.MULTI_CAMERA_ARGUMENTS)
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    values = launch_actions.given(context, startup.MULTI_CAMERA_ARGUMENTS)
    cameras = startup.parse_cameras(values["cameras"])
    return launch_actions.perception(values, startup.multi_camera_remappings(cameras), cameras)
