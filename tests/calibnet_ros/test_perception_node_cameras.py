"""Several cameras with one model, compressed input, and names that clash, over the wire."""

from __future__ import annotations

import array
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMaskArray
from calibnet_ros.srv import SegmentOnce
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from calibnet_core.perception.compressed import encode_depth
from tests.support.ros import (
    FRAME_ID,
    GREEN_DEPTH_M,
    RED_DEPTH_M,
    RELIABLE,
    camera_info_msg,
    color_msg,
    depth_msg,
    scene_depth_m,
    scene_rgb,
    stamp_ns_of,
    time_msg,
    wait_for,
)
from tests.support.stub_perception_node import SEE_NOTHING, sleep_order

pytestmark = pytest.mark.ros

NAMES = ("front", "back")


class Eye:
    """One of several cameras of a robot, and who listens to it."""

    def __init__(self, robot, name):
        self.robot, self.name = robot, name
        make = robot.node.create_publisher
        self.color = make(Image, f"{name}/color/image", RELIABLE)
        self.depth = make(Image, f"{name}/depth/image", RELIABLE)
        self.info = make(CameraInfo, f"{name}/color/camera_info", RELIABLE)
        self.results = []
        robot.listen(InstanceMaskArray, f"{name}/instances", self.results.append, RELIABLE)

    def send(self, stamp_ns, order=None):
        # Both cameras bear the same frame id, as two of one make do out of the box.
        self.info.publish(camera_info_msg(stamp_ns))
        self.color.publish(color_msg(stamp_ns, order))
        self.depth.publish(depth_msg(stamp_ns))
        return stamp_ns

    def answer(self, stamp_ns):
        def found():
            return [msg for msg in list(self.results) if stamp_ns_of(msg) == stamp_ns]

        return self.robot.wait_for(found, f"the answer of {self.name}")[0]


@pytest.fixture(scope="module")
def robot(start_robot):
    return start_robot(parameters={"cameras": list(NAMES)})


@pytest.fixture(scope="module")
def eyes(robot):
    eyes = [Eye(robot, name) for name in NAMES]

    def heard():
        for eye in eyes:
            eye.send(robot.next_stamp())
        time.sleep(0.1)
        return all(eye.results for eye in eyes)

    robot.wait_for(heard, "answers of both cameras")
    return eyes


def test_each_camera_gets_its_own_answers_though_frame_ids_are_equal(robot, eyes):
    front_ns, back_ns = robot.next_stamp(), robot.next_stamp()
    eyes[0].send(front_ns)
    eyes[1].send(back_ns, SEE_NOTHING)
    front, back = eyes[0].answer(front_ns), eyes[1].answer(back_ns)
    assert [len(front.instances), len(back.instances)] == [2, 0]
    assert front.header.frame_id == back.header.frame_id == FRAME_ID
    assert not [msg for msg in eyes[1].results if stamp_ns_of(msg) == front_ns]


def test_one_model_answers_both_in_one_batch(robot, eyes):
    assert len(robot.process.lines("stub: loading")) == 1
    stamps = [robot.next_stamp(), robot.next_stamp(), robot.next_stamp()]
    eyes[0].send(stamps[0], sleep_order(0.5))  # keeps the model busy until both are here
    robot.process.wait_for_line(f"stub: inferring {stamps[0]}")
    eyes[0].send(stamps[1])
    eyes[1].send(stamps[2])
    eyes[0].answer(stamps[1]), eyes[1].answer(stamps[2])
    assert robot.process.lines("stub: a batch of 2")


def test_tracks_and_counters_are_each_cameras_own(robot, eyes):
    for eye in eyes:
        msg = eye.answer(eye.send(robot.next_stamp()))
        assert [each.track_id for each in msg.instances] == [1, 2]
    statuses = {}

    def both():
        statuses.update({status.name: status for status in robot.all_statuses})
        return all(f"{robot.node_name}: camera {name}" in statuses for name in NAMES)

    robot.wait_for(both, "diagnostics of both cameras")


def test_one_camera_can_be_asked_while_the_other_is_silent(robot, eyes):
    wanted_ns = robot.next_stamp()
    request = SegmentOnce.Request(
        not_before=time_msg(wanted_ns), score_threshold=float("nan"), timeout=10.0
    )
    client = robot.node.create_client(SegmentOnce, f"{robot.node_name}/back/segment_once")
    assert client.wait_for_service(20.0)
    future = client.call_async(request)

    def answered():
        eyes[1].send(robot.next_stamp())
        time.sleep(0.05)
        return future.done()

    wait_for(answered, "the answer")
    assert future.result().success
    assert stamp_ns_of(future.result().instances) >= wanted_ns


def test_a_camera_name_that_cannot_be_part_of_a_topic_is_refused(robot):
    for names in (["front", "a/b"], ["front", "front"], ["front", ""]):
        result = robot.set_parameters(cameras=names)[0]
        assert not result.successful
        assert "cameras holds" in result.reason


# --- compressed -----------------------------------------------------------------------------------


def compressed_msg(data, format_, stamp_ns):
    msg = CompressedImage(format=format_)
    msg.header.stamp, msg.header.frame_id = time_msg(stamp_ns), FRAME_ID
    msg.data = array.array("B", bytes(data))
    return msg


@pytest.fixture(scope="module")
def compressed(start_robot):
    robot = start_robot(
        parameters={
            "input.color_transport": "compressed",
            "input.depth_transport": "compressedDepth",
        }
    )
    robot.color = robot.node.create_publisher(CompressedImage, "color/image/compressed", RELIABLE)
    robot.depth = robot.node.create_publisher(
        CompressedImage, "depth/image/compressedDepth", RELIABLE
    )

    def heard():
        send_compressed(robot, robot.next_stamp())
        time.sleep(0.1)
        return robot.results

    robot.wait_for(heard, "an answer")
    return robot


def send_compressed(robot, stamp_ns, *, codec="png", encoding="16UC1", damage=False):
    _, png = cv2.imencode(".png", scene_rgb()[..., ::-1])
    data = png.tobytes()
    depth_m = scene_depth_m()
    depth = (depth_m * 1000).astype(np.uint16) if encoding == "16UC1" else depth_m
    robot.info.publish(camera_info_msg(stamp_ns))
    color = compressed_msg(data[:200] if damage else data, "rgb8; png compressed bgr8", stamp_ns)
    robot.color.publish(color)
    robot.depth.publish(compressed_msg(*encode_depth(depth, codec), stamp_ns))
    return stamp_ns


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_compressed_images_give_what_raw_ones_give(compressed, codec, encoding):
    robot = compressed
    stamp_ns = send_compressed(robot, robot.next_stamp(), codec=codec, encoding=encoding)
    msg = robot.answer(stamp_ns)
    assert [each.depth_median for each in msg.instances] == pytest.approx(
        [RED_DEPTH_M, GREEN_DEPTH_M], rel=0.01
    )


def test_a_compressed_image_that_is_damaged_is_counted_and_the_next_is_answered(compressed):
    robot = compressed
    before = robot.counters()
    send_compressed(robot, robot.next_stamp(), damage=True)
    robot.counters_after(
        lambda now: now["dropped_pairs.decode_error"] == before["dropped_pairs.decode_error"] + 1
    )
    assert robot.answer(send_compressed(robot, robot.next_stamp())).instances
    robot.assert_balanced()
