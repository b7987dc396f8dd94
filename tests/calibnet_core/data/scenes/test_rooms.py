from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data.scenes.parts import Material
from calibnet_core.data.scenes.rooms import Support, sample_room
from calibnet_core.data.scenes.surfaces.materials import OBJECT_PURPOSES, ROOM_PURPOSES
from calibnet_core.data.scenes.world import World

KINDS = ("table", "counter", "shelf", "floor")


def gray(rng: np.random.Generator, purpose: str) -> Material:
    return Material(texture=np.full((2, 2, 3), 128, np.uint8))


@pytest.mark.parametrize("seed", range(16))
def test_whatever_the_room_there_is_a_surface_to_stand_on_and_free_space_above(seed: int) -> None:
    room = sample_room(np.random.default_rng(seed), gray)
    assert room.kind in KINDS
    assert all(entry.label == 0 for entry in room.placed)
    support, world = room.support, World(room.placed)
    rng = np.random.default_rng(seed)
    places = np.zeros((50, 3))
    places[:, :2] = rng.uniform(-0.7, 0.7, (50, 2)) * support.half_size
    places[:, 2] = min(support.headroom, 0.25)
    down = np.array([[0.0, 0.0, -1.0]], np.float32)
    for place in support.to_world(places):
        hits = world.cast(place, down)
        name = room.placed[_owner(room.placed, int(hits.part[0]))].thing.name
        assert name in (*room.carries, "floor")
        # A sheet is a few millimetres thick.
        assert place[2] - hits.distance[0] == pytest.approx(support.center[2], abs=0.006)


def _owner(placed, part: int) -> int:
    """Whose part it is."""
    ends = np.cumsum([len(entry.thing.parts) for entry in placed])
    return int(np.searchsorted(ends, part, side="right"))


def test_every_kind_of_room_comes() -> None:
    kinds = [sample_room(np.random.default_rng(seed), gray).kind for seed in range(60)]
    assert set(kinds) == set(KINDS)
    assert kinds.count("table") > 20


def test_only_what_is_near_throws_shadows() -> None:
    for seed in range(10):
        room = sample_room(np.random.default_rng(seed), gray)
        for entry in room.placed:
            is_near = entry.thing.name in room.carries and entry.thing.name != "floor"
            assert entry.throws_shadow == is_near, entry.thing.name


def test_rooms_ask_for_purposes_that_there_are() -> None:
    asked = set()

    def ask(rng: np.random.Generator, purpose: str) -> Material:
        asked.add(purpose)
        return gray(rng, purpose)

    for seed in range(60):
        sample_room(np.random.default_rng(seed), ask)
    assert asked <= {*OBJECT_PURPOSES, *ROOM_PURPOSES}
    assert asked >= {"floor", "wall", "table_top", "table_leg", "shelf", "cabinet", "cushion"}


def test_a_support_turns_its_places_with_it() -> None:
    support = Support(center=np.array([1.0, 2.0, 0.5]), yaw=math.pi / 2, half_size=(0.5, 0.3))
    found = support.to_world(np.array([[0.4, 0.0, 0.1]]))
    np.testing.assert_allclose(found, [[1.0, 2.4, 0.6]])
