from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibnet_core.data.bags import (
    BagError,
    BagReport,
    is_bag,
    open_rgbd_bag,
    read_frames,
    write_rgbd_bag,
)

SHARED_BAGS = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "bags"
COLOR, DEPTH, INFO = (
    "/cam/color/image_raw",
    "/cam/aligned_depth/image_raw",
    "/cam/color/camera_info",
)
STORAGES = ("mcap", "sqlite3")
COMPRESSED = {"color_transport": "compressed", "depth_transport": "compressedDepth"}


def storage_file(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))


@pytest.fixture(params=STORAGES)
def bag_folder(request, tmp_path, make_frames) -> Path:
    # Large enough for several chunks and database pages, so that damage can lie in the middle.
    write_rgbd_bag(tmp_path / "bag", make_frames(12, (120, 320)), storage=request.param)
    return tmp_path / "bag"


def test_a_folder_and_the_file_in_it_hold_the_same(bag_folder: Path) -> None:
    of_folder = open_rgbd_bag(bag_folder)
    of_file = open_rgbd_bag(storage_file(bag_folder))
    assert of_folder.num_color_images == 12
    assert list(of_folder.messages()) == list(of_file.messages())


def test_messages_come_in_log_order_with_stamp_and_kind(tmp_path, messages) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    recorded = [
        (INFO, "CameraInfo", 5, messages.info(1_000_000_005, (2, 2), 4.0)),
        (COLOR, "Image", 9, messages.image(3_000_000_001, pixels, "rgb8")),
        (DEPTH, "Image", 7, messages.image(2_500_000_000, pixels[..., :2].copy(), "16UC1")),
        ("/other/color", "Image", 1, messages.image(1, pixels, "mono8")),
    ]
    bag = open_rgbd_bag(messages.write(tmp_path / "bag", recorded))
    found = list(bag.messages())
    assert [(m.kind, m.topic, m.log_ns, m.stamp_ns) for m in found] == [
        ("info", INFO, 5, 1_000_000_005),
        ("depth", DEPTH, 7, 2_500_000_000),
        ("color", COLOR, 9, 3_000_000_001),
    ]
    assert [m.cdr for m in found] == [recorded[0][3], recorded[2][3], recorded[1][3]]


def test_messages_tell_their_type_and_what_cannot_be_decoded_is_none(tmp_path, messages) -> None:
    depth = np.zeros((2, 2), np.uint16)
    sound = messages.compressed(2, b"abc", "rgb8; jpeg compressed bgr8")
    recorded = [
        # The first message of a topic may be damaged; the next tells what is on it.
        (f"{COLOR}/compressed", "CompressedImage", 1, sound[:20]),
        (f"{COLOR}/compressed", "CompressedImage", 2, sound),
        (DEPTH, "Image", 3, messages.image(3, depth, "16UC1")),
    ]
    bag = open_rgbd_bag(messages.write(tmp_path / "bag", recorded))
    assert (bag.color_transport, bag.depth_transport) == ("compressed", "raw")
    assert "rgb8; jpeg compressed bgr8" in {topic.encoding for topic in bag.topics}
    damaged, color, image = bag.messages()
    assert damaged.decoded() is None
    assert color.msgtype == "sensor_msgs/msg/CompressedImage"
    assert bytes(color.decoded().data) == b"abc"
    assert image.msgtype == "sensor_msgs/msg/Image"
    assert image.decoded().encoding == "16UC1"


def test_a_bag_can_be_read_twice_and_keeps_no_file_open(bag_folder: Path) -> None:
    bag = open_rgbd_bag(bag_folder)
    first = sum(1 for _ in bag.messages())
    assert sum(1 for _ in bag.messages()) == first == 12 * 3
    iterator = bag.messages()
    next(iterator)
    iterator.close()
    open_files = [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]
    assert not [path for path in open_files if bag_folder in path.parents]


def test_a_bag_that_was_replaced_since_yields_nothing_foreign(tmp_path, messages) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    depth = pixels[..., :2].copy()
    first = [
        (COLOR, "Image", 1, messages.image(1, pixels, "rgb8")),
        (DEPTH, "Image", 2, messages.image(2, depth, "16UC1")),
    ]
    bag = open_rgbd_bag(messages.write(tmp_path / "bag", first))
    shutil.rmtree(tmp_path / "bag")
    messages.write(tmp_path / "bag", [("/other", "Image", 1, first[0][3])])
    assert list(bag.messages()) == []


