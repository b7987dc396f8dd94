"""Messages of vision_msgs; the package cannot be installed here, so stand-ins take its place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.config import InferenceConfig, PipelineConfig
from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.structures import ModelInfo
from calibnet_ros.messages import detections, header_of
from calibnet_ros.messages.detections import (
    detections_2d_to_msg,
    detections_3d_to_msg,
    label_info_to_msg,
)
from tests.support.message_doubles import vision_msgs
from tests.support.perceptions import discs, known_geometry, make_perception

pytestmark = pytest.mark.ros


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    if detections.vision is None:
        monkeypatch.setattr(detections, "vision", vision_msgs())


def test_a_box_in_the_image_spans_the_pixels_of_its_mask():
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 4:9, 10:20] = masks[1, 0, 0] = True
    perception = make_perception(masks, scores=[0.75, 0.5], track_ids=[12, 0])
    msg = detections_2d_to_msg(perception)
    assert msg.header == header_of(perception.frame)
    first, second = msg.detections
    assert (first.id, second.id) == ("12", "")
    # Pixel 0 spans -0.5 to 0.5: columns 10 to 19 reach from 9.5 to 19.5, rows 4 to 8 from 3.5 to
    # 8.5.
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (14.5, 6.0)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (10.0, 5.0, 0.0)
    assert (second.bbox.center.position.x, second.bbox.size_x) == (0.0, 1.0)
    (result,) = first.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("1", 0.75)


def test_a_box_in_space_comes_with_the_centroid_and_only_where_there_is_geometry():
    known = known_geometry(3)
    unknown = ObjectGeometry(status=GeometryStatus.NO_DEPTH)
    perception = make_perception(
        discs((24, 32), 2), scores=[0.75, 0.5], track_ids=[3, 4], geometry=[unknown, known]
    )
    (found,) = detections_3d_to_msg(perception).detections
    assert found.id == "4"
    assert found.header == header_of(perception.frame)
    (result,) = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("1", 0.5)
    for pose, position in (
        (found.bbox.center, known.box_center),
        (result.pose.pose, known.centroid),
    ):
        np.testing.assert_array_equal([pose.position.x, pose.position.y, pose.position.z], position)
        q = pose.orientation
        turn = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
        np.testing.assert_allclose(turn, known.box_rotation, atol=1e-9)
    size = found.bbox.size
    assert (size.x, size.y, size.z) == (0.1, 0.2, 0.3)
    covariance = np.array(result.pose.covariance).reshape(6, 6)
    np.testing.assert_array_equal(covariance[:3, :3], known.covariance)
    assert (np.diag(covariance)[3:] > 9).all()
    assert not covariance[:3, 3:].any()


def test_the_classes_of_the_saliency_mask_are_named():
    config = PipelineConfig(inference=InferenceConfig(score_threshold=0.25))
    msg = label_info_to_msg(ModelInfo(name="m", weights_sha256="", device="cpu"), config)
    names = {entry.class_id: entry.class_name for entry in msg.class_map}
    assert names == {0: "background", 1: "salient"}
    assert msg.threshold == 0.25


def test_nothing_found_is_an_empty_list():
    perception = make_perception(np.zeros((0, 24, 32), bool))
    assert detections_2d_to_msg(perception).detections == []
    assert detections_3d_to_msg(perception).detections == []
