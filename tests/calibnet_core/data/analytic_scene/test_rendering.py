from __future__ import annotations

import math

import numpy as np
import pytest

from calibnet_core.data.analytic_scene import (
    Box,
    Camera,
    Cylinder,
    Material,
    Plane,
    Scene,
    Sphere,
    demo_scene,
    render,
)
from calibnet_core.structures import RgbdFrame

GREY = Material(color=(0.5, 0.5, 0.5))
SIZE = (60, 80)


def look_down() -> Camera:
    """3 m above the floor, looking almost straight down."""
    return Camera.looking_at((0.0, 0.001, 0.0), position=(0.0, 0.0, 3.0), size=SIZE)


def floor(material: Material = GREY) -> Plane:
    return Plane(point=(0.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0), material=material)


def test_a_wall_square_to_the_view_has_constant_depth() -> None:
    wall = Plane(point=(0.0, 2.5, 0.0), normal=(0.0, -1.0, 0.0), material=GREY)
    camera = Camera.looking_at((0.0, 1.0, 0.0), position=(0.0, 0.0, 0.0), size=SIZE)
    frame = render(Scene(background=(wall,), objects=()), camera)
    np.testing.assert_allclose(frame.depth_m, 2.5, rtol=1e-6)
    assert not frame.label.any()


def test_a_slanted_floor_has_the_depth_of_the_closed_form() -> None:
    camera = Camera.looking_at((0.0, 2.0, 0.0), position=(0.0, 0.0, 1.5), size=SIZE)
    frame = render(Scene(background=(floor(),), objects=()), camera)
    k = camera.intrinsics
    rows, columns = np.indices(SIZE)
    x, y = (columns - k.cx) / k.fx, (rows - k.cy) / k.fy
    down = math.atan2(1.5, 2.0)
    # Height above the floor shrinks by sin + y cos for each metre of depth.
    expected = 1.5 / (math.sin(down) + y * math.cos(down)) + 0 * x
    np.testing.assert_allclose(frame.depth_m, expected, rtol=1e-5)


def test_a_sphere_has_the_depth_of_the_closed_form() -> None:
    center, radius = np.array([0.3, 3.0, 0.1]), 0.5
    scene = Scene(
        background=(), objects=(Sphere(center=tuple(center), radius=radius, material=GREY),)
    )
    camera = Camera.looking_at((0.0, 1.0, 0.0), position=(0.0, 0.0, 0.0), size=SIZE)
    frame = render(scene, camera)
    k = camera.intrinsics
    rows, columns = np.indices(SIZE)
    # The camera looks along +y: its axes are x, -z and y of the world.
    rays = np.stack([(columns - k.cx) / k.fx, np.ones(SIZE), -(rows - k.cy) / k.fy])
    a, b = (rays**2).sum(0), np.tensordot(center, rays, 1)
    discriminant = b**2 - a * (center @ center - radius**2)
    with np.errstate(invalid="ignore"):
        expected = (b - np.sqrt(discriminant)) / a
    np.testing.assert_array_equal(frame.label, (discriminant >= 0).astype(np.uint16))
    np.testing.assert_allclose(frame.depth_m, expected, rtol=1e-6)
    assert frame.label.sum() > 100


def test_labels_number_the_objects_and_nothing_else() -> None:
    objects = (
        Sphere(center=(-0.7, 0.0, 0.3), radius=0.3, material=GREY),
        Box(center=(0.0, 0.0, 0.2), half_extents=(0.2, 0.2, 0.2), material=GREY),
        Cylinder(center=(0.7, 0.0, 0.3), radius=0.2, half_height=0.3, material=GREY),
    )
    frame = render(Scene(background=(floor(),), objects=objects), look_down())
    assert np.unique(frame.label).tolist() == [0, 1, 2, 3]
    centers = [np.argwhere(frame.label == number).mean(axis=0)[1] for number in (1, 2, 3)]
    assert centers == sorted(centers)
    # The box's top: a square of 0.4 m seen from 2.6 m, of which these pixel centres lie inside.
    half_side = 0.2 / 2.6 * look_down().intrinsics.fx
    across = np.abs(np.arange(SIZE[1]) - (SIZE[1] - 1) / 2) < half_side
    assert (frame.label == 2).sum() == across.sum() ** 2
    np.testing.assert_allclose(np.median(frame.depth_m[frame.label == 2]), 2.6, rtol=1e-3)


