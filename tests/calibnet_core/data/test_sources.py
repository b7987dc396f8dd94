from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibnet_core.data.bags import BagError, write_rgbd_bag
from calibnet_core.data.sources import BagFrames, ImagePair, find_frames
from calibnet_core.structures import FrameError, RgbdFrame
from tests.support.shared import shared_file

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DEPTH_MM = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_folder(root: Path, *names: str, color: str = "rgb", depth: str = "depth") -> Path:
    for name in names:
        save(root / color / f"{name}.png", RGB)
        save(root / depth / f"{name}.png", DEPTH_MM)
    return root


def make_coco(root: Path, *names: str, **changes) -> Path:
    make_folder(root, *names, color="imgs", depth="depths")
    images = [
        {
            "id": 10 + index,
            "file_name": f"{name}.png",
            "depth_file": f"{name}.png",
            "height": 4,
            "width": 6,
            "depth_scale_m": 0.0001,
            "intrinsics": {"fx": 500.0, "fy": 501.0, "cx": 2.5, "cy": 1.5},
        }
        | changes
        for index, name in enumerate(names)
    ]
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": []}))
    return root


@pytest.mark.parametrize(
    ("color", "depth"),
    [("rgb", "depth"), ("RGB", "Depth"), ("imgs", "depths"), ("color", "depth")],
)
def test_files_of_two_folders_are_matched_by_name(tmp_path, color: str, depth: str) -> None:
    make_folder(tmp_path, "b", "a", color=color, depth=depth)
    first, second = find_frames([tmp_path])
    assert (first.name, second.name) == ("a", "b")
    frame = first.load()
    np.testing.assert_array_equal(frame.rgb, RGB)
    np.testing.assert_allclose(frame.depth_m[0, 1:], DEPTH_MM[0, 1:] / 1000, rtol=1e-6)
    assert frame.name == "a"


def test_names_match_across_file_formats(tmp_path) -> None:
    make_folder(tmp_path, "a")
    np.save(tmp_path / "depth" / "b.npy", np.ones((4, 6), np.float32))
    save(tmp_path / "rgb" / "b.jpg", RGB)
    assert [pair.depth_path.name for pair in find_frames([tmp_path])] == ["a.png", "b.npy"]


def test_images_without_depth_are_listed(tmp_path) -> None:
    make_folder(tmp_path, *"abcdefgh")
    for name in "bcdefgh":
        (tmp_path / "depth" / f"{name}.png").unlink()
    with pytest.raises(FrameError, match=r"7 images of .*rgb have no depth .*: b\.png, .* 2 more"):
        find_frames([tmp_path])


def test_unclear_folders_are_refused(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FrameError, match="holds no RGB-D frames; expected a colour folder"):
        find_frames([tmp_path / "empty"])
    both = make_folder(tmp_path / "both", "a")
    make_folder(both, "a", color="imgs")
    with pytest.raises(FrameError, match="cannot tell which folders belong together"):
        find_frames([both])
    twins = make_folder(tmp_path / "twins", "a")
    np.save(twins / "depth" / "a.npy", DEPTH_MM)
    with pytest.raises(FrameError, match=r"a\.npy and a\.png share a name"):
        find_frames([twins])
    hollow = make_folder(tmp_path / "hollow", "a")
    (hollow / "rgb" / "a.png").unlink()
    with pytest.raises(FrameError, match="rgb: holds no images"):
        find_frames([hollow])


def test_one_image_with_its_depth_file(tmp_path) -> None:
    rgb_path, depth_path = save(tmp_path / "x.png", RGB), save(tmp_path / "y.png", DEPTH_MM)
    (pair,) = find_frames([rgb_path], depth=depth_path, depth_scale_m=0.01)
    np.testing.assert_allclose(pair.load().depth_m[0, 1:], DEPTH_MM[0, 1:] / 100, rtol=1e-6)
    with pytest.raises(FrameError, match="name it with --depth"):
        find_frames([rgb_path])
    with pytest.raises(FrameError, match="belongs to one colour image"):
        find_frames([rgb_path, rgb_path], depth=depth_path)
    with pytest.raises(FrameError, match="belongs to one colour image"):
        find_frames([tmp_path], depth=depth_path)


def test_one_image_of_a_folder_finds_its_depth_itself(tmp_path) -> None:
    make_folder(tmp_path, "a", "b")
    (pair,) = find_frames([tmp_path / "rgb" / "b.png"])
    assert pair.depth_path.resolve() == (tmp_path / "depth" / "b.png").resolve()


