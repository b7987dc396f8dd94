"""The output side on its own: its publishers and a listener in one process."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from calibnet_ros.msg import InstanceMaskArray, ModelInfo
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from calibnet_core.config import PipelineConfig
from calibnet_core.perception.frame_assembly import frame_from_images, receive_color, receive_depth
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.structures import Instances, StageTimings
from calibnet_ros.frame_input import FramePair
from calibnet_ros.outputs import Outputs
from calibnet_ros.reports import Reporter
from tests.support.ros import LATCHED, RELIABLE, SIZE, color_msg, depth_msg, wait_for
from tests.support.stub_perception_node import MODEL_INFO

pytestmark = pytest.mark.ros

TIMINGS = StageTimings(preprocess_ms=1.5, inference_ms=2.5, postprocess_ms=3.5)
numbers = itertools.count()


class Bench:
    """Outputs, and one that listens to them."""

    def __init__(self, context, overrides=()):
        name = f"out{next(numbers)}"
        self.node = LifecycleNode(
            name,
            context=context,
            parameter_overrides=[
                Parameter(f"qos_overrides./{name}/{setting}", value=value)
                for setting, value in overrides
            ],
        )
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.outputs = Outputs(self.node, Reporter(self.node.get_logger()))
        self.results = []
        listen = self.node.create_subscription
        listen(InstanceMaskArray, "~/instances", self.results.append, RELIABLE)
        self.node.trigger_configure()
        self.node.trigger_activate()
        self.until(lambda: self.node.count_subscribers(f"/{name}/instances") == 1)

    def until(self, condition):
        def spun():
            self.executor.spin_once(timeout_sec=0.01)
            return condition()

        wait_for(spun, "the messages")

    def publish(self, stamp_ns, depth_ns=None, skipped=0):
        depth_ns = stamp_ns if depth_ns is None else depth_ns
        color = receive_color(color_msg(stamp_ns), stamp_ns)
        depth = receive_depth(depth_msg(depth_ns), depth_ns)
        known = len(self.results)
        self.outputs.publish(
            FramePair(color, depth, None, 0.0),
            frame_from_images(color, depth),
            Instances.from_masks(np.ones((1, *SIZE), bool), np.array([0.5], np.float32)),
            TIMINGS,
            model_id="stub-0",
            encoding=MaskEncoding.BITS,
            overlay_rate=0.0,
            queue_s=0.25,
            skipped=skipped,
        )
        self.until(lambda: len(self.results) > known)
        return self.results[-1]

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


def test_a_result_tells_its_times_and_what_was_skipped(bench):
    msg = bench.publish(time.time_ns(), skipped=3)
    assert (msg.preprocess_ms, msg.inference_ms, msg.postprocess_ms) == (1.5, 2.5, 3.5)
    assert (msg.queue_ms, msg.skipped_since_last, msg.sequence) == (250.0, 3, 1)
    assert 0.0 <= msg.age_ms < 60_000.0


@pytest.mark.parametrize("ahead_s", [2, 100_000, -4_000])
def test_an_age_that_cannot_be_told_is_nan(bench, ahead_s):
    assert math.isnan(bench.publish(time.time_ns() + ahead_s * 1_000_000_000).age_ms)


def test_a_clock_that_is_a_little_ahead_gives_a_negative_age(bench):
    assert -1_000.0 < bench.publish(time.time_ns() + 600_000_000).age_ms < 0.0


def test_counting_begins_anew_on_demand(bench):
    now_ns = time.time_ns()
    assert [bench.publish(now_ns).sequence for _ in range(3)] == [1, 2, 3]
    bench.outputs.restart()
    assert bench.publish(now_ns).sequence == 1


def test_model_info_reaches_a_late_listener_of_an_inactive_node(bench):
    bench.node.trigger_deactivate()
    bench.outputs.publish_model_info(MODEL_INFO, PipelineConfig())
    found = []
    bench.node.create_subscription(ModelInfo, "~/model_info", found.append, LATCHED)
    bench.until(lambda: found)
    assert found[0].model_id == MODEL_INFO.model_id


def test_after_destruction_nothing_is_offered(bench):
    bench.outputs.destroy()
    for name in ("instances", "label_image", "overlay", "model_info"):
        topic = f"{bench.node.get_fully_qualified_name()}/{name}"
        bench.until(lambda topic=topic: bench.node.count_publishers(topic) == 0)
        assert bench.node.get_publishers_info_by_topic(topic) == []


def test_an_override_of_the_quality_of_one_output_changes_no_other(context):
    bench = Bench(context, [("label_image.publisher.reliability", "reliable")])
    found = {}
    for name in ("label_image", "overlay"):
        topic = f"{bench.node.get_fully_qualified_name()}/{name}"
        (info,) = bench.node.get_publishers_info_by_topic(topic)
        found[name] = info.qos_profile.reliability.name
    bench.close()
    assert found == {"label_image": "RELIABLE", "overlay": "BEST_EFFORT"}