def test_labels_equal_the_nearest_shape_hit_by_each_ray() -> None:
    scene = demo_scene(3)
    camera = Camera.looking_at((0.0, 0.0, 0.76), position=(0.3, -1.0, 1.4), size=(48, 64))
    frame = render(scene, camera)
    rows, columns = (grid.ravel().astype(float) for grid in np.indices((48, 64)))
    rays, origin = camera.rays(columns, rows), camera.position[:, None]
    depths = [shape.intersect(origin, rays) for shape in (*scene.background, *scene.objects)]
    nearest = np.argmin(depths, axis=0) + 1 - len(scene.background)
    np.testing.assert_array_equal(frame.label.ravel(), np.maximum(nearest, 0))
    np.testing.assert_allclose(frame.depth_m.ravel(), np.min(depths, axis=0), rtol=1e-6)


def test_rays_into_the_void_measure_nothing() -> None:
    ball = Sphere(center=(0.0, 3.0, 0.0), radius=0.5, material=GREY)
    camera = Camera.looking_at((0.0, 1.0, 0.0), position=(0.0, 0.0, 0.0), size=SIZE)
    frame = render(Scene(background=(), objects=(ball,)), camera)
    np.testing.assert_array_equal(np.isnan(frame.depth_m), frame.label == 0)
    assert not frame.rgb[0, 0].any()


def test_a_shadow_darkens_the_floor_away_from_the_lamp() -> None:
    ball = Sphere(center=(0.0, 0.0, 0.6), radius=0.25, material=GREY)
    lit = render(Scene(background=(floor(),), objects=()), look_down())
    shaded = render(Scene(background=(floor(),), objects=(ball,)), look_down())
    ratio = shaded.rgb.astype(float).mean(axis=2) / lit.rgb.astype(float).mean(axis=2)
    ratio[shaded.label > 0] = 1.0
    # The lamp hangs at the left (-x) and towards the bottom (-y) of the image.
    rows, columns = np.argwhere(ratio < 0.8).T
    assert rows.size > 20
    assert columns.mean() > SIZE[1] / 2
    assert rows.mean() < SIZE[0] / 2
    assert 0.9 < ratio[-1, 0] <= 1.0


def test_colour_is_smoothed_along_edges_while_depth_is_not() -> None:
    box = Box(center=(0.0, 0.0, 0.5), half_extents=(0.4, 0.3, 0.01), yaw=0.2, material=GREY)
    frame = render(Scene(background=(), objects=(box,)), look_down())
    brightness = frame.rgb.mean(axis=2)
    middle = np.median(brightness[frame.label == 1])
    # Nothing lies behind the box, so without smoothing a pixel would be as bright as it or black.
    between = (brightness > 0.1 * middle) & (brightness < 0.9 * middle)
    assert between.sum() > 20
    assert np.ptp(frame.depth_m[frame.label == 1]) < 0.01


def test_a_frame_becomes_an_rgbd_frame() -> None:
    frame = render(Scene(background=(floor(),), objects=()), look_down())
    rgbd = frame.to_rgbd_frame(stamp_ns=7, name="floor")
    assert isinstance(rgbd, RgbdFrame)
    assert (rgbd.size, rgbd.stamp_ns, rgbd.name) == (SIZE, 7, "floor")
    assert rgbd.intrinsics == frame.camera.intrinsics


def test_the_camera_has_its_target_in_the_centre_and_stands_level() -> None:
    camera = Camera.looking_at((1.0, 2.0, 0.5), position=(0.2, -0.5, 1.5), size=SIZE)
    np.testing.assert_allclose(camera.rotation.T @ camera.rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1.0)
    toward = camera.rotation.T @ (np.array([1.0, 2.0, 0.5]) - camera.position)
    np.testing.assert_allclose(toward[:2], 0.0, atol=1e-12)
    assert toward[2] > 0
    assert camera.rotation[2, 0] == pytest.approx(0.0)
    assert camera.rotation[2, 1] < 0
