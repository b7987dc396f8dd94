"""Points as messages, read back by what they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from sensor_msgs.msg import PointField

from calibnet_core.perception.surface import instance_points, object_points
from calibnet_ros.messages import (
    OutputOptions,
    header_of,
    instance_cloud_to_msg,
    points_to_msg,
)
from tests.support.perceptions import discs, make_perception

pytestmark = pytest.mark.ros

NUMPY_TYPES = {PointField.FLOAT32: "<f4", PointField.UINT16: "<u2"}


def read(msg):
    """The points by the fields that the message declares, as any reader would."""
    dtype = np.dtype(
        {
            "names": [field.name for field in msg.fields],
            "formats": [NUMPY_TYPES[field.datatype] for field in msg.fields],
            "offsets": [field.offset for field in msg.fields],
            "itemsize": msg.point_step,
        }
    )
    assert msg.row_step == msg.point_step * msg.width
    assert len(msg.data) == msg.row_step * msg.height
    return np.frombuffer(msg.data, dtype)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_cloud_says_how_to_read_it(stride):
    perception = make_perception(discs((24, 32), 2))
    msg = points_to_msg(perception, OutputOptions(points_stride=stride))
    assert msg.header == header_of(perception.frame)
    assert (msg.height, msg.is_bigendian, msg.is_dense) == (1, False, True)
    assert [field.name for field in msg.fields] == ["x", "y", "z", "rgb", "instance"]
    assert all(field.count == 1 for field in msg.fields)
    expected, found = object_points(perception, stride=stride), read(msg)
    assert msg.width == len(expected.xyz) > 0
    np.testing.assert_array_equal(
        np.column_stack([found["x"], found["y"], found["z"]]), expected.xyz
    )
    np.testing.assert_array_equal(found["instance"], expected.instance)
    # The colour is a float by its type and three bytes by its bits.
    colors = found["rgb"].copy().view("<u4")
    parts = np.column_stack([colors >> 16, colors >> 8 & 255, colors & 255])
    np.testing.assert_array_equal(parts, expected.rgb)


def test_the_cloud_of_one_instance_has_all_its_points_and_no_others():
    perception = make_perception(discs((24, 32), 3))
    msg = instance_cloud_to_msg(perception, 1)
    assert msg.width == len(instance_points(perception, 1).xyz)
    assert set(read(msg)["instance"]) == {2}


def test_without_depth_there_is_no_cloud_and_without_objects_an_empty_one():
    assert points_to_msg(make_perception(discs((24, 32), 1), has_depth=False)) is None
    assert instance_cloud_to_msg(make_perception(discs((24, 32), 1), has_depth=False), 0) is None
    empty = points_to_msg(make_perception(np.zeros((0, 24, 32), bool)))
    assert (empty.width, len(empty.data), empty.row_step) == (0, 0, 0)
