from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from calibnet_core.data.scenes.parts import (
    Box,
    Capsule,
    Cylinder,
    Ellipsoid,
    Material,
    Mesh,
    Part,
    Solid,
    Thing,
)
from calibnet_core.data.scenes.things.families import FAMILIES, bounds, make_thing, sample_thing
from calibnet_core.data.scenes.things.making import Maker, disc, rod, turn
from calibnet_core.data.scenes.things.meshes import lathe, volume
from calibnet_core.data.scenes.things.vessels import vessel

PURPOSES = {
    "cardboard_print",
    "label",
    "plain_plastic",
    "ceramic",
    "metal",
    "wood",
    "fruit",
    "fabric",
    "foam",
    "paper",
    "rubber",
    "glass_like",
}
GREY = Material(texture=np.full((2, 2, 3), 128, np.uint8))
VESSELS = ("mug", "cup", "bowl", "plate", "pitcher", "pan", "glass")


def paint(rng: np.random.Generator, purpose: str) -> Material:
    assert purpose in PURPOSES
    return replace(GREY, gloss=float(rng.random()))


def examples(name: str, count: int = 12) -> list[Thing]:
    seed = zlib.crc32(name.encode())
    return [make_thing(name, np.random.default_rng([k, seed]), paint) for k in range(count)]


def surface_points(solid: Solid) -> np.ndarray:
    """(N, 3) points spread over a solid, from the definition of its surface."""
    u = np.repeat(np.linspace(0, np.pi, 91), 361)
    v = np.tile(np.linspace(0, 2 * np.pi, 361), 91)
    ball = np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], axis=1)
    circle = np.stack([np.cos(v), np.sin(v), 0 * v], axis=1)
    match solid:
        case Box():
            signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
            return signs * np.array(solid.size) / 2
        case Cylinder():
            top = np.array([0, 0, solid.height / 2])
            circle = circle[:361]
            return np.concatenate([solid.radius * circle + top, solid.radius * circle - top])
        case Capsule():
            top = np.array([0, 0, solid.length / 2])
            return np.concatenate([solid.radius * ball + top, solid.radius * ball - top])
        case Ellipsoid():
            return ball * solid.radii
    return solid.vertices


def digest(thing: Thing) -> list[object]:
    return [
        (part.solid if not isinstance(part.solid, Mesh) else part.solid.vertices.tobytes(),
         part.rotation.tobytes(), part.position.tobytes(), part.material.gloss)
        for part in thing.parts
    ]  # fmt: skip


def random_rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.linalg.det(q)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [
            Box(size=(0.3, 0.2, 0.1)),
            Cylinder(radius=0.1, height=0.5),
            Capsule(radius=0.1, length=0.4),
            Ellipsoid(radii=(0.3, 0.2, 0.1)),
            lathe([(0, 0), (0.2, 0), (0, 0.7)]),
        ]
    ),
    st.integers(0, 2**32 - 1),
)
def test_bounds_touch_the_surface_of_a_turned_solid(solid: Solid, seed: int) -> None:
    turned = random_rotation(seed)
    shift = np.array([1.0, -2.0, 3.0])
    part = Part(solid=solid, material=GREY, rotation=turned, position=shift)
    points = surface_points(solid) @ turned.T + shift
    expected = np.stack([points.min(axis=0), points.max(axis=0)])
    found = bounds(Thing(name="", parts=(part,)))
    # Points two degrees apart miss the outermost one by less than a part in a thousand.
    np.testing.assert_allclose(found, expected, atol=1.5e-4)
    assert (found[0] <= expected[0] + 1e-12).all()
    assert (found[1] >= expected[1] - 1e-12).all()


def test_bounds_cover_all_parts() -> None:
    parts = (disc(GREY, 0.1, 0.0, 0.2), rod(GREY, 0.01, np.zeros(3), np.array([0.5, 0.0, 0.0])))
    expected = [(-0.1, -0.1, -0.01), (0.5, 0.1, 0.2)]
    np.testing.assert_allclose(bounds(Thing(name="", parts=parts)), expected, atol=1e-12)


