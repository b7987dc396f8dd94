"""Results in another frame, with a stand-in for tf2 where that is not installed."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from std_srvs.srv import Trigger

from calibnet_core.perception.geometry import GeometryStatus
from calibnet_ros import transforms as module
from calibnet_ros.parameter_schema import DEFAULTS
from calibnet_ros.transforms import TransformError, Transforms
from tests.support.perceptions import FRAME_ID, STAMP_NS, discs, known_geometry, make_perception
from tests.support.ros import RELIABLE, time_msg, wait_for
from tests.support.standins import tf2_ros as standin

pytestmark = pytest.mark.ros

SHIFT, TURN = (0.5, -1.0, 2.0), Rotation.from_euler("zyx", (30, 40, 50), degrees=True)
VALUES = {**DEFAULTS, "output.frame": "base_link", "output.tf": True}


class FullBuffer(standin.Buffer):
    """With what tf2's own buffer holds of the node it is given."""

    def __init__(self, node):
        super().__init__(node)
        self.srv = node.create_service(Trigger, "tf2_frames", lambda request, response: response)
        self.was_unhooked = False
        self.jump_handle = SimpleNamespace(unregister=self.unhook)

    def unhook(self):
        self.was_unhooked = True


class Bench:
    def __init__(self, values=VALUES):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("moving", context=self.context)
        self.transforms = Transforms(self.node, values)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def know(self, stamp_ns, turn=TURN):
        """Tell where the camera is at one time."""
        msg = TransformStamped(child_frame_id=FRAME_ID)
        msg.header.frame_id, msg.header.stamp = "base_link", time_msg(stamp_ns)
        shift, rotation = msg.transform.translation, msg.transform.rotation
        shift.x, shift.y, shift.z = SHIFT
        rotation.x, rotation.y, rotation.z, rotation.w = (
            [0.0] * 4 if turn is None else [float(value) for value in turn.as_quat()]
        )
        self.transforms._buffer.set_transform(msg)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(standin, "Buffer", FullBuffer)
    monkeypatch.setattr(module, "tf2_ros", standin)
    bench = Bench()
    yield bench
    bench.close()


def test_the_transform_is_that_of_the_images_time(bench):
    bench.know(STAMP_NS)
    found = bench.transforms.to_target(FRAME_ID, STAMP_NS, timeout_s=0.0)
    point = np.array([0.3, 0.2, 1.0])
    np.testing.assert_allclose(
        found.rotation @ point + found.translation, TURN.apply(point) + SHIFT, atol=1e-12
    )
    np.testing.assert_allclose(found.up, TURN.inv().apply([0, 0, 1]), atol=1e-12)
    with pytest.raises(TransformError, match=f"'{FRAME_ID}' to 'base_link' at the image's time"):
        bench.transforms.to_target(FRAME_ID, STAMP_NS + 1, timeout_s=0.0)


def test_the_wait_for_a_transform_is_no_longer_than_asked(bench):
    started = time.monotonic()
    with pytest.raises(TransformError):
        bench.transforms.to_target(FRAME_ID, STAMP_NS, timeout_s=0.1)
    assert 0.1 <= time.monotonic() - started < 1.0


def test_a_rotation_that_is_none_is_an_error_and_no_crash(bench):
    bench.know(STAMP_NS, turn=None)
    with pytest.raises(TransformError, match="no transform from"):
        bench.transforms.to_target(FRAME_ID, STAMP_NS, timeout_s=0.0)


def test_a_frame_is_broadcast_for_each_tracked_object_with_geometry(bench):
    heard = []
    bench.node.create_subscription(TransformStamped, standin.OWN_TOPIC, heard.append, RELIABLE)
    placed, other = known_geometry(1), known_geometry(2)
    perception = make_perception(
        discs((24, 32), 4),
        track_ids=[5, 0, 6, 7],
        geometry=[placed, other, replace(other, status=GeometryStatus.TOO_FEW_POINTS), other],
    )
    bench.transforms.broadcast(perception, "calibnet/left/")

    def arrived():
        bench.executor.spin_once(timeout_sec=0.01)
        return len(heard) >= 2

    wait_for(arrived, "two transforms")
    assert [msg.child_frame_id for msg in heard] == [
        "calibnet/left/object_5",
        "calibnet/left/object_7",
    ]
    first = heard[0]
    assert (first.header.frame_id, first.header.stamp) == (FRAME_ID, time_msg(STAMP_NS))
    shift, turn = first.transform.translation, first.transform.rotation
    np.testing.assert_allclose([shift.x, shift.y, shift.z], placed.box_center)
    np.testing.assert_allclose(
        Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix(),
        placed.box_rotation,
        atol=1e-9,
    )


def test_where_there_is_nothing_to_tell_nothing_is_sent(bench, monkeypatch):
    sent = []
    monkeypatch.setattr(bench.transforms._broadcaster, "sendTransform", sent.append)
    bench.transforms.broadcast(make_perception(discs((24, 32), 2)), "calibnet/")
    bench.transforms.broadcast(make_perception(np.zeros((0, 24, 32), bool)), "calibnet/")
    assert sent == []


def test_destruction_gives_back_all_that_the_node_holds(bench):
    def held():
        node = bench.node
        lists = node.publishers, node.subscriptions, node.services
        return tuple(len(list(entities)) for entities in lists)

    with_transforms = held()
    buffer = bench.transforms._buffer
    bench.transforms.destroy()
    assert buffer.was_unhooked
    assert [a - b for a, b in zip(with_transforms, held(), strict=True)] == [1, 1, 1]


def test_broadcasting_is_off_unless_asked_for(bench):
    before = bench.node.count_publishers("/tf")
    quiet = Transforms(bench.node, {**VALUES, "output.tf": False})
    assert bench.node.count_publishers("/tf") == before
    quiet.broadcast(make_perception(discs((24, 32), 2), track_ids=[1, 2]), "calibnet/")
    quiet.destroy()


def test_without_tf2_the_package_to_install_is_named(bench, monkeypatch):
    monkeypatch.setattr(module, "tf2_ros", None)
    with pytest.raises(TransformError, match=r"install ros-<distro>-tf2-ros"):
        Transforms(bench.node, VALUES)
