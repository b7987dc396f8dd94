from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibnet_core.data.datasets.mask_folders import MaskFolder
from calibnet_core.structures import FrameError
from tests.calibnet_core.data.datasets.folders import save

LABELS = np.array([[0, 7, 7], [3, 3, 0]], np.uint8)


def test_a_label_image_has_a_mask_for_each_value(tmp_path: Path) -> None:
    path = save(tmp_path / "cup.png", LABELS)
    folder = MaskFolder(tmp_path)
    assert folder.names == {"cup"}
    three, seven = folder.load("cup", (2, 3))
    np.testing.assert_array_equal(three.mask, LABELS == 3)
    np.testing.assert_array_equal(seven.mask, LABELS == 7)
    assert (three.name, seven.name) == (f"{path}, value 3", f"{path}, value 7")


def test_a_folder_has_a_mask_for_each_file(tmp_path: Path) -> None:
    paths = [save(tmp_path / "cup" / f"{v}.png", (v == LABELS) * np.uint8(255)) for v in (3, 7)]
    three, seven = MaskFolder(tmp_path).load("cup", (2, 3))
    np.testing.assert_array_equal(three.mask, LABELS == 3)
    np.testing.assert_array_equal(seven.mask, LABELS == 7)
    assert [three.name, seven.name] == [str(path) for path in paths]


def test_nothing_seen_is_an_answer(tmp_path: Path) -> None:
    save(tmp_path / "cup.png", LABELS * 0)
    (tmp_path / "plate").mkdir()
    folder = MaskFolder(tmp_path)
    assert folder.names == {"cup", "plate"}
    assert folder.load("cup", (2, 3)) == folder.load("plate", (2, 3)) == []


def test_both_forms_for_one_image_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "cup.png", LABELS)
    (tmp_path / "cup").mkdir()
    with pytest.raises(FrameError, match="cup has a label image and a folder of masks"):
        MaskFolder(tmp_path)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="none: is no folder"):
        MaskFolder(tmp_path / "none")


def test_a_photograph_is_no_label_image(tmp_path: Path) -> None:
    save(tmp_path / "cup.png", np.arange(1600, dtype=np.uint16).reshape(40, 40))
    with pytest.raises(FrameError, match="holds 1599 values; a label image has one"):
        MaskFolder(tmp_path).load("cup", (40, 40))


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "cup.png", LABELS)
    with pytest.raises(FrameError, match="is 3x2, the image 5x4"):
        MaskFolder(tmp_path).load("cup", (4, 5))
