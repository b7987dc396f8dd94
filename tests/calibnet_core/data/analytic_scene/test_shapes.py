from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.data.analytic_scene import Box, Cylinder, Material, Plane, Sphere
from calibnet_core.data.analytic_scene.shapes import value_noise

GREY = Material(color=(0.5, 0.5, 0.5))
SHAPES = {
    "sphere": Sphere(center=(0.1, 0.2, 0.3), radius=0.4, material=GREY),
    "box": Box(center=(0.1, 0.2, 0.3), half_extents=(0.4, 0.2, 0.3), yaw=0.7, material=GREY),
    "cylinder": Cylinder(center=(0.1, 0.2, 0.3), radius=0.3, half_height=0.5, material=GREY),
    "plane": Plane(point=(0.0, 0.0, -0.5), normal=(0.0, 0.6, 0.8), material=GREY),
}
coordinate = st.floats(-3, 3, allow_nan=False)
vector = st.tuples(coordinate, coordinate, coordinate)


def column(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_a_ray_meets_the_near_side_of_a_sphere() -> None:
    sphere = Sphere(center=(0.0, 0.0, 5.0), radius=2.0, material=GREY)
    origins = column((0.0, 0.0, 0.0))
    directions = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.3, 1.0], [0.0, 3.0, 1.0]]).T
    t = sphere.intersect(origins, directions)
    # |t d - c| = r with d = (0, 0.3, 1): 1.09 t^2 - 10 t + 21 = 0
    oblique = (10 - math.sqrt(100 - 4 * 1.09 * 21)) / (2 * 1.09)
    np.testing.assert_allclose(t, [3.0, np.inf, oblique, np.inf])


def test_from_inside_a_ray_meets_the_far_side() -> None:
    for name, expected in (("sphere", 0.4), ("box", 0.3), ("cylinder", 0.5)):
        shape = SHAPES[name]
        t = shape.intersect(column((0.1, 0.2, 0.3)), column((0.0, 0.0, 1.0)))
        assert t[0] == pytest.approx(expected), name


def test_a_ray_meets_the_front_face_of_a_turned_box() -> None:
    box = Box(center=(0.0, 5.0, 0.0), half_extents=(1.0, 1.0, 1.0), yaw=math.pi / 4, material=GREY)
    origins = column((0.0, 0.0, 0.0))
    # The edge points at the origin; 0.2 beside it the face lies 0.2 farther away.
    directions = np.array([[0.0, 1.0, 0.0], [0.2 / 3.786, 1.0, 0.0]]).T
    t = box.intersect(origins, directions)
    assert t[0] == pytest.approx(5 - math.sqrt(2))
    assert t[1] == pytest.approx(5 - math.sqrt(2) + 0.2, abs=1e-3)


def test_a_ray_along_a_face_or_an_axis_is_well_defined() -> None:
    box = Box(center=(0.0, 5.0, 0.0), half_extents=(1.0, 1.0, 1.0), material=GREY)
    along_face = box.intersect(column((1.0, 0.0, 0.0)), column((0.0, 1.0, 0.0)))
    beside = box.intersect(column((1.0001, 0.0, 0.0)), column((0.0, 1.0, 0.0)))
    assert along_face[0] == 4.0
    assert beside[0] == np.inf
    can = Cylinder(center=(0.0, 0.0, 5.0), radius=1.0, half_height=1.0, material=GREY)
    assert can.intersect(column((0.5, 0.0, 0.0)), column((0.0, 0.0, 1.0)))[0] == 4.0
    assert can.intersect(column((1.5, 0.0, 0.0)), column((0.0, 0.0, 1.0)))[0] == np.inf
    assert can.intersect(column((0.0, -3.0, 5.0)), column((0.0, 1.0, 0.0)))[0] == 2.0


def test_a_ray_that_is_all_but_along_a_face_never_meets_it() -> None:
    box = Box(center=(0.0, 0.0, 0.0), half_extents=(1.0, 1.0, 1.0), material=GREY)
    outside = box.intersect(column((0.0, 0.0, 3.0)), column((0.0, 1.0, -1e-311)))
    assert outside[0] == np.inf


