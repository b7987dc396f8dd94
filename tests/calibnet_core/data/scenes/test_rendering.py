"""Pictures against an independent renderer and against light computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core.data import analytic_scene
from calibnet_core.data.analytic_scene import Camera
from calibnet_core.data.scenes.parts import Box, Cylinder, Ellipsoid, Material, Part, Solid, Thing
from calibnet_core.data.scenes.rendering import Lamp, Lighting, render
from calibnet_core.data.scenes.world import Placed, World

WHITE = Material(texture=np.full((2, 2, 3), 255, np.uint8))
NOTHING = np.zeros(3, np.float32)
DARK = Lighting(lamps=(), sky=NOTHING, ground=NOTHING, far=NOTHING)
SIZE = (96, 128)
CAMERA = Camera.looking_at((0.0, 0.0, 0.1), position=(0.4, -1.2, 0.9), size=SIZE)
ABOVE = Camera(
    intrinsics=CAMERA.intrinsics,
    position=np.array([0.0, 0.0, 2.0]),
    rotation=np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]]),
)


def place(solid: Solid, *position: float, label: int = 0, material: Material = WHITE) -> Placed:
    thing = Thing(name="thing", parts=(Part(solid=solid, material=material),))
    return Placed(thing=thing, rotation=np.eye(3), position=np.array(position), label=label)


FLOOR = place(Box(size=(20.0, 20.0, 0.2)), 0.0, 0.0, -0.1)


def test_depth_and_labels_are_those_of_an_independent_renderer() -> None:
    world = World(
        [
            FLOOR,
            place(Box(size=(0.3, 0.2, 0.2)), 0.25, 0.0, 0.1, label=1),
            place(Ellipsoid(radii=(0.12, 0.12, 0.12)), -0.2, 0.1, 0.12, label=2),
            place(Cylinder(radius=0.06, height=0.3), 0.0, -0.2, 0.15, label=3),
        ]
    )
    view = render(world, CAMERA, DARK)
    material = analytic_scene.Material(
        color=(1.0, 1.0, 1.0), second_color=(1.0, 1.0, 1.0), pattern="mottled", scale_m=1.0
    )
    plane = analytic_scene.Plane(point=(0, 0, 0), normal=(0, 0, 1), material=material)
    box = analytic_scene.Box(
        center=(0.25, 0.0, 0.1), half_extents=(0.15, 0.1, 0.1), yaw=0.0, material=material
    )
    ball = analytic_scene.Sphere(center=(-0.2, 0.1, 0.12), radius=0.12, material=material)
    can = analytic_scene.Cylinder(
        center=(0.0, -0.2, 0.15), radius=0.06, half_height=0.15, material=material
    )
    scene = analytic_scene.Scene(background=(plane,), objects=(box, ball, can))
    expected = analytic_scene.render(scene, CAMERA)
    floor_ends = expected.depth_m > 5.0  # the one is endless, the other is not
    alike = (view.labels == expected.label) | floor_ends
    assert alike.mean() > 0.999  # a ray may just meet an edge or just not
    same = alike & ~floor_ends
    error = np.where(same, np.abs(view.depth_m - expected.depth_m), 0.0)
    is_flat = expected.label <= 1
    assert error[is_flat].max() < 1e-4
    assert error[~is_flat].max() < 6e-3  # where a facet is seen from the side
    assert np.median(error[~is_flat & same]) < 5e-4
    np.testing.assert_array_equal(view.labels > 0, world.labels[view.parts] > 0)


def test_nothing_has_no_depth_no_label_and_the_colour_of_afar() -> None:
    far = np.array([0.1, 0.2, 0.3], np.float32)
    lighting = Lighting(lamps=(), sky=NOTHING, ground=NOTHING, far=far)
    view = render(World([place(Box(size=(0.1,) * 3), 0.0, 0.0, 50.0)]), ABOVE, lighting)
    assert np.isnan(view.depth_m).all()
    assert (view.parts == -1).all()
    assert not view.labels.any()
    np.testing.assert_allclose(view.radiance, np.broadcast_to(far, (*SIZE, 3)))


def test_light_falls_with_the_square_of_the_distance_and_the_cosine() -> None:
    lamp = Lamp(position=np.array([0.5, 0.0, 1.0]), color=np.array([1.0, 2.0, 4.0], np.float32))
    lighting = Lighting(lamps=(lamp,), sky=NOTHING, ground=NOTHING, far=NOTHING)
    view = render(World([FLOOR]), ABOVE, lighting)
    row, column = 30, 40
    camera = ABOVE.intrinsics
    ray = np.array([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, 1.0])
    point = ABOVE.position + ABOVE.rotation @ (ray * 2.0)
    beam = lamp.position - point
    expected = lamp.color * (beam[2] / np.linalg.norm(beam)) / (beam @ beam)
    np.testing.assert_allclose(view.radiance[row, column], expected, rtol=1e-4)


def test_ambient_light_comes_from_above_on_what_faces_up() -> None:
    sky, ground = np.full(3, 0.8, np.float32), np.full(3, 0.2, np.float32)
    lighting = Lighting(lamps=(), sky=sky, ground=ground, far=NOTHING)
    view = render(World([FLOOR]), ABOVE, lighting)
    np.testing.assert_allclose(view.radiance, 0.8, rtol=1e-5)
    wall = World([place(Box(size=(20.0, 0.2, 20.0)), 0.0, 2.0, 0.0)])
    ahead = Camera.looking_at((0.0, 1.9, 0.5), position=(0.0, 0.0, 0.5), size=SIZE)
    np.testing.assert_allclose(render(wall, ahead, lighting).radiance, 0.5, rtol=1e-5)


@pytest.mark.parametrize("casts_shadows", [True, False])
def test_a_thing_throws_a_shadow_where_the_lamp_does(casts_shadows: bool) -> None:
    lamp = Lamp(
        position=np.array([0.0, 0.0, 1.5]),
        color=np.ones(3, np.float32),
        casts_shadows=casts_shadows,
    )
    lighting = Lighting(lamps=(lamp,), sky=NOTHING, ground=NOTHING, far=NOTHING)
    world = World([FLOOR, place(Box(size=(0.2, 0.2, 0.01)), 0.0, 0.0, 0.75, label=1)])
    view = render(world, ABOVE, lighting)
    # A sheet half-way to the lamp shadows twice its size; seen from above some of that is hidden.
    on_floor = view.parts == 0
    dark = on_floor & (view.radiance[..., 0] < 1e-6)
    if not casts_shadows:
        assert not dark.any()
        return
    pixel_m = 2.0 / ABOVE.intrinsics.fx
    area = (dark.sum() + (view.labels == 1).sum()) * pixel_m**2
    assert area == pytest.approx(0.4**2, rel=0.12)


def test_edges_are_smooth_in_colour_and_sharp_in_labels() -> None:
    black = Material(texture=np.zeros((2, 2, 3), np.uint8))
    world = World([FLOOR, place(Ellipsoid(radii=(0.3, 0.3, 0.3)), 0, 0, 0.3, material=black)])
    sky = np.ones(3, np.float32)
    view = render(world, ABOVE, Lighting(lamps=(), sky=sky, ground=sky, far=sky))
    levels = np.unique(view.radiance.round(3))
    np.testing.assert_allclose(levels, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], atol=1e-6)


def test_a_fine_pattern_turns_grey_from_afar_and_does_not_flicker() -> None:
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    material = Material(texture=checks, tile_m=0.2)
    world = World([place(Box(size=(20, 20, 0.2)), 0, 0, -0.1, material=material)])
    view = render(world, ABOVE, DARK)  # pixels are 17 mm and squares 3
    assert view.reflectance.std() < 0.01
    near = replace(ABOVE, position=np.array([0.0, 0.0, 0.05]))
    assert render(world, near, DARK).reflectance.std() > 0.1


def test_a_lining_turns_grey_from_afar_too() -> None:
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    lined = Material(
        texture=np.zeros((4, 4, 3), np.uint8), lining=Material(texture=checks, tile_m=0.2)
    )
    world = World([place(Box(size=(20, 20, 0.2)), 0, 0, -0.1, material=lined)])  # seen from above
    view = render(world, ABOVE, DARK)
    assert view.reflectance.std() < 0.01
    assert view.reflectance.mean() > 0.1


def test_gloss_and_reflectance_are_those_of_the_materials() -> None:
    shiny = Material(texture=np.full((2, 2, 3), 188, np.uint8), gloss=0.7)
    view = render(World([place(Box(size=(20, 20, 0.2)), 0, 0, -0.1, material=shiny)]), ABOVE, DARK)
    np.testing.assert_allclose(view.gloss, 0.7)
    np.testing.assert_allclose(view.reflectance, 0.503, atol=2e-3)  # 188 of 255 in sRGB
