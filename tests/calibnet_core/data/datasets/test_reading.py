from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.data.datasets.faults import Fault
from calibnet_core.data.datasets.reading import Contents, read_document
from calibnet_core.data.sources import ImagePair, coco_pair
from tests.calibnet_core.data.datasets.folders import (
    annotation_entry,
    box_polygon,
    document,
    image_entry,
)

FILE = Path("set/annotations.json")
ALL, OTHERS = [1, 2, 3], [1, 3]


def pair(entry: Any) -> ImagePair:
    # Files need not be there: the reader opens none.
    return coco_pair(Path(), entry)


def read(content: Any) -> Contents:
    return read_document(FILE, content, pair)


def changed(section: str, number: int, **changes: Any) -> dict[str, Any]:
    content = document()
    content[section][number] |= changes
    return content


def without(section: str, number: int, key: str) -> dict[str, Any]:
    content = document()
    del content[section][number][key]
    return content


def with_more(section: str, *entries: Any) -> dict[str, Any]:
    content = document()
    content[section] += entries
    return content


def ids(contents: Contents) -> list[int]:
    return [record.image_id for record in contents.records]


def test_a_sound_document_has_no_fault() -> None:
    contents = read(document())
    assert contents.faults == ()
    assert contents.left_out == ()
    assert contents.categories == ({"id": 1, "name": "object"},)
    assert ids(contents) == [1, 2, 3]
    record = contents.records[1]
    assert (record.size, record.scene) == ((12, 16), "2.png")
    (annotation,) = record.annotations
    assert (annotation.annotation_id, annotation.category_id) == (20, 1)
    assert (annotation.is_crowd, annotation.area) == (False, 30.0)


@pytest.mark.parametrize(
    ("scene", "expected"), [("desk", "desk"), (0, "0"), ("", "2.png"), (None, "2.png")]
)
def test_images_without_a_scene_are_scenes_of_their_own(scene: object, expected: str) -> None:
    assert read(changed("images", 1, scene=scene)).records[1].scene == expected


@pytest.mark.parametrize(
    ("area", "expected"),
    [(12.5, 12.5), (0, 30.0), (-3, 30.0), (float("nan"), 30.0), (float("inf"), 30.0), ("12", 30.0)],
)
def test_areas_are_those_of_the_file_where_they_can_be(area: object, expected: float) -> None:
    assert read(changed("annotations", 0, area=area)).records[0].annotations[0].area == expected


def test_huge_whole_numbers_are_no_area() -> None:
    contents = read(changed("annotations", 0, area=10**400))
    assert contents.records[0].annotations[0].area == 30.0


def test_crowds_are_marked() -> None:
    assert read(changed("annotations", 0, iscrowd=1)).records[0].annotations[0].is_crowd


