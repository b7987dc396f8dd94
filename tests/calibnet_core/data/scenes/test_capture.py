from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.scenes.capture import capture_scene
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.sampling import (
    SceneSettings,
    sample_scene,
)

SMALL = SceneSettings(size=(60, 80))


def test_a_picture_follows_from_its_seed_and_number() -> None:
    first, again, other = (capture_scene(*place, SMALL) for place in ((3, 5), (3, 5), (3, 6)))
    np.testing.assert_array_equal(first.frame.rgb, again.frame.rgb)
    np.testing.assert_array_equal(first.frame.depth_m, again.frame.depth_m)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.frame.rgb != other.frame.rgb).any()


@pytest.mark.parametrize("index", range(12))
def test_a_picture_shows_things_whose_exact_depth_is_known(index: int) -> None:
    capture = capture_scene(11, index, SMALL)
    assert capture.frame.size == capture.labels.shape == SMALL.size
    assert capture.frame.intrinsics is not None
    assert np.isfinite(capture.depth_m[capture.labels > 0]).all()
    measured = capture.frame.depth_m
    assert np.isfinite(measured).mean() > 0.1
    error = np.abs(measured - capture.depth_m)
    assert np.nanmedian(error / capture.depth_m) < 0.03


@pytest.mark.parametrize("seed", range(8))
def test_things_rest_on_what_carries_them_and_the_rest_is_gone(seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), SMALL)
    _, positions = scene.world.poses()
    height = scene.room.support.center[2]
    for entry, position in zip(scene.world.placed, positions, strict=True):
        if entry.label:
            stands = height - 0.06 < position[2] < height + 1.0
            assert stands or position[2] < -100.0


def test_scenes_are_of_every_kind() -> None:
    kinds = {
        sample_scene(np.random.default_rng(seed), SceneSettings(num_things=(1, 1))).room.kind
        for seed in range(40)
    }
    assert kinds == {"table", "counter", "shelf", "floor"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": (8, 80)}, "size is .8, 80.; choose 16 to 4096"),
        ({"size": (60, 8000)}, "choose 16 to 4096"),
        ({"num_things": (0, 4)}, "num_things is .0, 4.; choose"),
        ({"num_things": (5, 4)}, "choose"),
    ],
)
def test_a_setting_out_of_range_is_named(values: dict, words: str) -> None:
    with pytest.raises(SceneError, match=words):
        SceneSettings(**values)
