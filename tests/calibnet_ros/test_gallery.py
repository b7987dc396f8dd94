"""Pictures and the table made from answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PilImage

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from rich.console import Console
from std_msgs.msg import Header

from calibnet_core.data.bags import open_rgbd_bag, write_rgbd_bag
from calibnet_core.perception.received_image import pixels_of
from calibnet_core.structures import RgbdFrame
from calibnet_core.visualization import instance_color
from calibnet_ros import msg as msgs
from calibnet_ros.bag_player import Answer, PlayReport, SentFrame
from calibnet_ros.gallery import (
    SHEET_NAME,
    frame_index,
    save_answer,
    save_contact_sheet,
    save_labels,
    save_picture,
    summary_table,
)
from calibnet_ros.messages.fields import array_to_image

pytestmark = pytest.mark.ros

SIZE = (12, 16)


def overlay_msg(value):
    return array_to_image(np.full((*SIZE, 3), value, np.uint8), "rgb8", Header())


def answered(stamps, **options):
    report = PlayReport(sent=[SentFrame(stamp_ns) for stamp_ns in stamps])
    report.answers = {
        stamp_ns: Answer(result=msgs.InstanceMaskArray(), overlay=overlay_msg(9), **options)
        for stamp_ns in stamps
    }
    return report


@pytest.fixture
def bag(tmp_path):
    frame = RgbdFrame(rgb=np.zeros((*SIZE, 3), np.uint8), depth_m=np.ones(SIZE, np.float32))
    frames = [replace(frame, stamp_ns=1_000_000_000 + n * 33_000_000) for n in range(9)]
    write_rgbd_bag(tmp_path / "bag", frames)
    return open_rgbd_bag(tmp_path / "bag")


@pytest.mark.parametrize("largest", [1, 255, 256, 40000])
def test_a_label_image_keeps_its_numbers_and_shows_colours_where_a_palette_holds_them(
    tmp_path, largest
):
    labels = np.zeros(SIZE, np.uint16)
    labels[:2], labels[2:5] = 1, largest
    save_labels(tmp_path / "labels.png", labels)
    with PilImage.open(tmp_path / "labels.png") as picture:
        np.testing.assert_array_equal(np.array(picture), labels)
        if largest <= 255:
            colors = picture.convert("RGB")
            assert colors.getpixel((0, 4)) == instance_color(largest - 1)
            assert colors.getpixel((0, 11)) == (0, 0, 0)


def stamps_of(bag):
    return [message.stamp_ns for message in bag.messages() if message.kind == "color"]


@pytest.mark.parametrize("encoding", ["rgb8", "mono16"])
def test_pixels_come_back_from_a_message(encoding):
    shape = (*SIZE, 3) if encoding == "rgb8" else SIZE
    kind = np.uint8 if encoding == "rgb8" else np.uint16
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    np.testing.assert_array_equal(pixels_of(array_to_image(pixels, encoding, Header())), pixels)


def test_a_label_image_survives_the_file_with_ids_above_255(tmp_path):
    labels = np.arange(np.prod(SIZE), dtype=np.uint16).reshape(SIZE) * 300
    save_picture(tmp_path / "labels.png", pixels_of(array_to_image(labels, "mono16", Header())))
    with PilImage.open(tmp_path / "labels.png") as picture:
        np.testing.assert_array_equal(np.array(picture), labels)


def test_only_the_pictures_that_came_are_saved(tmp_path):
    save_answer(tmp_path, 7, Answer(overlay=overlay_msg(1)))
    assert [path.name for path in tmp_path.iterdir()] == ["overlay_0007.png"]


def test_a_contact_sheet_shows_at_most_six_frames_spread_over_the_recording(bag, tmp_path):
    one = answered(stamps_of(bag)[:1])
    all_of_them = answered(stamps_of(bag))
    heights = []
    for report in (one, all_of_them):
        path = save_contact_sheet(tmp_path, bag, report)
        assert path == tmp_path / SHEET_NAME
        with PilImage.open(path) as picture:
            heights.append(picture.size[1])
    assert 3 * heights[0] < heights[1] < 7 * heights[0]


def test_without_pictures_there_is_no_contact_sheet(bag, tmp_path):
    report = PlayReport(sent=[SentFrame(stamps_of(bag)[0])])
    assert save_contact_sheet(tmp_path, bag, report) is None
    assert not (tmp_path / SHEET_NAME).exists()


def test_the_place_of_a_frame_is_that_among_the_sent(bag):
    report = answered([5, 5, 9])
    assert [frame_index(report, frame) for frame in report.sent] == [0, 1, 2]


def test_the_table_tells_what_became_of_every_frame(tmp_path):
    report = answered([1, 2], latency_ms=20.0)
    report.sent.append(SentFrame(3))
    report.counters = {"dropped_pairs.superseded": 1}
    console = Console(width=200, record=True)
    console.print(summary_table(report, "walk.mcap, in step", tmp_path))
    text = console.export_text()
    for words in (
        "walk.mcap, in step",
        "frames sent",
        "dropped_pairs: superseded",
        "20 / 20 ms",
        str(tmp_path),
    ):
        assert words in text


def test_a_table_without_answers_has_no_latency():
    console = Console(width=200, record=True)
    console.print(summary_table(PlayReport(), "empty", None))
    assert "latency" not in console.export_text()
