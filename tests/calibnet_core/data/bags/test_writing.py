from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from calibnet_core.data.analytic_scene import render_sequence
from calibnet_core.data.bags import BagError, BagReport, open_rgbd_bag, read_frames, write_rgbd_bag
from calibnet_core.structures import RgbdFrame

COMPRESSED = {"color_transport": "compressed", "depth_transport": "compressedDepth"}


@settings(max_examples=25, deadline=None)
@given(
    storage=st.sampled_from(["mcap", "sqlite3"]),
    encoding=st.sampled_from(["16UC1", "32FC1"]),
    count=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    offset_ns=st.integers(-9_000_000, 9_000_000),
)
def test_what_is_written_is_read(
    tmp_path_factory, make_frames, storage, encoding, count, height, width, offset_ns
) -> None:
    path = tmp_path_factory.mktemp("bags") / "bag"
    frames = make_frames(count, (height, width))
    written = write_rgbd_bag(
        path, frames, storage=storage, depth_encoding=encoding, depth_offset_ns=offset_ns
    )
    report = BagReport()
    found = list(read_frames(open_rgbd_bag(path), report))
    assert written == len(found) == count
    for frame, original in zip(found, frames, strict=True):
        np.testing.assert_array_equal(frame.rgb, original.rgb)
        np.testing.assert_array_equal(frame.depth_m, original.depth_m)
        assert frame.stamp_ns == original.stamp_ns
        assert frame.frame_id == original.frame_id
        assert frame.intrinsics == original.intrinsics
    assert report.max_offset_ns == abs(offset_ns)


