from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibnet_core.data.datasets.faults import DatasetError
from calibnet_core.data.datasets.measures import GRID, ImageMeasures
from calibnet_core.data.datasets.statistics import SetStatistics
from calibnet_core.data.datasets.statistics_plots import draw_statistics

pytest.importorskip("matplotlib")

PICTURES = ["instance_counts.png", "instance_sizes.png", "center_bias.png", "consistency.png"]


def made_up(name: str, seed: int, num_images: int = 8) -> SetStatistics:
    rng = np.random.default_rng(seed)
    statistics = SetStatistics(name)
    statistics.has_regions = seed % 2 == 0
    for _ in range(num_images):
        number = int(rng.integers(0, 13))
        statistics.add(
            ImageMeasures(
                size=(480, 640),
                areas_px=rng.integers(1, 90_000, number),
                center_distances=rng.random(number),
                margin_distances=rng.random(number),
                coverage=rng.random((GRID, GRID)) * number,
                object_iou=float(rng.random()) if statistics.has_regions else None,
                depth_iou=float(rng.random()),
            )
        )
    return statistics


@pytest.mark.parametrize("number", [1, 2, 5])
def test_any_number_of_sets_is_drawn(tmp_path: Path, number: int) -> None:
    paths = draw_statistics([made_up(f"set {i}", i) for i in range(number)], tmp_path)
    assert [path.name for path in paths] == PICTURES
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.width >= 1000
            assert image.height >= 500
            # Not one colour: something is drawn.
            assert len(np.unique(np.asarray(image.convert("L")))) > 5


def test_sets_without_images_can_be_drawn(tmp_path: Path) -> None:
    assert len(draw_statistics([SetStatistics("empty"), made_up("full", 0)], tmp_path)) == 4


def test_the_same_figures_make_the_same_pictures(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        draw_statistics([made_up("desk", 3)], tmp_path / name)
    for name in PICTURES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DatasetError, match="pip install matplotlib"):
        draw_statistics([made_up("desk", 3)], tmp_path)
    assert list(tmp_path.iterdir()) == []
