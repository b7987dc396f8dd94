from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibnet_core.data.bags import BagReport, open_rgbd_bag, read_frames
from calibnet_core.perception.compressed import encode_depth
from calibnet_core.perception.pairing import PairerConfig

COLOR, DEPTH, INFO = (
    "/cam/color/image_raw",
    "/cam/aligned_depth/image_raw",
    "/cam/color/camera_info",
)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333
RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DEPTH_MM = np.arange(1, 25, dtype=np.uint16).reshape(4, 6) * 100


def stamp(index: int) -> int:
    return START_NS + index * PERIOD_NS


def pair_of(messages, index: int, **changes: bytes) -> list[tuple[str, str, int, bytes]]:
    color = changes.get("color", messages.image(stamp(index), RGB, "rgb8"))
    depth = changes.get("depth", messages.image(stamp(index), DEPTH_MM, "16UC1"))
    return [(COLOR, "Image", stamp(index), color), (DEPTH, "Image", stamp(index), depth)]


def read(path: Path, **arguments):
    report = BagReport()
    bag = open_rgbd_bag(path, color_topic=COLOR, depth_topic=DEPTH)
    return list(read_frames(bag, report, **arguments)), report


def test_frames_hold_pixels_metres_stamp_and_name(tmp_path, messages) -> None:
    bag = messages.write(tmp_path / "kitchen.2", pair_of(messages, 1))
    (frame,), report = read(bag)
    np.testing.assert_array_equal(frame.rgb, RGB)
    np.testing.assert_allclose(frame.depth_m, DEPTH_MM / 1000, rtol=1e-6)
    assert frame.stamp_ns == stamp(1)
    assert frame.frame_id == "cam_optical"
    assert frame.name == "kitchen.2_1700000000_033333333"
    (of_file,) = read(bag / "kitchen.2.db3")[0]
    assert of_file.name == frame.name
    assert report.num_frames == 1


def bad_messages(messages) -> dict[str, tuple[dict[str, bytes], str, str]]:
    """What goes wrong -> messages that differ, topic at fault, words of the reason."""
    image, at = messages.image, stamp(2)
    return {
        "cut pixels": ({"color": image(at, RGB, "rgb8", num_bytes=20)}, COLOR, "bytes"),
        "cut message": ({"depth": image(at, DEPTH_MM, "16UC1")[:40]}, DEPTH, "cut off or damaged"),
        "encoding": ({"color": image(at, RGB, "teal9")}, COLOR, "teal9"),
        "depth in colour": ({"depth": image(at, RGB, "rgb8")}, DEPTH, "rgb8"),
        "sizes": ({"depth": image(at, DEPTH_MM[:3], "16UC1")}, DEPTH, "aligned to colour"),
        "no stamp": ({"color": image(0, RGB, "rgb8")}, COLOR, "no stamp"),
        "no header": ({"color": b"\x00\x01\x00"}, COLOR, "no stamp"),
    }


@pytest.mark.parametrize(
    "case",
    ["cut pixels", "cut message", "encoding", "depth in colour", "sizes", "no stamp", "no header"],
)
def test_a_bad_image_costs_its_frame_alone_and_is_reported(tmp_path, messages, case) -> None:
    changes, topic, words = bad_messages(messages)[case]
    recorded = [
        message
        for index in range(5)
        for message in pair_of(messages, index, **(changes if index == 2 else {}))
    ]
    frames, report = read(messages.write(tmp_path / "bag", recorded))
    assert [frame.stamp_ns for frame in frames] == [stamp(index) for index in (0, 1, 3, 4)]
    (rejected,) = report.rejected
    assert topic in rejected.topic
    assert words in rejected.reason
    assert report.num_frames == 4
    unpaired = sum(report.unpaired_color.values()) + sum(report.unpaired_depth.values())
    # Every image is accounted for: in a frame, in a rejection, or without a partner.
    assert report.num_pairs == (4 if unpaired else 5)
    assert unpaired == (1 if "no" in case else 0)


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def compressed_pair_of(messages, index: int, **changes: bytes) -> list[tuple[str, str, int, bytes]]:
    at = stamp(index)
    color = messages.compressed(at, png(RGB), "rgb8; png compressed bgr8")
    depth = messages.compressed(at, *encode_depth(DEPTH_MM, "rvl"))
    return [
        (f"{COLOR}/compressed", "CompressedImage", at, changes.get("color", color)),
        (f"{DEPTH}/compressedDepth", "CompressedImage", at, changes.get("depth", depth)),
    ]


