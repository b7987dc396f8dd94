"""Detections and class names in the messages of vision_msgs 4, where that package is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from calibnet_core.config import PipelineConfig
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.shapes import has_geometry, quaternions
from calibnet_core.structures import ModelInfo
from calibnet_ros.messages.fields import header_of, pose, vector
from calibnet_ros.messages.options import DEFAULTS, OutputOptions

try:
    import vision_msgs.msg as vision
except ImportError:
    vision = None

CLASS_NAMES = ("background", "salient")
"""Names of the classes in the saliency mask, by id."""
_SALIENT = "1"
# The axes of a box are exchangeable, so nothing is known of an object's own orientation.
_UNKNOWN_ANGLE_VARIANCE = math.pi**2


def detections_2d_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Any:
    """Detection2DArray: the tight box of every object.

    Pixel (0, 0) is the centre of the top-left pixel; ids are track ids, empty without a track; the
    class id is the one of `saliency/label_info`.
    """
    msg = vision.Detection2DArray(header=header_of(perception.frame))
    for index, roi in enumerate(perception.rois):
        detection = vision.Detection2D(header=msg.header, id=_id(perception, index))
        detection.bbox.center.position.x = roi.x_offset + (roi.width - 1) / 2
        detection.bbox.center.position.y = roi.y_offset + (roi.height - 1) / 2
        detection.bbox.center.theta = 0.0
        detection.bbox.size_x, detection.bbox.size_y = float(roi.width), float(roi.height)
        detection.results = [_hypothesis(perception, index)]
        msg.detections.append(detection)
    return msg


def detections_3d_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Any:
    """Detection3DArray: box and centroid of every object whose geometry is known.

    The box is that of the visible surface. The pose of the hypothesis is the centroid, with its
    covariance, turned as the box.
    """
    msg = vision.Detection3DArray(header=header_of(perception.frame))
    for index, geometry in enumerate(perception.geometry):
        if not has_geometry(geometry):
            continue
        turn = quaternions([geometry.box_rotation])[0]
        detection = vision.Detection3D(header=msg.header, id=_id(perception, index))
        detection.bbox.center = pose(geometry.box_center, turn)
        detection.bbox.size = vector(geometry.box_size)
        hypothesis = _hypothesis(perception, index)
        hypothesis.pose.pose = pose(geometry.centroid, turn)
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = geometry.covariance
        covariance[range(3, 6), range(3, 6)] = _UNKNOWN_ANGLE_VARIANCE
        hypothesis.pose.covariance = covariance.reshape(36)
        detection.results = [hypothesis]
        msg.detections.append(detection)
    return msg


def label_info_to_msg(info: ModelInfo, config: PipelineConfig) -> Any:
    """LabelInfo: what the values of `saliency/mask` mean."""
    return vision.LabelInfo(
        class_map=[
            vision.VisionClass(class_id=class_id, class_name=name)
            for class_id, name in enumerate(CLASS_NAMES)
        ],
        threshold=float(config.inference.score_threshold),
    )


def _id(perception: Perception, index: int) -> str:
    track_id = perception.tracks[index].track_id
    return str(track_id) if track_id else ""


def _hypothesis(perception: Perception, index: int) -> Any:
    msg = vision.ObjectHypothesisWithPose()
    msg.hypothesis.class_id = _SALIENT
    msg.hypothesis.score = float(perception.instances.scores[index])
    return msg
