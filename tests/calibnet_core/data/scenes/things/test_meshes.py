from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from calibnet_core.data.scenes.parts import Mesh
from calibnet_core.data.scenes.things.meshes import (
    convex_hull,
    filleted,
    lathe,
    loft,
    prism,
    rounded_box,
    scaled,
    superellipsoid,
    tube,
    volume,
)

L_SHAPE = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 2), (0, 2)]
CUP = [(0, 0), (2, 0), (2, 3), (1, 3), (1, 1), (0, 1)]
WASHER = [(1, 0), (2, 0), (2, 0.5), (1, 0.5)]
MESHES = {
    "cup": lathe(CUP, 12),
    "washer": lathe(WASHER, 12),
    "box": rounded_box((0.3, 0.2, 0.1), 0.02),
    "pill": rounded_box((0.3, 0.1, 0.1), 0.05, 3),
    "prism": prism(L_SHAPE, 0.5),
    "tube": tube([(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)], [0.2, 0.1, 0.1, 0.0]),
    "hull": convex_hull(np.random.default_rng(0).normal(size=(40, 3))),
    "pillow": superellipsoid((0.3, 0.2, 0.1), (0.4, 0.3)),
    "double cone": superellipsoid((0.3, 0.2, 0.1), (2.0, 2.0)),
}


def ring_share(segments: int) -> float:
    """Area of a regular polygon over its radius squared."""
    return segments / 2 * math.sin(2 * math.pi / segments)


def assert_closed(mesh: Mesh) -> None:
    starts = mesh.faces.reshape(-1)
    ends = np.roll(mesh.faces, -1, axis=1).reshape(-1)
    edges = list(zip(starts.tolist(), ends.tolist(), strict=True))
    assert len(set(edges)) == len(edges), "two faces run along an edge in the same direction"
    assert {(end, start) for start, end in edges} == set(edges), "an edge has one face only"


def assert_sound(mesh: Mesh) -> None:
    assert_closed(mesh)
    assert volume(mesh) > 0.0
    a, b, c = mesh.vertices[mesh.faces.T]
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    assert areas.min() > 1e-7 * areas.sum()
    assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.vertices)))
    assert mesh.vertices.dtype == np.float64
    assert mesh.faces.dtype == np.int32


@pytest.mark.parametrize("name", MESHES)
def test_a_mesh_is_closed_and_faces_outward_everywhere(name: str) -> None:
    assert_sound(MESHES[name])


@pytest.mark.parametrize("name", MESHES)
def test_a_mesh_has_few_faces(name: str) -> None:
    assert len(MESHES[name].faces) < 500


def test_the_volume_of_a_tetrahedron_is_a_sixth_of_its_cube() -> None:
    vertices = np.array([(0, 0, 0), (2, 0, 0), (0, 2, 0), (0, 0, 2)], float) + 7.0
    faces = np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)], np.int32)
    assert volume(Mesh(vertices=vertices, faces=faces)) == pytest.approx(8 / 6)
    assert volume(Mesh(vertices=vertices, faces=faces[:, ::-1])) == pytest.approx(-8 / 6)


def test_a_turned_vessel_holds_what_its_inside_leaves() -> None:
    # Outside of radius 2 and height 3, inside of radius 1 and depth 2.
    assert volume(lathe(CUP, 12)) == pytest.approx(ring_share(12) * (4 * 3 - 1 * 2))


def test_the_direction_of_a_profile_does_not_matter() -> None:
    assert volume(lathe(CUP[::-1], 12)) == pytest.approx(volume(lathe(CUP, 12)))
    assert volume(lathe(WASHER[::-1], 12)) == pytest.approx(volume(lathe(WASHER, 12)))


def test_a_turned_cone_is_a_third_of_its_cylinder() -> None:
    assert volume(lathe([(0, 0), (2, 0), (0, 3)], 16)) == pytest.approx(ring_share(16) * 4)


def test_a_profile_off_the_axis_makes_a_ring_with_a_hole() -> None:
    washer = lathe(WASHER, 20)
    assert volume(washer) == pytest.approx(ring_share(20) * (4 - 1) * 0.5)
    # Vertices less edges plus faces: 0 for a body with one hole, 2 for one without.
    assert len(washer.vertices) - len(washer.faces) / 2 == 0
    assert len(MESHES["cup"].vertices) - len(MESHES["cup"].faces) / 2 == 2