def test_a_plane_is_seen_from_its_front_only() -> None:
    floor = Plane(point=(0.0, 0.0, 1.0), normal=(0.0, 0.0, 1.0), material=GREY)
    assert floor.intersect(column((0.0, 0.0, 3.0)), column((0.5, 0.0, -1.0)))[0] == 2.0
    assert floor.intersect(column((0.0, 0.0, 3.0)), column((0.0, 0.0, 1.0)))[0] == np.inf
    assert floor.intersect(column((0.0, 0.0, -3.0)), column((0.0, 0.0, 1.0)))[0] == np.inf
    assert floor.intersect(column((0.0, 0.0, 3.0)), column((1.0, 0.0, 0.0)))[0] == np.inf


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(SHAPES)), origin=vector, target=vector)
def test_a_hit_lies_on_the_surface_with_its_normal_toward_an_eye_outside(
    name: str, origin: tuple[float, ...], target: tuple[float, ...]
) -> None:
    shape = SHAPES[name]
    origins, directions = column(origin), column(target) - column(origin)
    if np.linalg.norm(directions) < 1e-3:
        return
    t = shape.intersect(origins, directions)
    assert t[0] > 0
    if not np.isfinite(t[0]):
        return
    point = origins + t * directions
    x, y, z = shape.local(point)[:, 0]
    distance = {
        "sphere": lambda: math.hypot(x, y, z) - 0.4,
        "box": lambda: max(abs(x) - 0.4, abs(y) - 0.2, abs(z) - 0.3),
        "cylinder": lambda: max(math.hypot(x, y) - 0.3, abs(z) - 0.5),
        "plane": lambda: 0.6 * y + 0.8 * z,
    }[name]()
    assert distance == pytest.approx(0.0, abs=1e-6)
    normal = shape.normals(point)
    assert np.linalg.norm(normal) == pytest.approx(1.0, abs=1e-5)
    # Before the hit the ray is outside, unless it started inside a body.
    halfway = shape.intersect(point - 1e-4 * normal, -normal)
    if name != "plane":
        assert np.isfinite(halfway[0])


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(["sphere", "box", "cylinder"]), origin=vector, target=vector)
def test_bounds_hold_every_hit(
    name: str, origin: tuple[float, ...], target: tuple[float, ...]
) -> None:
    shape = SHAPES[name]
    center, radius = shape.bounds()
    directions = column(target) - column(origin)
    if np.linalg.norm(directions) < 1e-3:
        return
    t = shape.intersect(column(origin), directions)
    if np.isfinite(t[0]):
        point = (column(origin) + t * directions)[:, 0]
        assert np.linalg.norm(point - center) <= radius + 1e-6


@pytest.mark.parametrize("pattern", ["plain", "checker", "stripes", "segments", "mottled", "wood"])
def test_every_pattern_mixes_its_two_colours(pattern: str) -> None:
    material = Material(color=(0.0, 0.2, 0.4), second_color=(1.0, 0.8, 0.4), pattern=pattern)
    points = np.random.default_rng(0).uniform(-1, 1, (3, 2000))
    albedo = material.albedo(points)
    assert albedo.shape == (3, 2000)
    assert albedo.min() >= 0.0
    assert albedo.max() <= 1.0
    np.testing.assert_allclose(albedo[2], 0.4)
    np.testing.assert_allclose(albedo[1], 0.2 + 0.6 * albedo[0])
    assert (albedo[0].std() > 0.1) == (pattern != "plain")


def test_the_faces_of_a_box_do_not_lie_on_checker_borders() -> None:
    material = Material(color=(0, 0, 0), pattern="checker", scale_m=0.05)
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 500))
    points[2] = 0.1
    nudged = points + np.array([[0], [0], [1e-12]])
    np.testing.assert_array_equal(material.albedo(points), material.albedo(nudged))


@settings(max_examples=50, deadline=None)
@given(point=vector)
def test_noise_is_continuous_and_bounded(point: tuple[float, ...]) -> None:
    first, second = value_noise(column(point)), value_noise(column(point) + 1e-6)
    assert 0.0 <= first[0] < 1.0
    assert first[0] == pytest.approx(second[0], abs=1e-4)
