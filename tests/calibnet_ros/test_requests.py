"""Requests that wait in an executor and are answered from another thread."""

from __future__ import annotations

import math
import threading
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from builtin_interfaces.msg import Time
from calibnet_ros.action import Segment
from calibnet_ros.srv import SegmentOnce
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from calibnet_ros.requests import (
    DEFAULT_TIMEOUT_S,
    Code,
    FrameRequest,
    FrameRequests,
    Reply,
    request_from,
)

pytestmark = pytest.mark.ros

TIMEOUT_S = 10.0
ANSWERED, TOO_LATE = Reply(Code.OK), Reply(Code.FAILED, "too late")


class Bench:
    """Requests of a node whose clock stands still, as before a bag begins to play."""

    def __init__(self, context):
        clock_stands_still = Parameter("use_sim_time", value=True)
        self.node = Node("asked", context=context, parameter_overrides=[clock_stands_still])
        self.missing = ""
        self.requests = FrameRequests(self.node, lambda: self.missing)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)

    def wait(self, request):
        """What `wait` returns, as a task of the executor."""
        task = self.executor.create_task(self.requests.wait, request)
        self.executor.spin_once(timeout_sec=0.01)
        return task

    def outcome(self, task, timeout_s=TIMEOUT_S):
        """Spin until the task is done; its result and how long that took."""
        started = time.monotonic()
        self.executor.spin_until_future_complete(task, timeout_s)
        assert task.done()
        return task.result(), time.monotonic() - started

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def bench(context):
    bench = Bench(context)
    yield bench
    bench.close()


def request(not_before_ns=0, timeout_s=TIMEOUT_S):
    return FrameRequest(
        not_before_ns=not_before_ns,
        timeout_s=timeout_s,
        score_threshold=None,
        include_label_image=False,
        include_cloud=False,
    )


def goal(kind=SegmentOnce.Request, **fields):
    return kind(**{"score_threshold": math.nan} | fields)


@pytest.mark.parametrize("kind", [SegmentOnce.Request, Segment.Goal])
def test_the_services_request_and_the_actions_goal_are_read_alike(kind):
    given = goal(
        kind,
        not_before=Time(sec=3, nanosec=7),
        timeout=2.5,
        score_threshold=0.25,
        include_label_image=True,
    )
    found = request_from(given)
    assert (found.not_before_ns, found.timeout_s) == (3_000_000_007, 2.5)
    assert found.score_threshold == 0.25
    assert (found.include_label_image, found.include_cloud) == (True, False)


