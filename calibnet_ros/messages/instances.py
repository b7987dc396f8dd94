"""The result itself: every object with its mask, geometry and track, and which model answered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibnet_core import __version__
from calibnet_core.config import PipelineConfig
from calibnet_core.perception.mask_codec import MaskEncoding, encode_mask
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.shapes import quaternions
from calibnet_core.structures import ModelInfo
from calibnet_ros import msg as calibnet_msgs
from calibnet_ros.messages.fields import (
    byte_array,
    duration_from_ns,
    header_of,
    set_pose,
    set_xyz,
)
from calibnet_ros.messages.options import DEFAULTS, LABEL, OutputOptions


@dataclass(frozen=True, kw_only=True)
class FrameAccount:
    """What is known of a frame beside the answer.

    Attributes:
        sequence: number of the frame since activation, from 1.
        depth_offset_ns: depth stamp minus colour stamp.
        skipped_since_last: pairs that a newer one replaced since the previous answer.
        model_id: of the model that answered.
        age_ms: publish time minus colour stamp; NaN where the clocks disagree.
        queue_ms, preprocess_ms, inference_ms, postprocess_ms: time spent; NaN where not measured.
    """

    sequence: int
    depth_offset_ns: int = 0
    skipped_since_last: int = 0
    model_id: str = ""
    age_ms: float = math.nan
    queue_ms: float = math.nan
    preprocess_ms: float = math.nan
    inference_ms: float = math.nan
    postprocess_ms: float = math.nan


def instances_to_msg(
    perception: Perception, account: FrameAccount, options: OutputOptions = DEFAULTS
) -> calibnet_msgs.InstanceMaskArray:
    """The answer to one frame; an empty list says "looked, found nothing"."""
    height, width = perception.frame.size
    return calibnet_msgs.InstanceMaskArray(
        header=header_of(perception.frame),
        height=height,
        width=width,
        sequence=int(account.sequence),
        status=int(perception.status),
        depth_offset=duration_from_ns(account.depth_offset_ns if perception.has_depth else 0),
        skipped_since_last=int(account.skipped_since_last),
        age_ms=float(account.age_ms),
        queue_ms=float(account.queue_ms),
        preprocess_ms=float(account.preprocess_ms),
        inference_ms=float(account.inference_ms),
        postprocess_ms=float(account.postprocess_ms),
        model_id=str(account.model_id),
        instances=_instance_msgs(perception, options.mask_encoding),
    )


def model_info_to_msg(info: ModelInfo, config: PipelineConfig) -> calibnet_msgs.ModelInfo:
    """Which model is at work and how it is set up."""
    return calibnet_msgs.ModelInfo(
        name=info.name,
        model_id=info.model_id,
        weights_sha256=info.weights_sha256,
        backend="torch",
        device=info.device_label,
        precision=info.precision,
        input_height=config.input.shortest_edge,
        input_width=config.input.longest_edge,
        max_instances=config.inference.max_instances,
        score_threshold=float(config.inference.score_threshold),
        mask_threshold=float(config.inference.mask_threshold),
        package_version=__version__,
        calibration_set=info.calibration_set,
        calibration_date=info.calibration_date,
    )


def _instance_msgs(
    perception: Perception, encoding: MaskEncoding
) -> list[calibnet_msgs.InstanceMask]:
    height, width = perception.frame.size
    instances = perception.instances
    orientations = quaternions([geometry.box_rotation for geometry in perception.geometry])
    values = np.stack((instances.scores, instances.raw_scores, instances.mask_quality), axis=1)
    msgs = []
    # Parts that a message is made with are filled, not replaced: making them once is enough.
    for index, (roi, geometry, track, (score, raw_score, mask_quality)) in enumerate(
        zip(perception.rois, perception.geometry, perception.tracks, values.tolist(), strict=True)
    ):
        mask = instances.masks[index][roi.slices]
        right, bottom = roi.x_offset + roi.width, roi.y_offset + roi.height
        msg = calibnet_msgs.InstanceMask()
        msg.instance_id = int(perception.instance_ids[index])
        msg.track_id = int(track.track_id)
        msg.track_age = int(track.age)
        msg.score, msg.raw_score, msg.mask_quality = score, raw_score, mask_quality
        msg.label = LABEL
        msg.roi.x_offset, msg.roi.y_offset = roi.x_offset, roi.y_offset
        msg.roi.height, msg.roi.width = roi.height, roi.width
        msg.area = int(np.count_nonzero(mask))
        msg.mask_encoding = int(encoding)
        msg.mask_data = byte_array(encode_mask(mask, encoding))
        msg.truncated = bool(
            roi.x_offset == 0 or roi.y_offset == 0 or right == width or bottom == height
        )
        msg.geometry_status = int(geometry.status)
        msg.depth_valid_ratio = float(geometry.depth_valid_ratio)
        msg.depth_median = float(geometry.depth_median_m)
        msg.depth_near = float(geometry.depth_near_m)
        msg.depth_far = float(geometry.depth_far_m)
        set_xyz(msg.centroid, geometry.centroid.tolist())
        msg.centroid_covariance = geometry.covariance.astype(np.float64).reshape(9)
        set_pose(msg.box_pose, geometry.box_center.tolist(), orientations[index].tolist())
        set_xyz(msg.box_size, geometry.box_size.tolist())
        msg.surface_area = float(geometry.surface_area_m2)
        msgs.append(msg)
    return msgs