def test_turns_follow_the_right_hand() -> None:
    np.testing.assert_allclose(turn("x", 90) @ (0, 1, 0), (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(turn("y", 90) @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(turn("z", 90) @ (1, 0, 0), (0, 1, 0), atol=1e-12)


def test_a_rod_reaches_from_one_point_to_the_other() -> None:
    start, end = np.array([0.1, 0.2, 0.3]), np.array([0.4, -0.2, 0.1])
    part = rod(GREY, 0.01, start, end)
    assert isinstance(part.solid, Cylinder)
    ends = part.position + part.rotation @ np.array([0, 0, part.solid.height / 2])
    np.testing.assert_allclose(ends, end)
    assert np.linalg.det(part.rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(part.rotation @ part.rotation.T, np.eye(3), atol=1e-12)


def test_a_vessel_is_as_thick_as_its_wall() -> None:
    # A straight cup of radius 4 and height 10 with walls and floor of 1 holds 9 of radius 3.
    cup = vessel(np.array([(4.0, 0.0), (4.0, 10.0)]), 1.0, segments=30)
    share = 15 * np.sin(np.pi / 15)
    assert volume(cup) == pytest.approx(share * (16 * 10 - 9 * 9))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_thing_stands_on_the_ground_about_its_axis(name: str) -> None:
    for thing in examples(name):
        low, high = bounds(thing)
        assert thing.name == name
        assert low[2] == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose((low + high)[:2], 0.0, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_thing_has_the_size_of_what_a_hand_can_lift(name: str) -> None:
    for thing in examples(name):
        assert 0.035 < np.ptp(bounds(thing), axis=0).max() < 0.36


@pytest.mark.parametrize("name", FAMILIES)
def test_the_meshes_of_a_thing_are_closed_and_few_faced(name: str) -> None:
    for thing in examples(name):
        meshes = [part.solid for part in thing.parts if isinstance(part.solid, Mesh)]
        assert sum(len(mesh.faces) for mesh in meshes) < 1000
        for mesh in meshes:
            start, end = mesh.faces, np.roll(mesh.faces, -1, axis=1)
            there = np.sort((start * len(mesh.vertices) + end).ravel())
            back = np.sort((end * len(mesh.vertices) + start).ravel())
            np.testing.assert_array_equal(there, back)
            assert (np.diff(there) > 0).all()
            assert volume(mesh) > 0.0


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_are_placed_by_rotations(name: str) -> None:
    for thing in examples(name, 4):
        for part in thing.parts:
            np.testing.assert_allclose(part.rotation @ part.rotation.T, np.eye(3), atol=1e-9)
            assert np.linalg.det(part.rotation) == pytest.approx(1.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_thing_follows_from_its_seed_and_no_two_are_alike(name: str) -> None:
    first, again = examples(name, 3), examples(name, 3)
    assert [digest(thing) for thing in first] == [digest(thing) for thing in again]
    assert digest(first[0]) != digest(first[1])
    assert not np.array_equal(bounds(first[0]), bounds(first[1]))


@pytest.mark.parametrize("name", VESSELS)
def test_one_can_look_into_a_vessel(name: str) -> None:
    for thing in examples(name):
        body = thing.parts[0].solid
        assert isinstance(body, Mesh)
        # Near the axis the surface stays well below the rim.
        x, y, z = body.vertices.T
        rim = z.max()
        inside = np.hypot(x, y) < 0.3 * np.hypot(x, y).max()
        assert z[inside].max() < rim - 0.4 * (rim - z.min()) * (name != "glass")
        assert z[inside].max() < rim - 0.007


@pytest.mark.parametrize("name", ["mug", "cup", "bowl", "pitcher", "pan"])
def test_two_of_three_vessels_look_otherwise_inside(name: str) -> None:
    bodies = [thing.parts[0].material for thing in examples(name, 90)]
    lined = [body for body in bodies if body.lining is not None]
    assert 45 <= len(lined) <= 75
    dimmed = [body for body in lined if (body.lining.texture < body.texture).all()]  # type: ignore[union-attr]
    assert len(lined) / 3 <= len(dimmed) <= 2 * len(lined) / 3


@pytest.mark.parametrize("name", ["mug", "cup", "bowl", "pitcher"])
def test_a_filling_does_not_show_through_the_side(name: str) -> None:
    filled = 0
    for thing in examples(name, 40):
        body, last = thing.parts[0], thing.parts[-1]
        if not (isinstance(body.solid, Mesh) and isinstance(last.solid, Cylinder)):
            continue
        filled += 1
        hull = ConvexHull(body.solid.vertices + body.position)
        rim = surface_points(last.solid)[::7] + last.position
        assert (rim @ hull.equations[:, :3].T + hull.equations[:, 3]).max() < 0.0
    assert filled


def test_all_kinds_are_made_as_often_as_their_weights_say() -> None:
    rng = np.random.default_rng(0)
    number = 2500
    names = [sample_thing(rng, paint).name for _ in range(number)]
    total = sum(weight for _, weight in FAMILIES.values())
    for name, (_, weight) in FAMILIES.items():
        expected = number * weight / total
        assert abs(names.count(name) - expected) < 5 * expected**0.5, name


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="called 'teapot'"):
        make_thing("teapot", np.random.default_rng(0), paint)


def test_a_label_is_wrapped_once_and_as_high_as_its_part() -> None:
    make = Maker(rng=np.random.default_rng(0), make_material=paint)
    label = make.label_for(0.07)
    assert (label.projection, label.tile_m) == ("cylinder", 0.07)
