from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibnet_core.data.datasets import DatasetError, open_dataset
from calibnet_core.data.datasets.opening import open_document, read_dataset
from tests.calibnet_core.data.datasets.folders import document, write_set
from tests.support.shared import shared_file


def test_a_folder_or_its_file_opens(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "desk")
    assert open_dataset(folder).image_ids == (1, 2, 3)
    assert open_dataset(folder / "annotations.json").name == "desk"
    (folder / "annotations.json").rename(folder / "train.json")
    assert open_dataset(str(folder / "train.json")).name == "train"


def test_a_set_in_the_working_folder_has_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(write_set(tmp_path / "desk"))
    assert open_dataset(".").name == "desk"


def test_missing_files_are_faults_by_name(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    (folder / "depths" / "2.png").unlink()
    with pytest.raises(DatasetError, match=r"image 2: .*depths/2\.png is not there; copy it, or"):
        open_dataset(folder)


def test_faulty_images_are_skipped_only_when_asked_and_are_named(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1]["category_id"] = 9
    folder = write_set(tmp_path, content)
    with pytest.raises(DatasetError, match=r"1 fault in the .*\n.*annotation 20: has category 9"):
        open_dataset(folder)
    dataset = open_dataset(folder, skip_faulty=True)
    assert dataset.image_ids == (1, 3)
    assert [fault.where for fault in dataset.faults] == ["annotation 20"]


def test_a_set_of_faulty_images_only_tells_why_it_is_empty(tmp_path: Path) -> None:
    content = document(1)
    content["annotations"][0]["segmentation"] = []
    folder = write_set(tmp_path, content, 1)
    with pytest.raises(DatasetError, match="annotation 10: the segmentation is an empty list"):
        open_dataset(folder, skip_faulty=True)


def test_a_set_without_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps(document(0)))
    with pytest.raises(DatasetError, match="empty: holds no image"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no readable JSON file"),
        ('{"images": [', "is no readable JSON file"),
        ("[" * 100_000, "is no readable JSON file"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": {}}', "has no list 'annotations'"),
    ],
)
def test_documents_that_are_no_coco_files_are_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=words):
        open_dataset(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: there is no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no file in it describes RGB-D images"):
        open_dataset(tmp_path)


def test_a_folder_with_two_sets_asks_which(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    (folder / "more.json").write_text(json.dumps(document()))
    with pytest.raises(DatasetError, match=r"annotations\.json, more\.json in it"):
        open_dataset(folder)


def test_one_image_without_depth_does_not_hide_the_set(tmp_path: Path) -> None:
    content = document()
    del content["images"][1]["depth_file"]
    folder = write_set(tmp_path, content)
    with pytest.raises(DatasetError, match="image 2: lacks the entry 'depth_file'"):
        open_dataset(folder)


def test_reading_returns_usable_images_beside_the_faults(tmp_path: Path) -> None:
    content = document()
    content["images"][0]["height"] = 0
    dataset, faults = read_dataset(write_set(tmp_path, content))
    assert dataset.image_ids == (2, 3)
    assert [fault.where for fault in faults] == ["image 1"]


def test_a_document_knows_its_file(tmp_path: Path) -> None:
    opened = open_document(write_set(tmp_path / "desk"))
    assert (opened.name, opened.path.name) == ("desk", "annotations.json")


def test_the_real_set_opens_without_a_fault() -> None:
    dataset = open_dataset(shared_file("data/rgbd_instances/annotations.json"))
    assert dataset.name == "rgbd_instances"
    assert len(dataset) == 55
    assert sum(len(record.annotations) for record in dataset.records) == 142
    assert len(dataset.scenes) == 46
    assert dataset.faults == ()
