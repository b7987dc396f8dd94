"""Outputs that travel as images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.perception.received_image import pixels_of
from calibnet_core.perception.surface import masked_depth
from calibnet_core.visualization import draw_perception
from calibnet_ros.messages import FrameAccount, OutputOptions, header_of, instances_to_msg
from calibnet_ros.messages.pictures import (
    confidence_to_msg,
    label_image_to_msg,
    label_png_to_msg,
    masked_depth_to_msg,
    overlay_jpeg_to_msg,
    overlay_to_msg,
    saliency_mask_to_msg,
)
from tests.support.perceptions import discs, known_geometry, make_perception

pytestmark = pytest.mark.ros

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 20)))


@given(masks=MASKS)
def test_the_label_image_bears_the_ids_of_the_result(masks):
    perception = make_perception(masks[masks.any(axis=(1, 2))])
    labels = pixels_of(label_image_to_msg(perception))
    assert labels.dtype == np.uint16
    covered = np.zeros(masks.shape[1:], bool)
    result = instances_to_msg(perception, FrameAccount(sequence=1))
    for msg in result.instances:
        mask = perception.instances.masks[msg.instance_id - 1]
        np.testing.assert_array_equal(labels[mask & ~covered], msg.instance_id)
        covered |= mask  # the better score keeps the pixels that two masks share
    assert not labels[~covered].any()


def test_the_compressed_label_image_holds_ids_beyond_eight_bits():
    masks = np.eye(300, dtype=bool).reshape(300, 10, 30)
    perception = make_perception(masks)
    msg = label_png_to_msg(perception, OutputOptions(png_level=9))
    assert msg.format == "mono16; png compressed "
    assert msg.header == header_of(perception.frame)
    decoded = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.max() == 300
    np.testing.assert_array_equal(decoded, pixels_of(label_image_to_msg(perception)))


def test_saliency_is_a_mask_of_class_ids_and_a_confidence_in_grey():
    masks = discs((24, 32), 2)
    perception = make_perception(masks, scores=[1.0, 0.5])
    mask, confidence = saliency_mask_to_msg(perception), confidence_to_msg(perception)
    assert mask.encoding == confidence.encoding == "mono8"
    np.testing.assert_array_equal(pixels_of(mask), masks.any(axis=0))
    assert set(np.unique(pixels_of(confidence))) == {0, 128, 255}


@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1", "64FC1"])
@pytest.mark.parametrize("which", ["keep", "remove"])
def test_masked_depth_is_encoded_as_the_depth_that_came(encoding, which):
    perception = make_perception(discs((24, 32), 2), frame={"depth_encoding": encoding})
    msg = masked_depth_to_msg(perception, OutputOptions(masked_depth=which))
    assert msg.encoding == encoding
    np.testing.assert_array_equal(pixels_of(msg), masked_depth(perception, which))
    assert masked_depth_to_msg(make_perception(discs((24, 32), 2), has_depth=False)) is None


def test_the_overlay_travels_raw_and_as_jpeg_in_the_right_colours():
    red = {"rgb": np.full((48, 64, 3), (200, 30, 10), np.uint8)}
    perception = make_perception(discs((48, 64), 1), geometry=[known_geometry()], frame=red)
    msg, small = overlay_to_msg(perception), overlay_jpeg_to_msg(perception)
    assert msg.encoding == "rgb8"
    np.testing.assert_array_equal(pixels_of(msg), draw_perception(perception))
    # Colours as compressed_image_transport's subscriber takes them: it decodes to blue first and
    # then turns round what the first word of the format says.
    assert small.format == "rgb8; jpeg compressed bgr8"
    decoded = cv2.imdecode(np.frombuffer(small.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(decoded[-8:, :8].reshape(-1, 3).mean(axis=0), (200, 30, 10), atol=6)
    rough = overlay_jpeg_to_msg(perception, OutputOptions(jpeg_quality=5))
    assert len(rough.data) < len(small.data)
