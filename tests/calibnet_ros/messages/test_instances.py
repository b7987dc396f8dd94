"""The result and the model's description, field by field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMaskArray
from rclpy.serialization import deserialize_message, serialize_message

from calibnet_core import __version__
from calibnet_core.config import InferenceConfig, InputConfig, PipelineConfig
from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.mask_codec import MaskEncoding, decode_mask
from calibnet_core.perception.perceiver import FrameStatus
from calibnet_core.structures import Instances, ModelInfo
from calibnet_ros.messages import FrameAccount, OutputOptions, instances_to_msg, model_info_to_msg
from calibnet_ros.messages.fields import header_of
from tests.support.perceptions import discs, known_geometry, make_perception

pytestmark = pytest.mark.ros

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 20)))
WITH_PIXELS = [encoding for encoding in MaskEncoding if encoding != MaskEncoding.NONE]


def full_mask(msg, size):
    mask, roi = np.zeros(size, bool), msg.roi
    rows = slice(roi.y_offset, roi.y_offset + roi.height)
    columns = slice(roi.x_offset, roi.x_offset + roi.width)
    mask[rows, columns] = decode_mask(
        msg.mask_data, roi.height, roi.width, MaskEncoding(msg.mask_encoding)
    )
    return mask


@given(masks=MASKS, encoding=st.sampled_from(WITH_PIXELS))
def test_every_mask_comes_back_from_its_message(masks, encoding):
    masks = masks[masks.any(axis=(1, 2))]
    options = OutputOptions(mask_encoding=encoding)
    result = instances_to_msg(make_perception(masks), FrameAccount(sequence=1), options)
    assert [msg.instance_id for msg in result.instances] == list(range(1, len(masks) + 1))
    for msg, mask in zip(result.instances, masks, strict=True):
        np.testing.assert_array_equal(full_mask(msg, mask.shape), mask)
        assert msg.area == mask.sum()
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1] = True
        assert msg.truncated == bool((mask & ~inner).any())


def test_what_is_known_of_an_object_stands_in_its_fields():
    geometry = known_geometry(1)
    perception = make_perception(
        discs((24, 32), 2), track_ids=[2**30, 0], geometry=[geometry, known_geometry(2)]
    )
    instances = Instances.from_masks(
        perception.instances.masks,
        np.array([0.75, 0.5], np.float32),
        mask_quality=np.array([0.25, np.nan], np.float32),
        raw_scores=np.array([0.875, 0.125], np.float32),
    )
    result = instances_to_msg(replace(perception, instances=instances), FrameAccount(sequence=1))
    first, second = result.instances
    assert (first.score, first.raw_score, first.mask_quality) == (0.75, 0.875, 0.25)
    assert math.isnan(second.mask_quality)
    assert (first.track_id, first.track_age, first.label) == (2**30, 2**31, "salient_object")
    assert (second.track_id, second.track_age) == (0, 0)
    assert (first.geometry_status, first.depth_valid_ratio) == (0, 0.75)
    near, median, far = first.depth_near, first.depth_median, first.depth_far
    np.testing.assert_allclose([near, median, far], [1.1, 1.2, 1.3])
    found = first.centroid
    np.testing.assert_array_equal([found.x, found.y, found.z], geometry.centroid)
    np.testing.assert_array_equal(first.centroid_covariance, geometry.covariance.ravel())
    found = first.box_pose.position
    np.testing.assert_array_equal([found.x, found.y, found.z], geometry.box_center)
    q = first.box_pose.orientation
    np.testing.assert_allclose(
        Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), geometry.box_rotation, atol=1e-9
    )
    assert q.w >= 0
    assert (first.box_size.x, first.box_size.y, first.box_size.z) == (0.1, 0.2, 0.3)
    assert first.surface_area == 0.05


def test_what_was_not_measured_has_its_documented_absent_value():
    absent = ObjectGeometry(status=GeometryStatus.NO_CAMERA_INFO)
    perception = make_perception(np.ones((1, 2, 2), bool), geometry=[absent])
    options = OutputOptions(mask_encoding=MaskEncoding.NONE)
    (msg,) = instances_to_msg(perception, FrameAccount(sequence=1), options).instances
    assert (msg.track_id, msg.track_age, msg.geometry_status) == (0, 0, msg.GEOMETRY_NO_CAMERA_INFO)
    assert (msg.mask_encoding, len(msg.mask_data)) == (msg.MASK_ENCODING_NONE, 0)
    position, centroid = msg.box_pose.position, msg.centroid
    values = [msg.depth_median, msg.depth_near, msg.depth_far, msg.surface_area]
    values += [position.x, position.y, position.z, centroid.x, centroid.y, centroid.z]
    assert all(math.isnan(value) for value in [*values, *msg.centroid_covariance])
    q, size = msg.box_pose.orientation, msg.box_size
    assert (q.x, q.y, q.z, q.w) == (0.0, 0.0, 0.0, 1.0)
    assert (size.x, size.y, size.z, msg.depth_valid_ratio) == (0.0, 0.0, 0.0, 0.0)


def test_the_account_of_the_frame_stands_beside_the_answer():
    perception = make_perception(np.zeros((0, 3, 5), bool), status=FrameStatus.REDUCED_INPUT)
    account = FrameAccount(
        sequence=2**40,
        depth_offset_ns=-4_000_000,
        skipped_since_last=3,
        model_id="stub-0",
        age_ms=-1.0,
        queue_ms=0.5,
        preprocess_ms=1.5,
        inference_ms=2.5,
        postprocess_ms=3.5,
    )
    msg = instances_to_msg(perception, account)
    assert msg.instances == []
    assert msg.header == header_of(perception.frame)
    assert (msg.height, msg.width, msg.sequence) == (3, 5, 2**40)
    assert (msg.status, msg.skipped_since_last, msg.model_id) == (2, 3, "stub-0")
    assert (msg.depth_offset.sec, msg.depth_offset.nanosec) == (-1, 996_000_000)
    times = (msg.age_ms, msg.queue_ms, msg.preprocess_ms, msg.inference_ms, msg.postprocess_ms)
    assert times == (-1.0, 0.5, 1.5, 2.5, 3.5)


def test_without_depth_there_is_no_offset_and_without_a_clock_no_time():
    perception = make_perception(np.zeros((0, 3, 5), bool), has_depth=False)
    msg = instances_to_msg(perception, FrameAccount(sequence=1, depth_offset_ns=7))
    assert (msg.depth_offset.sec, msg.depth_offset.nanosec) == (0, 0)
    times = (msg.age_ms, msg.queue_ms, msg.preprocess_ms, msg.inference_ms, msg.postprocess_ms)
    assert all(math.isnan(value) for value in times)


def test_a_result_survives_the_wire():
    perception = make_perception(discs((24, 32), 3), geometry=[known_geometry(i) for i in range(3)])
    msg = instances_to_msg(
        perception, FrameAccount(sequence=1), OutputOptions(mask_encoding=MaskEncoding.RLE)
    )
    received = deserialize_message(serialize_message(msg), InstanceMaskArray)
    assert [m.mask_data for m in received.instances] == [m.mask_data for m in msg.instances]
    again = deserialize_message(serialize_message(received), InstanceMaskArray)
    assert repr(again) == repr(received)  # NaN equals nothing; serialised, gaps hold any byte


def test_model_info_tells_model_limits_thresholds_and_calibration():
    config = PipelineConfig(
        input=InputConfig(shortest_edge=64, longest_edge=96),
        inference=InferenceConfig(score_threshold=0.25, mask_threshold=0.75, max_instances=7),
    )
    info = ModelInfo(
        name="calibnet_r50",
        weights_sha256="0123abcd" * 8,
        device="cuda:1",
        device_name="NVIDIA H100",
        precision="fp16",
        calibration_set="val",
        calibration_date="2026-02-03",
    )
    msg = model_info_to_msg(info, config)
    assert (msg.name, msg.model_id) == ("calibnet_r50", "calibnet_r50-0123abcd")
    assert (msg.weights_sha256, msg.device) == ("0123abcd" * 8, "cuda:1 NVIDIA H100")
    assert (msg.backend, msg.precision, msg.package_version) == ("torch", "fp16", __version__)
    assert (msg.input_height, msg.input_width, msg.max_instances) == (64, 96, 7)
    assert (msg.score_threshold, msg.mask_threshold) == (0.25, 0.75)
    assert (msg.calibration_set, msg.calibration_date) == ("val", "2026-02-03")
