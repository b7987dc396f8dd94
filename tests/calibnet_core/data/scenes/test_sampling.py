from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.rendering import ray_directions
from calibnet_core.data.scenes.rooms import Support
from calibnet_core.data.scenes.sampling import (
    SceneSettings,
    drop,
    sample_camera,
    sample_lighting,
    sample_scene,
)
from calibnet_core.data.scenes.surfaces.materials import make_material
from calibnet_core.data.scenes.things import bounds, sample_thing

SMALL = SceneSettings(size=(48, 64))
TABLE = Support(center=np.array([0.0, 0.0, 0.7]), yaw=0.3, half_size=(0.5, 0.4), headroom=0.6)


def box_of(entry, support: Support):
    """(2, 3) outline of a thing in the frame of its support."""
    low, high = bounds(entry.thing)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    world = (low + corners * (high - low)) @ entry.rotation.T + entry.position
    turn = np.array(
        [
            [np.cos(support.yaw), -np.sin(support.yaw), 0],
            [np.sin(support.yaw), np.cos(support.yaw), 0],
            [0, 0, 1],
        ]
    )
    local = (world - support.center) @ turn
    return local.min(axis=0), local.max(axis=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 14))
def test_things_are_dropped_from_free_places_above_the_support(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    things = [sample_thing(rng, make_material) for _ in range(count)]
    placed = drop(things, TABLE, rng)
    boxes = [box_of(entry, TABLE) for entry in placed]
    for index, (low, high) in enumerate(boxes):
        assert low[2] > 0.0
        assert high[2] <= TABLE.headroom + 1e-9
        middle = (low + high)[:2] / 2
        assert (np.abs(middle) <= np.array(TABLE.half_size) + 1e-9).all()
        for other_low, other_high in boxes[:index]:
            assert (low >= other_high - 1e-9).any() or (high <= other_low + 1e-9).any()
    labels = [entry.label for entry in placed]
    assert labels == sorted(set(labels))
    assert set(labels) <= set(range(1, count + 1))


def test_the_number_of_things_keeps_to_its_limits() -> None:
    chosen = SceneSettings(num_things=(2, 3))
    counts = {len(sample_scene(np.random.default_rng(seed), chosen).names) for seed in range(12)}
    assert counts == {2, 3}


@pytest.mark.parametrize("seed", range(8))
def test_a_camera_sees_a_thing_and_stands_free(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, SMALL)
    camera = sample_camera(scene, rng, SMALL)
    rows, columns = (grid.ravel() for grid in np.mgrid[:48:2, :64:2])
    hits = scene.world.cast(camera.position, ray_directions(camera, rows, columns))
    assert scene.world.labels[hits.part[hits.part >= 0]].any()
    assert hits.distance.min() > 0.15


def test_an_empty_scene_has_no_camera() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(rng, SMALL)
    labelled = [index for index, entry in enumerate(scene.world.placed) if entry.label]
    scene.world.take_away(labelled)
    with pytest.raises(SceneError, match="take another seed"):
        sample_camera(scene, rng, SMALL)


def test_one_lamp_throws_shadows_and_all_light_is_finite() -> None:
    for seed in range(20):
        lighting = sample_lighting(np.random.default_rng(seed), TABLE)
        assert [lamp.casts_shadows for lamp in lighting.lamps].count(True) == 1
        for color in (lighting.sky, lighting.ground, *(lamp.color for lamp in lighting.lamps)):
            assert np.isfinite(color).all()
            assert (color >= 0).all()
        assert all(lamp.position[2] > TABLE.center[2] for lamp in lighting.lamps)
