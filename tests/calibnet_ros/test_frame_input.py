"""The input side on its own: a node and its camera in one process, and no worker."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from calibnet_core.perception.accounting import DropReason, FrameLedger
from calibnet_core.perception.intake import FrameIntake
from calibnet_ros import filters
from calibnet_ros.filters import FilterError
from calibnet_ros.frame_input import COLOR, DEPTH, INFO, FrameInput
from calibnet_ros.parameter_schema import DEFAULTS
from calibnet_ros.parameters import intake_settings
from calibnet_ros.reports import Reporter
from tests.support.ros import RELIABLE, color_msg, depth_msg, wait_for

pytestmark = pytest.mark.ros

FRAME_NS = 100_000_000
numbers = itertools.count()


class Listener:
    """Keeps what the intake tells of."""

    def __init__(self):
        self.drops, self.num_pairs = [], 0

    def dropped(self, stream, reason, message):
        self.drops.append((stream, reason))

    def backward_jump(self, jump):
        pass

    def paired(self, color, depth):
        self.num_pairs += 1

    def camera_info_changed(self, before, now):
        pass


class Bench:
    """A frame input and a camera, and one thread that serves both."""

    def __init__(self, context, overrides=(), *, prefix="", profile=RELIABLE, **values):
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
        given = {**DEFAULTS, **values}
        self.ledger, self.listener = FrameLedger(), Listener()
        self.pairs, self.reporter = [], Reporter(self.node.get_logger())
        self.gave_way = []  # how many pairs there were each time
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.input = FrameInput(
            self.node,
            given,
            FrameIntake(
                intake_settings(given),
                ledger=self.ledger,
                listener=self.listener,
                on_pair=self.pairs.append,
            ),
            prefix=prefix,
            reporter=self.reporter,
            after_pair=lambda: self.gave_way.append(len(self.pairs)),
        )
        topics = {
            COLOR: (Image, CompressedImage)[given["input.color_transport"] != "raw"],
            DEPTH: (Image, CompressedImage)[given["input.depth_transport"] != "raw"],
            INFO: CameraInfo,
        }
        self.color, self.depth, self.info = (
            self.node.create_publisher(kind, self.input.topics[role], profile)
            for role, kind in topics.items()
        )

    def until(self, condition):
        def spun():
            self.executor.spin_once(timeout_sec=0.01)
            return condition()

        return wait_for(spun, "the messages")

    def counts(self):
        return self.input.intake.snapshot(in_flight=len(self.pairs))

    def num_received(self):
        counts = self.counts()
        counts.check()
        return counts.received_color + counts.received_depth + counts.received_info

    def send(self, publisher, *msgs):
        self.until(publisher.get_subscription_count)
        before = self.num_received()
        for msg in msgs:
            publisher.publish(msg)
        self.until(lambda: self.num_received() - before == len(msgs))

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def make_bench(context):
    benches = []

    def make(*args, **options):
        benches.append(Bench(context, *args, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def test_a_pair_is_handed_over_with_its_offset_and_the_newest_camera_info(make_bench):
    bench = make_bench()
    bench.send(bench.depth, depth_msg(FRAME_NS))
    bench.send(bench.color, color_msg(FRAME_NS))
    bench.send(bench.info, CameraInfo(width=32), CameraInfo(width=64))
    bench.send(bench.depth, depth_msg(2 * FRAME_NS + 4))
    bench.send(bench.color, color_msg(2 * FRAME_NS))
    first, second = bench.pairs
    assert first.camera_info is None
    assert second.camera_info.width == 64
    assert (second.color.stamp_ns, second.depth.stamp_ns) == (2 * FRAME_NS, 2 * FRAME_NS + 4)
    assert second.offset_ns == 4
    assert bench.listener.num_pairs == 2


def test_a_callback_gives_way_after_each_pair_and_after_nothing_else(make_bench):
    bench = make_bench()
    bench.send(bench.info, CameraInfo())
    for number in (1, 2):
        bench.send(bench.color, color_msg(number * FRAME_NS))
        assert bench.gave_way == list(range(1, number))
        bench.send(bench.depth, depth_msg(number * FRAME_NS))
        assert bench.gave_way == list(range(1, number + 1))


def test_closing_counts_what_waits_and_unsubscribes(make_bench):
    bench = make_bench()
    bench.send(bench.color, color_msg(2 * FRAME_NS), color_msg(3 * FRAME_NS))
    bench.input.close()
    counts = bench.counts()
    counts.check()
    assert counts.dropped_color == {DropReason.SHUTDOWN: 2}
    assert counts.waiting_color == 0
    for publisher in (bench.color, bench.depth, bench.info):
        bench.until(lambda publisher=publisher: publisher.get_subscription_count() == 0)


def test_a_wider_tolerance_can_pair_what_already_waits(make_bench):
    bench = make_bench(**{"sync.tolerance": 0.001})
    bench.send(bench.color, color_msg(FRAME_NS))
    bench.send(bench.depth, depth_msg(FRAME_NS + 3_000_000))
    assert bench.pairs == []
    bench.input.reconfigure({**DEFAULTS, "sync.tolerance": 0.01})
    assert len(bench.pairs) == 1
    bench.counts().check()


def test_unstamped_images_are_counted_or_get_the_nodes_time_where_that_is_asked_for(make_bench):
    strict = make_bench()
    lenient = make_bench(**{"sync.use_arrival_time": True, "sync.mode": "latest"})
    before_ns = lenient.node.get_clock().now().nanoseconds
    for bench in (strict, lenient):
        bench.send(bench.color, color_msg(0))
        bench.send(bench.depth, depth_msg(0))
    bad = DropReason.BAD_STAMP
    assert strict.listener.drops == [("color", bad), ("depth", bad)]
    assert lenient.listener.drops == strict.pairs == []
    (pair,) = lenient.pairs
    after_ns = lenient.node.get_clock().now().nanoseconds
    assert before_ns <= pair.color.stamp_ns <= pair.depth.stamp_ns <= after_ns


def test_topics_bear_the_cameras_name_and_compressed_ones_lie_below_the_raw(make_bench):
    bench = make_bench(
        prefix="front/",
        **{"input.color_transport": "compressed", "input.depth_transport": "compressedDepth"},
    )
    namespace = bench.node.get_namespace()
    assert bench.input.topics == {
        COLOR: f"{namespace}/front/color/image/compressed",
        DEPTH: f"{namespace}/front/depth/image/compressedDepth",
        INFO: f"{namespace}/front/color/camera_info",
    }
    bench.until(bench.color.get_subscription_count)


def test_an_override_of_the_quality_of_one_input_changes_no_other(make_bench):
    bench = make_bench(
        [
            ("color/image.subscription.reliability", "reliable"),
            ("color/image.subscription.depth", 17),
        ]
    )
    found = {}
    for role, topic in bench.input.topics.items():
        (info,) = bench.node.get_subscriptions_info_by_topic(topic)
        depth = bench.node.get_parameter(f"qos_overrides.{topic}.subscription.depth").value
        found[role] = info.qos_profile.reliability.name, depth
    assert found == {COLOR: ("RELIABLE", 17), DEPTH: ("BEST_EFFORT", 5), INFO: ("BEST_EFFORT", 5)}


def test_a_publisher_that_cannot_be_heard_is_told_of_with_the_parameter_to_mend(make_bench):
    """What the advice names must exist."""
    bench = make_bench(
        [("depth/image.subscription.durability", "transient_local")],
        profile=QoSProfile(depth=1, durability=DurabilityPolicy.VOLATILE),
    )
    text = bench.until(lambda: bench.reporter.last_error)
    topic = bench.input.topics[DEPTH]
    parameter = f"qos_overrides.{topic}.subscription.durability"
    assert topic in text
    assert parameter in text
    assert bench.node.has_parameter(parameter)


@pytest.mark.skipif(
    filters.ApproximateTimeSynchronizer is not None, reason="message_filters is installed"
)
def test_the_stock_synchroniser_is_refused_where_it_is_not_installed(make_bench):
    with pytest.raises(FilterError, match=r"message_filters is not installed.*'nearest'"):
        make_bench(**{"sync.mode": "approximate"})
