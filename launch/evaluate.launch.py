"""Evaluate a recording; ends with the report. `--show-args` is the manual.

`ros2 run calibnet_ros evaluate_bag` does the same and more, and returns the verdict as its exit
code, which launch does not pass on.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import ExecuteProcess, OpaqueFunction, Shutdown

from calibnet_ros import launch_actions, startup


def generate_launch_description() -> LaunchDescription:
    arguments = launch_actions.declared(startup.EVALUATE_ARGUMENTS)
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    values = launch_actions.given(context, startup.EVALUATE_ARGUMENTS)
    command = startup.evaluate_command(values)
    return [ExecuteProcess(cmd=command, output="screen", on_exit=Shutdown())]
