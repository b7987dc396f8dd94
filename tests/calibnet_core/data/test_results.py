from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from calibnet_core.data.results import ResultFolder
from calibnet_core.structures import Instances, RgbdFrame
from calibnet_core.visualization import draw_instances

SIZE = (20, 30)


def frame(name: str = "shelf") -> RgbdFrame:
    rgb = np.full((*SIZE, 3), 90, np.uint8)
    return RgbdFrame(rgb=rgb, depth_m=np.ones(SIZE, np.float32), name=name)


def two_instances() -> Instances:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 2:8, 3:9] = True
    masks[1, 5:15, 6:20] = True
    return Instances.from_masks(masks, np.array([0.25, 0.75], np.float32))


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_label_numbers_and_overlays_go_by_score(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "deep" / "out")
    results.add(frame(), two_instances())
    results.finish()
    labels = read(tmp_path / "deep" / "out" / "labels" / "shelf.png")
    assert labels.dtype == np.uint16
    # The better instance is number 1 and wins where both are.
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels == 1).sum() == 140
    assert (labels == 2).sum() == 36 - 9
    overlay = read(tmp_path / "deep" / "out" / "overlays" / "shelf.png")
    best_first = two_instances()
    best_first = Instances.from_masks(best_first.masks[::-1], best_first.scores[::-1])
    np.testing.assert_array_equal(overlay, draw_instances(frame().rgb, best_first))


def test_results_are_what_cocotools_read(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    results.add(frame(), two_instances(), image_id=7, file_name="a/shelf.jpg")
    results.add(frame("empty"), Instances.empty(SIZE))
    results.finish()
    assert (results.num_frames, results.num_instances) == (2, 2)
    entries = json.loads((tmp_path / "results.json").read_text())
    assert [(e["image_id"], e["category_id"], e["score"], e["instance"]) for e in entries] == [
        (7, 1, 0.75, 1),
        (7, 1, 0.25, 2),
    ]
    assert entries[1]["bbox"] == [3.0, 2.0, 6.0, 6.0]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(tmp_path / "images.json")
        found = truth.loadRes(str(tmp_path / "results.json"))
    assert truth.imgs[7]["file_name"] == "a/shelf.jpg"
    assert (truth.imgs[7]["height"], truth.imgs[7]["width"]) == SIZE
    masks = [found.annToMask(annotation) for annotation in found.loadAnns(found.getAnnIds(7))]
    np.testing.assert_array_equal(masks, two_instances().masks[::-1])


def test_numbers_of_annotated_images_are_kept_and_never_given_twice(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path, reserved_ids=[1, 2, 9])
    for image_id in (None, 2, 9, 2, None):
        results.add(frame(), two_instances(), image_id=image_id)
    results.finish()
    images = json.loads((tmp_path / "images.json").read_text())["images"]
    assert [image["id"] for image in images] == [10, 2, 9, 11, 12]


def test_equal_and_unruly_names_get_files_of_their_own_inside_the_folder(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    for name in ("shelf", "shelf", "../../up", "", "a\\b"):
        results.add(frame(name), Instances.empty(SIZE))
    names = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert names == ["_.._up.png", "a_b.png", "frame.png", "shelf.png", "shelf_2.png"]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == names


def test_a_frame_without_instances_has_an_empty_label_image(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    results.add(frame(), Instances.empty(SIZE))
    results.finish()
    assert not read(tmp_path / "labels" / "shelf.png").any()
    np.testing.assert_array_equal(read(tmp_path / "overlays" / "shelf.png"), frame().rgb)
    assert json.loads((tmp_path / "results.json").read_text()) == []