@pytest.mark.parametrize(
    ("content", "where", "reason", "kept"),
    [
        # images
        (without("images", 1, "depth_file"), "image 2", "lacks the entry 'depth_file'", OTHERS),
        (without("images", 1, "file_name"), "image 2", "lacks the entry 'file_name'", OTHERS),
        (without("images", 1, "height"), "image 2", "declares height None and width 16", OTHERS),
        (changed("images", 1, height=0), "image 2", "declares height 0 and width 16", OTHERS),
        (changed("images", 1, width=16.0), "image 2", "declares height 12 and width 16.0", OTHERS),
        (changed("images", 1, width=1 << 30), "image 2", "declares height 12 and width 1", OTHERS),
        (changed("images", 1, depth_scale_m=0), "image 2", "has depth_scale_m 0.0; give", OTHERS),
        (changed("images", 1, depth_scale_m=float("nan")), "image 2", "depth_scale_m nan", OTHERS),
        (changed("images", 1, depth_scale_m="mm"), "image 2", "cannot be used (could not", OTHERS),
        (changed("images", 1, depth_scale_m=10**400), "image 2", "cannot be used (int too", OTHERS),
        (changed("images", 1, intrinsics={"fx": 5}), "image 2", "lacks the entry 'fy'", OTHERS),
        (changed("images", 1, intrinsics="wide"), "image 2", "has an entry that cannot", OTHERS),
        (changed("images", 1, intrinsics={"fx": 0, "fy": 1, "cx": 1, "cy": 1}), "image 2",
         "camera intrinsics fx=0.0", OTHERS),
        (changed("images", 1, file_name="../2.png"), "image 2", "'../2.png' leaves", OTHERS),
        (changed("images", 1, file_name="/etc/2.png"), "image 2", "leaves the folder", OTHERS),
        (changed("images", 1, depth_file="a/../../2.png"), "image 2", "leaves the folder", OTHERS),
        (changed("images", 1, file_name=""), "image 2", "has an entry that cannot be used", OTHERS),
        (changed("images", 1, file_name="1.png"), "image 2", "'1.png' stands at an earlier", [3]),
        (with_more("images", "4.png"), "images number 3", "is no mapping", ALL),
        # ids of images
        (with_more("images", image_entry(2, file_name="4.png", depth_file="4.png")), "image 2",
         "has the id of an earlier one", OTHERS),
        (with_more("images", image_entry(0) | {"id": "4"}), "image number 3",
         "has id '4'; give a whole number", ALL),
        (with_more("images", image_entry(0) | {"id": True}), "image number 3", "has id True", ALL),
        # annotations
        (changed("annotations", 1, image_id=9), "annotation 20", "belongs to image 9, which", ALL),
        (changed("annotations", 1, image_id="2"), "annotation 20", "belongs to image '2'", ALL),
        (without("annotations", 1, "image_id"), "annotation 20", "belongs to image None", ALL),
        (with_more("annotations", annotation_entry(10, 2)), "annotation 10",
         "has the id of an earlier one", [3]),
        (changed("annotations", 1, id=None), "annotation number 1", "has id None", OTHERS),
        (changed("annotations", 1, category_id=7), "annotation 20",
         "has category 7, which is not among [1]", OTHERS),
        (changed("annotations", 1, category_id="1"), "annotation 20", "has category '1'", OTHERS),
        (without("annotations", 1, "category_id"), "annotation 20", "has category None", OTHERS),
        (changed("annotations", 1, iscrowd="no"), "annotation 20", "has iscrowd 'no'", OTHERS),
        (changed("annotations", 1, segmentation=box_polygon(3, 3, 3.2, 3.2)), "annotation 20",
         "has an empty mask, not one pixel", OTHERS),
        (changed("annotations", 1, segmentation={"size": [12, 16], "counts": [192]}),
         "annotation 20", "has an empty mask, not one pixel", OTHERS),
        (changed("annotations", 1, segmentation=box_polygon(20, 3, 25, 9)), "annotation 20",
         "lies outside the image; remove it or draw it again", OTHERS),
        (changed("annotations", 1, segmentation=[]), "annotation 20", "is an empty list", OTHERS),
        (without("annotations", 1, "segmentation"), "annotation 20", "is NoneType", OTHERS),
        (with_more("annotations", 17), "annotations number 3", "is no mapping", ALL),
        # categories
        (with_more("categories", {"id": 1, "name": "cup"}), "category 1",
         "has the id of an earlier one", ALL),
        (with_more("categories", {"id": 2}), "category 2", "has no name", ALL),
        (with_more("categories", {"name": "cup"}), "category number 1", "has id None", ALL),
    ],
)  # fmt: skip
def test_every_fault_is_named_and_its_image_left_out(
    content: dict[str, Any], where: str, reason: str, kept: list[int]
) -> None:
    contents = read(content)
    (fault,) = contents.faults
    assert fault.file == str(FILE)
    assert fault.where == where
    assert reason in fault.reason
    assert fault.severity == "error"
    assert ids(contents) == kept


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        (changed("annotations", 1, segmentation=box_polygon(2, 3, 18.5, 9)), "annotation 20",
         "reaches 2 pixels beyond the image and is cut there"),
        (changed("images", 1, depth_file="1.png"), "image 2", "has the depth file of image 1"),
        (with_more("categories", {"id": 2, "name": "object"}), "category 2",
         "has the name 'object' of category 1"),
    ],
)  # fmt: skip
def test_what_can_be_lived_with_is_a_warning(
    content: dict[str, Any], where: str, reason: str
) -> None:
    contents = read(content)
    (fault,) = contents.faults
    assert (fault.where, fault.severity) == (where, "warning")
    assert reason in fault.reason
    assert ids(contents) == [1, 2, 3]


def test_polygons_may_leave_the_image_by_a_pixel() -> None:
    contents = read(changed("annotations", 1, segmentation=box_polygon(-1, -1, 17, 13)))
    assert contents.faults == ()
    assert contents.records[1].annotations[0].area == 12 * 16


@pytest.mark.parametrize("content", [None, [], "text", 3, {}, {"images": []}, {"images": {}}])
def test_what_is_no_coco_file_is_said_once_for_each_list(content: Any) -> None:
    contents = read(content)
    assert contents.records == ()
    missing = 2 if content == {"images": []} else 3
    assert len(contents.faults) == missing
    assert all("expected a COCO instance file" in fault.reason for fault in contents.faults)


def test_without_categories_there_is_one_fault_not_one_an_annotation() -> None:
    content = document()
    del content["categories"]
    contents = read(content)
    assert [fault.reason for fault in contents.faults] == [
        "has no list 'categories'; expected a COCO instance file"
    ]
    assert contents.records == ()


def test_several_faults_are_all_listed_in_the_order_of_the_file() -> None:
    content = document()
    content["images"][0]["height"] = -1
    content["annotations"][1]["category_id"] = 5
    content["annotations"][2]["segmentation"] = []
    faults = read(content).faults
    assert [fault.where for fault in faults] == ["annotation 20", "image 1", "annotation 30"]


def test_images_left_out_keep_their_sound_annotations_for_a_check() -> None:
    content = with_more("annotations", annotation_entry(21, 2, category_id=7))
    contents = read(content)
    assert ids(contents) == [1, 3]
    (left_out,) = contents.left_out
    assert [a.annotation_id for a in left_out.annotations] == [20]


def test_annotations_of_two_images_of_one_id_are_said_once() -> None:
    content = changed("annotations", 1, segmentation=[])
    content["images"].append(image_entry(2, file_name="4.png", depth_file="4.png"))
    assert [fault.where for fault in read(content).faults] == ["image 2", "annotation 20"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(data=st.data())
def test_junk_anywhere_is_a_fault_and_no_exception(data: st.DataObject) -> None:
    content = document()
    section = data.draw(st.sampled_from(sorted(content)))
    entry = content[section][0]
    key = data.draw(st.sampled_from(sorted({*entry, "depth_scale_m", "intrinsics", "area"})))
    before = copy.deepcopy(entry)
    entry[key] = data.draw(JUNK)
    contents = read(content)
    assert all(isinstance(fault, Fault) for fault in contents.faults)
    assert len(contents.records) + len(contents.left_out) <= 3
    for record in contents.records:
        assert record.size == (12, 16) or before != entry
        assert all(np.isfinite(a.area) for a in record.annotations)
