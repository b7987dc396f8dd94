"""From a perception to messages: pure functions that need no running ROS.

`instances_to_msg` makes the result; `OUTPUTS` lists what is published beside it with every frame,
`LATCHED_OUTPUTS` what is said once. The node and the writer of result bags both go through these.
"""

from calibnet_ros.messages.clouds import instance_cloud_to_msg, points_to_msg
from calibnet_ros.messages.fields import duration_from_ns, header_of, time_from_ns
from calibnet_ros.messages.instances import FrameAccount, instances_to_msg, model_info_to_msg
from calibnet_ros.messages.options import OutputOptions
from calibnet_ros.messages.pictures import label_image_to_msg
from calibnet_ros.messages.table import (
    LATCHED_OUTPUTS,
    LEFT_OUT,
    OUTPUTS,
    LatchedOutput,
    LeftOut,
    Output,
    describe_left_out,
)

__all__ = [
    "LATCHED_OUTPUTS",
    "LEFT_OUT",
    "OUTPUTS",
    "FrameAccount",
    "LatchedOutput",
    "LeftOut",
    "Output",
    "OutputOptions",
    "describe_left_out",
    "duration_from_ns",
    "header_of",
    "instance_cloud_to_msg",
    "instances_to_msg",
    "label_image_to_msg",
    "model_info_to_msg",
    "points_to_msg",
    "time_from_ns",
]