@pytest.mark.parametrize(
    ("profile", "word"),
    [
        ([(0, 0), (1, 0), (1, 1)], "both ends"),
        ([(0, 0), (1, 0), (0, 1), (1, 2), (0, 2)], "both ends"),
        ([(0, 0), (-1, 0), (0, 1)], "radii"),
        ([(0, 0), (0, 1)], "three points"),
    ],
)
def test_a_profile_that_encloses_nothing_is_refused(
    profile: list[tuple[float, float]], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        lathe(profile)


def test_a_box_with_sharp_edges_is_a_cuboid() -> None:
    box = rounded_box((3.0, 2.0, 1.0), 0.0)
    assert len(box.vertices) == 8
    assert len(box.faces) == 12
    assert volume(box) == pytest.approx(6.0)


def test_round_edges_keep_the_size_of_a_box_and_stay_within_its_corners() -> None:
    box = rounded_box((3.0, 2.0, 1.0), 0.2)
    np.testing.assert_allclose(np.ptp(box.vertices, axis=0), [3.0, 2.0, 1.0])
    beyond = np.maximum(np.abs(box.vertices) - np.array([1.3, 0.8, 0.3]), 0.0)
    np.testing.assert_allclose(np.linalg.norm(beyond, axis=1), 0.2)


def test_a_finely_rounded_box_has_the_volume_of_a_cuboid_grown_by_a_ball() -> None:
    a, b, c, r = 2.6, 1.6, 0.6, 0.2
    grown = a * b * c + 2 * r * (a * b + b * c + c * a)
    grown += math.pi * r**2 * (a + b + c) + 4 / 3 * math.pi * r**3
    assert volume(rounded_box((3.0, 2.0, 1.0), r, 16)) == pytest.approx(grown, rel=1e-3)


def test_a_radius_beyond_half_of_an_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="half of the shortest edge"):
        rounded_box((3.0, 2.0, 1.0), 0.51)


def test_a_prism_on_a_bent_outline_leaves_its_corner_empty() -> None:
    for outline in (L_SHAPE, L_SHAPE[::-1]):
        body = prism(outline, 0.5)
        assert volume(body) == pytest.approx(4 * 0.5)
        assert body.vertices[:, 2].min() == 0.0
        assert body.vertices[:, 2].max() == 0.5
    # No triangle of the top covers the point that the L leaves out.
    a, b, c = body.vertices[body.faces.T][..., :2]
    top = (body.vertices[body.faces][..., 2] == 0.5).all(axis=1)
    point = np.array([2.0, 1.5])
    sides = [np.cross(np.c_[e - s, 0 * s[:, :1]], np.c_[point - s, 0 * s[:, :1]])[:, 2]
             for s, e in ((a, b), (b, c), (c, a))]  # fmt: skip
    assert not (np.min(sides, axis=0)[top] > 0).any()


def test_an_outline_may_have_corners_in_the_middle_of_a_side() -> None:
    outline = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2), (1, 1), (0, 1)]
    body = prism(outline, 2.0)
    assert_sound(body)
    assert volume(body) == pytest.approx(8.0)


def test_the_shortest_cut_is_not_made_past_a_corner_in_the_middle_of_a_side() -> None:
    # Off the tip the cut would be 1 long, but leave three corners in a line.
    body = prism([(0, 0), (0.5, 0), (1, 0), (0.5, 10)], 1.0)
    assert_sound(body)
    assert volume(body) == pytest.approx(5.0)


def test_a_corner_is_not_cut_off_where_a_notch_reaches_into_it() -> None:
    notch = [(10, 9), (0.2, 0.2), (9, 10)]
    outline = np.array([(0, 0), (1, -0.1), (10, 0), *notch, (0, 10), (0, 1)])
    x, y = outline.T
    area = (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    body = prism(outline, 1.0)
    assert_sound(body)
    assert volume(body) == pytest.approx(area)


def test_an_outline_that_crosses_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="must not cross"):
        prism([(0, 0), (2, 2), (2, 0), (0, 2)], 1.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 24), st.integers(0, 2**32 - 1))
