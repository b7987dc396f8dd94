"""What the node makes of images that are wrong, or right in an unusual way, over the wire."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from calibnet_core.perception.mask_codec import MaskEncoding, decode_mask
from tests.support.ros import (
    GREEN_BOX,
    GREEN_DEPTH_M,
    RED_BOX,
    RED_DEPTH_M,
    SIZE,
    color_msg,
    depth_msg,
    image_msg,
    scene_depth_m,
    scene_rgb,
    stamp_ns_of,
    value_of,
)
from tests.support.stub_perception_node import FAIL, NOT_FINITE
from tests.support.stub_predictor import METRES_OF_FULL_QUALITY, SCORES

pytestmark = pytest.mark.ros

HUGE = 2**32 - 1
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot()
    robot.wait_until_connected()
    return robot


def changed(make, **fields):
    """A message of `make(stamp_ns)` with some fields changed."""

    def changed_msg(stamp_ns):
        msg = make(stamp_ns)
        for name, value in fields.items():
            setattr(msg, name, value)
        return msg

    return changed_msg


def cut(make, size):
    def cut_msg(stamp_ns):
        msg = make(stamp_ns)
        msg.data = msg.data[:size]
        return msg

    return cut_msg


def unstamped(make):
    return lambda stamp_ns: make(0)


def larger_depth(stamp_ns):
    return image_msg(np.full((60, 80), 1000, "<u2"), "16UC1", stamp_ns)


# what is wrong -> (images in place of the good ones, counter that rises, words that explain it)
DROPPED = {
    "colour in an unknown encoding": (
        {"color": changed(color_msg, encoding="purple8")},
        "dropped_color.bad_encoding",
        ["'purple8'", "rgb8"],
    ),
    "colour without encoding": (
        {"color": changed(color_msg, encoding="")},
        "dropped_color.bad_encoding",
        ["''", "rgb8"],
    ),
    "colour in yuv422": (
        {"color": changed(color_msg, encoding="yuv422", step=2 * SIZE[1])},
        "dropped_color.bad_encoding",
        ["'yuv422'", "image_proc"],
    ),
    "colour in yuv422_yuy2": (
        {"color": changed(color_msg, encoding="yuv422_yuy2", step=2 * SIZE[1])},
        "dropped_color.bad_encoding",
        ["'yuv422_yuy2'", "ImageFormatConverterNode"],
    ),
    "colour in a Bayer pattern": (
        {"color": changed(color_msg, encoding="bayer_rggb8", step=SIZE[1])},
        "dropped_color.bad_encoding",
        ["'bayer_rggb8'", "DebayerNode"],
    ),
    "depth on the colour topic": (
        {"color": depth_msg},
        "dropped_color.bad_encoding",
        ["looks like a depth image", "color/image"],
    ),
    "colour cut short": (
        {"color": cut(color_msg, -1)},
        "dropped_color.bad_size",
        ["9216", "9215", "cut short"],
    ),
    "colour without data": ({"color": cut(color_msg, 0)}, "dropped_color.bad_size", ["cut short"]),
    "colour of width 0": (
        {"color": changed(color_msg, width=0)},
        "dropped_color.bad_size",
        ["width 0", "no pixels"],
    ),
    "colour of height 0": (
        {"color": changed(color_msg, height=0)},
        "dropped_color.bad_size",
        ["height 0", "no pixels"],
    ),
    "colour of step 0": ({"color": changed(color_msg, step=0)}, "dropped_color.bad_size", ["step"]),
    "colour with a step below a row": (
        {"color": changed(color_msg, step=SIZE[1] * 3 - 1)},
        "dropped_color.bad_size",
        ["step of at least 192"],
    ),
    "colour of absurd height": (
        {"color": changed(color_msg, height=HUGE)},
        "dropped_color.bad_size",
        ["limit"],
    ),
    "colour of absurd width": (
        {"color": changed(color_msg, width=HUGE)},
        "dropped_color.bad_size",
        ["step of at least"],
    ),
    "colour of absurd step": (
        {"color": changed(color_msg, step=HUGE)},
        "dropped_color.bad_size",
        ["limit"],
    ),
    "colour absurd in every size": (
        {"color": changed(color_msg, height=HUGE, width=HUGE, step=HUGE)},
        "dropped_color.bad_size",
        ["step of at least"],
    ),
    "colour without stamp": (
        {"color": unstamped(color_msg)},
        "dropped_color.bad_stamp",
        ["no stamp", "sync.use_arrival_time"],
    ),
    "depth in an unknown encoding": (
        {"depth": changed(depth_msg, encoding="16SC1")},
        "dropped_depth.bad_encoding",
        ["'16SC1'"],
    ),
    "colour on the depth topic": (
        {"depth": color_msg},
        "dropped_depth.bad_encoding",
        ["looks like a colour image", "depth/image"],
    ),
    "depth cut short": (
        {"depth": cut(depth_msg, -1)},
        "dropped_depth.bad_size",
        ["6144", "6143", "cut short"],
    ),
    "depth of width 0": ({"depth": changed(depth_msg, width=0)}, "dropped_depth.bad_size", ["0"]),
    "depth of height 0": ({"depth": changed(depth_msg, height=0)}, "dropped_depth.bad_size", ["0"]),
    "depth of absurd height": (
        {"depth": changed(depth_msg, height=HUGE)},
        "dropped_depth.bad_size",
        ["limit"],
    ),
    "depth without stamp": (
        {"depth": unstamped(depth_msg)},
        "dropped_depth.bad_stamp",
        ["no stamp", "sync.use_arrival_time"],
    ),
    "colour and depth of different sizes": (
        {"depth": larger_depth},
        "dropped_pairs.size_mismatch",
        ["64x48", "80x60", "alignment"],
    ),
    "an inference that fails": (
        {"color": lambda stamp_ns: color_msg(stamp_ns, FAIL)},
        "dropped_pairs.inference_error",
        ["RuntimeError", "told to fail"],
    ),
    "an answer that is not finite": (
        {"color": lambda stamp_ns: color_msg(stamp_ns, NOT_FINITE)},
        "dropped_pairs.not_finite",
        ["told to answer NaN"],
    ),
}


@pytest.mark.parametrize("fault", DROPPED)
def test_a_fault_is_counted_once_and_explained_and_the_next_pair_is_answered(robot, fault):
    images, counter, words = DROPPED[fault]
    before = robot.counters()
    stamp_ns = robot.next_stamp()
    robot.send_pair(stamp_ns, **{kind: make(stamp_ns) for kind, make in images.items()})
    if counter.startswith("dropped_pairs"):  # or the good pair would take its place in the mailbox
        robot.counters_after(lambda now: now[counter] > before[counter])
    next_ns = robot.send_pair(robot.next_stamp())
    robot.answer(next_ns)
    after = robot.counters()
    rose = {key: after[key] - before[key] for key in after if key.startswith("dropped_")}
    # What a dropped image leaves behind is given up at some time; that is no fault of its own.
    rose.pop("dropped_color.no_partner", None)
    rose.pop("dropped_depth.no_partner", None)
    assert {key: count for key, count in rose.items() if count} == {counter: 1}
    assert after["published"] - before["published"] == 1
    assert robot.results_for(stamp_ns) == []
    explanation = value_of(robot.reports[-1][0], "last_error")
    assert [word for word in words if word not in explanation] == []
    robot.assert_balanced()


def test_the_summary_warns_of_what_was_dropped(robot):
    robot.fresh_report()
    known = len(robot.reports)
    robot.send_pair(robot.next_stamp(), color=cut(color_msg, 5)(robot.next_stamp()))
    robot.counters()
    warnings = [status for status, _ in robot.reports[known:] if status.level == b"\x01"]
    assert len(warnings) == 1
    assert "dropped 1 colour images (bad_size)" in warnings[0].message
    assert "cut short" in warnings[0].message


def test_a_fault_that_repeats_is_logged_once(robot):
    told = len(robot.process.lines("dropped depth (bad_encoding)"))
    for _ in range(5):
        robot.depth.publish(changed(depth_msg, encoding="mauve8")(robot.next_stamp()))
    robot.ask()
    robot.counters()
    # None at all where the same was said in the last ten seconds.
    assert len(robot.process.lines("dropped depth (bad_encoding)")) - told <= 1


def masks_of(msg):
    """Full-size masks by score."""
    masks = {}
    for instance in msg.instances:
        roi = instance.roi
        mask = np.zeros((msg.height, msg.width), bool)
        mask[roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width] = (
            decode_mask(
                instance.mask_data, roi.height, roi.width, MaskEncoding(instance.mask_encoding)
            )
        )
        masks[round(instance.score, 3)] = mask
    return masks


def box_mask(*boxes):
    mask = np.zeros(SIZE, bool)
    for box in boxes:
        mask[box] = True
    return mask


def with_alpha(pixels):
    return np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])


COLOR_FORMS = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[..., ::-1],
    "8UC3": lambda rgb: rgb[..., ::-1],
    "rgba8": with_alpha,
    "bgra8": lambda rgb: with_alpha(rgb[..., ::-1]),
    "8UC4": lambda rgb: with_alpha(rgb[..., ::-1]),
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", COLOR_FORMS)
def test_every_colour_encoding_gives_the_same_masks(robot, encoding, padding):
    stamp_ns = robot.next_stamp()
    pixels = COLOR_FORMS[encoding](scene_rgb())
    color = image_msg(pixels, encoding, stamp_ns, padding=padding)
    masks = masks_of(robot.answer(robot.send_pair(stamp_ns, color=color)))
    assert masks.keys() == {SCORES[RED], SCORES[GREEN]}
    np.testing.assert_array_equal(masks[SCORES[RED]], box_mask(RED_BOX))
    np.testing.assert_array_equal(masks[SCORES[GREEN]], box_mask(GREEN_BOX))


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_images_are_read_as_grey(robot, encoding):
    stamp_ns = robot.next_stamp()
    grey = np.full(SIZE, 90, np.uint8)
    grey[RED_BOX] = 255
    color = image_msg(grey, encoding, stamp_ns, padding=3)
    masks = masks_of(robot.answer(robot.send_pair(stamp_ns, color=color)))
    assert masks.keys() == {SCORES[WHITE]}
    np.testing.assert_array_equal(masks[SCORES[WHITE]], box_mask(RED_BOX))


def depths_by_score(msg):
    return {
        round(instance.score, 3): instance.mask_quality * METRES_OF_FULL_QUALITY
        for instance in msg.instances
    }


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "dtype", "per_metre"),
    [
        ("16UC1", "<u2", 1000),
        ("16UC1", ">u2", 1000),
        ("mono16", "<u2", 1000),
        ("mono16", ">u2", 1000),
        ("32FC1", "<f4", 1),
        ("32FC1", ">f4", 1),
        ("64FC1", "<f8", 1),
        ("64FC1", ">f8", 1),
    ],
)
def test_every_depth_encoding_and_byte_order_gives_metres(
    robot, encoding, dtype, per_metre, padding
):
    stamp_ns = robot.next_stamp()
    pixels = (scene_depth_m() * per_metre).astype(dtype)
    depth = image_msg(pixels, encoding, stamp_ns, padding=padding)
    depths_m = depths_by_score(robot.answer(robot.send_pair(stamp_ns, depth=depth)))
    assert depths_m == {
        SCORES[RED]: pytest.approx(RED_DEPTH_M, abs=1e-5),
        SCORES[GREEN]: pytest.approx(GREEN_DEPTH_M, abs=1e-5),
    }


UNMEASURED = {
    "NaN": ("32FC1", "<f4", math.nan),
    "infinite": ("32FC1", "<f4", math.inf),
    "minus infinite": ("32FC1", "<f4", -math.inf),
    "negative": ("32FC1", "<f4", -1.0),
    "zero metres": ("32FC1", "<f4", 0.0),
    "beyond single precision": ("64FC1", "<f8", 1e300),
    "zero millimetres": ("16UC1", "<u2", 0),
    "saturated": ("16UC1", "<u2", 65535),
}


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("kind", UNMEASURED)
def test_depth_that_is_no_measurement_costs_no_mask(robot, kind, everywhere):
    encoding, dtype, value = UNMEASURED[kind]
    stamp_ns = robot.next_stamp()
    pixels = (scene_depth_m() * (1000 if encoding == "16UC1" else 1)).astype(dtype)
    pixels[... if everywhere else RED_BOX] = value
    msg = robot.answer(robot.send_pair(stamp_ns, depth=image_msg(pixels, encoding, stamp_ns)))
    np.testing.assert_array_equal(masks_of(msg)[SCORES[RED]], box_mask(RED_BOX))
    depths_m = depths_by_score(msg)
    assert math.isnan(depths_m[SCORES[RED]])
    assert math.isnan(depths_m[SCORES[GREEN]]) == everywhere
    too_few = InstanceMask.GEOMETRY_TOO_FEW_POINTS
    statuses = {each.score: each.geometry_status for each in msg.instances}
    assert statuses[msg.instances[0].score] == too_few
    assert (set(statuses.values()) == {too_few}) == everywhere


def test_frames_that_differ_are_processed_with_one_warning(robot):
    for _ in range(3):
        stamp_ns = robot.next_stamp()
        depth = depth_msg(stamp_ns)
        depth.header.frame_id = "depth_frame"
        msg = robot.answer(robot.send_pair(stamp_ns, depth=depth))
        assert msg.header.frame_id == "camera_color_optical_frame"
        assert len(msg.instances) == 2
    assert len(robot.process.lines("WARN", "'depth_frame'", "not aligned")) == 1


def test_another_size_in_the_middle_of_the_stream_is_accepted(robot):
    stamp_ns = robot.next_stamp()
    rgb = np.full((30, 90, 3), 90, np.uint8)
    rgb[5:15, 40:70] = RED
    msg = robot.answer(
        robot.send_pair(
            stamp_ns,
            color=image_msg(rgb, "rgb8", stamp_ns),
            depth=image_msg(np.ones((30, 90), "<f4"), "32FC1", stamp_ns),
        )
    )
    assert (msg.height, msg.width) == (30, 90)
    roi = msg.instances[0].roi
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (40, 5, 30, 10)
    assert len(robot.ask().instances) == 2


def test_an_image_of_one_pixel_is_answered(robot):
    stamp_ns = robot.next_stamp()
    msg = robot.answer(
        robot.send_pair(
            stamp_ns,
            color=image_msg(np.zeros((1, 1, 3), np.uint8), "rgb8", stamp_ns),
            depth=image_msg(np.ones((1, 1), "<f4"), "32FC1", stamp_ns),
        )
    )
    assert (msg.height, msg.width, len(msg.instances)) == (1, 1, 0)


def test_a_stamp_of_the_future_is_answered_without_an_age_and_with_a_warning(robot):
    stamp_ns = time.time_ns() + 60_000_000_000
    msg = robot.answer(robot.send_pair(stamp_ns))
    assert math.isnan(msg.age_ms)
    assert robot.process.wait_for_line("WARN", "ahead of this node's clock", "use_sim_time")
    # Back to the stamps of before.
    robot.ask()


def test_a_stamp_before_1970_does_not_stop_the_node(robot):
    stamp_ns = -5_000_000_000
    robot.send_pair(stamp_ns)
    assert stamp_ns_of(robot.answer(stamp_ns)) == stamp_ns
    assert stamp_ns_of(robot.ask()) > 0


CAMERA_INFOS = {
    "all zero": CameraInfo(),
    "of another size": CameraInfo(height=9, width=9, k=[1.0] * 9, p=[1.0] * 12),
    "not finite": CameraInfo(
        height=SIZE[0], width=SIZE[1], d=[math.nan] * 5, k=[math.nan] * 9, p=[math.inf] * 12
    ),
    "of no distortion model": CameraInfo(
        height=SIZE[0], width=SIZE[1], d=[1e308] * 3, k=[50.0] * 9, distortion_model="purple"
    ),
}


@pytest.mark.parametrize("kind", CAMERA_INFOS)
def test_a_camera_info_that_is_of_no_use_costs_no_mask(robot, kind):
    before = robot.counters()
    robot.sends_info = False
    robot.info.publish(CAMERA_INFOS[kind])
    robot.counters_after(lambda now: now["received_info"] > before["received_info"])
    instances = robot.ask().instances
    robot.sends_info = True
    assert len(instances) == 2
    assert {each.geometry_status for each in instances} == {InstanceMask.GEOMETRY_NO_CAMERA_INFO}
    assert all(math.isnan(each.centroid.z) for each in instances)


def garbage():
    """Serialised messages that are none, by what is wrong with them."""
    stamp_ns = 1_800_000_000_000_000_000
    good = bytes(serialize_message(color_msg(stamp_ns)))
    rng = random.Random(0)
    yield "one byte", b"\0"
    yield "an encapsulation and nothing else", good[:4]
    yield "a header cut off", good[:15]
    yield "pixels cut off", good[: len(good) // 2]
    yield "noise", rng.randbytes(4000)
    yield "an unknown encapsulation", b"\x7f\x7f\x7f\x7f" + good[4:]
    yield "the other byte order", b"\0\0\0\0" + good[4:]
    yield "a string of 4 GB", good[:12] + b"\xff\xff\xff\xff" + good[16:]
    yield "text that is not UTF-8", good.replace(b"rgb8", b"\xff\xfe\xc0\x80")
    yield "a frame that is not UTF-8", good.replace(b"camera_color", b"\xff\xfe\xc0\x80" * 3)
    for number in range(60):
        broken = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(4, 80)] = rng.randrange(256)
        yield f"broken header {number}", bytes(broken)


GARBAGE = dict(garbage())


@pytest.fixture(scope="module")
def fuzzed_robot(start_robot):
    robot = start_robot()
    robot.wait_until_connected()
    return robot


@pytest.mark.parametrize("topic", ["color", "depth", "info"])
def test_bytes_that_are_no_message_never_stop_the_node(fuzzed_robot, topic):
    robot = fuzzed_robot
    for kind, data in GARBAGE.items():
        getattr(robot, topic).publish(data)
        if not kind.startswith("broken") or kind.endswith("9"):
            assert len(robot.ask().instances) == 2, kind
    counters = robot.counters()
    robot.assert_balanced()
    if topic != "info":  # some of it came through and was found wrong
        assert counters[f"dropped_{topic}.bad_encoding"] > 0
        assert counters[f"dropped_{topic}.bad_size"] > 0
