"""The table of outputs, and what of it can be chosen."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from rclpy.serialization import serialize_message

from calibnet_core.config import PipelineConfig
from calibnet_core.structures import ModelInfo
from calibnet_ros import qos
from calibnet_ros.messages import (
    LATCHED_OUTPUTS,
    OUTPUTS,
    OutputOptions,
    describe_left_out,
    header_of,
)
from calibnet_ros.messages.table import build_outputs, find_message
from tests.support.perceptions import discs, known_geometry, make_perception

pytestmark = pytest.mark.ros

PICTURES = {
    "label_image",
    "label_image/compressed",
    "saliency/mask",
    "saliency/confidence",
    "points",
    "masked_depth",
    "overlay",
    "overlay/compressed",
}
RESULTS = {"detections_2d", "detections_3d", "markers", "image_annotations"}
EMPTY = np.zeros((0, 24, 32), bool)


def test_where_every_package_is_installed_the_table_is_complete():
    outputs, latched, left_out = build_outputs(lambda name: name)
    assert left_out == ()
    assert {output.name for output in outputs} == PICTURES | RESULTS
    assert {output.name for output in latched} == {"model_info", "saliency/label_info"}
    for output in outputs:
        assert output.profile is (qos.PICTURE if output.name in PICTURES else qos.RESULT)
        assert output.is_throttled == output.name.startswith("overlay")
    assert all(output.profile is qos.LATCHED for output in latched)
    jpeg = {output.name for output in outputs if "jpeg" in output.make.__name__}
    assert jpeg == {"overlay/compressed"}  # it would invent ids


def test_what_cannot_be_sent_is_left_out_and_its_package_named():
    outputs, latched, left_out = build_outputs(
        lambda name: None if name.startswith(("vision", "foxglove")) else find_message(name)
    )
    assert {output.name for output in outputs} == PICTURES | {"markers"}
    assert {output.name for output in latched} == {"model_info"}
    sentence = describe_left_out(left_out)
    assert "~/detections_2d, ~/detections_3d, ~/saliency/label_info cannot" in sentence
    assert "install ros-$ROS_DISTRO-vision-msgs" in sentence
    assert "~/image_annotations cannot" in sentence
    assert describe_left_out(()) == ""


def test_message_classes_are_found_by_name_and_missing_ones_are_none():
    assert find_message("sensor_msgs/Image").__name__ == "Image"
    assert find_message("sensor_msgs/Nonsense") is None
    assert find_message("no_such_msgs/Image") is None


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
def test_every_output_makes_its_message_whatever_was_seen(output):
    full = make_perception(
        discs((24, 32), 2), geometry=[known_geometry(1), known_geometry(2)], track_ids=[5, 6]
    )
    blind = make_perception(discs((24, 32), 2), has_depth=False)
    unknown_camera = make_perception(discs((24, 32), 2), frame={"intrinsics": None})
    for perception in (full, make_perception(EMPTY), blind, unknown_camera):
        msg = output.make(perception, OutputOptions())
        needs_depth = output.name in ("points", "masked_depth")
        if msg is None:
            assert needs_depth
            assert perception in (blind, unknown_camera)
            continue
        assert type(msg) is output.msg_type
        assert serialize_message(msg)
        header = msg.markers[0].header if output.name == "markers" else msg.header
        assert header == header_of(perception.frame)


def test_every_latched_output_makes_its_message():
    info = ModelInfo(name="m", weights_sha256="", device="cpu")
    for output in LATCHED_OUTPUTS:
        assert type(output.make(info, PipelineConfig())) is output.msg_type


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("points_stride", 0, "choose 1 to 16"),
        ("points_stride", 17, "choose 1 to 16"),
        ("jpeg_quality", 0, "choose 1 to 100"),
        ("png_level", 10, "choose 0 to 9"),
        ("marker_lifetime_s", float("nan"), "choose 0 to 60"),
        ("masked_depth", "drop", "choose keep or remove"),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, value, advice):
    with pytest.raises(ValueError, match=rf"output\.{name} is .*{advice}"):
        OutputOptions(**{name: value})
