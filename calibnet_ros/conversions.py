"""Instances and settings to messages: pure functions that need no running ROS."""

from __future__ import annotations

import array
import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

from calibnet_core import __version__
from calibnet_core.config import PipelineConfig
from calibnet_core.perception.mask_codec import MaskEncoding, encode_mask, label_image, tight_roi
from calibnet_core.pipeline import ModelInfo
from calibnet_core.structures import Instances
from calibnet_ros import msg as calibnet_msgs

LABEL = "salient_object"
_NS_PER_S = 1_000_000_000


def instances_to_msgs(
    instances: Instances, encoding: MaskEncoding
) -> list[calibnet_msgs.InstanceMask]:
    """Instances, best first, as messages; ids are their places, as in `label_image_to_msg`.

    Masks without a single pixel are left out: they have no box. Fields of tracking and geometry
    hold their documented absent values.
    """
    msgs = []
    for index, mask in enumerate(instances.masks):
        roi = tight_roi(mask)
        if roi is None:
            continue
        rows = slice(roi.y_offset, roi.y_offset + roi.height)
        columns = slice(roi.x_offset, roi.x_offset + roi.width)
        msg = calibnet_msgs.InstanceMask()
        msg.instance_id = index + 1
        msg.score = msg.raw_score = float(instances.scores[index])
        msg.mask_quality = float(instances.mask_quality[index])
        msg.label = LABEL
        msg.roi = RegionOfInterest(
            x_offset=roi.x_offset, y_offset=roi.y_offset, height=roi.height, width=roi.width
        )
        msg.area = int(np.count_nonzero(mask))
        msg.mask_encoding = int(encoding)
        msg.mask_data = array.array("B", encode_mask(mask[rows, columns], encoding))
        msg.truncated = bool(
            roi.x_offset == 0
            or roi.y_offset == 0
            or roi.x_offset + roi.width == mask.shape[1]
            or roi.y_offset + roi.height == mask.shape[0]
        )
        set_geometry_absent(msg, calibnet_msgs.InstanceMask.GEOMETRY_DISABLED)
        msgs.append(msg)
    return msgs


def set_geometry_absent(msg: calibnet_msgs.InstanceMask, status: int) -> None:
    """Fill the geometry fields with their documented absent values."""
    msg.geometry_status = status
    msg.depth_valid_ratio = 0.0
    msg.depth_median = msg.depth_near = msg.depth_far = msg.surface_area = math.nan
    for point in (msg.centroid, msg.box_pose.position):
        point.x = point.y = point.z = math.nan
    msg.centroid_covariance = np.full(9, math.nan)
    msg.box_pose.orientation.w = 1.0


def label_image_to_msg(instances: Instances, header: Header) -> Image:
    """Ids of all instances in one mono16 image; where masks overlap, the better score wins."""
    return array_to_image(label_image(instances.masks), "mono16", header)


def array_to_image(pixels: NDArray[Any], encoding: str, header: Header) -> Image:
    """An image message from (H, W) or (H, W, C) pixels of the encoding's type."""
    pixels = np.ascontiguousarray(pixels)
    msg = Image(header=header, encoding=encoding, is_bigendian=0)
    msg.height, msg.width = pixels.shape[:2]
    msg.step = pixels.strides[0]
    # The one type that the message class takes whole, without looking at each element.
    msg.data = array.array("B", pixels.tobytes())
    return msg


def model_info_to_msg(info: ModelInfo, config: PipelineConfig) -> calibnet_msgs.ModelInfo:
    """Which model is at work and how it is set up."""
    return calibnet_msgs.ModelInfo(
        name=info.name,
        model_id=info.model_id,
        weights_sha256=info.weights_sha256,
        backend="torch",
        device=info.device,
        precision=info.precision,
        input_height=config.input.shortest_edge,
        input_width=config.input.longest_edge,
        max_instances=config.inference.max_instances,
        score_threshold=float(config.inference.score_threshold),
        mask_threshold=float(config.inference.mask_threshold),
        package_version=__version__,
    )


def duration_from_ns(nanoseconds: int) -> Duration:
    """A duration message; negative values borrow from the seconds, as the type demands."""
    seconds, rest = divmod(int(nanoseconds), _NS_PER_S)
    if not -(2**31) <= seconds < 2**31:  # the type ends at 68 years
        return Duration(sec=2**31 - 1 if seconds > 0 else -(2**31), nanosec=0)
    return Duration(sec=seconds, nanosec=rest)
