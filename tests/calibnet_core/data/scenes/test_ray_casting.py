from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("embreex", reason="embreex is not installed")

from calibnet_core.data.scenes.parts import Box, Capsule, Cylinder, Ellipsoid, Solid
from calibnet_core.data.scenes.ray_casting import RayCaster, corner_normals, triangles_of
from calibnet_core.data.scenes.things.meshes import volume

BALL = Ellipsoid(radii=(0.5, 0.5, 0.5))


def caster(*solids: Solid, apart_m: float = 2.0, shadows: tuple[bool, ...] = ()) -> RayCaster:
    """Solids side by side along x."""
    positions = np.array([[index * apart_m, 0.0, 0.0] for index in range(len(solids))])
    rotations = np.tile(np.eye(3), (len(solids), 1, 1))
    return RayCaster(solids, rotations, positions, np.array(shadows or [True] * len(solids), bool))


@pytest.mark.parametrize(
    ("solid", "expected"),
    [
        (Box(size=(0.3, 0.2, 0.1)), 0.006),
        (Cylinder(radius=0.1, height=0.3), math.pi * 0.003),
        (Capsule(radius=0.1, length=0.3), math.pi * (0.003 + 4 / 3 * 0.001)),
        (Ellipsoid(radii=(0.1, 0.2, 0.3)), 4 / 3 * math.pi * 0.006),
    ],
)
def test_the_triangles_of_a_solid_enclose_its_volume(solid: Solid, expected: float) -> None:
    found = volume(triangles_of(solid))
    assert 0.97 * expected < found <= expected * (1 + 1e-9)
    if isinstance(solid, Box):
        assert found == pytest.approx(expected)


def test_rays_meet_the_first_solid_and_tell_which() -> None:
    rays = np.array([[0, 0, -2], [2, 0, -3], [0, 1, 0]], np.float32)
    hits = caster(BALL, Box(size=(1, 1, 1))).cast(np.array([0.0, 0.0, 3.0]), rays)
    np.testing.assert_array_equal(hits.part, [0, 1, -1])
    np.testing.assert_allclose(hits.distance, [1.25, 2.5 / 3, np.inf], rtol=1e-5)
    np.testing.assert_allclose(hits.normal, [[0, 0, 1], [0, 0, 1], [0, 0, 0]], atol=1e-3)


def test_normals_point_against_the_ray_also_from_inside() -> None:
    hits = caster(BALL).cast(np.zeros(3), np.array([[0.0, 0.0, 1.0]], np.float32))
    np.testing.assert_allclose(hits.normal[0], [0, 0, -1], atol=1e-3)


def test_round_surfaces_have_the_normals_of_their_curve() -> None:
    rng = np.random.default_rng(0)
    rays = np.stack([*rng.uniform(-0.18, 0.18, (2, 500)), np.full(500, -1.0)], 1).astype(np.float32)
    hits = caster(BALL).cast(np.array([0.0, 0.0, 2.0]), rays)
    assert (hits.part == 0).all()
    points = np.array([0.0, 0.0, 2.0]) + rays * hits.distance[:, None]
    expected = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosines = np.einsum("ij,ij->i", hits.normal, expected)
    # A facet bends by eleven degrees, so that flat normals would miss by up to five and a half.
    assert np.degrees(np.arccos(cosines.clip(-1, 1))).max() < 1.5


def test_edges_stay_sharp_where_surfaces_bend_by_much() -> None:
    mesh = triangles_of(Cylinder(radius=0.1, height=0.3))
    normals = corner_normals(mesh.vertices.astype(np.float32), mesh.faces)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    is_side = np.abs(normals[..., 2]) < 0.5
    np.testing.assert_allclose(normals[..., 2][is_side], 0.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(normals[..., 2][~is_side]), 1.0, atol=1e-6)
    corners = mesh.vertices[mesh.faces][is_side]
    radial = corners[:, :2] / np.linalg.norm(corners[:, :2], axis=1, keepdims=True)
    cosines = np.einsum("ij,ij->i", radial, normals[is_side][:, :2])
    assert np.degrees(np.arccos(cosines.clip(-1, 1))).max() < 6.0


def test_a_beam_is_shadowed_by_what_stands_in_it_and_not_by_its_own_end() -> None:
    lamp = np.array([0.0, 0.0, 4.0])
    beams = np.array([[0, 0, -3.5], [0, 0, -4.5], [2, 0, -3.5], [2, 0, -4.5]], np.float32)
    both = caster(BALL, BALL).shadowed(lamp, beams)
    np.testing.assert_array_equal(both, [False, True, False, True])
    one = caster(BALL, BALL, shadows=(True, False)).shadowed(lamp, beams)
    np.testing.assert_array_equal(one, [False, True, False, False])
    assert not caster(BALL, shadows=(False,)).shadowed(lamp, beams).any()
