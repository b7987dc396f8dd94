from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibnet_core.data.datasets.checking import CheckedSet, check_datasets
from calibnet_core.data.datasets.faults import Fault
from tests.calibnet_core.data.datasets.folders import (
    annotation_entry,
    color,
    depth,
    document,
    image_entry,
    save,
    write_set,
)
from tests.support.shared import shared_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "desk")


def check(*folders: Path, workers: int = 1) -> list[CheckedSet]:
    return check_datasets(folders, workers=workers)


def only_fault(folder: Path) -> Fault:
    (checked,) = check(folder)
    (fault,) = checked.faults
    return fault


def test_a_sound_set_has_no_fault(folder: Path) -> None:
    (checked,) = check(folder)
    assert (checked.name, checked.num_images, checked.num_instances) == ("desk", 3, 3)
    assert checked.faults == ()


def test_a_cut_off_picture_is_named(folder: Path) -> None:
    path = folder / "imgs" / "2.png"
    path.write_bytes(path.read_bytes()[:300])
    fault = only_fault(folder)
    assert (fault.file, fault.where, fault.severity) == (str(path), "image 2", "error")
    assert fault.reason.startswith("is damaged or cut off")


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    (folder / "depths" / "2.png").write_text("depth")
    fault = only_fault(folder)
    assert fault.file == str(folder / "depths" / "2.png")
    assert fault.reason.startswith("is no image")


@pytest.mark.parametrize(
    ("place", "pixels"), [("imgs", color(0, (6, 8))), ("depths", depth(0, (6, 8)))]
)
def test_another_size_than_annotated_is_named(folder: Path, place: str, pixels: np.ndarray) -> None:
    save(folder / place / "2.png", pixels)
    fault = only_fault(folder)
    assert fault.file == str(folder / place / "2.png")
    assert fault.reason.startswith("is 8x6, but the annotations are for 16x12 (width x height)")


def test_depth_without_a_measured_pixel_is_an_error(folder: Path) -> None:
    save(folder / "depths" / "2.png", np.zeros((12, 16), np.uint16))
    fault = only_fault(folder)
    assert fault.severity == "error"
    assert fault.reason.startswith("holds no measured depth, not at one pixel")


