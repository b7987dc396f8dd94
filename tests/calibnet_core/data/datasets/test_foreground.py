from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibnet_core.data.datasets.foreground import load_foreground, load_values
from calibnet_core.structures import FrameError
from tests.calibnet_core.data.datasets.folders import color, save

SHAPE = np.array([[0, 0, 1], [0, 1, 1]], np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [SHAPE, SHAPE * 255, SHAPE * 38, SHAPE.astype(bool), SHAPE.astype(np.uint16) * 40_000,
     np.dstack([SHAPE * 255] * 3), np.dstack([SHAPE * 255] * 3 + [np.full_like(SHAPE, 9)]),
     np.dstack([SHAPE * 255, np.full_like(SHAPE, 9)])],
)  # fmt: skip
def test_any_two_values_read_alike(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(load_foreground(path, (2, 3)), SHAPE.astype(bool))


def test_smoothed_edges_are_cut_in_the_middle(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 120, 127, 128, 255]], np.uint8))
    expected = [[False, False, False, True, True]]
    np.testing.assert_array_equal(load_foreground(path, (1, 5)), expected)


def test_a_label_image_is_a_region(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 1, 2, 3, 90]], np.uint8))
    assert load_foreground(path, (1, 5)).tolist() == [[False, True, True, True, True]]


def test_black_means_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((2, 3), np.uint8))
    assert not load_foreground(path, (2, 3)).any()


def test_of_a_palette_the_indices_count(tmp_path: Path) -> None:
    image = Image.fromarray(SHAPE * 2)
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_values(tmp_path / "a.png", (2, 3)), SHAPE * 2)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", SHAPE.astype(np.uint16) * 1001)
    assert load_values(path, (2, 3)).max() == 1001


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (color(0, (2, 3)), r"a\.png: is a coloured picture"),
        (np.zeros((3, 2), np.uint8), r"a\.png: is 2x3, the image 3x2 \(width x height\)"),
        (b"no picture", r"a\.png: is no readable image"),
        (None, r"a\.png: there is no such file"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, content: object, words: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.png").write_bytes(content)
    elif content is not None:
        save(tmp_path / "a.png", content)
    with pytest.raises(FrameError, match=words):
        load_foreground(tmp_path / "a.png", (2, 3))


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FrameError, match="holds float32 values"):
        load_values(tmp_path / "a.tif", (2, 3))