def hostile_messages(messages) -> dict[str, tuple[dict[str, bytes], str]]:
    """What goes wrong -> messages that differ, words of the reason."""
    at, rgb8, depth_mm = stamp(2), "rgb8; png compressed bgr8", "16UC1; compressedDepth"
    sound, header = png(RGB), bytes(12)
    short = struct.pack("<III", RGB.shape[1], RGB.shape[0], 1)
    # The header of a PNG file holds width and height from byte 16 on, then a checksum.
    bomb = sound[:16] + struct.pack(">II", 9000, 9000) + sound[24:29]
    bomb += struct.pack(">I", zlib.crc32(bomb[12:29])) + sound[33:]
    color = messages.compressed(at, sound, rgb8)
    return {
        "cut file": ({"color": messages.compressed(at, sound[: len(sound) // 2], rgb8)}, "damaged"),
        "no file": ({"color": messages.compressed(at, b"", rgb8)}, "damaged"),
        "huge PNG": ({"color": messages.compressed(at, bomb, rgb8)}, "declares 9000x9000"),
        "depth in colour": ({"color": messages.compressed(at, sound, f"{depth_mm} png")}, "depth"),
        "name that is no text": ({"color": color.replace(b"rgb8;", b"rgb\xff;")}, "cut off"),
        "huge RVL": (
            {"depth": messages.compressed(at, header + b"\xff" * 16, f"{depth_mm} rvl")},
            "declares 4294967295x4294967295",
        ),
        "short RVL": (
            {"depth": messages.compressed(at, header + short, f"{depth_mm} rvl")},
            "RVL stream",
        ),
        "JPEG as depth": (
            {"depth": messages.compressed(at, b"\xff\xd8\xff" + sound, "16UC1; jpeg")},
            "changes every distance",
        ),
        "colour in depth": (
            {"depth": messages.compressed(at, header + sound, f"{depth_mm} png")},
            "16-bit grey",
        ),
    }


@pytest.mark.parametrize(
    "case",
    ["cut file", "no file", "huge PNG", "depth in colour", "name that is no text", "huge RVL",
     "short RVL", "JPEG as depth", "colour in depth"],
)  # fmt: skip
def test_hostile_compressed_data_cost_their_frame_alone(tmp_path, messages, case: str) -> None:
    changes, words = hostile_messages(messages)[case]
    recorded = [
        message
        for index in range(4)
        for message in compressed_pair_of(messages, index, **(changes if index == 2 else {}))
    ]
    path = messages.write(tmp_path / "bag", recorded)
    tracemalloc.start()
    frames, report = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [frame.stamp_ns for frame in frames] == [stamp(index) for index in (0, 1, 3)]
    np.testing.assert_array_equal(frames[0].rgb, RGB)
    np.testing.assert_allclose(frames[0].depth_m, DEPTH_MM / 1000, rtol=1e-6)
    (rejected,) = report.rejected
    assert rejected.topic == (
        f"{COLOR}/compressed" if "color" in changes else f"{DEPTH}/compressedDepth"
    )
    assert words in rejected.reason
    assert peak < 20e6


def test_images_without_partner_are_counted(tmp_path, messages) -> None:
    recorded = [m for index in range(6) for m in pair_of(messages, index)]
    del recorded[5], recorded[2]  # depth of frame 2, colour of frame 1
    frames, report = read(messages.write(tmp_path / "bag", recorded))
    assert [frame.stamp_ns for frame in frames] == [stamp(index) for index in (0, 3, 4, 5)]
    assert report.unpaired_color == {"no_partner": 1}
    assert report.unpaired_depth == {"no_partner": 1}
    assert not report.rejected


def test_offset_depth_is_paired_and_its_distance_reported(tmp_path, messages) -> None:
    recorded = []
    for index in range(4):
        color = pair_of(messages, index)[0]
        late = messages.image(stamp(index) + 9_000_000, DEPTH_MM, "16UC1")
        recorded += [color, (DEPTH, "Image", stamp(index) + 9_000_000, late)]
    frames, report = read(messages.write(tmp_path / "bag", recorded))
    assert len(frames) == 4
    assert report.max_offset_ns == 9_000_000
    frames, report = read(tmp_path / "bag", pairing=PairerConfig(mode="exact"))
    assert not frames
    assert sum(report.unpaired_color.values()) == 4


def test_time_that_restarts_is_counted(tmp_path, messages) -> None:
    recorded = []
    for repetition in range(2):
        for index in range(40):
            for topic, kind, log_ns, cdr in pair_of(messages, index):
                recorded.append((topic, kind, log_ns + repetition * 2_000_000_000, cdr))
    frames, report = read(messages.write(tmp_path / "bag", recorded))
    assert len(frames) == 80
    assert report.num_backward_jumps == 1


def test_intrinsics_follow_changes_and_reach_the_first_frame(tmp_path, messages) -> None:
    recorded = []
    for index in range(4):
        focal = 300.0 if index < 2 else 400.0
        info = messages.info(stamp(index), RGB.shape[:2], focal)
        # The first CameraInfo comes after the first pair, as some drivers publish it.
        late = 1 if index == 0 else -1
        recorded += [
            *pair_of(messages, index),
            (INFO, "CameraInfo", stamp(index) + late, info),
        ]
    frames, report = read(messages.write(tmp_path / "bag", recorded))
    assert [frame.intrinsics.fx for frame in frames] == [300.0, 300.0, 400.0, 400.0]
    assert report.num_without_intrinsics == 0


@pytest.mark.parametrize(
    "info",
    ["of another size", "uncalibrated", "damaged"],
)
def test_unusable_intrinsics_leave_the_frame_without(tmp_path, messages, info: str) -> None:
    cdr = {
        "of another size": messages.info(stamp(0), (40, 60), 300.0),
        "uncalibrated": messages.info(stamp(0), RGB.shape[:2], 0.0),
        "damaged": messages.info(stamp(0), RGB.shape[:2], 300.0)[:50],
    }[info]
    recorded = [(INFO, "CameraInfo", stamp(0), cdr), *pair_of(messages, 0)]
    (frame,), report = read(messages.write(tmp_path / "bag", recorded))
    assert frame.intrinsics is None
    assert report.num_without_intrinsics == 1
