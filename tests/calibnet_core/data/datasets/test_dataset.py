from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from calibnet_core.data.datasets import DatasetError, RgbdDataset, open_dataset
from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.data.sources import ImagePair
from calibnet_core.structures import FrameError
from tests.calibnet_core.data.datasets.folders import (
    annotation_entry,
    box_polygon,
    color,
    depth,
    document,
    save,
    write_set,
)
from tests.support.shared import shared_file


@pytest.fixture
def dataset(tmp_path: Path) -> RgbdDataset:
    content = document()
    content["images"][0]["depth_scale_m"] = 0.0001
    content["annotations"] = [
        annotation_entry(10, 1),
        annotation_entry(11, 1, segmentation=box_polygon(8, 0, 10, 2), iscrowd=1),
        annotation_entry(30, 3),
    ]
    return open_dataset(write_set(tmp_path / "desk", content))


def test_a_sample_holds_image_depth_and_masks(dataset: RgbdDataset) -> None:
    sample = dataset.load(0)
    np.testing.assert_array_equal(sample.frame.rgb, color(1))
    np.testing.assert_allclose(sample.frame.depth_m, depth(1) / 10_000, rtol=1e-6)
    expected = np.zeros((2, 12, 16), bool)
    expected[0, 3:9, 2:7] = True
    expected[1, 0:2, 8:10] = True
    np.testing.assert_array_equal(sample.masks, expected)
    assert sample.is_crowd.tolist() == [False, True]
    assert (sample.image_id, sample.file_name, sample.scene) == (1, "1.png", "1.png")


def test_an_image_without_objects_has_no_masks(dataset: RgbdDataset) -> None:
    sample = dataset.load(1)
    assert sample.masks.shape == (0, 12, 16)
    assert sample.is_crowd.shape == (0,)


def test_images_of_another_size_than_declared_are_refused(dataset: RgbdDataset) -> None:
    pair = dataset.records[0].pair
    save(pair.rgb_path, color(0, (6, 8)))
    with pytest.raises(FrameError, match="rgb is 8x6 but depth is 16x12"):
        dataset.load(0)
    save(pair.depth_path, depth(0, (6, 8)))
    with pytest.raises(FrameError, match=r"1\.png: is 8x6, but its annotations are for 16x12"):
        dataset.load(0)


def loaded_by_pycocotools(ground_truth: dict, folder: Path) -> COCO:
    path = folder / "ground_truth.json"
    path.write_text(json.dumps(ground_truth))
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def assert_is_the_same(dataset: RgbdDataset, file: Path, folder: Path) -> None:
    """Our ground truth against what pycocotools makes of the file itself."""
    ours = loaded_by_pycocotools(dataset.ground_truth(), folder)
    theirs = loaded_by_pycocotools(json.loads(file.read_text()), folder)
    assert sorted(ours.imgs) == sorted(theirs.imgs)
    assert sorted(ours.anns) == sorted(theirs.anns)
    for number, annotation in theirs.anns.items():
        own = ours.anns[number]
        np.testing.assert_array_equal(ours.annToMask(own), theirs.annToMask(annotation))
        for key in ("image_id", "category_id", "iscrowd"):
            assert own[key] == annotation[key]
        assert own["area"] == annotation.get("area", theirs.annToMask(annotation).sum())
        rows, columns = np.nonzero(theirs.annToMask(annotation))
        left, top = columns.min(), rows.min()
        assert own["bbox"] == [left, top, columns.max() - left + 1, rows.max() - top + 1]
    for number, image in theirs.imgs.items():
        for key in ("file_name", "height", "width"):
            assert ours.imgs[number][key] == image[key]


def test_the_ground_truth_is_what_pycocotools_reads(dataset: RgbdDataset, tmp_path: Path) -> None:
    assert_is_the_same(dataset, tmp_path / "desk" / "annotations.json", tmp_path)


def test_the_ground_truth_of_the_real_set_is_what_pycocotools_reads(tmp_path: Path) -> None:
    file = shared_file("data/rgbd_instances/annotations.json")
    assert_is_the_same(open_dataset(file), file, tmp_path)


def of_scenes(scenes: list[str]) -> RgbdDataset:
    nowhere = Path("nowhere")
    return RgbdDataset(
        "desk",
        [
            ImageRecord(
                pair=ImagePair(
                    name=str(i), rgb_path=nowhere, depth_path=nowhere, depth_scale_m=0.001
                ),
                image_id=i,
                size=(1, 1),
                scene=scene,
                annotations=(),
            )
            for i, scene in enumerate(scenes)
        ],
        [],
    )


@given(
    scenes=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_the_parts_of_a_split_share_no_scene_and_lose_no_image(
    scenes: list[str], fraction: float, seed: int
) -> None:
    whole = of_scenes(scenes)
    try:
        first, second = whole.split_by_scene(fraction, seed)
    except DatasetError:
        # Only where rounding leaves a part without a scene.
        assert round(fraction * len(set(scenes))) in (0, len(set(scenes)))
        return
    assert not set(first.scenes) & set(second.scenes)
    assert sorted((*first.image_ids, *second.image_ids)) == list(whole.image_ids)
    assert len(second.scenes) == round(fraction * len(whole.scenes))
    again = whole.split_by_scene(fraction, seed)
    assert [part.image_ids for part in again] == [first.image_ids, second.image_ids]


def test_another_seed_makes_another_split() -> None:
    whole = of_scenes([str(number) for number in range(20)])
    parts = {whole.split_by_scene(0.5, seed)[1].image_ids for seed in range(5)}
    assert len(parts) == 5


def test_a_split_that_leaves_a_part_empty_is_refused() -> None:
    with pytest.raises(DatasetError, match="desk: holding out 10% of 3 scenes leaves a part"):
        of_scenes(["a", "b", "c"]).split_by_scene(0.1, 0)


def test_a_choice_of_images_keeps_order_categories_and_faults(dataset: RgbdDataset) -> None:
    chosen = dataset.where(lambda record: record.image_id != 2, name="two")
    assert (chosen.name, chosen.image_ids) == ("two", (1, 3))
    assert chosen.categories == dataset.categories
    assert dataset.where(lambda record: True).name == "desk"
