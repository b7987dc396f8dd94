"""Results in another frame, over the wire; where tf2_ros is absent a stand-in takes its place."""

from __future__ import annotations

import importlib.util
import math
import os

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")
if importlib.util.find_spec("tf2_ros"):
    pytest.skip("the stand-in would hide the real tf2_ros", allow_module_level=True)

from calibnet_ros.msg import InstanceMaskArray
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation

from tests.support.ros import (
    FRAME_ID,
    RED_DEPTH_M,
    RELIABLE,
    SIZE,
    image_msg,
    scene_depth_m,
    stamp_ns_of,
    time_msg,
    wait_for,
)
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.ros

# The camera looks along base_link's x axis from one metre up, tilted down by thirty degrees.
TURN = Rotation.from_euler("y", 30, degrees=True) * Rotation.from_matrix(
    [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
)
SHIFT = (0.2, 0.0, 1.0)
STANDINS = str(REPOSITORY / "tests/support/standins")


def environment():
    return {"PYTHONPATH": os.pathsep.join(filter(None, (STANDINS, os.environ.get("PYTHONPATH"))))}


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot(
        parameters={
            "output.frame": "base_link",
            "output.tf": True,
            "output.tf_timeout": 0.05,
            "geometry.box_up_axis": "gravity",
        },
        environment=environment(),
    )
    robot.wait_until_connected()
    return robot


@pytest.fixture(scope="module")
def transforms(robot):
    publisher = robot.node.create_publisher(TransformStamped, "/tf_standin", RELIABLE)
    wait_for(publisher.get_subscription_count, "the node to listen to transforms")
    return publisher


@pytest.fixture(scope="module")
def moved(robot):
    found = []
    robot.listen(InstanceMaskArray, "transformed/instances", found.append, RELIABLE)
    return found


@pytest.fixture(scope="module")
def broadcast(robot):
    found = []
    robot.node.create_subscription(TransformStamped, "/tf_standin_out", found.append, RELIABLE)
    return found


def send_transform(transforms, stamp_ns):
    msg = TransformStamped(child_frame_id=FRAME_ID)
    msg.header.frame_id, msg.header.stamp = "base_link", time_msg(stamp_ns)
    msg.transform.translation.x, msg.transform.translation.y, msg.transform.translation.z = SHIFT
    turn = msg.transform.rotation
    turn.x, turn.y, turn.z, turn.w = (float(value) for value in TURN.as_quat())
    transforms.publish(msg)


def xyz(point):
    return np.array([point.x, point.y, point.z])


def test_results_come_in_the_wanted_frame_as_of_the_time_of_the_image(
    robot, transforms, moved, broadcast
):
    def answered():
        stamp_ns = robot.next_stamp()
        send_transform(transforms, stamp_ns)
        robot.answer(robot.send_pair(stamp_ns))
        return [msg for msg in moved if stamp_ns_of(msg) == stamp_ns]

    (theirs,) = robot.wait_for(answered, "a transformed result")
    ours = robot.answer(stamp_ns_of(theirs))
    assert (ours.header.frame_id, theirs.header.frame_id) == (FRAME_ID, "base_link")
    for seen, placed in zip(ours.instances, theirs.instances, strict=True):
        assert placed.track_id == seen.track_id
        np.testing.assert_allclose(
            xyz(placed.centroid), TURN.apply(xyz(seen.centroid)) + SHIFT, atol=1e-6
        )
        assert placed.depth_median == seen.depth_median  # still along the optical axis
        # A box that stands upright has an axis along base_link's z.
        turn = placed.box_pose.orientation
        axes = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        assert np.abs(axes[2]).max() == pytest.approx(1.0, abs=1e-6)
    assert ours.instances[0].depth_median == pytest.approx(RED_DEPTH_M, abs=1e-3)
    node = robot.node_name.lstrip("/")
    names = {f"{node}/object_{each.track_id}" for each in ours.instances}
    wait_for(lambda: names <= {msg.child_frame_id for msg in broadcast}, "frames of the objects")
    assert {msg.header.frame_id for msg in broadcast} == {FRAME_ID}


def test_without_the_transform_the_cameras_own_frame_goes_on_and_the_rest_is_withheld(
    robot, transforms, moved
):
    before = robot.counters()["withheld_transformed"]
    stamp_ns = robot.next_stamp()
    msg = robot.answer(robot.send_pair(stamp_ns))
    assert len(msg.instances) == 2
    assert not math.isnan(msg.instances[0].centroid.z)
    robot.counters_after(lambda now: now["withheld_transformed"] == before + 1)
    assert [msg for msg in moved if stamp_ns_of(msg) == stamp_ns] == []
    assert robot.process.wait_for_line("WARN", "withheld", "base_link", FRAME_ID)


def test_a_frame_is_refused_at_configure_where_tf2_is_not_installed(start_robot):
    robot = start_robot(parameters={"output.frame": "base_link"})
    assert robot.process.wait_for_line("ERROR", "cannot configure", "tf2_ros", "install")


def test_gravity_needs_a_frame_that_knows_it(robot):
    result = robot.set_parameters_together(geometry__box_up_axis="camera")
    assert result.successful
    depth = (scene_depth_m() * 1000).astype("<u2")
    stamp_ns = robot.next_stamp()
    msg = robot.answer(robot.send_pair(stamp_ns, depth=image_msg(depth, "16UC1", stamp_ns)))
    turn = msg.instances[0].box_pose.orientation
    axes = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
    assert np.abs(axes[1]).max() == pytest.approx(1.0, abs=1e-6)  # the image's vertical
    assert (msg.height, msg.width) == SIZE