def test_a_prism_has_the_area_of_its_outline_times_its_height(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Seen from the origin the corners follow each other, whatever their distance.
    angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
    radii = rng.uniform(0.2, 1.0, count)
    outline = radii[:, None] * np.c_[np.cos(angles), np.sin(angles)]
    area = np.sum(radii * np.roll(radii, -1) * np.sin(np.roll(angles, -1) - angles)) / 2
    body = prism(outline, 0.3)
    assert_closed(body)
    assert volume(body) == pytest.approx(area * 0.3)


def test_a_straight_tube_is_a_rod() -> None:
    rod = tube([(0, 0, 0), (1, 2, 2)], 0.1, 10)
    assert volume(rod) == pytest.approx(ring_share(10) * 0.01 * 3)


def test_every_ring_of_a_bent_tube_lies_about_its_point_of_the_path() -> None:
    angles = np.linspace(0, 3, 12)
    path = np.c_[np.cos(angles), np.sin(angles), 0.2 * angles]
    radii = np.linspace(0.05, 0.1, 12)
    vertices = tube(path, radii).vertices
    distances = np.linalg.norm(vertices[:, None] - path, axis=2)
    nearest = distances.argmin(axis=1)
    np.testing.assert_array_equal(np.bincount(nearest), [8] * 12)
    np.testing.assert_allclose(distances.min(axis=1), radii[nearest])


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_a_hull_faces_away_from_every_point_within(count: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    hull = convex_hull(points)
    assert_closed(hull)
    assert volume(hull) == pytest.approx(ConvexHull(points).volume)
    a, b, c = hull.vertices[hull.faces.T]
    heights = np.einsum("fi,pfi->pf", np.cross(b - a, c - a), points[:, None] - a)
    assert heights.max() < 1e-9


def test_a_round_superellipsoid_is_an_ellipsoid() -> None:
    body = superellipsoid((3.0, 2.0, 1.0), (1.0, 1.0))
    np.testing.assert_allclose(np.linalg.norm(body.vertices / [3, 2, 1], axis=1), 1.0)
    assert volume(superellipsoid((3.0, 2.0, 1.0), (1.0, 1.0), 80)) == pytest.approx(
        4 / 3 * math.pi * 6, rel=5e-3
    )


def test_a_pointed_superellipsoid_is_an_octahedron() -> None:
    # |x| / 3 + |y| / 2 + |z| = 1
    assert volume(superellipsoid((3.0, 2.0, 1.0), (2.0, 2.0))) == pytest.approx(8.0)


@pytest.mark.parametrize("name", ["box", "pill", "hull", "pillow", "double cone"])
def test_a_convex_mesh_fills_its_hull(name: str) -> None:
    mesh = MESHES[name]
    assert volume(mesh) == pytest.approx(ConvexHull(mesh.vertices).volume, rel=1e-9)


def test_rings_that_shrink_to_fewer_corners_are_joined_without_flat_faces() -> None:
    square = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], float)
    tip = np.tile([0.5, 0.5, 3.0], (4, 1))
    pyramid = loft(np.stack([square, tip]))
    assert (len(pyramid.vertices), len(pyramid.faces)) == (5, 6)
    assert_sound(pyramid)
    assert volume(pyramid) == pytest.approx(1.0)


def test_stretching_stretches_the_volume() -> None:
    washer = scaled(MESHES["washer"], (1.0, 2.0, 3.0))
    assert volume(washer) == pytest.approx(6 * volume(MESHES["washer"]))
    assert volume(scaled(washer, 0.5)) == pytest.approx(volume(washer) / 8)


def test_a_fillet_replaces_a_corner_by_three_points() -> None:
    line = filleted([(0, 0), (1, 0), (1, 1)], 0.2)
    np.testing.assert_allclose(line, [(0, 0), (0.8, 0), (0.95, 0.05), (1, 0.2), (1, 1)])


def test_a_fillet_is_cut_short_where_the_sides_are_short() -> None:
    square = filleted([(0, 0), (1, 0), (1, 1), (0, 1)], 5.0, is_loop=True)
    assert square.shape == (12, 2)
    np.testing.assert_allclose(square[:3], [(0, 0.4), (0.1, 0.1), (0.4, 0)])
