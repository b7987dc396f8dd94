from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibnet_core.data.datasets import DatasetError, open_dataset
from calibnet_core.data.datasets.build_settings import BuildSettings
from calibnet_core.data.datasets.building import BuildReport, build_dataset
from calibnet_core.data.datasets.checking import check_datasets
from calibnet_core.structures import FrameError
from tests.calibnet_core.data.datasets.folders import color, depth, save
from tests.support.shared import shared_file

SIZE = (12, 16)


def labels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A label image; later boxes lie on earlier ones."""
    image = np.zeros(SIZE, np.uint8)
    for value, (left, top, right, bottom) in enumerate(boxes, start=1):
        image[top:bottom, left:right] = value
    return image


CUP, PLATE, SPOON = (1, 1, 6, 6), (8, 2, 14, 9), (2, 8, 6, 11)


class Material:
    """Folders of three images and three annotators."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for number, name in enumerate(("a_1", "a_2", "b_1")):
            save(root / "rgb" / f"{name}.png", color(number))
            save(root / "depth" / f"{name}.png", depth(number))
            for annotator in ("anna", "ben", "cleo"):
                save(root / annotator / f"{name}.png", labels(CUP, PLATE))

    def settings(self, **changes) -> BuildSettings:
        root = self.root
        return BuildSettings(
            **{
                "images": root / "rgb",
                "depth": root / "depth",
                "masks": (root / "anna", root / "ben", root / "cleo"),
            }
            | changes
        )

    def build(self, **changes) -> BuildReport:
        return build_dataset(self.settings(**changes), self.root / "set")


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return Material(tmp_path)


def mask_of(*box: int) -> np.ndarray:
    return labels(box) > 0


def masks_in(folder: Path, name: str) -> list[np.ndarray]:
    dataset = open_dataset(folder)
    (index,) = [i for i, r in enumerate(dataset.records) if r.pair.name == name]
    return list(dataset.load(index).masks)