def test_a_truncated_file_is_refused_with_a_remedy(bag_folder: Path) -> None:
    file = storage_file(bag_folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    remedy = "mcap recover" if file.suffix == ".mcap" else "recover"
    for path in (bag_folder, file):
        with pytest.raises(BagError, match=remedy) as caught:
            list(open_rgbd_bag(path).messages())
        assert str(path) in str(caught.value)


def test_frames_before_the_damage_are_delivered(tmp_path, make_frames) -> None:
    frames = make_frames(12, (120, 320))
    write_rgbd_bag(tmp_path / "bag", frames)
    file = storage_file(tmp_path / "bag")
    content = bytearray(file.read_bytes())
    middle = len(content) * 6 // 10
    # Wide enough to meet a block header: damage to bare pixels shows nowhere, as in any raw image.
    content[middle : middle + 300_000] = bytes(300_000)
    file.write_bytes(content)
    delivered = []
    with pytest.raises(BagError, match="mcap recover"):
        delivered.extend(read_frames(open_rgbd_bag(file)))
    assert 3 <= len(delivered) < 12
    for frame, original in zip(delivered, frames, strict=False):
        np.testing.assert_array_equal(frame.rgb, original.rgb)


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3"])
def test_a_text_file_under_the_name_of_a_bag_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("this is no recording\n" * 100)
    with pytest.raises(BagError, match="damaged or no rosbag2 recording"):
        open_rgbd_bag(path)
    path.write_bytes(b"")
    with pytest.raises(BagError, match="damaged or no rosbag2 recording"):
        open_rgbd_bag(path)


def test_missing_pieces_are_named(bag_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no such file or folder"):
        open_rgbd_bag(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="give a rosbag2 folder"):
        open_rgbd_bag(tmp_path / "empty")
    (bag_folder / "metadata.yaml").rename(tmp_path / "metadata.yaml")
    with pytest.raises(BagError, match="ros2 bag reindex"):
        open_rgbd_bag(bag_folder)
    (bag_folder / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    with pytest.raises(BagError, match="damaged"):
        open_rgbd_bag(bag_folder)
    shutil.copy(tmp_path / "metadata.yaml", bag_folder)
    storage_file(bag_folder).unlink()
    with pytest.raises(BagError, match="missing"):
        open_rgbd_bag(bag_folder)


def test_recordings_are_told_from_other_paths(bag_folder: Path, tmp_path: Path) -> None:
    assert is_bag(bag_folder)
    assert is_bag(storage_file(bag_folder))
    assert not is_bag(tmp_path)
    assert not is_bag(tmp_path / "image.png")


def test_topic_errors_name_the_recording(bag_folder: Path) -> None:
    with pytest.raises(BagError, match=r"bag: color_topic '/wrong' is not in the recording"):
        open_rgbd_bag(bag_folder, color_topic="/wrong")


@pytest.mark.parametrize("transports", [{}, COMPRESSED], ids=["raw", "compressed"])
@pytest.mark.parametrize("storage", STORAGES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_anywhere_gives_frames_or_a_bag_error(
    storage: str, transports: dict[str, str], tmp_path_factory, make_frames, data
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "bag"
    write_rgbd_bag(folder, make_frames(3), storage=storage, **transports)
    file = storage_file(folder)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with suppress(BagError):
        for frame in read_frames(open_rgbd_bag(file)):
            assert frame.rgb.shape[:2] == frame.depth_m.shape
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize(
    ("name", "count", "encoding", "offset_ns"),
    [("ycbv_0000_16uc1_mcap", 10, "16UC1", 4_000_000), ("ycbv_0000_32fc1_sqlite3", 3, "32FC1", 0)],
)
def test_real_recordings_are_read_completely(
    name: str, count: int, encoding: str, offset_ns: int
) -> None:
    path = SHARED_BAGS / name
    if not path.exists():
        pytest.skip(f"{path} is not here; it is test data beside the project")
    bag = open_rgbd_bag(path)
    assert bag.color_topic == "/camera/color/image_raw"
    assert bag.depth_topic == "/camera/aligned_depth_to_color/image_raw"
    assert bag.info_topic == "/camera/color/camera_info"
    assert {t.encoding for t in bag.topics if t.name == bag.depth_topic} == {encoding}
    report = BagReport()
    frames = list(read_frames(bag, report))
    assert len(frames) == report.num_frames == report.num_pairs == count
    assert report.max_offset_ns == offset_ns
    assert not [*report.rejected, *report.unpaired_color, *report.unpaired_depth]
    first = frames[0]
    assert first.size == (480, 640)
    assert first.frame_id == "camera_color_optical_frame"
    assert first.intrinsics is not None
    assert first.intrinsics.fx == 1066.778
    assert first.intrinsics.distortion_model == "plumb_bob"
    assert 0.4 < np.nanmedian(first.depth_m) < 2.0


def test_both_real_recordings_show_the_same_depth() -> None:
    paths = [SHARED_BAGS / name for name in ("ycbv_0000_16uc1_mcap", "ycbv_0000_32fc1_sqlite3")]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{SHARED_BAGS} is not here; it is test data beside the project")
    rounded, exact = (next(read_frames(open_rgbd_bag(path))) for path in paths)
    np.testing.assert_array_equal(rounded.rgb, exact.rgb)
    np.testing.assert_allclose(rounded.depth_m, exact.depth_m, atol=0.00051)
