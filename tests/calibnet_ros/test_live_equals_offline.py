"""A recording played to the running node and evaluated offline: equal, message by message."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMaskArray
from rclpy.serialization import deserialize_message, serialize_message

from calibnet_core.data.analytic_scene import add_sensor_faults, render_sequence
from calibnet_core.data.bags import open_rgbd_bag, read_labels, write_rgbd_bag
from calibnet_ros.bag_player import BagPlayer
from calibnet_ros.evaluate_bag.replay import evaluate_recording
from calibnet_ros.loading import load_pipeline
from calibnet_ros.messages import OUTPUTS
from calibnet_ros.parameter_schema import DEFAULTS
from tests.support.known_answers import KnownAnswers
from tests.support.ros import FIRST_STAMP_NS, REAL, RELIABLE, wait_for
from tests.support.shared import shared_file

pytestmark = pytest.mark.ros

MEASURED = ("age_ms", "queue_ms", "preprocess_ms", "inference_ms", "postprocess_ms")
PERIOD_NS = 33_333_333


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Ten frames of moving objects; depth is a little late, and time restarts after the sixth."""
    path = tmp_path_factory.mktemp("bags") / "rendered"
    images = list(render_sequence(10, seed=3))
    frames = [
        replace(
            image.to_rgbd_frame(
                stamp_ns=FIRST_STAMP_NS + index * PERIOD_NS - (index >= 6) * 10_000_000_000
            ),
            depth_m=add_sensor_faults(image.depth_m, seed=index),
        )
        for index, image in enumerate(images)
    ]
    write_rgbd_bag(
        path, frames, labels=[image.label for image in images], depth_offset_ns=3_000_000
    )
    return open_rgbd_bag(path)


def live_messages(robot, bag):
    """Every message that the node publishes while it is played the recording, by topic."""
    found = defaultdict(list)
    topics = {"instances": InstanceMaskArray} | {entry.name: entry.msg_type for entry in OUTPUTS}
    for name, msg_type in topics.items():
        robot.listen(msg_type, name, found[name].append, RELIABLE)
    player = BagPlayer(bag, node_name=robot.node_name, context=robot.context)
    try:
        player.wait_for_node(60.0, lambda: robot.process.is_alive)
        assert player.announce_calibration(20.0)
        report = player.play_in_step(60.0)
    finally:
        player.close()
    wait_for(
        lambda: all(len(found[name]) >= report.num_answered for name in topics),
        "the last messages",
    )
    return found


def offline_messages(bag, predictor, values):
    found = defaultdict(list)
    for answer in evaluate_recording(bag, predictor, values):
        for name, msg in answer.messages():
            # On the way over the wire numbers of 32 bits are rounded.
            found[name].append(deserialize_message(serialize_message(msg), type(msg)))
    return found


def unmeasured(msg):
    """The message without what a clock measured."""
    for name in MEASURED:
        if hasattr(msg, name):
            setattr(msg, name, math.nan)
    return msg


def assert_equal(live, offline):
    assert set(live) == set(offline)
    for name, messages in offline.items():
        assert len(live[name]) == len(messages), name
        for theirs, ours in zip(live[name], messages, strict=True):
            # As text: NaN equals nothing, and the padding of serialised bytes is arbitrary.
            assert repr(unmeasured(theirs)) == repr(unmeasured(ours)), name
            if hasattr(theirs, "data"):
                np.testing.assert_array_equal(theirs.data, ours.data)


def start_on(start_robot, bag, parameters, **options):
    return start_robot(
        parameters={"output.overlay_rate": 0.0, **parameters},
        remaps={
            "color/image": bag.color_topic,
            "depth/image": bag.depth_topic,
            "color/camera_info": bag.info_topic,
        },
        loses_nothing=(bag.color_topic, bag.depth_topic),
        publishes_reliably=True,
        **options,
    )


def test_every_message_of_a_rendered_recording_is_the_same(start_robot, rendered):
    robot = start_on(
        start_robot,
        rendered,
        {},
        module="tests.support.known_answers",
        arguments=[str(rendered.path)],
    )
    live = live_messages(robot, rendered)
    predictor = KnownAnswers(dict(read_labels(rendered.path)), DEFAULTS)
    offline = offline_messages(rendered, predictor, {**DEFAULTS, "output.overlay_rate": 0.0})
    assert len(offline["instances"]) >= 9
    assert {each.geometry_status for msg in offline["instances"] for each in msg.instances} == {0}
    assert max(each.track_age for msg in offline["instances"] for each in msg.instances) > 3
    assert_equal(live, offline)


def test_every_message_of_a_real_recording_is_the_same_with_the_real_network(start_robot):
    bag = open_rgbd_bag(shared_file("data/bags/ycbv_0000_32fc1_sqlite3/metadata.yaml").parent)
    parameters = {
        "model.device": "cpu",
        "model.input_height": 64,
        "model.input_width": 96,
        "detection.score_threshold": 0.0,
        "detection.max_instances": 4,
    }
    robot = start_on(start_robot, bag, parameters, module=REAL)
    live = live_messages(robot, bag)
    values = {**DEFAULTS, **parameters, "output.overlay_rate": 0.0}
    offline = offline_messages(bag, load_pipeline(values), values)
    assert len(offline["instances"]) == 3
    assert offline["instances"][0].instances
    assert_equal(live, offline)
