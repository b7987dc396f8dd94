"""Events that wait until somebody looks."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Empty

from calibnet_ros import qos
from calibnet_ros.graph_events import GraphEventGroup
from tests.support.ros import wait_for

pytestmark = pytest.mark.ros

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Bench:
    """A publisher and, from `listen` on, a subscription that asks it for too much."""

    def __init__(self, context):
        self.node = Node("talker", context=context)
        self.told, self.num_calls = [], 0
        self.node.create_publisher(
            Empty,
            "words",
            1,
            event_callbacks=qos.PublisherEventCallbacks(incompatible_qos=self.told.append),
        )
        self.node.create_timer(0.005, self._count)
        self.events = GraphEventGroup()
        self.events.take_over(self.node)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)

    def _count(self):
        self.num_calls += 1

    def listen(self):
        self.node.create_subscription(Empty, "words", lambda msg: None, LATCHED)

    def spin_until(self, condition):
        def spun():
            self.executor.spin_once(timeout_sec=0.01)
            return condition()

        wait_for(spun, "the event")

    def spin_some(self, num_calls=40):
        """Serve a timer so often: each time the executor waits anew."""
        last = self.num_calls + num_calls
        self.spin_until(lambda: self.num_calls >= last)


@pytest.fixture
def bench(context):
    bench = Bench(context)
    yield bench
    bench.executor.shutdown()
    bench.node.destroy_node()


def test_an_event_is_kept_until_somebody_looks(bench):
    bench.listen()
    bench.spin_some()
    assert bench.told == []
    bench.events.look()
    bench.spin_until(lambda: bench.told)
    assert len(bench.told) == 1


def test_having_looked_an_event_waits_for_the_next_look(bench):
    bench.events.look()
    bench.spin_some()
    bench.listen()
    bench.spin_some()
    assert bench.told == []
    bench.events.look()
    bench.spin_until(lambda: bench.told)


def test_only_events_are_taken_over(bench):
    groups = {entity.callback_group for entity in (*bench.node.timers, *bench.node.services)}
    assert bench.events not in groups
    events = list(bench.node.waitables)
    assert events
    assert {event.callback_group for event in events} == {bench.events}
