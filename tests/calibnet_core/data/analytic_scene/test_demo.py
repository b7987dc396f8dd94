from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from calibnet_core.data.analytic_scene import (
    Box,
    add_sensor_faults,
    demo_scene,
    render_sequence,
)
from calibnet_core.structures import FrameError

SMALL = (96, 128)


def test_the_same_seed_gives_the_same_pictures() -> None:
    for first, second in zip(
        render_sequence(2, SMALL, seed=5), render_sequence(2, SMALL, seed=5), strict=True
    ):
        np.testing.assert_array_equal(first.rgb, second.rgb)
        np.testing.assert_array_equal(first.depth_m, second.depth_m)
        np.testing.assert_array_equal(first.label, second.label)
    other = next(render_sequence(1, SMALL, seed=6))
    assert (other.label != first.label).any()


@pytest.mark.parametrize("seed", range(12))
def test_every_scene_shows_several_objects_that_stand_on_the_table_and_apart(seed: int) -> None:
    scene = demo_scene(seed)
    assert 4 <= len(scene.objects) <= 8
    for index, thing in enumerate(scene.objects):
        height = thing.half_extents[2] if isinstance(thing, Box) else None
        height = height or getattr(thing, "half_height", None) or thing.radius
        assert thing.center[2] - height == pytest.approx(0.72)
        for other in scene.objects[:index]:
            distance = np.hypot(*(np.array(thing.center[:2]) - other.center[:2]))
            widths = [
                np.hypot(*shape.half_extents[:2]) if isinstance(shape, Box) else shape.radius
                for shape in (thing, other)
            ]
            assert distance > sum(widths)
    frame = next(render_sequence(1, SMALL, seed=seed))
    areas = np.bincount(frame.label.ravel())
    assert frame.label.max() == len(scene.objects)
    assert (areas[1:] > 0).sum() >= 3
    assert np.isfinite(frame.depth_m).all()
    assert frame.depth_m[frame.label > 0].min() > 0.6


def test_the_camera_moves_slowly() -> None:
    frames = list(render_sequence(4, SMALL))
    steps = [
        float(np.linalg.norm(b.camera.position - a.camera.position)) for a, b in pairwise(frames)
    ]
    assert all(0.001 < step < 0.03 for step in steps)
    overlap = (frames[0].label == frames[1].label).mean()
    assert 0.97 < overlap < 1.0


def test_a_full_frame_takes_well_under_two_seconds_of_processor_time() -> None:
    started = time.process_time()
    frame = next(render_sequence(1))
    assert frame.rgb.shape == (480, 640, 3)
    assert time.process_time() - started < 2.0


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(FrameError, match="choose 1 or more"):
        next(render_sequence(0))
    with pytest.raises(FrameError, match="choose 1 or more"):
        next(render_sequence(1, (0, 5)))


def test_sensor_faults_are_holes_behind_edges_and_whole_millimetres() -> None:
    depth_m = np.full((20, 30), 1.00049, np.float32)
    depth_m[:, 15:] = 2.0
    faulty = add_sensor_faults(depth_m, seed=0)
    assert faulty.dtype == np.float32
    holes = np.isnan(faulty)
    assert holes[:, 15:17].all()
    assert holes[:, :15].mean() < 0.05
    assert holes[:, 17:].mean() < 0.05
    np.testing.assert_allclose(faulty[:, :15][~holes[:, :15]], 1.0, atol=1e-6)
    np.testing.assert_array_equal(faulty, add_sensor_faults(depth_m, seed=0))


def test_sensor_faults_keep_what_was_not_measured_and_leave_borders_alone() -> None:
    depth_m = np.full((10, 10), 1.0, np.float32)
    depth_m[0], depth_m[5, 5] = 3.0, np.nan
    faulty = add_sensor_faults(depth_m, seed=1)
    assert np.isnan(faulty[5, 5])
    # The far rows at the top have no neighbour beyond the border to be hidden by.
    assert np.isnan(faulty[9]).sum() <= 1
