from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.bags import open_rgbd_bag, read_frames, read_labels
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.sampling import SceneSettings
from calibnet_core.data.scenes.video import render_video, write_video

SMALL = SceneSettings(size=(60, 80), num_things=(4, 4))


def test_a_film_shows_one_scene_from_a_camera_that_moves_steadily() -> None:
    captures = list(render_video(1, 0, 4, SMALL, rate=10.0))
    places = np.array([capture.camera.position for capture in captures])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert (steps > 1e-3).all()
    assert steps.max() < 0.2
    assert [capture.frame.stamp_ns for capture in captures] == [
        1_000_000_000 + k * 100_000_000 for k in range(4)
    ]
    for before, after in pairwise(captures):
        common = np.intersect1d(np.unique(before.labels), np.unique(after.labels))
        assert common.size > 1  # things keep their labels
        for label in common[1:]:
            # The same surface, seen from a little farther along.
            depths = [np.median(c.depth_m[c.labels == label]) for c in (before, after)]
            assert depths[0] == pytest.approx(depths[1], rel=0.15)


def test_a_film_becomes_a_recording_with_labels(tmp_path) -> None:
    captures = list(render_video(1, 0, 3, SMALL))
    assert write_video(tmp_path / "film", iter(captures)) == 3
    frames = list(read_frames(open_rgbd_bag(tmp_path / "film")))
    labels = dict(read_labels(tmp_path / "film"))
    for frame, capture in zip(frames, captures, strict=True):
        np.testing.assert_array_equal(frame.rgb, capture.frame.rgb)
        np.testing.assert_array_equal(labels[frame.stamp_ns], capture.labels)


@pytest.mark.parametrize(("count", "rate"), [(0, 15.0), (1, 0.0), (1, float("nan"))])
def test_a_film_of_nothing_is_refused(count: int, rate: float) -> None:
    with pytest.raises(SceneError, match="cannot film"):
        next(render_video(0, 0, count, SMALL, rate=rate))
