"""The outputs beside the instances: one table for the node's publishers and for result bags."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rclpy.qos import QoSProfile

from calibnet_core.config import PipelineConfig
from calibnet_core.perception.perceiver import Perception
from calibnet_core.structures import ModelInfo
from calibnet_ros import qos
from calibnet_ros.messages import (
    annotations,
    clouds,
    detections,
    instances,
    markers,
    pictures,
)
from calibnet_ros.messages.options import OutputOptions

Make = Callable[[Perception, OutputOptions], Any]


@dataclass(frozen=True, kw_only=True)
class Output:
    """One topic that is computed from a frame's perception.

    Attributes:
        name: of the topic, relative to the node's own.
        msg_type: message class.
        profile: its quality of service, from `calibnet_ros.qos`.
        make: the message; None where the frame has nothing to tell, for want of depth or of the
            camera's calibration. Then nothing is sent: silence is no "no objects".
        is_throttled: whether it is a picture for people that need not come with every frame.
    """

    name: str
    msg_type: Any
    profile: QoSProfile
    make: Make
    is_throttled: bool = False


@dataclass(frozen=True, kw_only=True)
class LatchedOutput:
    """One topic that tells of the model and its settings; sent when they change.

    Attributes:
        name, msg_type, profile: as for `Output`.
        make: the message.
    """

    name: str
    msg_type: Any
    profile: QoSProfile
    make: Callable[[ModelInfo, PipelineConfig], Any]


@dataclass(frozen=True)
class LeftOut:
    """A topic whose message is not installed.

    Attributes:
        name: of the topic.
        package: that would bring the message.
    """

    name: str
    package: str


def find_message(type_name: str) -> Any:
    """The message class of a name such as `sensor_msgs/Image`; None where it is not installed."""
    package, _, name = type_name.partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


def build_outputs(
    find: Callable[[str], Any] = find_message,
) -> tuple[tuple[Output, ...], tuple[LatchedOutput, ...], tuple[LeftOut, ...]]:
    """Split the table into what can be sent here and what is left out.

    Args:
        find: looks up a message class by its name, such as `sensor_msgs/Image`.
    """
    outputs, latched, left_out = [], [], []
    for name, type_name, profile, make in _FRAME_TABLE:
        if (msg_type := find(type_name)) is None:
            left_out.append(LeftOut(name, type_name.partition("/")[0]))
        else:
            is_throttled = name in _FOR_PEOPLE
            outputs.append(
                Output(
                    name=name,
                    msg_type=msg_type,
                    profile=profile,
                    make=make,
                    is_throttled=is_throttled,
                )
            )
    for name, type_name, make_latched in _MODEL_TABLE:
        if (msg_type := find(type_name)) is None:
            left_out.append(LeftOut(name, type_name.partition("/")[0]))
        else:
            latched.append(
                LatchedOutput(name=name, msg_type=msg_type, profile=qos.LATCHED, make=make_latched)
            )
    return tuple(outputs), tuple(latched), tuple(left_out)


def describe_left_out(left_out: Iterable[LeftOut]) -> str:
    """A sentence for each missing package; empty where none is missing."""
    topics: dict[str, list[str]] = {}
    for entry in left_out:
        topics.setdefault(entry.package, []).append(f"~/{entry.name}")
    return " ".join(
        f"{', '.join(names)} cannot be offered because {package} is not installed; install "
        f"ros-$ROS_DISTRO-{package.replace('_', '-')} if you need it."
        for package, names in topics.items()
    )


_FRAME_TABLE: tuple[tuple[str, str, QoSProfile, Make], ...] = (
    ("label_image", "sensor_msgs/Image", qos.PICTURE, pictures.label_image_to_msg),
    (
        "label_image/compressed",
        "sensor_msgs/CompressedImage",
        qos.PICTURE,
        pictures.label_png_to_msg,
    ),
    ("saliency/mask", "sensor_msgs/Image", qos.PICTURE, pictures.saliency_mask_to_msg),
    ("saliency/confidence", "sensor_msgs/Image", qos.PICTURE, pictures.confidence_to_msg),
    (
        "detections_2d",
        "vision_msgs/Detection2DArray",
        qos.RESULT,
        detections.detections_2d_to_msg,
    ),
    (
        "detections_3d",
        "vision_msgs/Detection3DArray",
        qos.RESULT,
        detections.detections_3d_to_msg,
    ),
    ("points", "sensor_msgs/PointCloud2", qos.PICTURE, clouds.points_to_msg),
    ("masked_depth", "sensor_msgs/Image", qos.PICTURE, pictures.masked_depth_to_msg),
    ("markers", "visualization_msgs/MarkerArray", qos.RESULT, markers.markers_to_msg),
    ("overlay", "sensor_msgs/Image", qos.PICTURE, pictures.overlay_to_msg),
    (
        "overlay/compressed",
        "sensor_msgs/CompressedImage",
        qos.PICTURE,
        pictures.overlay_jpeg_to_msg,
    ),
    (
        "image_annotations",
        "foxglove_msgs/ImageAnnotations",
        qos.RESULT,
        annotations.annotations_to_msg,
    ),
)
_FOR_PEOPLE = ("overlay", "overlay/compressed")

_MODEL_TABLE: tuple[tuple[str, str, Callable[[ModelInfo, PipelineConfig], Any]], ...] = (
    ("model_info", "calibnet_ros/ModelInfo", instances.model_info_to_msg),
    ("saliency/label_info", "vision_msgs/LabelInfo", detections.label_info_to_msg),
)

OUTPUTS, LATCHED_OUTPUTS, LEFT_OUT = build_outputs()
"""What can be published here with every frame, what once, and what is left out."""