def test_a_timeout_of_zero_and_a_threshold_of_nan_are_the_defaults():
    found = request_from(goal())
    assert (found.timeout_s, found.score_threshold) == (DEFAULT_TIMEOUT_S, None)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"score_threshold": -0.01}, "score_threshold"),
        ({"score_threshold": 1.01}, "score_threshold"),
        ({"score_threshold": math.inf}, "score_threshold"),
        ({"timeout": -0.1}, "timeout"),
        ({"timeout": 3601.0}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(fields, word):
    with pytest.raises(ValueError, match=word):
        request_from(goal(**fields))


def test_a_reply_fills_the_fields_of_its_response():
    response = Reply(Code.TIMEOUT, "in vain").fill(SegmentOnce.Response())
    assert (response.success, response.error_code) == (False, Code.TIMEOUT)
    assert response.message == "in vain"
    instances = SegmentOnce.Response().instances
    instances.sequence = 9
    response = Reply(Code.OK, parts={"instances": instances}).fill(SegmentOnce.Response())
    assert (response.success, response.instances.sequence) == (True, 9)


def test_an_answer_from_another_thread_wakes_the_executor_at_once(bench):
    """Without being woken it would sleep until something else comes."""
    delays = []
    for _ in range(5):
        asked = request()
        task = bench.wait(asked)
        answered_at = []

        def answer(asked=asked, answered_at=answered_at):
            time.sleep(0.05)
            answered_at.append(time.monotonic())
            bench.requests.answer(asked, ANSWERED)

        threading.Thread(target=answer).start()
        reply, _ = bench.outcome(task)
        delays.append(time.monotonic() - answered_at[0])
        assert reply is ANSWERED
    assert sorted(delays)[2] < 0.02


def test_time_is_up_by_the_wall_clock_though_the_nodes_clock_stands_still(bench):
    bench.missing = "nothing on /color for 3 s"
    reply, elapsed_s = bench.outcome(bench.wait(request(timeout_s=0.15)))
    assert reply.code == Code.TIMEOUT
    assert reply.message == (
        "no frame of that time was answered within 0.15 s; nothing on /color for 3 s"
    )
    assert 0.1 < elapsed_s < 1.0
    assert not bench.requests.wants(10**18)


def test_the_first_answer_counts_and_nothing_is_left_behind(bench):
    asked = request()
    task = bench.wait(asked)
    num_timers = len(list(bench.node.timers))
    bench.requests.answer(asked, ANSWERED)
    bench.requests.answer(asked, TOO_LATE)
    assert bench.outcome(task)[0] is ANSWERED
    assert len(list(bench.node.timers)) == num_timers - 1
    assert not bench.requests.wants(10**18)


def test_what_is_answered_before_it_waits_does_not_wait(bench):
    asked = request()
    bench.requests.answer(asked, ANSWERED)  # cancelled while it was on the way
    assert bench.outcome(bench.wait(asked))[0] is ANSWERED
    assert not bench.requests.wants(10**18)


def test_only_a_frame_that_is_late_enough_is_an_answer_and_each_request_is_taken_out_once(bench):
    early, late = request(not_before_ns=100), request(not_before_ns=200)
    for asked in (early, late):
        bench.wait(asked)
    wants = bench.requests.wants
    assert [wants(stamp_ns) for stamp_ns in (99, 100, 199, 200)] == [False, True, True, True]
    assert bench.requests.due(99, 0.0) == []
    assert bench.requests.due(150, 0.0) == [early]
    assert bench.requests.due(150, 0.0) == []
    assert not wants(150)
    assert bench.requests.due(200, 0.0) == [late]


def test_the_next_frame_is_none_that_was_paired_before_the_request(bench):
    before = time.monotonic()
    asked = request()
    bench.wait(asked)
    assert bench.requests.due(10**18, before) == []
    assert bench.requests.due(5, time.monotonic()) == [asked]


def test_all_that_wait_can_be_ended_together_but_not_what_is_at_work(bench):
    at_work, waiting = request(), request(not_before_ns=10**18)
    tasks = [bench.wait(asked) for asked in (at_work, waiting)]
    assert bench.requests.due(5, time.monotonic()) == [at_work]
    bench.requests.answer_all(TOO_LATE)
    assert bench.outcome(tasks[1])[0] is TOO_LATE
    assert not tasks[0].done()
    bench.requests.answer(at_work, ANSWERED)
    assert bench.outcome(tasks[0])[0] is ANSWERED


def test_what_runs_aside_holds_up_nothing_and_hands_over_what_it_returns_or_raises(bench):
    go_on = threading.Event()

    def slow():
        assert go_on.wait(TIMEOUT_S)
        return threading.current_thread().name

    def broken():
        raise OSError("the disk is full")

    future = bench.requests.aside(slow)
    started = time.monotonic()
    bench.executor.spin_once(timeout_sec=0.01)
    assert time.monotonic() - started < 1.0
    assert not future.done()
    go_on.set()
    name, elapsed_s = bench.outcome(future)
    assert name != threading.current_thread().name
    assert elapsed_s < 1.0
    with pytest.raises(OSError, match="the disk is full"):
        bench.outcome(bench.requests.aside(broken))


def test_an_answer_that_comes_after_the_nodes_end_is_of_no_account(context):
    bench = Bench(context)
    asked = request()
    bench.wait(asked)
    bench.close()
    bench.requests.answer(asked, ANSWERED)
    assert asked.reply.result() is ANSWERED


def test_guards_are_given_back(bench):
    before = len(list(bench.node.guards))
    requests = FrameRequests(bench.node, str)
    assert len(list(bench.node.guards)) == before + 1
    requests.destroy()
    assert len(list(bench.node.guards)) == before