def test_pictures_of_depth_need_more_than_one_value(folder: Path) -> None:
    save(folder / "depths" / "2.png", np.full((12, 16), 7, np.uint8))
    assert only_fault(folder).reason.startswith("holds the one value 7 everywhere")
    save(folder / "depths" / "2.png", (depth(2) // 12).astype(np.uint8))
    assert check(folder)[0].faults == ()


def test_a_coloured_picture_of_depth_is_named(folder: Path) -> None:
    save(folder / "depths" / "2.png", color(2))
    assert only_fault(folder).reason.startswith("this looks like a coloured picture of depth")


def test_an_object_without_depth_is_a_warning(folder: Path) -> None:
    values = depth(2)
    values[3:9, 2:7] = 0
    save(folder / "depths" / "2.png", values)
    fault = only_fault(folder)
    assert (fault.where, fault.severity) == ("image 2, annotation 20", "warning")
    assert "no depth was measured anywhere on the object" in fault.reason
    values[3, 2] = 900
    save(folder / "depths" / "2.png", values)
    assert check(folder)[0].faults == ()


def test_crowds_need_no_depth(folder: Path) -> None:
    content = document()
    content["annotations"][1]["iscrowd"] = 1
    (folder / "annotations.json").write_text(json.dumps(content))
    values = depth(2)
    values[3:9, 2:7] = 0
    save(folder / "depths" / "2.png", values)
    assert check(folder)[0].faults == ()


@pytest.mark.parametrize(("scale", "is_odd"), [(1.0, True), (1e-6, True), (0.0001, False)])
def test_depth_in_a_unit_of_another_kind_is_a_warning(
    folder: Path, scale: float, is_odd: bool
) -> None:
    content = document()
    content["images"][1]["depth_scale_m"] = scale
    (folder / "annotations.json").write_text(json.dumps(content))
    faults = check(folder)[0].faults
    assert [fault.severity for fault in faults] == ["warning"] * is_odd
    assert all("check depth_scale_m" in fault.reason for fault in faults)


def test_the_same_picture_under_two_names_is_a_warning(folder: Path) -> None:
    # Another file, but the same pixels.
    Image.fromarray(color(1)).save(folder / "imgs" / "3.png", compress_level=0)
    fault = only_fault(folder)
    assert (fault.file, fault.severity) == (str(folder / "imgs" / "3.png"), "warning")
    assert f"the same picture as {folder / 'imgs' / '1.png'}" in fault.reason


def test_the_same_picture_in_two_sets_is_a_warning(tmp_path: Path, folder: Path) -> None:
    other = write_set(tmp_path / "test", num_images=1)
    first, second = check(folder, other)
    assert first.faults == ()
    assert [fault.file for fault in second.faults] == [str(other / "imgs" / "1.png")]


def test_a_set_checked_twice_is_no_repetition(folder: Path) -> None:
    assert [one.faults for one in check(folder, folder)] == [(), ()]


def test_a_set_that_cannot_be_opened_does_not_hide_the_others(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    bad, missing, good = check(tmp_path / "bad.json", tmp_path / "none", folder)
    assert bad.faults[0].reason.startswith("is no readable JSON file")
    assert missing.faults[0].reason.startswith("there is no such file or folder")
    assert (bad.num_errors, missing.num_errors, good.num_errors) == (1, 1, 0)


def make_everything_wrong(folder: Path) -> None:
    content = document(6)
    content["images"].append(image_entry(7))
    content["annotations"][2]["segmentation"] = []
    content["annotations"].append(annotation_entry(41, 4, category_id=5))
    write_set(folder, content, 6)
    (folder / "imgs" / "2.png").write_bytes(b"x")
    (folder / "depths" / "2.png").write_bytes(b"x")
    (folder / "imgs" / "3.png").write_bytes(b"x")
    save(folder / "depths" / "5.png", np.zeros((12, 16), np.uint16))
    save(folder / "imgs" / "6.png", color(1))


def test_every_fault_is_listed_at_once_and_in_the_same_order(tmp_path: Path) -> None:
    make_everything_wrong(tmp_path)
    (checked,) = check(tmp_path)
    assert [(Path(fault.file).name, fault.where) for fault in checked.faults] == [
        ("annotations.json", "annotation 41"),
        ("annotations.json", "annotation 30"),
        ("annotations.json", "image 7"),
        ("2.png", "image 2"),
        ("2.png", "image 2"),
        ("5.png", "image 5"),
        ("6.png", "image 6"),
        # Its annotations have a fault as well: images left out come last.
        ("3.png", "image 3"),
    ]
    assert (checked.num_errors, checked.num_warnings) == (7, 1)
    for workers in (2, 5):
        assert check(tmp_path, workers=workers) == [checked]


def test_progress_counts_every_image_once(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_datasets([folder], workers=2, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_result_is_plain_json(tmp_path: Path) -> None:
    make_everything_wrong(tmp_path)
    stored = json.loads(json.dumps(check(tmp_path)[0].to_json()))
    assert (stored["images"], stored["errors"], stored["warnings"]) == (6, 7, 1)
    assert stored["faults"][0] == {
        "file": str(tmp_path / "annotations.json"),
        "where": "annotation 41",
        "reason": "has category 5, which is not among [1]; correct it or add the category",
        "severity": "error",
    }


def test_the_real_set_has_no_fault() -> None:
    (checked,) = check(shared_file("data/rgbd_instances/annotations.json"), workers=2)
    assert (checked.num_images, checked.num_instances, checked.faults) == (55, 142, ())
