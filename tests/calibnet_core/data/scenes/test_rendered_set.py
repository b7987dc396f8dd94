from __future__ import annotations

import filecmp
import json

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.datasets import open_dataset
from calibnet_core.data.scenes.capture import capture_scene
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.rendered_set import render_set
from calibnet_core.data.scenes.sampling import SceneSettings

SMALL = SceneSettings(size=(48, 64))


def test_a_set_holds_the_pictures_of_its_series(tmp_path) -> None:
    seen = []
    render_set(
        tmp_path / "set", 3, seed=4, settings=SMALL, first=10, progress=lambda *at: seen.append(at)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    dataset = open_dataset(tmp_path / "set")
    assert len(dataset) == 3
    for place in range(3):
        sample, capture = dataset.load(place), capture_scene(4, 10 + place, SMALL)
        np.testing.assert_array_equal(sample.frame.rgb, capture.frame.rgb)
        np.testing.assert_allclose(sample.frame.depth_m, capture.frame.depth_m, atol=5.1e-4)
        assert sample.frame.intrinsics.fx == pytest.approx(capture.frame.intrinsics.fx)
        numbers = np.unique(capture.labels)[1:]
        np.testing.assert_array_equal(
            sample.masks, [capture.labels == number for number in numbers]
        )


def test_the_number_of_workers_changes_nothing(tmp_path) -> None:
    for workers in (1, 2):
        render_set(tmp_path / str(workers), 6, seed=0, settings=SMALL, workers=workers)
    for folder in ("imgs", "depths"):
        names = sorted(path.name for path in (tmp_path / "1" / folder).iterdir())
        assert len(names) == 6
        same, *others = filecmp.cmpfiles(
            tmp_path / "1" / folder, tmp_path / "2" / folder, names, shallow=False
        )
        assert (sorted(same), others) == (names, [[], []])
    one, two = (json.loads((tmp_path / n / "annotations.json").read_text()) for n in "12")
    assert one["annotations"] == two["annotations"]


@pytest.mark.parametrize(
    ("count", "options"), [(0, {}), (1, {"first": -1}), (1, {"seed": -1}), (1, {"workers": 0})]
)
def test_a_number_out_of_range_is_told_and_leaves_nothing(tmp_path, count, options) -> None:
    with pytest.raises(SceneError, match="choose at least one scene"):
        render_set(tmp_path / "set", count, **{"seed": 0, **options})
    assert not (tmp_path / "set").exists()


def test_an_existing_folder_is_never_touched(tmp_path) -> None:
    with pytest.raises(FileExistsError):
        render_set(tmp_path, 1, seed=0, settings=SMALL)
