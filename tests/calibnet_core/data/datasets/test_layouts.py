from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibnet_core.data.datasets import open_dataset
from calibnet_core.data.datasets.faults import DatasetError
from calibnet_core.data.datasets.layouts import LAYOUTS
from tests.calibnet_core.data.datasets.folders import color, depth, document, save

PUBLISHED = {
    "come15k_train": ("COME15K/train/imgs_right", "COME15K/train/depths",
                      "COME15K/annotations/COME15K-Train.json"),
    "come15k_test_e": ("COME15K/COME-E/RGB", "COME15K/COME-E/depth",
                       "COME15K/annotations/COME15K-Test-E.json"),
    "come15k_test_h": ("COME15K/COME-H/RGB", "COME15K/COME-H/depth",
                       "COME15K/annotations/COME15K-Test-H.json"),
    "sip_test": ("SIP/RGB", "SIP/depth", "SIP/SIP.json"),
    "dsis_test": ("DSIS/RGB", "DSIS/depth", "DSIS/DSIS.json"),
}  # fmt: skip
"""Colour, depth and annotations of each set: calibnet specification, data sets."""


def write_published(root: Path, name: str) -> Path:
    rgb, depths, annotations = PUBLISHED[name]
    content = document(2)
    for entry in content["images"]:
        del entry["depth_file"]
        entry["file_name"] = f"COME_{entry['id']}.jpg"
        save(root / rgb / entry["file_name"], color(entry["id"]))
        save(root / depths / f"COME_{entry['id']}.png", (depth(entry["id"]) // 12).astype(np.uint8))
    path = root / annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def test_the_published_sets_are_known() -> None:
    assert {
        name: (layout.rgb, layout.depth, layout.annotations) for name, layout in LAYOUTS.items()
    } == PUBLISHED


@pytest.mark.parametrize("name", sorted(PUBLISHED))
# The published code replaces these words wherever they stand in the path.
@pytest.mark.parametrize("root", ["data", "RGB jpg imgs_right"])
def test_a_published_set_opens_by_name(tmp_path: Path, name: str, root: str) -> None:
    write_published(tmp_path / root, name)
    dataset = open_dataset(name, root=tmp_path / root)
    assert dataset.name == name
    assert dataset.image_ids == (1, 2)
    sample = dataset.load(1)
    assert sample.file_name == "COME_2.jpg"
    assert sample.masks.sum() == 30
    np.testing.assert_array_equal(sample.frame.depth_map, depth(2) // 12)


def test_the_root_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dsis_test: give the folder of the published sets"):
        open_dataset("dsis_test")


def test_a_missing_annotation_file_is_named_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"DSIS\.json: is not there; .* DSIS/RGB .* DSIS/depth"):
        open_dataset("dsis_test", root=tmp_path)


def test_missing_images_are_named(tmp_path: Path) -> None:
    write_published(tmp_path, "sip_test")
    (tmp_path / "SIP" / "depth" / "COME_1.png").unlink()
    (tmp_path / "SIP" / "RGB" / "COME_2.jpg").unlink()
    (tmp_path / "SIP" / "depth" / "COME_2.png").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset("sip_test", root=tmp_path)
    one, both = str(caught.value).splitlines()[1:]
    assert one.endswith("image 1: " + str(tmp_path / "SIP/depth/COME_1.png")
                        + " is not there; complete the download")  # fmt: skip
    assert "RGB/COME_2.jpg and " in both
    assert "depth/COME_2.png are not there" in both


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd"])
def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    write_published(tmp_path, "sip_test")
    path = tmp_path / "SIP" / "SIP.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="leaves the folder"):
        open_dataset("sip_test", root=tmp_path)
