"""The input side on its own: a node and its camera in one process, and no worker."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from calibnet_core.perception.accounting import DropReason, FrameLedger
from calibnet_core.perception.mailbox import LatestSlot
from calibnet_ros import filters
from calibnet_ros.frame_input import FrameInput, InputError
from calibnet_ros.parameters import SCHEMA
from calibnet_ros.reports import Reporter
from tests.support.ros import RELIABLE, color_msg, depth_msg, wait_for

pytestmark = pytest.mark.ros

DEFAULTS = {row.name: row.default for row in SCHEMA}
FRAME_NS = 100_000_000
numbers = itertools.count()


class Bench:
    """A frame input and a camera, and one thread that serves both."""

    def __init__(self, context, overrides=(), **values):
        name = f"bench{next(numbers)}"
        self.node = LifecycleNode(
            "bench",
            namespace=name,
            context=context,
            parameter_overrides=[
                Parameter(f"qos_overrides./{name}/{setting}", value=value)
                for setting, value in overrides
            ],
        )
        self.ledger, self.mailbox = FrameLedger(), LatestSlot()
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.input = FrameInput(
            self.node,
            {**DEFAULTS, **values},
            ledger=self.ledger,
            mailbox=self.mailbox,
            reporter=Reporter(self.node.get_logger()),
        )
        topics = {"color/image": Image, "depth/image": Image, "color/camera_info": CameraInfo}
        self.color, self.depth, self.info = (
            self.node.create_publisher(kind, topic, RELIABLE) for topic, kind in topics.items()
        )
        self.until(lambda: self.color.get_subscription_count() == 1)
        self.until(lambda: self.depth.get_subscription_count() == 1)

    def until(self, condition):
        def spun():
            self.executor.spin_once(timeout_sec=0.01)
            return condition()

        wait_for(spun, "the messages")

    def send(self, publisher, *msgs):
        before = self.input.snapshot()
        for msg in msgs:
            publisher.publish(msg)

        def arrived():
            now = self.input.snapshot()
            total = now.received_color + now.received_depth + now.received_info
            old = before.received_color + before.received_depth + before.received_info
            return total - old == len(msgs)

        self.until(arrived)
        self.input.snapshot().check()

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def context():
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def bench(context):
    bench = Bench(context)
    yield bench
    bench.close()


def test_a_pair_goes_to_the_mailbox_with_its_offset_and_camera_info(bench):
    bench.send(bench.info, CameraInfo(width=64))
    bench.send(bench.depth, depth_msg(FRAME_NS + 4))
    bench.send(bench.color, color_msg(FRAME_NS))
    pair = bench.mailbox.take(timeout_s=0)
    assert (pair.color.stamp_ns, pair.depth.stamp_ns, pair.offset_ns) == (FRAME_NS, FRAME_NS + 4, 4)
    assert pair.camera_info.width == 64


def test_before_the_first_camera_info_there_is_none(bench):
    bench.send(bench.depth, depth_msg(FRAME_NS))
    bench.send(bench.color, color_msg(FRAME_NS))
    assert bench.mailbox.take(timeout_s=0).camera_info is None


def test_a_newer_pair_takes_the_place_of_the_waiting_one_and_is_counted(bench):
    for frame in (1, 2, 3):
        bench.send(bench.depth, depth_msg(frame * FRAME_NS))
        bench.send(bench.color, color_msg(frame * FRAME_NS))
    assert bench.mailbox.take(timeout_s=0).color.stamp_ns == 3 * FRAME_NS
    assert bench.input.take_skipped() == 2
    assert bench.input.take_skipped() == 0
    assert bench.input.snapshot().dropped_pairs == {DropReason.SUPERSEDED: 2}


def test_closing_counts_what_waits_and_unsubscribes(bench):
    bench.send(bench.depth, depth_msg(FRAME_NS))
    bench.send(bench.color, color_msg(FRAME_NS))
    bench.send(bench.color, color_msg(2 * FRAME_NS), color_msg(3 * FRAME_NS))
    bench.input.close()
    counts = bench.input.snapshot()
    counts.check()
    assert counts.dropped_color == {DropReason.SHUTDOWN: 2}
    assert counts.dropped_pairs == {DropReason.SHUTDOWN: 1}
    assert (counts.waiting_color, counts.in_flight) == (0, 0)
    bench.until(lambda: bench.color.get_subscription_count() == 0)


def test_a_wider_tolerance_can_pair_what_already_waits(context):
    bench = Bench(context, **{"sync.tolerance": 0.001})
    bench.send(bench.color, color_msg(FRAME_NS))
    bench.send(bench.depth, depth_msg(FRAME_NS + 3_000_000))
    assert bench.mailbox.waiting == 0
    bench.input.reconfigure({**DEFAULTS, "sync.tolerance": 0.01})
    assert bench.mailbox.waiting == 1
    bench.input.snapshot().check()
    bench.close()


def test_an_override_of_the_quality_of_one_input_changes_no_other(context):
    overrides = [
        ("color/image.subscription.reliability", "reliable"),
        ("color/image.subscription.depth", 17),
    ]
    bench = Bench(context, overrides)
    found = {}
    for name in ("color/image", "depth/image", "color/camera_info"):
        topic = bench.node.resolve_topic_name(name)
        (info,) = bench.node.get_subscriptions_info_by_topic(topic)
        depth = bench.node.get_parameter(f"qos_overrides.{topic}.subscription.depth").value
        found[name] = info.qos_profile.reliability.name, depth
    bench.close()
    assert found == {
        "color/image": ("RELIABLE", 17),
        "depth/image": ("BEST_EFFORT", 5),
        "color/camera_info": ("BEST_EFFORT", 5),
    }


@pytest.mark.skipif(
    filters.ApproximateTimeSynchronizer is not None, reason="message_filters is installed"
)
def test_the_stock_synchroniser_is_refused_where_it_is_not_installed(context):
    with pytest.raises(InputError, match=r"message_filters is not installed.*'nearest'"):
        Bench(context, **{"sync.mode": "approximate"})
