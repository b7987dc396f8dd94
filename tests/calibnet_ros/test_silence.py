"""Inputs from which nothing comes, told from a clock set by hand and a real graph."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from calibnet_core.perception.accounting import FrameLedger
from calibnet_ros import silence
from calibnet_ros.frame_input import COLOR, DEPTH, INFO
from calibnet_ros.silence import SilenceWatch

pytestmark = pytest.mark.ros

TOPICS = {COLOR: "/quiet/color", DEPTH: "/quiet/depth", INFO: "/quiet/info"}


@pytest.fixture(scope="module")
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("silence", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def now(monkeypatch):
    seconds = [50.0]
    monkeypatch.setattr(silence, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def counts(color=0, depth=0, info=0):
    ledger = FrameLedger()
    for number, count in (
        (color, ledger.color_received),
        (depth, ledger.depth_received),
        (info, ledger.info_received),
    ):
        for _ in range(number):
            count()
    return ledger.snapshot(waiting_color=color, in_flight=0)


def test_an_input_is_silent_once_nothing_came_for_longer_than_the_timeout(node, now):
    watch = SilenceWatch(node, TOPICS)
    now[0] += 1.9
    assert watch.check(counts(color=1), 2.0) == {}
    now[0] += 0.2  # the others have now been silent since the watch began
    assert set(watch.check(counts(color=1), 2.0)) == {DEPTH, INFO}
    now[0] += 2.0
    found = watch.check(counts(color=1, depth=1), 2.0)
    assert set(found) == {COLOR, INFO}
    assert found[INFO].startswith("nothing on /quiet/info for 4 s: ")
    assert set(watch.check(counts(color=2, depth=1), 2.0)) == {INFO}


def test_a_count_that_falls_is_no_silence(node, now):
    """Counters begin anew with every activation."""
    watch = SilenceWatch(node, TOPICS)
    watch.check(counts(color=5), 2.0)
    now[0] += 3
    assert COLOR not in watch.check(counts(color=1), 2.0)


def test_without_a_publisher_the_name_to_remap_is_told(node, now):
    watch = SilenceWatch(node, TOPICS, prefix="left/")
    now[0] += 3
    assert watch.check(counts(), 2.0)[DEPTH] == (
        "nothing on /quiet/depth for 3 s: nobody publishes it; start the camera driver, or remap "
        "'left/depth/image'"
    )


def test_publishers_are_told_with_type_and_quality(node, now):
    profile = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
    publishers = [node.create_publisher(Image, TOPICS[COLOR], profile) for _ in range(2)]
    watch = SilenceWatch(node, TOPICS)
    now[0] += 3
    one = "silence (sensor_msgs/msg/Image, BEST_EFFORT, TRANSIENT_LOCAL)"
    assert watch.check(counts(), 2.0)[COLOR].endswith(f": it has 2 publishers: {one}, {one}")
    node.destroy_publisher(publishers[0])
    assert watch.check(counts(), 2.0)[COLOR].endswith(f": it has 1 publisher: {one}")
    node.destroy_publisher(publishers[1])
