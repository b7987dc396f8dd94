from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.data.datasets import open_dataset
from calibnet_core.data.datasets.measures import GRID, ImageMeasures
from calibnet_core.data.datasets.statistics import (
    IOU_EDGES,
    SIZE_EDGES,
    SetStatistics,
    collect_statistics,
    matching_curve,
)
from tests.calibnet_core.data.datasets.folders import (
    annotation_entry,
    box_polygon,
    document,
    save,
    write_set,
)
from tests.support.shared import shared_file


def measures(areas: list[int], **changes) -> ImageMeasures:
    number = len(areas)
    return ImageMeasures(
        **{
            "size": (100, 200),
            "areas_px": np.array(areas, np.int64),
            "center_distances": np.linspace(0.1, 0.3, number),
            "margin_distances": np.linspace(0.4, 0.6, number),
            "coverage": np.full((GRID, GRID), 0.25 * number),
            "object_iou": None,
            "depth_iou": 0.5,
        }
        | changes
    )


def test_counts_and_sizes_by_hand() -> None:
    statistics = SetStatistics("desk")
    for areas in ([1023, 1024, 9216], [], [9215]):
        statistics.add(measures(areas))
    found = statistics.to_json()
    assert (found["images"], found["instances"]) == (3, 4)
    assert found["instances_per_image"]["images_with"] == {"0": 1, "1": 1, "3": 1}
    assert found["instances_per_image"]["mean"] == pytest.approx(4 / 3, abs=1e-6)
    # COCO calls objects below 32 x 32 pixels small, and those below 96 x 96 medium.
    assert found["instance_size"]["coco_classes"] == {"small": 1, "medium": 2, "large": 1}
    share = found["instance_size"]["share_of_image"]
    assert share["mean"] == pytest.approx((1023 + 1024 + 9216 + 9215) / 4 / 20_000, abs=1e-6)
    assert (share["min"], share["max"]) == (1023 / 20_000, 9216 / 20_000)
    assert sum(found["instance_size"]["histogram"]["share_of_instances"]) == pytest.approx(1.0)
    assert found["center_bias"]["map"][5][7] == pytest.approx(0.25)
    assert found["object_instance_iou"] is None
    assert found["depth_saliency_iou"]["mean"] == 0.5
    json.dumps(found, allow_nan=False)


def test_the_smallest_and_the_largest_instances_are_in_the_histogram() -> None:
    statistics = SetStatistics("desk")
    statistics.add(measures([1, 20_000]))
    assert statistics.size_histogram[0] == 0.5
    assert statistics.size_histogram[-1] == 0.5
    assert SIZE_EDGES[[0, 6, 12, -1]] == pytest.approx([1e-4, 1e-3, 1e-2, 1.0])


def test_an_empty_set_has_no_figures() -> None:
    found = SetStatistics("desk").to_json()
    assert found["instance_size"]["share_of_image"]["mean"] is None
    assert found["depth_saliency_iou"]["mean"] is None
    json.dumps(found, allow_nan=False)


@given(ious=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_the_area_under_the_matching_curve_is_the_mean(ious: list[float]) -> None:
    curve = matching_curve(ious)
    assert curve[0] == 1.0
    assert (np.diff(curve) <= 0).all()
    # Within half a step of the sampling.
    assert np.trapezoid(curve, IOU_EDGES) == pytest.approx(np.mean(ious), abs=0.0051)


def test_matching_curves_by_hand() -> None:
    curve = matching_curve([0.29, 0.29, 0.8, 1.0])
    assert curve[[0, 29, 30, 80, 81, 100]].tolist() == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert not matching_curve([]).any()


def small_set(folder: Path) -> Path:
    content = document()
    content["annotations"].append(
        annotation_entry(31, 3, segmentation=box_polygon(10, 2, 14, 6), iscrowd=1)
    )
    return write_set(folder, content)


def test_a_set_on_disk(tmp_path: Path) -> None:
    dataset = open_dataset(small_set(tmp_path / "desk"))
    statistics = collect_statistics(dataset)
    assert (statistics.name, statistics.num_images, statistics.num_instances) == ("desk", 3, 3)
    assert statistics.shares == [30 / 192] * 3
    assert statistics.aspect == pytest.approx(16 / 12)
    assert statistics.center_map.mean() == pytest.approx(30 / 192)
    assert len(statistics.depth_ious) == 3
    assert statistics.faults == []


def test_region_labels_are_found_by_name(tmp_path: Path) -> None:
    dataset = open_dataset(small_set(tmp_path / "desk"))
    labelled = [dataset.load(index).masks.any(axis=0) for index in range(3)]
    labelled[2][:, 10:] = False
    for number, region in enumerate(labelled, start=1):
        save(tmp_path / "gts" / f"{number}.png", region.astype(np.uint8) * 255)
    statistics = collect_statistics(dataset, regions=tmp_path / "gts")
    assert statistics.object_ious == [1.0, 1.0, 30 / 46]
    found = statistics.to_json()
    assert found["object_instance_iou"]["images"] == 3
    assert found["depth_saliency_iou"]["salient"] == "region labels"


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    folder = small_set(tmp_path / "desk")
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"][0]["segmentation"] = []
    (folder / "annotations.json").write_text(json.dumps(content))
    (folder / "depths" / "3.png").write_bytes(b"x")
    statistics = collect_statistics(open_dataset(folder, skip_faulty=True))
    assert statistics.num_images == 1
    first, second = statistics.to_json()["left_out"]
    assert first["where"] == "annotation 10"
    assert second["where"] == "image 3"
    assert "depths/3.png: is no image" in second["reason"]


def test_a_missing_region_label_is_named(tmp_path: Path) -> None:
    statistics = collect_statistics(open_dataset(small_set(tmp_path)), regions=tmp_path / "gts")
    assert statistics.num_images == 0
    assert "gts/1.png: there is no such file" in statistics.faults[0].reason


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    dataset = open_dataset(small_set(tmp_path))
    calls: list[None] = []
    several = collect_statistics(dataset, workers=3, on_image=lambda: calls.append(None))
    assert json.dumps(several.to_json()) == json.dumps(collect_statistics(dataset).to_json())
    assert len(calls) == 3


def test_the_real_set_has_the_figures_of_its_description() -> None:
    file = shared_file("data/rgbd_instances/annotations.json")
    whole = open_dataset(file)
    ycb = whole.where(lambda record: record.pair.file_name.startswith("ycbv"))
    statistics = collect_statistics(ycb, regions=file.parent / "gts", workers=2)
    assert statistics.instances_per_image == {3: 10}
    # Its region labels are the unions of the masks.
    assert statistics.object_ious == [1.0] * 10
    assert 0.2 < np.mean(statistics.depth_ious) < 0.25
