from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.scenes.parts import Box, Ellipsoid, Material, Part, Solid, Thing
from calibnet_core.data.scenes.things.meshes import lathe
from calibnet_core.data.scenes.world import Placed, World

GRAY = Material(texture=np.full((2, 2, 3), 128, np.uint8))
DOWN = np.array([[0.0, 0.0, -1.0]])
FLOOR = Thing(
    name="floor",
    parts=(Part(solid=Box(size=(4.0, 4.0, 0.1)), material=GRAY, position=np.array([0, 0, -0.05])),),
)


def at(thing: Thing, *place: float, label: int = 0, turn: tuple[str, float] = ("z", 0.0)) -> Placed:
    rotation = Rotation.from_euler(turn[0], turn[1], degrees=True).as_matrix()
    return Placed(thing=thing, rotation=rotation, position=np.array(place, float), label=label)


def thing(*solids: Solid, apart_m: float = 0.0) -> Thing:
    """Solids side by side along x."""
    parts = [
        Part(solid=solid, material=GRAY, position=np.array([index * apart_m, 0.0, 0.0]))
        for index, solid in enumerate(solids)
    ]
    return Thing(name="thing", parts=tuple(parts))


def test_a_ray_meets_the_nearest_part_at_its_distance_with_its_normal() -> None:
    world = World([at(FLOOR, 0, 0, 0), at(thing(Box(size=(0.2, 0.2, 0.4))), 0, 0, 0.5)])
    rays = np.array([[0.0, 0.0, -1.0], [0.0, 0.6, -2.0], [0.0, 0.0, 1.0]])
    hits = world.cast(np.array([0.0, 0.0, 2.0]), rays)
    np.testing.assert_array_equal(hits.part, [1, 0, -1])
    np.testing.assert_allclose(hits.distance, [1.3, 1.0, np.inf])  # in lengths of the ray
    np.testing.assert_allclose(hits.normal[:2], [[0, 0, 1], [0, 0, 1]], atol=1e-9)


def test_a_part_stands_where_its_thing_and_its_place_in_it_say() -> None:
    pair = thing(Box(size=(0.1, 0.1, 0.1)), Ellipsoid(radii=(0.05, 0.05, 0.2)), apart_m=0.5)
    world = World([at(pair, 1.0, 0.0, 0.0, turn=("z", 90.0))])
    hits = world.cast(np.array([1.0, 0.5, 2.0]), DOWN)  # along x turns to along y
    assert hits.part[0] == 1
    assert hits.distance[0] == pytest.approx(1.8)
    rotations, positions = world.part_poses()
    np.testing.assert_allclose(positions, [[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]], atol=1e-9)
    np.testing.assert_allclose(rotations[1] @ [1, 0, 0], [0, 1, 0], atol=1e-9)


def test_a_bowl_is_seen_from_the_inside_and_in_its_own_frame() -> None:
    profile = np.array([[0.0, 0.0], [0.1, 0.0], [0.1, 0.2], [0.09, 0.2], [0.09, 0.02], [0.0, 0.02]])
    world = World([at(thing(lathe(profile, 24)), 0.3, 0.0, 1.0)])
    hits = world.cast(np.array([0.3, 0.0, 2.0]), np.array([[0.001, 0.002, -1.0]]))
    assert hits.distance[0] == pytest.approx(0.98, abs=1e-6)
    _, positions = world.part_poses()
    np.testing.assert_allclose(positions[0], [0.3, 0.0, 1.0], atol=1e-9)


def test_what_has_a_label_falls_and_comes_to_rest_and_the_room_stays() -> None:
    box = thing(Box(size=(0.2, 0.2, 0.2)))
    world = World([at(FLOOR, 0, 0, 0), at(box, 0, 0, 0.15, label=1), at(box, 1, 0, 1.0)])
    speeds = world.settle(1.0)
    _, positions = world.poses()
    assert positions[1][2] == pytest.approx(0.1, abs=0.003)
    np.testing.assert_array_equal(positions[2], [1.0, 0.0, 1.0])
    assert speeds.max() < 0.01
    np.testing.assert_array_equal(world.labels, [0, 1, 0])


def test_what_still_falls_tells_its_speed() -> None:
    world = World([at(thing(Box(size=(0.2, 0.2, 0.2))), 0, 0, 5.0, label=1)])
    assert 0.8 * 9.81 * 0.5 < world.settle(0.5)[0] < 9.81 * 0.5  # the air is thick


def test_a_fall_out_of_hand_leaves_no_log_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world = World([at(thing(Box(size=(0.2, 0.2, 0.2))), 0, 0, 1.0, label=1)])
    world._data.qvel[:] = 1e20
    world.settle(0.5)
    assert not list(tmp_path.iterdir())


def test_what_is_taken_away_is_met_by_no_ray_any_more() -> None:
    box = thing(Box(size=(0.2, 0.2, 0.2)))
    placed = [at(FLOOR, 0, 0, 0), at(box, 0, 0, 0.1, label=1), at(box, 1, 0, 0.1, label=2)]
    world = World(placed)
    world.take_away([1])
    hits = world.cast(np.array([0.0, 0.0, 2.0]), np.array([[0.0, 0.0, -1.0], [1.0, 0.0, -1.9]]))
    np.testing.assert_array_equal(world.labels[hits.part], [0, 2])


def test_the_world_is_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    placed = [at(FLOOR, 0, 0, 0)]
    for label in range(1, 9):
        solid = Box(size=tuple(rng.uniform(0.05, 0.2, 3)))
        place = (*rng.uniform(-0.1, 0.1, 2), 0.3 * label)
        placed.append(at(thing(solid), *place, label=label, turn=("x", rng.uniform(0, 90))))
    poses = []
    for _ in range(2):
        world = World(placed)
        world.settle(0.5)
        poses.append(world.poses())
    np.testing.assert_array_equal(poses[0][1], poses[1][1])
    assert math.isfinite(poses[0][1].sum())
