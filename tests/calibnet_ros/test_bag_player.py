"""The accounts of a recording that was played, without a running node."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from calibnet_core.data.bags import RgbdBag, open_rgbd_bag, write_rgbd_bag
from calibnet_core.structures import RgbdFrame
from calibnet_ros import msg as msgs
from calibnet_ros import qos
from calibnet_ros.bag_player import Answer, BagPlayer, PlayError, PlayReport, SentFrame
from calibnet_ros.diagnostics import CAMERA_STATUS
from tests.support.ros import (
    FIRST_STAMP_NS,
    GREEN_DEPTH_M,
    RED_DEPTH_M,
    scene_depth_m,
    scene_rgb,
)

pytestmark = pytest.mark.ros


def report_of(num_sent, answered, **counters):
    report = PlayReport(
        sent=[SentFrame(stamp_ns) for stamp_ns in range(num_sent)], counters=dict(counters)
    )
    report.answers = {stamp: Answer(result=msgs.InstanceMaskArray()) for stamp in answered}
    return report


def test_an_empty_report_accounts_for_everything():
    report = PlayReport()
    assert (report.num_answered, report.num_unaccounted, report.drops) == (0, 0, {})


def test_answers_and_drops_account_for_frames():
    counters = {
        "received_color": 5,
        "dropped_color.no_partner": 1,
        "dropped_pairs.superseded": 1,
        "dropped_depth.no_partner": 7,
    }
    report = report_of(5, [0, 2], **counters)
    assert report.num_answered == 2
    assert report.drops == {"dropped_color.no_partner": 1, "dropped_pairs.superseded": 1}
    assert report.num_unaccounted == 1


def test_answers_to_stamps_that_were_never_sent_count_for_nothing():
    assert report_of(2, [0, 99]).num_answered == 1


def test_a_picture_without_a_result_is_no_answer():
    report = report_of(1, [])
    report.answers[0] = Answer(overlay=object())
    assert report.num_answered == 0


@pytest.fixture
def bag(tmp_path):
    return RgbdBag(tmp_path, (), "/c", "/d", None, 0)


@pytest.fixture
def player(bag):
    context = rclpy.Context()
    rclpy.init(context=context)
    player = BagPlayer(bag, node_name="/nobody", context=context)
    yield player
    player.close()
    rclpy.shutdown(context=context)


def test_waiting_ends_with_an_error_that_names_the_node_and_what_to_check(player):
    with pytest.raises(PlayError, match=r"/nobody within 0 s.*remap.*ROS_DOMAIN_ID"):
        player.wait_for_node(0.05)


def test_waiting_ends_at_once_when_the_node_has_died(player):
    with pytest.raises(PlayError, match="/nobody ended before it was ready"):
        player.wait_for_node(60.0, is_alive=lambda: False)


class PartOfANode:
    """What a player needs of a perception node, each part when a test wants it."""

    def __init__(self, player: BagPlayer, bag: RgbdBag) -> None:
        self._node = rclpy.create_node("nobody", context=player.node.context)
        for topic in (bag.color_topic, bag.depth_topic):
            self._node.create_subscription(Image, topic, lambda msg: None, qos.RESULT)
        create = self._node.create_publisher
        self._results = create(msgs.InstanceMaskArray, "~/instances", qos.RESULT)
        self._reports = create(DiagnosticArray, "/diagnostics", 10)
        self._model_infos = create(msgs.ModelInfo, "~/model_info", qos.LATCHED)

    def publish_model_info(self) -> None:
        self._model_infos.publish(msgs.ModelInfo())

    def publish_result(self, stamp_ns: int) -> None:
        header = Header(stamp=Time(nanosec=stamp_ns))
        self._results.publish(msgs.InstanceMaskArray(header=header))

    def publish_reports(self, count: int = 1, **counters: int) -> None:
        """Rounds of diagnostics, 20 a second."""
        values = [KeyValue(key=key, value=str(value)) for key, value in counters.items()]
        status = DiagnosticStatus(name=f"/nobody: {CAMERA_STATUS}", values=values)
        for _ in range(count):
            self._reports.publish(DiagnosticArray(status=[status]))
            time.sleep(0.05)


def test_a_node_is_ready_when_it_has_said_what_it_said_before(player, bag):
    """Until then it may not know who listens, and its first answer would go to nobody."""
    node = PartOfANode(player, bag)
    with ThreadPoolExecutor() as threads:
        threads.submit(node.publish_reports, 30, received_color=0)
        with pytest.raises(PlayError, match="no active perception node"):
            player.wait_for_node(1.0)
        node.publish_model_info()
        player.wait_for_node(20.0)


def test_answers_that_come_after_the_last_report_count(tmp_path):
    write_rgbd_bag(tmp_path / "bag", [FRAME, replace(FRAME, stamp_ns=8)])
    bag = open_rgbd_bag(tmp_path / "bag")
    context = rclpy.Context()
    rclpy.init(context=context)
    player = BagPlayer(bag, node_name="/nobody", context=context)
    try:
        node = PartOfANode(player, bag)
        node.publish_model_info()
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(player.wait_for_node, 20.0)
            while not waiting.done():
                node.publish_reports(received_color=10, published=5, in_flight=0)
            waiting.result()
            playing = threads.submit(lambda: player.play_at_rate(1000.0, 20.0).num_answered)
            while not player.report.sent:
                time.sleep(0.01)
            node.publish_result(FRAME.stamp_ns)
            node.publish_reports(10, received_color=12, published=7, in_flight=0)
            node.publish_result(8)
            assert playing.result() == 2
    finally:
        player.close()
        rclpy.shutdown(context=context)


FRAME = RgbdFrame(
    rgb=np.zeros((48, 64, 3), np.uint8), depth_m=np.ones((48, 64), np.float32), stamp_ns=7
)


def test_what_is_kept_of_a_sent_frame_is_small(tmp_path):
    """A minute of a camera is gigabytes."""
    write_rgbd_bag(tmp_path / "bag", [FRAME])
    context = rclpy.Context()
    rclpy.init(context=context)
    player = BagPlayer(open_rgbd_bag(tmp_path / "bag"), node_name="/nobody", context=context)
    report = player.play_at_rate(1000.0, timeout_s=0.01)
    player.close()
    rclpy.shutdown(context=context)
    assert [frame.stamp_ns for frame in report.sent] == [7]
    assert len(pickle.dumps(report.sent[0])) < 1000


def test_a_compressed_recording_is_answered_as_the_raw_one(start_robot, tmp_path):
    scene = replace(FRAME, rgb=scene_rgb(), depth_m=scene_depth_m())
    frames = [replace(scene, stamp_ns=FIRST_STAMP_NS + k * 100_000_000) for k in range(3)]
    transports = {"color_transport": "compressed", "depth_transport": "compressedDepth"}
    options = {"color_codec": "png", "depth_codec": "rvl"}
    write_rgbd_bag(tmp_path / "raw", frames)
    write_rgbd_bag(tmp_path / "compressed", frames, **transports, **options)
    raw, bag = (open_rgbd_bag(tmp_path / name) for name in ("raw", "compressed"))
    robot = start_robot(
        remaps={"color/image": raw.color_topic, "depth/image": raw.depth_topic},
        parameters={f"input.{name}": transport for name, transport in transports.items()},
        loses_nothing=(bag.color_topic, bag.depth_topic),
    )
    player = BagPlayer(bag, node_name=robot.node_name, context=robot.context)
    try:
        player.wait_for_node(20.0, lambda: robot.process.is_alive)
        report = player.play_in_step(20.0)
    finally:
        player.close()
    assert (report.num_answered, report.num_unaccounted, report.drops) == (3, 0, {})
    (answer, *_) = report.answers.values()
    # The stub tells the depth that reached it as `mask_quality`, in tens of metres.
    qualities = [instance.mask_quality for instance in answer.result.instances]
    assert qualities == pytest.approx([RED_DEPTH_M / 10, GREEN_DEPTH_M / 10])
