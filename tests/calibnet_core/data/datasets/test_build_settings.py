from __future__ import annotations

from pathlib import Path

import pytest

from calibnet_core.data.datasets.build_settings import BuildSettings
from calibnet_core.data.datasets.faults import DatasetError


def settings(**changes) -> BuildSettings:
    return BuildSettings(
        **{"images": Path("rgb"), "depth": Path("depth"), "masks": (Path("anna"),)} | changes
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masks": ()}, "at least one folder of masks"),
        ({"masks": (Path("anna"), Path("rgb/../anna"))}, "given twice"),
        ({"min_iou": 0.0}, "min_iou is 0.0"),
        ({"min_iou": 1.1}, "min_iou is 1.1"),
        ({"min_iou": float("nan")}, "min_iou is nan"),
        ({"min_inside": -0.1}, "min_inside is -0.1"),
        ({"depth_scale_m": 0.0}, "depth_scale_m is 0.0"),
        ({"depth_scale_m": float("inf")}, "depth_scale_m is inf"),
        ({"scene_pattern": "("}, "is no regular expression"),
    ],
)
def test_rules_out_of_range_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        settings(**changes)


@pytest.mark.parametrize(
    ("pattern", "scene"),
    [
        (None, "kitchen_0012"),
        ("^(.*)_[0-9]+$", "kitchen"),
        ("^[a-z]+", "kitchen"),
        ("^(hall)_", "kitchen_0012"),
        ("^(hall)?", "kitchen_0012"),
    ],
)
def test_scenes_come_from_names(pattern: str | None, scene: str) -> None:
    assert settings(scene_pattern=pattern).scene("kitchen_0012") == scene
