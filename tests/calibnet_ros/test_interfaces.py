"""The definitions of services and action: their words, and that they say the same."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.action import Segment
from calibnet_ros.srv import GetInstanceCloud, SegmentOnce

pytestmark = pytest.mark.ros


def fields(message_type):
    return message_type.get_fields_and_field_types()


def test_the_action_asks_and_answers_as_the_service_does():
    assert fields(Segment.Goal) == fields(SegmentOnce.Request)
    assert fields(Segment.Result) == fields(SegmentOnce.Response)


def test_error_codes_have_their_numbers():
    once, cloud = SegmentOnce.Response, GetInstanceCloud.Response
    assert (once.OK, once.TIMEOUT, once.NOT_ACTIVE, once.FAILED) == (0, 1, 2, 3)
    assert (once.BAD_REQUEST, once.CANCELLED) == (4, 5)
    assert (cloud.OK, cloud.NO_SUCH_FRAME, cloud.NO_SUCH_INSTANCE) == (0, 1, 2)
    assert cloud.NO_GEOMETRY == 3


def test_stages_are_numbered_in_their_order():
    feedback = Segment.Feedback
    assert (feedback.WAITING, feedback.INFERRING, feedback.LIFTING) == (0, 1, 2)


def test_fields_have_the_documented_order_and_types():
    assert list(fields(SegmentOnce.Request).items()) == [
        ("not_before", "builtin_interfaces/Time"),
        ("timeout", "double"),
        ("score_threshold", "float"),
        ("include_label_image", "boolean"),
        ("include_cloud", "boolean"),
    ]
    assert list(fields(SegmentOnce.Response).items()) == [
        ("success", "boolean"),
        ("error_code", "uint8"),
        ("message", "string"),
        ("instances", "calibnet_ros/InstanceMaskArray"),
        ("label_image", "sensor_msgs/Image"),
        ("cloud", "sensor_msgs/PointCloud2"),
    ]
    assert list(fields(GetInstanceCloud.Request).items()) == [
        ("stamp", "builtin_interfaces/Time"),
        ("instance_id", "uint16"),
        ("track_id", "uint64"),
    ]