def test_a_coco_folder_gives_scale_intrinsics_and_numbers(tmp_path) -> None:
    make_coco(tmp_path, "a", "b")
    pairs = find_frames([tmp_path], depth_scale_m=5.0)
    assert [(pair.image_id, pair.name, pair.file_name) for pair in pairs] == [
        (10, "a", "a.png"),
        (11, "b", "b.png"),
    ]
    frame = pairs[0].load()
    np.testing.assert_allclose(frame.depth_m[0, 1:], DEPTH_MM[0, 1:] / 10_000, rtol=1e-6)
    assert (frame.intrinsics.fx, frame.intrinsics.cy) == (500.0, 1.5)
    assert find_frames([tmp_path / "annotations.json"]) == find_frames([tmp_path])


def test_coco_files_with_faults_are_named(tmp_path) -> None:
    escaping = make_coco(tmp_path / "1", "a", file_name="../../secret.png")
    with pytest.raises(FrameError, match=r"image number 0: file name .* leaves the folder"):
        find_frames([escaping])
    missing = make_coco(tmp_path / "2", "a", depth_file="gone.png")
    with pytest.raises(FrameError, match=r"1 files that .*annotations.json names .*gone\.png"):
        find_frames([missing])
    unreadable = make_coco(tmp_path / "3", "a", depth_scale_m="much")
    with pytest.raises(FrameError, match="image number 0 has an entry that is missing or no num"):
        find_frames([unreadable])
    no_focal = make_coco(tmp_path / "4", "a", intrinsics={"fx": 0, "fy": 1, "cx": 1, "cy": 1})
    with pytest.raises(FrameError, match="camera intrinsics"):
        find_frames([no_focal])
    (tmp_path / "bad.json").write_text('{"images": [')
    with pytest.raises(FrameError, match="no readable JSON"):
        find_frames([tmp_path / "bad.json"])
    (tmp_path / "other.json").write_text('{"images": [{"file_name": "a.png"}]}')
    with pytest.raises(FrameError, match="is no COCO file of RGB-D images"):
        find_frames([tmp_path / "other.json"])
    two = make_coco(tmp_path / "5", "a")
    (two / "more.json").write_text((two / "annotations.json").read_text())
    with pytest.raises(FrameError, match=r"annotations\.json, more\.json; give one"):
        find_frames([two])


def test_sizes_that_differ_are_reported_with_both_files(tmp_path) -> None:
    make_folder(tmp_path, "a")
    save(tmp_path / "depth" / "a.png", DEPTH_MM[:3])
    (pair,) = find_frames([tmp_path])
    with pytest.raises(FrameError, match=r"rgb/a\.png with .*depth/a\.png: .*6x4 .*6x3"):
        pair.load()


def test_recordings_and_folders_mix(tmp_path) -> None:
    make_folder(tmp_path / "pictures", "a")
    frame = RgbdFrame(rgb=RGB, depth_m=DEPTH_MM.astype(np.float32), stamp_ns=5)
    write_rgbd_bag(tmp_path / "tour", [frame], depth_encoding="32FC1")
    image, recording = find_frames([tmp_path / "pictures", tmp_path / "tour"])
    assert isinstance(image, ImagePair)
    assert isinstance(recording, BagFrames)
    assert (recording.name, recording.num_frames) == ("tour", 1)
    (found,) = recording.frames()
    np.testing.assert_array_equal(found.rgb, RGB)
    with pytest.raises(BagError, match="'/wrong' is not in the recording"):
        find_frames([tmp_path / "tour"], topics={"depth_topic": "/wrong"})


def test_missing_inputs_are_named(tmp_path) -> None:
    with pytest.raises(FrameError, match="nowhere: there is no such file or folder"):
        find_frames([tmp_path / "nowhere"])
    with pytest.raises(FrameError, match="no input"):
        find_frames([])


def test_the_real_data_set_is_found_completely() -> None:
    folder = shared_file("data/rgbd_instances/annotations.json").parent
    pairs = find_frames([folder])
    assert len(pairs) == 55
    assert {pair.depth_scale_m for pair in pairs} == {0.001, 0.0001}
    for pair in (pairs[0], pairs[-1]):
        frame = pair.load()
        assert frame.size == (480, 640)
        assert 0.3 < np.nanmedian(frame.depth_m) < 3.0
