"""Messages of foxglove_msgs; the package cannot be installed here, so stand-ins take its place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.visualization import instance_color
from calibnet_ros.messages import annotations, header_of
from calibnet_ros.messages.annotations import annotations_to_msg
from tests.support.message_doubles import foxglove_msgs
from tests.support.perceptions import make_perception

pytestmark = pytest.mark.ros


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    if annotations.foxglove is None:
        monkeypatch.setattr(annotations, "foxglove", foxglove_msgs())


def test_outlines_and_captions_count_from_the_corner_of_the_first_pixel():
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 4:9, 10:20] = True
    perception = make_perception(mask, scores=[0.75], track_ids=[7])
    msg = annotations_to_msg(perception)
    (outline,), (text,) = msg.points, msg.texts
    assert outline.type == 2  # a closed line
    assert {(p.x, p.y) for p in outline.points} == {
        (10.5, 4.5),
        (19.5, 4.5),
        (19.5, 8.5),
        (10.5, 8.5),
    }
    color = outline.outline_color
    np.testing.assert_allclose(np.array([color.r, color.g, color.b]) * 255, instance_color(6))
    assert (text.text, text.position.x, text.position.y) == ("7 0.75", 10.5, 4.5)
    assert outline.timestamp == text.timestamp == header_of(perception.frame).stamp


def test_every_part_of_an_object_and_every_hole_has_an_outline():
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 2:9, 2:9] = mask[0, 12:15, 20:25] = True
    mask[0, 4:7, 4:7] = False
    msg = annotations_to_msg(make_perception(mask))
    assert (len(msg.points), len(msg.texts)) == (3, 1)


def test_nothing_found_has_no_annotations():
    msg = annotations_to_msg(make_perception(np.zeros((0, 20, 30), bool)))
    assert (msg.points, msg.texts) == ([], [])
