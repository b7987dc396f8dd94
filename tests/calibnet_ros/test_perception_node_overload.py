"""A camera ten times as fast as the network: results stay young and the node stays responsive."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from tests.support.ros import stamp_ns_of
from tests.support.stub_perception_node import sleep_order

pytestmark = [pytest.mark.ros, pytest.mark.alone]

INFERENCE_S = 0.2
CAMERA_PERIOD_S = 0.02
NUM_FRAMES = 150


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot(loses_nothing=True, environment={"STUB_INFERENCE_S": str(INFERENCE_S)})
    robot.wait_until_connected()
    return robot


@pytest.fixture(scope="module")
def flood(robot):
    """What came of a flood: counters before and after, the results, and their ages in seconds."""
    before = robot.counters()
    known = len(robot.results)
    due = time.monotonic()
    for _ in range(NUM_FRAMES):
        due += CAMERA_PERIOD_S
        time.sleep(max(0.0, due - time.monotonic()))  # the camera's own pace
        last_ns = robot.send_pair(time.time_ns())
    robot.answer(last_ns)
    after = robot.counters()
    results = robot.results[known:]
    arrived_ns = robot.arrived_ns[known:]
    ages_s = [
        (at_ns - stamp_ns_of(msg)) / 1e9 for at_ns, msg in zip(arrived_ns, results, strict=True)
    ]
    return before, after, results, ages_s


def test_no_result_is_older_than_two_inferences(flood):
    ages_s = flood[3]
    assert len(ages_s) >= NUM_FRAMES * CAMERA_PERIOD_S / INFERENCE_S / 2
    assert max(ages_s) < 2 * INFERENCE_S


def test_the_age_in_the_message_is_that_of_the_clock(flood):
    for msg, age_s in zip(flood[2], flood[3], strict=True):
        assert INFERENCE_S * 1e3 <= msg.age_ms <= age_s * 1e3
        assert 0.0 <= msg.queue_ms <= msg.age_ms


def test_the_newest_frame_is_answered_in_the_end_and_results_come_in_order(flood):
    stamps = [stamp_ns_of(msg) for msg in flood[2]]
    assert stamps == sorted(set(stamps))
    sequences = [msg.sequence for msg in flood[2]]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_every_frame_is_either_answered_or_counted_as_superseded(robot, flood):
    before, after, results, _ = flood
    rose = {key: after[key] - before[key] for key in after}
    assert rose["received_color"] == rose["paired"] == NUM_FRAMES
    assert rose["published"] == len(results)
    assert rose["dropped_pairs.superseded"] == NUM_FRAMES - len(results)
    assert sum(msg.skipped_since_last for msg in results) == rose["dropped_pairs.superseded"]
    robot.assert_balanced()


def test_superseded_pairs_are_no_fault(robot, flood):
    levels = {status.level for status, counters in robot.reports if counters["published"]}
    assert levels == {b"\0"}


def test_parameters_and_services_answer_while_an_inference_runs(robot):
    slow_ns = robot.send_pair(robot.next_stamp(), order=sleep_order(5.0))
    robot.process.wait_for_line(f"inferring {slow_ns}")
    assert robot.get_parameter("detection.score_threshold") == 0.5
    assert robot.set_parameters(detection__score_threshold=0.6)[0].successful
    assert robot.state() == "active"
    robot.fresh_report()
    assert robot.results_for(slow_ns) == []  # all of that came before it ended
    robot.answer(slow_ns)
