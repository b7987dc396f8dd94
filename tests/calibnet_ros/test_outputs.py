"""The output side on its own: its publishers and a listener in one process."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMaskArray, ModelInfo
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from calibnet_core.config import PipelineConfig
from calibnet_ros import outputs as outputs_module
from calibnet_ros.messages import OUTPUTS, FrameAccount, OutputOptions
from calibnet_ros.outputs import Outputs
from calibnet_ros.reports import Reporter
from tests.support.perceptions import discs, make_perception
from tests.support.ros import LATCHED, RELIABLE, wait_for
from tests.support.stub_predictor import MODEL_INFO

pytestmark = pytest.mark.ros

SIZE = (24, 32)
NS_PER_S = 1_000_000_000
numbers = itertools.count()


class Bench:
    """Outputs, and one that listens to them."""

    def __init__(self, context, overrides=(), **options):
        self.name = f"out{next(numbers)}"
        self.node = LifecycleNode(
            self.name,
            context=context,
            parameter_overrides=[
                Parameter(f"qos_overrides./{self.name}/{setting}", value=value)
                for setting, value in overrides
            ],
        )
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.reporter = Reporter(self.node.get_logger())
        self.outputs = Outputs(self.node, self.reporter, **options)
        self.results = self.listen(InstanceMaskArray, "instances")
        self.node.trigger_configure()
        self.node.trigger_activate()

    def listen(self, msg_type, name, profile=RELIABLE):
        """A list that gets what comes on a topic; returns once it is connected."""
        found = []
        self.node.create_subscription(msg_type, f"~/{name}", found.append, profile)
        self.until(lambda: self.node.count_subscribers(f"/{self.name}/{name}"))
        return found

    def until(self, condition):
        def spun():
            self.executor.spin_once(timeout_sec=0.005)
            return condition()

        return wait_for(spun, "the messages")

    def publish(self, stamp_ns=0, *, overlay_rate=0.0, **account):
        """The result that arrives, once it has."""
        known = len(self.results)
        perception = perception_at(stamp_ns)
        account = FrameAccount(**{"sequence": 1} | account)
        published = self.outputs.publish(
            perception, account, OutputOptions(), overlay_rate=overlay_rate
        )
        self.until(lambda: len(self.results) > known)
        # As text: NaN equals nothing, and the padding of serialised bytes is arbitrary.
        sent = deserialize_message(serialize_message(published), type(published))
        assert repr(self.results[-1]) == repr(sent)
        return self.results[-1]

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()


def perception_at(stamp_ns):
    return make_perception(discs(SIZE, 2), frame={"stamp_ns": stamp_ns})


@pytest.fixture
def make_bench(context):
    benches = []

    def make(*args, **options):
        benches.append(Bench(context, *args, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture
def made(monkeypatch):
    """Names of the outputs that were made, in order."""
    names = []

    def spied(output):
        def make(*args):
            names.append(output.name)
            return output.make(*args)

        return replace(output, make=make)

    monkeypatch.setattr(outputs_module, "OUTPUTS", tuple(map(spied, OUTPUTS)))
    return names


def test_a_result_bears_its_account_and_its_age(bench):
    msg = bench.publish(time.time_ns() - NS_PER_S, sequence=7, queue_ms=0.25, skipped_since_last=3)
    assert (msg.sequence, msg.queue_ms, msg.skipped_since_last) == (7, 0.25, 3)
    assert 1_000.0 <= msg.age_ms < 60_000.0


@pytest.mark.parametrize("ahead_s", [2, 100_000, -4_000])
def test_an_age_that_cannot_be_told_is_nan(bench, ahead_s):
    assert math.isnan(bench.publish(time.time_ns() + ahead_s * NS_PER_S).age_ms)
    assert ("ahead of this node's clock" in bench.reporter.last_error) == (ahead_s > 0)


def test_a_clock_that_is_a_little_ahead_gives_a_negative_age(bench):
    assert -1_000.0 < bench.publish(time.time_ns() + 600_000_000).age_ms < 0.0


def test_only_what_somebody_listens_to_is_made(made, make_bench):
    bench = make_bench()
    bench.publish()
    assert made == []
    heard = bench.listen(Image, "label_image", qos_profile_sensor_data)
    bench.publish()
    assert made == ["label_image"]
    assert bench.until(lambda: heard)[0].encoding == "mono16"


def test_pictures_for_people_are_drawn_no_more_often_than_asked(made, make_bench, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(outputs_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    bench = make_bench()
    bench.listen(Image, "overlay", qos_profile_sensor_data)
    answer = perception_at(0), FrameAccount(sequence=1), OutputOptions()

    def drawn(rate, seconds, steps=20):
        made.clear()
        for _ in range(steps):
            now[0] += seconds / steps
            bench.outputs.publish(*answer, overlay_rate=rate)
        return len(made)

    assert drawn(0.0, 1.0) == 20
    assert drawn(None, 1.0) == 0
    assert drawn(10.0, 1.0) == 10
    assert drawn(20.0, 1.0) == 20  # a camera at just this rate loses none
    bench.outputs.restart()
    assert drawn(0.001, 0.1) == 1


def test_an_output_that_fails_costs_only_itself_and_is_told_of(monkeypatch, make_bench):
    def broken(perception, options):
        raise ArithmeticError("no such colour")

    first = replace(OUTPUTS[0], make=broken)
    monkeypatch.setattr(outputs_module, "OUTPUTS", (first, *OUTPUTS[1:]))
    bench = make_bench()
    bench.listen(Image, first.name, qos_profile_sensor_data)
    heard = bench.listen(Image, "saliency/mask", qos_profile_sensor_data)
    bench.publish()
    assert bench.until(lambda: heard)
    assert bench.reporter.last_error == (
        f"~/{first.name} withheld: ArithmeticError: no such colour"
    )


def test_results_in_another_frame_have_a_topic_of_their_own_only_where_asked_for(make_bench):
    bench = make_bench(is_transformed=True, prefix="left/")
    known = {name for name, _ in bench.node.get_topic_names_and_types()}
    assert f"/{bench.name}/left/transformed/instances" in known
    moved = bench.listen(InstanceMaskArray, "left/transformed/instances")
    perception = perception_at(time.time_ns())
    perception = replace(perception, frame=replace(perception.frame, frame_id="base_link"))
    bench.outputs.publish_transformed(perception, FrameAccount(sequence=2), OutputOptions())
    (msg,) = bench.until(lambda: moved)
    assert (msg.header.frame_id, msg.sequence) == ("base_link", 2)
    assert msg.age_ms >= 0.0
    other = make_bench()
    other.outputs.publish_transformed(perception, FrameAccount(sequence=2), OutputOptions())
    known = {name for name, _ in other.node.get_topic_names_and_types()}
    assert f"/{other.name}/transformed/instances" not in known


def test_what_is_latched_reaches_a_late_listener_of_an_inactive_node(bench):
    bench.node.trigger_deactivate()
    bench.outputs.publish_latched(MODEL_INFO, PipelineConfig())
    found = bench.listen(ModelInfo, "model_info", LATCHED)
    assert bench.until(lambda: found)[0].model_id == MODEL_INFO.model_id


def test_after_destruction_nothing_is_offered(make_bench):
    bench = make_bench(is_transformed=True)
    bench.outputs.destroy()

    def offered():
        names = {name for name, _ in bench.node.get_topic_names_and_types()}
        return {name for name in names if bench.node.get_publishers_info_by_topic(name)}

    private = f"/{bench.name}/"
    bench.until(lambda: not {name for name in offered() if "instances" in name})
    left = {name for name in offered() if name.startswith(private)}
    assert left == {f"{private}transition_event"}


def test_an_override_of_the_quality_of_one_output_changes_no_other(make_bench):
    bench = make_bench([("label_image.publisher.reliability", "reliable")])
    found = {}
    for name in ("label_image", "overlay"):
        (info,) = bench.node.get_publishers_info_by_topic(f"/{bench.name}/{name}")
        found[name] = info.qos_profile.reliability.name
    assert found == {"label_image": "RELIABLE", "overlay": "BEST_EFFORT"}


def test_a_subscriber_that_gets_nothing_is_told_of_with_the_parameter_to_mend(bench):
    """What the advice names must exist."""
    demanding = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.node.create_subscription(InstanceMaskArray, "~/instances", print, demanding)
    text = bench.until(lambda: bench.reporter.last_error)
    parameter = f"qos_overrides./{bench.name}/instances.publisher.durability"
    assert parameter in text
    assert bench.node.has_parameter(parameter)


def test_destroyed_outputs_can_be_made_again_on_the_same_node(bench):
    bench.outputs.destroy()
    bench.outputs = Outputs(bench.node, bench.reporter)
    bench.node.trigger_deactivate()
    bench.node.trigger_activate()
    bench.until(lambda: bench.node.get_publishers_info_by_topic(f"/{bench.name}/instances"))
    assert len(bench.publish().instances) == 2


def test_nothing_found_is_published_as_an_empty_list(bench):
    empty = make_perception(np.zeros((0, *SIZE), bool))
    bench.outputs.publish(empty, FrameAccount(sequence=1), OutputOptions(), overlay_rate=0.0)
    assert bench.until(lambda: bench.results)[0].instances == []