def test_the_set_opens_and_passes_the_check(material: Material) -> None:
    report = material.build(name="desk", depth_scale_m=0.0005)
    assert (report.num_images, report.num_instances) == (3, 6)
    assert (report.dropped, report.ambiguous, report.faults) == ([], [], [])
    folder = material.root / "set"
    (checked,) = check_datasets([folder])
    assert (checked.num_images, checked.num_instances, checked.faults) == (3, 6, ())
    dataset = open_dataset(folder)
    assert dataset.image_ids == (1, 2, 3)
    sample = dataset.load(1)
    np.testing.assert_array_equal(sample.frame.rgb, color(1))
    np.testing.assert_allclose(sample.frame.depth_m, depth(1) * 0.0005, rtol=1e-6)
    np.testing.assert_array_equal(sample.masks, [mask_of(*CUP), mask_of(*PLATE)])
    stored = json.loads((folder / "annotations.json").read_text())
    assert stored["info"] == {"description": "desk"}
    assert [entry["id"] for entry in stored["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert stored["annotations"][0]["bbox"] == [1.0, 1.0, 5.0, 5.0]
    assert stored["annotations"][0]["area"] == 25


def test_a_majority_decides_every_pixel(material: Material) -> None:
    save(material.root / "ben" / "a_1.png", labels((1, 1, 7, 6), PLATE))
    save(material.root / "cleo" / "a_1.png", labels((1, 1, 7, 5), PLATE))
    material.build()
    cup, plate = masks_in(material.root / "set", "a_1")
    np.testing.assert_array_equal(cup, mask_of(1, 1, 7, 5) | mask_of(1, 1, 6, 6))
    np.testing.assert_array_equal(plate, mask_of(*PLATE))


def test_what_only_one_annotator_saw_is_dropped_with_its_reason(material: Material) -> None:
    path = save(material.root / "ben" / "a_1.png", labels(CUP, PLATE, SPOON))
    report = material.build()
    (dropped,) = report.dropped
    assert (dropped.image, dropped.masks) == ("a_1", (f"{path}, value 3",))
    assert dropped.reason == "only 1 of 3 annotators marked it"
    assert len(masks_in(material.root / "set", "a_1")) == 2


def test_annotators_without_a_file_do_not_vote(material: Material) -> None:
    (material.root / "anna" / "a_1.png").unlink()
    (material.root / "ben" / "a_1.png").unlink()
    assert material.build().dropped == []
    assert len(masks_in(material.root / "set", "a_1")) == 2


def test_masks_without_common_ground_have_no_majority(material: Material) -> None:
    for name, box in (("anna", (0, 0, 4, 2)), ("ben", (2, 0, 6, 2)), ("cleo", (8, 8, 9, 9))):
        save(material.root / name / "a_1.png", labels(box))
    report = material.build(min_iou=0.9)
    assert [dropped.reason for dropped in report.dropped] == [
        "only 1 of 3 annotators marked it"
    ] * 3
    assert report.ambiguous == ["a_1"]
    assert report.num_images == 2


def test_an_image_without_objects_stays(material: Material) -> None:
    for annotator in ("anna", "ben", "cleo"):
        save(material.root / annotator / "a_1.png", labels())
    report = material.build()
    assert (report.num_images, report.num_instances, report.ambiguous) == (3, 4, [])
    assert masks_in(material.root / "set", "a_1") == []


def test_empty_masks_are_reported(material: Material) -> None:
    (material.root / "ben" / "a_1.png").unlink()
    save(material.root / "ben" / "a_1" / "0.png", mask_of(*CUP) * np.uint8(255))
    save(material.root / "ben" / "a_1" / "1.png", mask_of(*PLATE) * np.uint8(255))
    empty = save(material.root / "ben" / "a_1" / "2.png", np.zeros(SIZE, np.uint8))
    report = material.build()
    assert [(d.masks, d.kind) for d in report.dropped] == [((str(empty),), "empty")]
    assert report.num_instances == 6


def test_instances_outside_the_region_label_are_dropped(material: Material) -> None:
    for name in ("a_1", "a_2", "b_1"):
        save(material.root / "gts" / f"{name}.png", mask_of(1, 1, 10, 9) * np.uint8(255))
    regions = material.root / "gts"
    report = material.build(regions=regions)
    assert [dropped.kind for dropped in report.dropped] == ["outside the region"] * 3
    assert report.dropped[0].reason.startswith("33.3% of it lies inside the region label, less")
    np.testing.assert_array_equal(masks_in(material.root / "set", "a_1"), [mask_of(*CUP)])
    lenient = build_dataset(
        material.settings(regions=regions, min_inside=1 / 3), material.root / "lenient"
    )
    assert lenient.num_instances == 6


def test_overlapping_masks_are_parted(material: Material) -> None:
    for annotator in ("anna", "ben", "cleo"):
        (material.root / annotator / "a_1.png").unlink()
        for number, box in enumerate(((0, 0, 10, 10), (4, 4, 8, 8), (4, 4, 8, 8))):
            mask = mask_of(*box) * np.uint8(1)
            save(material.root / annotator / "a_1" / f"{number}.png", mask)
    report = material.build()
    plate, cup = masks_in(material.root / "set", "a_1")
    np.testing.assert_array_equal(cup, mask_of(4, 4, 8, 8))
    np.testing.assert_array_equal(plate, mask_of(0, 0, 10, 10) & ~cup)
    (dropped,) = report.dropped
    assert dropped.kind == "covered"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "depth" / "a_1.png").unlink(), "there is no depth image"),
        (lambda root: [(root / n / "a_1.png").unlink() for n in ("anna", "ben", "cleo")],
         "no annotator has masks for it"),
        (lambda root: (root / "rgb" / "a_1.png").write_bytes(b"x"), "is no image"),
        (lambda root: save(root / "ben" / "a_1.png", np.zeros((3, 4), np.uint8)),
         "is 4x3, the image 16x12"),
        (lambda root: save(root / "ben" / "a_1.png", color(0)), "is a coloured picture"),
        (lambda root: save(root / "depth" / "a_1.png", np.zeros(SIZE, np.uint16)),
         "holds no measured depth"),
        (lambda root: save(root / "depth" / "a_1.png", depth(0, (6, 8))), "is 8x6, but"),
    ],
)  # fmt: skip
def test_images_with_faulty_files_are_left_out_and_named(
    material: Material, spoil, words: str
) -> None:
    spoil(material.root)
    report = material.build()
    (fault,) = report.faults
    assert fault.severity == "error"
    assert "a_1.png" in fault.file
    assert words in fault.reason
    assert report.num_images == 2
    assert not (material.root / "set" / "imgs" / "a_1.png").exists()
    # Numbers of images do not depend on what was left out.
    assert open_dataset(material.root / "set").image_ids == (2, 3)