@settings(max_examples=15, deadline=None)
@given(
    depth_codec=st.sampled_from(["png", "rvl"]),
    storage=st.sampled_from(["mcap", "sqlite3"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_lossless_transports_give_the_frames_of_the_raw_recording(
    tmp_path_factory, make_frames, depth_codec, storage, height, width, seed
) -> None:
    path = tmp_path_factory.mktemp("bags")
    frames = make_frames(2, (height, width), seed)
    write_rgbd_bag(path / "raw", frames, storage=storage)
    options = {"color_codec": "png", "depth_codec": depth_codec, "storage": storage}
    write_rgbd_bag(path / "bag", frames, **COMPRESSED, **options)
    bag = open_rgbd_bag(path / "bag")
    assert bag.color_topic == "/camera/color/image_raw/compressed"
    assert bag.depth_topic == "/camera/aligned_depth_to_color/image_raw/compressedDepth"
    assert (bag.color_transport, bag.depth_transport) == ("compressed", "compressedDepth")
    found = list(read_frames(bag))
    assert len(found) == 2
    for frame, expected in zip(found, read_frames(open_rgbd_bag(path / "raw")), strict=True):
        np.testing.assert_array_equal(frame.rgb, expected.rgb)
        np.testing.assert_array_equal(frame.depth_m, expected.depth_m)
        assert frame.depth_encoding == expected.depth_encoding == "16UC1"
        assert (frame.stamp_ns, frame.frame_id) == (expected.stamp_ns, expected.frame_id)
        assert frame.intrinsics == expected.intrinsics


def test_jpeg_colour_and_quantised_depth_are_close_and_small(tmp_path, make_frames) -> None:
    (rendered,) = render_sequence(1, (96, 128))
    frame = rendered.to_rgbd_frame(stamp_ns=1_700_000_000_000_000_000)
    write_rgbd_bag(tmp_path / "raw", [frame], depth_encoding="32FC1", storage="sqlite3")
    write_rgbd_bag(
        tmp_path / "bag", [frame], **COMPRESSED, depth_encoding="32FC1", storage="sqlite3"
    )
    (found,) = read_frames(open_rgbd_bag(tmp_path / "bag"))
    difference = found.rgb.astype(int) - frame.rgb
    # Red and blue exchanged would differ by tens.
    assert np.abs(difference).mean() < 3
    is_far = ~np.isfinite(frame.depth_m) | (frame.depth_m >= 10)
    np.testing.assert_array_equal(np.isnan(found.depth_m), is_far)
    error_m = np.abs(found.depth_m - frame.depth_m)[~is_far]
    assert (error_m <= frame.depth_m[~is_far] ** 2 / (2 * 100 * 101) + 1e-5).all()
    sizes = [(tmp_path / name / f"{name}.db3").stat().st_size for name in ("raw", "bag")]
    assert sizes[1] < sizes[0] / 2


def test_metadata_and_definitions_are_those_of_jazzy(tmp_path, make_frames) -> None:
    write_rgbd_bag(tmp_path / "bag", make_frames(2))
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    information = metadata["rosbag2_bagfile_information"]
    assert information["version"] == 9
    assert information["message_count"] == 8
    assert information["relative_file_paths"] == ["bag.mcap"]
    with AnyReader([tmp_path / "bag"]) as reader:  # checks the type hashes against the definitions
        assert {c.msgtype for c in reader.connections} == {
            "sensor_msgs/msg/Image",
            "sensor_msgs/msg/CameraInfo",
        }


def test_unmeasured_depth_is_written_as_the_encoding_asks(tmp_path, make_frames) -> None:
    depth_m = np.array([[np.nan, np.inf, -1.0, 0.0], [65.534, 65.535, 99.0, 0.0004]], np.float32)
    (frame,) = make_frames(1, (2, 4))
    frame = dataclasses.replace(frame, depth_m=depth_m)
    write_rgbd_bag(tmp_path / "mm", [frame])
    (found,) = read_frames(open_rgbd_bag(tmp_path / "mm"))
    expected = np.full((2, 4), np.nan, np.float32)
    expected[1, 0] = 65.534
    np.testing.assert_array_equal(found.depth_m, expected)
    write_rgbd_bag(tmp_path / "m", [frame], depth_encoding="32FC1")
    (found,) = read_frames(open_rgbd_bag(tmp_path / "m"))
    np.testing.assert_array_equal(np.isnan(found.depth_m[0]), True)
    np.testing.assert_array_equal(found.depth_m[1], depth_m[1])


def test_labels_get_their_topic_and_are_not_taken_for_depth(tmp_path, make_frames) -> None:
    labels = [np.full((6, 8), index, np.uint16) for index in (1, 300)]
    write_rgbd_bag(tmp_path / "bag", make_frames(2), labels=labels)
    bag = open_rgbd_bag(tmp_path / "bag")
    (topic,) = [topic for topic in bag.topics if "ground_truth" in topic.name]
    assert (topic.name, topic.encoding) == ("/ground_truth/label_image", "mono16")
    assert bag.depth_topic == "/camera/aligned_depth_to_color/image_raw"
    with AnyReader([tmp_path / "bag"]) as reader:
        connections = [c for c in reader.connections if c.topic == topic.name]
        images = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections)]
    values = [np.frombuffer(image.data, "<u2").reshape(6, 8) for image in images]
    np.testing.assert_array_equal(values, labels)


def test_nothing_is_left_when_writing_fails(tmp_path, make_frames) -> None:
    def failing():
        yield from make_frames(2)
        raise RuntimeError("camera unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        write_rgbd_bag(tmp_path / "bag", failing())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_never_touched(tmp_path, make_frames) -> None:
    write_rgbd_bag(tmp_path / "bag", make_frames(1))
    before = (tmp_path / "bag" / "bag.mcap").read_bytes()
    with pytest.raises(BagError, match="exists already"):
        write_rgbd_bag(tmp_path / "bag", make_frames(2))
    assert (tmp_path / "bag" / "bag.mcap").read_bytes() == before


def test_unwritable_frames_are_refused(tmp_path, make_frames) -> None:
    (frame,) = make_frames(1)
    depth_map = RgbdFrame(rgb=frame.rgb, depth_map=frame.rgb[..., 0].copy(), stamp_ns=1)
    for frames, message in (
        ([], "no frames"),
        ([dataclasses.replace(frame, stamp_ns=0)], "has stamp 0 ns"),
        ([dataclasses.replace(frame, stamp_ns=2**62)], "has stamp"),
        ([depth_map], "no depth in metres"),
    ):
        with pytest.raises(BagError, match=message):
            write_rgbd_bag(tmp_path / "bag", frames)
    with pytest.raises(BagError, match="expected uint16 of shape"):
        write_rgbd_bag(tmp_path / "bag", [frame], labels=[np.zeros((2, 2), np.uint16)])
    with pytest.raises(BagError, match="choose mcap or sqlite3"):
        write_rgbd_bag(tmp_path / "bag", [frame], storage="rosbag1")
    for name in ("color_transport", "color_codec", "depth_transport", "depth_codec"):
        with pytest.raises(BagError, match=f"{name} is 'tiff'; choose "):
            write_rgbd_bag(tmp_path / "bag", [frame], **{name: "tiff"})
    with pytest.raises(ValueError, match="zip"):
        write_rgbd_bag(tmp_path / "bag", [frame], labels=[])
    assert list(tmp_path.iterdir()) == []
