"""What RViz shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("visualization_msgs.msg", reason="visualization_msgs is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.visualization import instance_color
from calibnet_ros.messages import OutputOptions, header_of
from calibnet_ros.messages.markers import markers_to_msg
from tests.support.perceptions import discs, known_geometry, make_perception

pytestmark = pytest.mark.ros

UNKNOWN = ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS)


def rotation_of(pose):
    q = pose.orientation
    return Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()


def position_of(pose):
    return np.array([pose.position.x, pose.position.y, pose.position.z])


def test_old_markers_go_before_new_ones_come_and_objects_without_geometry_have_none():
    perception = make_perception(
        discs((24, 32), 2), geometry=[UNKNOWN, known_geometry()], track_ids=[0, 7]
    )
    msg = markers_to_msg(perception, OutputOptions(marker_lifetime_s=1.5))
    first, *others = msg.markers
    assert first.action == Marker.DELETEALL
    assert [(m.ns, m.id, m.action) for m in others] == [
        ("box", 2, Marker.ADD),
        ("caption", 2, Marker.ADD),
        ("centroid", 2, Marker.ADD),
    ]
    for marker in others:
        assert marker.header == header_of(perception.frame)
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 500_000_000)
    received = deserialize_message(serialize_message(msg), MarkerArray)
    assert [marker.text for marker in received.markers] == [marker.text for marker in msg.markers]
    only = markers_to_msg(make_perception(discs((24, 32), 1))).markers
    assert [marker.action for marker in only] == [Marker.DELETEALL]


def test_markers_show_box_caption_and_twice_the_deviation_in_the_tracks_colour():
    geometry = known_geometry(4)
    perception = make_perception(
        discs((24, 32), 1), geometry=[geometry], track_ids=[7], scores=[0.83]
    )
    box, caption, centroid = markers_to_msg(perception).markers[1:]
    assert (box.type, caption.type, centroid.type) == (
        Marker.CUBE,
        Marker.TEXT_VIEW_FACING,
        Marker.SPHERE,
    )
    np.testing.assert_array_equal(position_of(box.pose), geometry.box_center)
    np.testing.assert_allclose(rotation_of(box.pose), geometry.box_rotation, atol=1e-9)
    assert (box.scale.x, box.scale.y, box.scale.z) == (0.1, 0.2, 0.3)
    for marker in (box, centroid):
        found = [marker.color.r, marker.color.g, marker.color.b]
        np.testing.assert_allclose(np.array(found) * 255, instance_color(6), atol=1e-4)
        assert marker.color.a > 0
    assert caption.text == f"7 0.83 {np.linalg.norm(geometry.centroid):.2f} m"
    assert position_of(caption.pose)[1] < position_of(box.pose)[1]  # y points down
    np.testing.assert_array_equal(position_of(centroid.pose), geometry.centroid)
    half_axes = np.array([centroid.scale.x, centroid.scale.y, centroid.scale.z]) / 2
    axes = rotation_of(centroid.pose)
    np.testing.assert_allclose(axes * half_axes**2 @ axes.T, 4 * geometry.covariance, atol=1e-6)


def test_a_flat_box_and_an_exact_centroid_keep_a_thickness_that_rviz_accepts():
    flat = replace(
        known_geometry(), box_size=np.array([0.1, 0.2, 0.0]), covariance=np.zeros((3, 3))
    )
    box, _, centroid = markers_to_msg(make_perception(discs((24, 32), 1), geometry=[flat])).markers[
        1:
    ]
    for scale in (box.scale, centroid.scale):
        assert min(scale.x, scale.y, scale.z) >= 0.001