def test_a_missing_region_label_leaves_the_image_out(material: Material) -> None:
    for name in ("a_2", "b_1"):
        save(material.root / "gts" / f"{name}.png", np.ones(SIZE, np.uint8))
    report = material.build(regions=material.root / "gts")
    (fault,) = report.faults
    assert "gts/a_1.png: there is no such file" in fault.reason


def test_files_that_belong_to_no_image_are_named(material: Material) -> None:
    save(material.root / "ben" / "c.png", labels(CUP))
    save(material.root / "depth" / "d.png", depth(0))
    faults = material.build().faults
    assert [(Path(f.file).name, f.where, f.severity) for f in faults] == [
        ("depth", "d", "warning"),
        ("ben", "c", "warning"),
    ]


def test_nothing_is_written_when_nothing_is_left(material: Material) -> None:
    for name in ("a_1", "a_2", "b_1"):
        (material.root / "depth" / f"{name}.png").unlink()
    before = sorted(material.root.iterdir())
    with pytest.raises(DatasetError, match=r"no image can be used.*\n.*a_1\.png: there is no dep"):
        material.build()
    assert sorted(material.root.iterdir()) == before


def test_an_existing_folder_is_never_touched(material: Material) -> None:
    (material.root / "set").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        material.build()
    assert list((material.root / "set").iterdir()) == []


@pytest.mark.parametrize("name", ["images", "depth", "regions"])
def test_missing_folders_are_named(material: Material, name: str) -> None:
    with pytest.raises(FrameError, match="nowhere: is no folder"):
        material.build(**{name: material.root / "nowhere"})


def test_a_folder_without_images_is_refused(material: Material) -> None:
    (material.root / "empty").mkdir()
    with pytest.raises(FrameError, match="empty: holds no images"):
        material.build(images=material.root / "empty")


def test_images_can_be_linked(material: Material) -> None:
    material.build(link=True)
    source, target = material.root / "rgb" / "a_1.png", material.root / "set" / "imgs" / "a_1.png"
    assert target.samefile(source)
    assert not target.is_symlink()


def test_scenes_are_read_from_the_names(material: Material) -> None:
    material.build(scene_pattern="^(.*)_")
    assert open_dataset(material.root / "set").scenes == ("a", "b")


def test_the_report_holds_rules_and_reasons(material: Material) -> None:
    save(material.root / "ben" / "a_1.png", labels(CUP, PLATE, SPOON))
    report = material.build(min_iou=0.4)
    stored = json.loads((material.root / "set" / "report.json").read_text())
    assert stored == json.loads(json.dumps(report.to_json(material.settings(min_iou=0.4))))
    assert stored["settings"]["min_iou"] == 0.4
    assert stored["settings"]["masks"][1] == str(material.root / "ben")
    assert stored["dropped_instances"][0]["reason"] == "only 1 of 3 annotators marked it"


def test_the_same_material_makes_the_same_set(material: Material) -> None:
    save(material.root / "ben" / "a_1.png", labels((1, 1, 7, 6), PLATE, SPOON))
    seen: list[tuple[int, int]] = []
    build_dataset(material.settings(name="desk"), material.root / "one")
    build_dataset(
        material.settings(name="desk"),
        material.root / "two",
        workers=3,
        progress=lambda *counts: seen.append(counts),
    )
    for name in ("annotations.json", "report.json", "imgs/a_1.png"):
        one, two = ((material.root / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_real_set_is_rebuilt_from_its_own_masks(tmp_path: Path) -> None:
    home = shared_file("data/rgbd_instances/annotations.json").parent
    original = open_dataset(home).where(lambda record: record.image_id <= 6)
    for index, record in enumerate(original.records):
        for place in ("imgs", "depths"):
            target = tmp_path / place / record.pair.file_name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((home / place / record.pair.file_name).read_bytes())
        image = np.zeros(record.size, np.uint8)
        for value, mask in enumerate(original.load(index).masks, start=1):
            image[mask] = value
        save(tmp_path / "masks" / f"{record.pair.name}.png", image)
    settings = BuildSettings(
        images=tmp_path / "imgs",
        depth=tmp_path / "depths",
        masks=(tmp_path / "masks",),
        regions=home / "gts",
    )
    report = build_dataset(settings, tmp_path / "set", workers=2)
    assert (report.dropped, report.faults) == ([], [])
    rebuilt = open_dataset(tmp_path / "set")
    for own, other in zip(rebuilt.records, original.records, strict=True):
        assert own.size == other.size
        assert [a.mask for a in own.annotations] == [a.mask for a in other.annotations]
