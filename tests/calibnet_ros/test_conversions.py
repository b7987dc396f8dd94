"""Instances to messages, without a running graph."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from calibnet_core import __version__
from calibnet_core.config import InferenceConfig, InputConfig, PipelineConfig
from calibnet_core.perception.frame_assembly import pixels_of
from calibnet_core.perception.mask_codec import MaskEncoding, decode_mask
from calibnet_core.pipeline import ModelInfo
from calibnet_core.structures import Instances
from calibnet_ros.conversions import (
    array_to_image,
    duration_from_ns,
    instances_to_msgs,
    label_image_to_msg,
    model_info_to_msg,
)

pytestmark = pytest.mark.ros

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 20)))


def instances_of(masks):
    return Instances.from_masks(masks, np.linspace(0.9, 0.1, len(masks)).astype(np.float32))


def full_mask(msg, size):
    mask, roi = np.zeros(size, bool), msg.roi
    rows = slice(roi.y_offset, roi.y_offset + roi.height)
    columns = slice(roi.x_offset, roi.x_offset + roi.width)
    mask[rows, columns] = decode_mask(
        msg.mask_data, roi.height, roi.width, MaskEncoding(msg.mask_encoding)
    )
    return mask


@given(masks=MASKS, encoding=st.sampled_from([e for e in MaskEncoding if e != MaskEncoding.NONE]))
def test_every_mask_comes_back_from_its_message(masks, encoding):
    msgs = instances_to_msgs(instances_of(masks), encoding)
    with_pixels = [index for index, mask in enumerate(masks) if mask.any()]
    assert [msg.instance_id for msg in msgs] == [index + 1 for index in with_pixels]
    for msg in msgs:
        mask = masks[msg.instance_id - 1]
        np.testing.assert_array_equal(full_mask(msg, mask.shape), mask)
        assert msg.area == mask.sum()
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1] = True
        assert msg.truncated == bool((mask & ~inner).any())


@given(masks=MASKS)
def test_the_label_image_bears_the_ids_of_the_messages(masks):
    labels = pixels_of(label_image_to_msg(instances_of(masks), Header()))
    assert labels.dtype == np.uint16
    covered = np.zeros(masks.shape[1:], bool)
    for msg in instances_to_msgs(instances_of(masks), MaskEncoding.BITS):
        mask = masks[msg.instance_id - 1]
        np.testing.assert_array_equal(labels[mask & ~covered], msg.instance_id)
        covered |= mask  # the better score keeps the pixels that two masks share
    assert not labels[~covered].any()


def test_scores_and_qualities_travel_and_an_unknown_quality_is_nan():
    masks = np.ones((2, 3, 4), bool)
    instances = Instances.from_masks(
        masks,
        np.array([0.75, 0.5], np.float32),
        mask_quality=np.array([0.25, np.nan], np.float32),
    )
    first, second = instances_to_msgs(instances, MaskEncoding.NONE)
    assert (first.score, first.raw_score, first.mask_quality) == (0.75, 0.75, 0.25)
    assert (second.score, first.label) == (0.5, "salient_object")
    assert math.isnan(second.mask_quality)
    assert len(first.mask_data) == 0


def test_what_was_not_measured_has_its_documented_absent_value():
    (msg,) = instances_to_msgs(instances_of(np.ones((1, 2, 2), bool)), MaskEncoding.BITS)
    assert (msg.track_id, msg.track_age, msg.geometry_status) == (0, 0, 4)
    position, centroid = msg.box_pose.position, msg.centroid
    absent = [msg.depth_median, msg.depth_near, msg.depth_far, msg.surface_area]
    absent += [position.x, position.y, position.z, centroid.x, centroid.y, centroid.z]
    assert all(math.isnan(value) for value in [*absent, *msg.centroid_covariance])
    q, size = msg.box_pose.orientation, msg.box_size
    assert (q.x, q.y, q.z, q.w) == (0.0, 0.0, 0.0, 1.0)
    assert (size.x, size.y, size.z, msg.depth_valid_ratio) == (0.0, 0.0, 0.0, 0.0)


def test_no_instances_make_no_messages_and_an_empty_label_image():
    nothing = Instances.empty((3, 5))
    assert instances_to_msgs(nothing, MaskEncoding.BITS) == []
    assert not pixels_of(label_image_to_msg(nothing, Header())).any()


def test_messages_of_instances_can_be_serialised():
    (msg,) = instances_to_msgs(instances_of(np.ones((1, 9, 9), bool)), MaskEncoding.RLE)
    received = deserialize_message(serialize_message(msg), InstanceMask)
    assert received.mask_data == msg.mask_data
    again = deserialize_message(serialize_message(received), InstanceMask)
    assert repr(again) == repr(received)  # NaN equals nothing; serialised, gaps hold any byte


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape", "step"),
    [
        ("rgb8", np.uint8, (3, 5, 3), 15),
        ("mono16", np.uint16, (3, 5), 10),
        ("mono8", "u1", (3, 5), 5),
    ],
)
def test_an_array_becomes_an_image(encoding, dtype, shape, step):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    header = Header(frame_id="eye")
    # A view with holes must be packed on the way.
    for array in (pixels, np.repeat(pixels, 2, axis=1)[:, ::2]):
        msg = array_to_image(array, encoding, header)
        assert (msg.height, msg.width, msg.step) == (3, 5, step)
        assert (msg.encoding, msg.is_bigendian, msg.header) == (encoding, 0, header)
        np.testing.assert_array_equal(pixels_of(msg), pixels)


@pytest.mark.parametrize(
    ("nanoseconds", "sec", "nanosec"),
    [
        (0, 0, 0),
        (4_000_000, 0, 4_000_000),
        (-4_000_000, -1, 996_000_000),
        (-1_000_000_000, -1, 0),
        (1_500_000_000, 1, 500_000_000),
        (2**31 * 10**9, 2**31 - 1, 0),
        (-(2**31) * 10**9 - 1, -(2**31), 0),
    ],
)
def test_durations_borrow_from_the_seconds_and_end_at_the_types_limits(nanoseconds, sec, nanosec):
    duration = duration_from_ns(nanoseconds)
    assert (duration.sec, duration.nanosec) == (sec, nanosec)


@given(nanoseconds=st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_durations_keep_every_nanosecond(nanoseconds):
    duration = duration_from_ns(nanoseconds)
    assert duration.sec * 10**9 + duration.nanosec == nanoseconds


def test_model_info_tells_model_limits_and_thresholds():
    config = PipelineConfig(
        input=InputConfig(shortest_edge=64, longest_edge=96),
        inference=InferenceConfig(score_threshold=0.25, mask_threshold=0.75, max_instances=7),
    )
    info = ModelInfo(name="calibnet_r50", weights_sha256="0123abcd" * 8, device="cuda:1")
    msg = model_info_to_msg(info, config)
    assert (msg.name, msg.model_id) == ("calibnet_r50", "calibnet_r50-0123abcd")
    assert (msg.weights_sha256, msg.device) == ("0123abcd" * 8, "cuda:1")
    assert (msg.backend, msg.precision, msg.package_version) == ("torch", "fp32", __version__)
    assert (msg.input_height, msg.input_width, msg.max_instances) == (64, 96, 7)
    assert (msg.score_threshold, msg.mask_threshold) == (0.25, 0.75)
    assert (msg.calibration_set, msg.calibration_date) == ("", "")
