"""What the node publishes for a pair, over the wire."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask, InstanceMaskArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from calibnet_core.perception.frame_assembly import intrinsics_from_camera_info
from calibnet_core.perception.mask_codec import MaskEncoding, decode_mask
from calibnet_core.perception.perceiver import Perceiver, PerceptionSettings
from calibnet_core.perception.received_image import pixels_of
from calibnet_core.perception.tracking import TrackAssignment
from calibnet_core.structures import Instances, RgbdFrame
from calibnet_core.visualization import draw_perception
from tests.support.ros import (
    GREEN_BOX,
    LATCHED,
    RED_BOX,
    RELIABLE,
    SIZE,
    camera_info_msg,
    image_msg,
    scene_depth_m,
    scene_rgb,
    stamp_ns_of,
    wait_for,
)
from tests.support.stub_perception_node import MODEL_INFO, SEE_NOTHING

pytestmark = pytest.mark.ros

BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot(parameters={"output.overlay_rate": 0.0})
    robot.wait_until_connected()
    return robot


@pytest.fixture
def watch(robot):
    """Subscribes to a picture for as long as the test lasts; returns the list that it fills."""
    subscriptions = []

    def start(name, profile=BEST_EFFORT, msg_type=Image):
        found = []
        subscriptions.append(robot.listen(msg_type, name, found.append, profile))

        def is_watched():
            known = len(found)
            robot.ask()
            return len(found) > known

        robot.wait_for(is_watched, f"the first {name}")
        return found

    yield start
    for subscription in subscriptions:
        robot.node.destroy_subscription(subscription)


def picture_for(found, stamp_ns):
    return wait_for(
        lambda: next((msg for msg in found if stamp_ns_of(msg) == stamp_ns), None), "the picture"
    )


def full_mask(msg, instance):
    roi, mask = instance.roi, np.zeros((msg.height, msg.width), bool)
    mask[roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width] = (
        decode_mask(instance.mask_data, roi.height, roi.width, MaskEncoding(instance.mask_encoding))
    )
    return mask


def odd_scene():
    """Three regions: a ring, one at the border whose width is no multiple of 8, and a square."""
    rgb = np.full((*SIZE, 3), 90, np.uint8)
    rgb[5:25, 10:31] = (255, 0, 0)
    rgb[10:20, 15:26] = 90
    rgb[30:48, 53:64] = (0, 255, 0)
    rgb[30:40, 5:15] = (0, 0, 255)
    return rgb


def true_masks(rgb):
    colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    return [(rgb == color).all(axis=2) for color in colors]


def ask_about(robot, rgb):
    stamp_ns = robot.next_stamp()
    return robot.answer(robot.send_pair(stamp_ns, color=image_msg(rgb, "rgb8", stamp_ns)))


def test_an_answer_describes_every_instance(robot):
    rgb = odd_scene()
    msg = ask_about(robot, rgb)
    assert (msg.height, msg.width) == SIZE
    assert msg.status == InstanceMaskArray.STATUS_OK
    assert msg.model_id == MODEL_INFO.model_id
    assert (msg.preprocess_ms, msg.inference_ms, msg.postprocess_ms) == (1.0, 2.0, 3.0)
    assert [instance.instance_id for instance in msg.instances] == [1, 2, 3]
    assert [instance.score for instance in msg.instances] == pytest.approx([0.9, 0.8, 0.7])
    assert [instance.truncated for instance in msg.instances] == [False, True, False]
    for instance, mask in zip(msg.instances, true_masks(rgb), strict=True):
        assert instance.label == "salient_object"
        assert instance.area == mask.sum()
        assert instance.raw_score == instance.score
        assert (instance.track_id, instance.track_age) >= (1, 1)
        assert instance.geometry_status == InstanceMask.GEOMETRY_OK
        assert not instance.roi.do_rectify
        rows, columns = np.nonzero(mask)
        assert (instance.roi.y_offset, instance.roi.x_offset) == (rows.min(), columns.min())
        assert instance.roi.height == np.ptp(rows) + 1
        assert instance.roi.width == np.ptp(columns) + 1


@pytest.mark.parametrize("name", ["bits", "mono8", "rle"])
def test_masks_decode_in_every_encoding(robot, name):
    assert robot.set_parameters(output__mask_encoding=name)[0].successful
    rgb = odd_scene()
    msg = ask_about(robot, rgb)
    codes = {"bits": 1, "mono8": 2, "rle": 3}
    assert {instance.mask_encoding for instance in msg.instances} == {codes[name]}
    for instance, mask in zip(msg.instances, true_masks(rgb), strict=True):
        np.testing.assert_array_equal(full_mask(msg, instance), mask)
    robot.set_parameters(output__mask_encoding="bits")


def test_without_an_encoding_boxes_travel_and_masks_do_not(robot):
    robot.set_parameters(output__mask_encoding="none")
    msg = ask_about(robot, odd_scene())
    assert [len(instance.mask_data) for instance in msg.instances] == [0, 0, 0]
    assert {instance.mask_encoding for instance in msg.instances} == {0}
    assert all(instance.roi.width and instance.area for instance in msg.instances)
    robot.set_parameters(output__mask_encoding="bits")


def test_bits_are_packed_as_documented(robot):
    msg = ask_about(robot, odd_scene())
    corner = msg.instances[1]  # 11 pixels wide: two bytes a row, the last five bits empty
    assert list(corner.mask_data) == [0b11111111, 0b11100000] * 18


def test_the_label_image_holds_the_ids_of_the_message(robot, watch):
    found = watch("label_image")
    rgb = odd_scene()
    msg = ask_about(robot, rgb)
    picture = picture_for(found, stamp_ns_of(msg))
    assert picture.encoding == "mono16"
    assert picture.header == msg.header
    assert (picture.height, picture.width, picture.step) == (*SIZE, 2 * SIZE[1])
    labels = pixels_of(picture)
    expected = np.zeros(SIZE, np.uint16)
    for instance in msg.instances:
        expected[full_mask(msg, instance)] = instance.instance_id
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_the_overlay_shows_the_instances(robot, watch):
    found = watch("overlay")
    msg = robot.ask()
    picture = picture_for(found, stamp_ns_of(msg))
    assert (picture.encoding, picture.header) == ("rgb8", msg.header)
    masks = np.zeros((2, *SIZE), bool)
    masks[0][RED_BOX] = masks[1][GREEN_BOX] = True
    instances = Instances.from_masks(masks, np.array([0.9, 0.8], np.float32))
    frame = RgbdFrame(
        rgb=scene_rgb(),
        depth_m=scene_depth_m(),
        intrinsics=intrinsics_from_camera_info(camera_info_msg(), SIZE),
    )
    perception = Perceiver(PerceptionSettings()).perceive(frame, instances)
    tracks = tuple(
        TrackAssignment(track_id=e.track_id, age=1, is_shown=True) for e in msg.instances
    )
    expected = draw_perception(replace(perception, tracks=tracks))
    np.testing.assert_array_equal(pixels_of(picture), expected)


@pytest.mark.parametrize(
    ("name", "line"),
    [("overlay", "stub: made overlay"), ("label_image", "stub: made label_image")],
)
def test_a_picture_is_drawn_only_while_somebody_watches(robot, name, line):
    def drawn():
        return len(robot.process.lines(line))

    topic = f"{robot.node_name}/{name}"
    wait_for(lambda: robot.node.count_subscribers(topic) == 0, "the last test to unsubscribe")
    robot.ask()
    before = drawn()
    for _ in range(3):
        robot.ask()
    assert drawn() == before
    found = []
    subscription = robot.listen(Image, name, found.append, BEST_EFFORT)
    wait_for(lambda: robot.ask() and found, "the first picture")
    robot.node.destroy_subscription(subscription)

    def nobody_watches():
        before = drawn()
        robot.ask()
        return drawn() == before

    wait_for(nobody_watches, "the node to notice that nobody watches")


def test_an_overlay_rate_limits_how_often_one_is_drawn(robot, watch):
    found = watch("overlay")
    robot.set_parameters(output__overlay_rate=0.001)  # one in a quarter of an hour
    known = len(found)
    results = [robot.ask() for _ in range(5)]
    robot.set_parameters(output__overlay_rate=0.0)
    last = robot.ask()
    picture_for(found, stamp_ns_of(last))
    skipped = {stamp_ns_of(msg) for msg in results}
    assert [msg for msg in found[known:] if stamp_ns_of(msg) in skipped] == []


def test_an_empty_list_says_that_nothing_was_found(robot, watch):
    labels, overlays = watch("label_image"), watch("overlay")
    msg = robot.ask(order=SEE_NOTHING)
    assert msg.instances == []
    assert (msg.height, msg.width) == SIZE
    assert not pixels_of(picture_for(labels, stamp_ns_of(msg))).any()
    picture = pixels_of(picture_for(overlays, stamp_ns_of(msg)))
    np.testing.assert_array_equal(picture, scene_rgb(SEE_NOTHING))


@pytest.mark.parametrize("profile", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_planners_of_either_reliability_get_the_instances(robot, watch, profile):
    found = watch("instances", profile, InstanceMaskArray)
    msg = robot.ask()
    received = picture_for(found, stamp_ns_of(msg))
    assert repr(received) == repr(msg)  # NaN equals nothing; serialised, gaps hold any byte


def test_cameras_of_either_reliability_are_heard(robot):
    for profile in (BEST_EFFORT, RELIABLE):
        publishers = [
            robot.node.create_publisher(Image, topic, profile)
            for topic in ("color/image", "depth/image")
        ]
        for publisher in publishers:
            wait_for(publisher.get_subscription_count, "the node to subscribe")
        robot.color, color = publishers[0], robot.color
        robot.depth, depth = publishers[1], robot.depth
        robot.wait_for(robot.is_heard, "an answer")
        assert [publisher.get_subscription_count() for publisher in publishers] == [1, 1]
        robot.color, robot.depth = color, depth
        for publisher in publishers:
            robot.node.destroy_publisher(publisher)


def test_who_asks_for_more_than_is_offered_is_named_while_images_go_on(robot):
    silent = robot.listen(InstanceMaskArray, "instances", lambda msg: None, LATCHED)

    def told():
        robot.ask()
        return robot.process.lines("/instances gets nothing: its durability", "qos_overrides.")

    try:
        assert len(robot.wait_for(told, "the warning")) == 1
    finally:
        robot.node.destroy_subscription(silent)


def test_topics_have_the_documented_qualities(robot):
    def profile_of(name):
        infos = robot.node.get_publishers_info_by_topic(f"{robot.node_name}/{name}")
        assert len(infos) == 1
        profile = infos[0].qos_profile
        return profile.reliability.name, profile.durability.name

    assert profile_of("instances") == ("RELIABLE", "VOLATILE")
    assert profile_of("label_image") == ("BEST_EFFORT", "VOLATILE")
    assert profile_of("overlay") == ("BEST_EFFORT", "VOLATILE")
    assert profile_of("model_info") == ("RELIABLE", "TRANSIENT_LOCAL")
    for topic in ("color/image", "depth/image", "color/camera_info"):
        name = f"{robot.namespace}/{topic}"
        infos = robot.node.get_subscriptions_info_by_topic(name)
        assert [info.qos_profile.reliability.name for info in infos] == ["BEST_EFFORT"]
