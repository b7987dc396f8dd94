"""Services and the action of the node, over the wire."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from action_msgs.msg import GoalStatus
from calibnet_ros.action import Segment
from calibnet_ros.srv import GetInstanceCloud, SegmentOnce
from rclpy.action import ActionClient
from std_srvs.srv import SetBool, Trigger

from calibnet_core.data.bags import open_rgbd_bag, read_frames
from calibnet_core.perception.received_image import pixels_of
from tests.support.ros import (
    GREEN_BOX,
    RED_BOX,
    RED_DEPTH_M,
    stamp_ns_of,
    time_msg,
    wait_for,
)
from tests.support.stub_perception_node import FAIL, sleep_order

pytestmark = pytest.mark.ros

Code = SegmentOnce.Response


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def robot(start_robot, folder):
    robot = start_robot(parameters={"output.save_folder": str(folder)})
    robot.wait_until_connected()
    return robot


@pytest.fixture(autouse=True)
def enabled(robot):
    yield
    enable(robot, True)


def request(kind=SegmentOnce.Request, **fields):
    message = kind(score_threshold=math.nan, timeout=10.0)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


class Call:
    """A service call under way in a thread of its own."""

    def __init__(self, robot, **fields):
        self._thread = threading.Thread(target=self._run, args=(robot, fields))
        self._thread.start()

    def _run(self, robot, fields):
        self.response = robot.call(SegmentOnce, "segment_once", request(**fields))

    def result(self):
        self._thread.join(20.0)
        return self.response


def ask_until_answered(robot, call):
    """Send pairs until the call has its answer; returns the stamps that were sent."""
    stamps = []

    def answered():
        stamps.append(robot.send_pair(robot.next_stamp()))
        time.sleep(0.05)
        return hasattr(call, "response")

    wait_for(answered, "the answer")
    return stamps


def enable(robot, data):
    assert robot.call(SetBool, "set_enabled", SetBool.Request(data=data)).success


def test_a_frame_is_answered_with_what_was_published_for_it(robot):
    call = Call(robot, include_label_image=True, include_cloud=True)
    ask_until_answered(robot, call)
    response = call.result()
    assert (response.success, response.error_code, response.message) == (True, Code.OK, "")
    stamp_ns = stamp_ns_of(response.instances)
    # As text: values that are not known are NaN, which equals nothing.
    assert repr(response.instances) == repr(robot.answer(stamp_ns))
    labels = pixels_of(response.label_image)
    assert (labels[RED_BOX] == 1).all()
    assert (labels[GREEN_BOX] == 2).all()
    assert response.cloud.width > 50
    assert stamp_ns_of(response.cloud) == stamp_ns_of(response.label_image) == stamp_ns


def test_no_frame_from_before_the_wanted_time_is_an_answer(robot):
    wanted_ns = robot.next_stamp(periods=5)
    robot.ask()
    call = Call(robot, not_before=time_msg(wanted_ns + 10**9))
    robot.ask()
    robot.ask()
    assert not hasattr(call, "response")
    later_ns = robot.next_stamp(periods=20)
    robot.send_pair(later_ns)
    ask_until_answered(robot, call)
    assert stamp_ns_of(call.result().instances) >= wanted_ns + 10**9


def test_nothing_is_sent_that_was_not_asked_for(robot):
    call = Call(robot)
    ask_until_answered(robot, call)
    response = call.result()
    assert response.instances.instances
    assert (response.label_image.height, response.cloud.width) == (0, 0)


def test_a_timeout_says_what_was_missing(robot):
    response = robot.call(SegmentOnce, "segment_once", request(timeout=0.7))
    assert (response.success, response.error_code) == (False, Code.TIMEOUT)
    assert "within 0.7 s" in response.message
    assert "color/image" in response.message


def test_a_threshold_of_its_own_changes_nothing_for_others(robot):
    before = robot.ask()
    assert len(before.instances) == 2
    call = Call(robot, score_threshold=0.85)
    ask_until_answered(robot, call)
    response = call.result()
    assert [each.score for each in response.instances.instances] == pytest.approx([0.9])
    published = robot.answer(stamp_ns_of(response.instances))
    assert [each.track_id for each in published.instances] == [
        each.track_id for each in before.instances
    ]
    # The one instance is the same object as on the topic.
    assert response.instances.instances[0].track_id == published.instances[0].track_id


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"score_threshold": 1.5}, "score_threshold"),
        ({"timeout": -1.0}, "timeout"),
        ({"timeout": math.inf}, "timeout"),
    ],
)
def test_a_request_out_of_range_is_refused_with_the_field(robot, fields, word):
    response = robot.call(SegmentOnce, "segment_once", request(**fields))
    assert response.error_code == Code.BAD_REQUEST
    assert word in response.message


def test_a_frame_that_cannot_be_processed_ends_the_request_with_the_reason(robot):
    robot.ask()
    call = Call(robot)
    time.sleep(0.3)
    robot.send_pair(robot.next_stamp(), order=FAIL)
    response = call.result()
    assert response.error_code in (Code.FAILED, Code.TIMEOUT)
    assert "told to fail" in response.message
    robot.ask()


def test_while_paused_nothing_is_published_and_pairs_are_counted(robot):
    before = robot.counters()
    enable(robot, False)
    stamps = [robot.send_pair(robot.next_stamp()) for _ in range(4)]
    counters = robot.counters_after(
        lambda now: now["dropped_pairs.paused"] == before["dropped_pairs.paused"] + 4
    )
    assert counters["published"] == before["published"]
    assert [robot.results_for(stamp_ns) for stamp_ns in stamps] == [[]] * 4
    status, _ = robot.fresh_report()
    assert "paused" in status.message
    robot.assert_balanced()
    enable(robot, True)
    assert robot.ask().instances


def test_while_paused_a_request_is_answered_and_nobody_else_hears_of_it(robot):
    enable(robot, False)
    heard = len(robot.results)
    call = Call(robot)
    ask_until_answered(robot, call)
    response = call.result()
    assert response.success
    assert len(response.instances.instances) == 2
    assert response.instances.sequence == 0
    assert len(robot.results) == heard


def test_while_paused_the_cloud_of_what_was_answered_can_be_had(robot):
    enable(robot, False)
    call = Call(robot)
    ask_until_answered(robot, call)
    answer = call.result().instances
    request_ = GetInstanceCloud.Request(stamp=answer.header.stamp, instance_id=1)
    response = robot.call(GetInstanceCloud, "get_instance_cloud", request_)
    assert (response.success, response.message) == (True, "")
    assert response.cloud.header == answer.header


def test_after_a_long_pause_an_object_at_the_same_place_is_not_taken_for_the_old_one(robot):
    known = {each.track_id for each in robot.ask().instances}
    enable(robot, False)
    robot.next_stamp(periods=36_000)  # an hour of stamps
    call = Call(robot)
    ask_until_answered(robot, call)
    assert not known & {each.track_id for each in call.result().instances.instances}


def test_a_limited_rate_keeps_no_request_waiting(robot):
    assert robot.set_parameters(input__max_rate=0.01)[0].successful
    robot.send_pair(robot.next_stamp())
    call = Call(robot)
    ask_until_answered(robot, call)
    assert call.result().success
    robot.set_parameters(input__max_rate=0.0)


def test_one_moment_that_goes_wrong_counts_once_for_however_many_clients(robot):
    robot.ask()
    calls = [Call(robot, score_threshold=threshold) for threshold in (0.1, 0.2, 0.3)]
    time.sleep(0.5)
    robot.send_pair(robot.next_stamp(), order=FAIL)
    assert {call.result().error_code for call in calls} <= {Code.FAILED, Code.TIMEOUT}
    assert robot.state() == "active"
    assert robot.ask().instances


def test_the_cloud_of_an_instance_can_be_had_afterwards(robot):
    msg = robot.ask()
    for fields in (
        {"stamp": msg.header.stamp, "instance_id": 1},
        {"stamp": msg.header.stamp, "track_id": msg.instances[0].track_id},
        {"track_id": msg.instances[0].track_id},
    ):
        response = robot.call(
            GetInstanceCloud, "get_instance_cloud", GetInstanceCloud.Request(**fields)
        )
        assert (response.success, response.message) == (True, "")
        assert response.cloud.header == msg.header
        rows = np.frombuffer(response.cloud.data, np.uint8).reshape(-1, response.cloud.point_step)
        z = rows[:, 8:12].copy().view(np.float32)
        assert len(z) == (RED_BOX[0].stop - RED_BOX[0].start) * (RED_BOX[1].stop - RED_BOX[1].start)
        assert z == pytest.approx(RED_DEPTH_M)


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"stamp": time_msg(5), "instance_id": 1}, "NO_SUCH_FRAME", "those kept are"),
        ({"instance_id": 77}, "NO_SUCH_INSTANCE", "instances 1 to 2"),
        ({"track_id": 10**9}, "NO_SUCH_INSTANCE", "tracks ["),
        ({}, "NO_SUCH_INSTANCE", "tracks ["),
    ],
)
def test_a_cloud_that_is_not_there_is_refused_with_what_is(robot, fields, code, word):
    robot.ask()
    response = robot.call(
        GetInstanceCloud, "get_instance_cloud", GetInstanceCloud.Request(**fields)
    )
    assert not response.success
    assert response.error_code == getattr(GetInstanceCloud.Response, code)
    assert word in response.message


def test_track_ids_begin_anew_when_that_is_asked_for(robot):
    assert robot.call(Trigger, "reset_tracks", Trigger.Request()).success
    assert [each.track_id for each in robot.ask().instances] == [1, 2]


def test_a_saved_frame_is_a_recording_with_its_answer(robot, folder):
    msg = robot.ask()
    response = robot.call(Trigger, "save_frame", Trigger.Request())
    assert response.success, response.message
    path = Path(response.message)
    assert path.parent == folder
    assert {entry.name for entry in path.iterdir()} == {
        "recording",
        "overlay.png",
        "label_image.png",
        "result.json",
    }
    (frame,) = read_frames(open_rgbd_bag(path / "recording"))
    assert frame.stamp_ns == stamp_ns_of(msg)
    assert frame.depth_m[RED_BOX] == pytest.approx(RED_DEPTH_M)
    second = robot.call(Trigger, "save_frame", Trigger.Request())
    assert second.message != response.message


# --- the action -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(robot):
    client = ActionClient(robot.node, Segment, f"{robot.node_name}/segment")
    assert client.wait_for_server(20.0)
    yield client
    client.destroy()


def finished(future):
    return wait_for(lambda: future.result() if future.done() else None, "the action")


def send_goal(client, **fields):
    """The accepted goal and the stages that it reports."""
    stages = []
    future = client.send_goal_async(
        request(Segment.Goal, **fields), lambda msg: stages.append(msg.feedback.stage)
    )
    goal = finished(future)
    assert goal.accepted
    return goal, stages


def test_a_goal_reports_its_stages_and_ends_with_the_answer(robot, client):
    goal, stages = send_goal(client)
    wait_for(lambda: Segment.Feedback.WAITING in stages, "the first stage")
    robot.send_pair(robot.next_stamp(), order=sleep_order(0.3))
    answer = finished(goal.get_result_async())
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert len(answer.result.instances.instances) == 2
    feedback = Segment.Feedback
    wait_for(lambda: len(stages) == 3, "all stages")
    assert stages == [feedback.WAITING, feedback.INFERRING, feedback.LIFTING]


def test_a_goal_can_be_cancelled_while_it_waits(robot, client):
    goal, _ = send_goal(client)
    finished(goal.cancel_goal_async())
    answer = finished(goal.get_result_async())
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert answer.result.error_code == Code.CANCELLED
    assert robot.ask().instances


def test_a_goal_out_of_range_is_aborted_with_the_reason(robot, client):
    goal, _ = send_goal(client, score_threshold=2.0)
    answer = finished(goal.get_result_async())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert (answer.result.error_code, "score_threshold" in answer.result.message) == (
        Code.BAD_REQUEST,
        True,
    )


# --- states, last: they deactivate the node -------------------------------------------------------


def test_deactivating_ends_requests_that_wait_and_later_ones_are_refused(robot, client):
    call = Call(robot)
    goal, stages = send_goal(client)
    wait_for(lambda: stages, "the goal to wait")
    assert robot.change_state("deactivate")
    assert call.result().error_code == Code.NOT_ACTIVE
    answer = finished(goal.get_result_async())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.error_code == Code.NOT_ACTIVE
    refused = robot.call(SegmentOnce, "segment_once", request())
    assert (refused.error_code, "activate" in refused.message) == (Code.NOT_ACTIVE, True)
    assert robot.call(SetBool, "set_enabled", SetBool.Request(data=False)).success is False
    assert robot.change_state("activate")
    robot.wait_until_connected()
