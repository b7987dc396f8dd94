from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.scenes.capture import Recorder, capture_scene
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.rendering import render
from calibnet_core.data.scenes.sampling import (
    SceneSettings,
    sample_camera,
    sample_scene,
)
from calibnet_core.data.scenes.sensors.color import ColorCamera
from calibnet_core.data.scenes.sensors.depth import DepthSensor

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
    # So many that some fall off.
    scene = sample_scene(np.random.default_rng(seed), SceneSettings(num_things=(16, 16)))
    _, positions = scene.world.poses()
    height = scene.room.support.center[2]
    for entry, position in zip(scene.world.placed, positions, strict=True):
        if entry.label:
            stands = height - 0.06 < position[2] < height + 1.0
            assert stands or position[2] < -100.0


@pytest.fixture(scope="module")
def table():
    """A scene on a table, its camera and what that sees."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, SMALL)
        camera = sample_camera(scene, rng, SMALL)
        view = render(scene.world, camera, scene.lighting)
        is_carried = np.array(
            [
                entry.label > 0 or entry.thing.name in scene.room.carries
                for entry in scene.world.placed
                for _ in entry.thing.parts
            ]
        )[view.parts] & (view.parts >= 0)
        if scene.room.kind == "table" and 0.2 < is_carried.mean() < 0.8:
            return scene, camera, view, is_carried
    raise AssertionError("no table with surroundings in view")


def record(table, **options):
    scene, camera, view, _ = table
    recorder = Recorder(color=ColorCamera(gain=1.0), **options)
    return recorder.capture(view, scene, camera, np.random.default_rng(0)).frame.depth_m


def test_depth_is_what_the_sensor_reports(table) -> None:
    *_, view, _ = table
    exact = record(table, depth=DepthSensor(kind="ideal"))
    np.testing.assert_allclose(exact, view.depth_m, atol=5.1e-4)
    blind = DepthSensor(kind="time_of_flight", range_m=(90.0, 91.0))
    assert np.isnan(record(table, depth=blind)).all()


def test_cut_depth_is_left_on_the_things_and_what_carries_them(table) -> None:
    *_, view, is_carried = table
    depth = record(table, depth=DepthSensor(kind="ideal"), is_cut=True)
    assert np.isfinite(depth[is_carried]).all()
    rim = cv2.dilate(is_carried.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert np.isnan(depth[~rim]).all()
    assert np.isfinite(view.depth_m[~rim]).any()


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
