from __future__ import annotations

import math

import numpy as np
import pytest

from calibnet_core.perception.geometry import GeometrySettings, ObjectGeometry, measure_objects
from tests.support.analytic_objects import (
    CAMERAS,
    AnalyticObject,
    Cuboid,
    Slab,
    SphereCap,
    add_sensor_noise,
    render,
    turned,
)

PINHOLE = CAMERAS["pinhole"]
CAP = SphereCap(center=(0.0, 0.0, 0.8), radius=0.1, half_angle=55)
CAP_WIDTH, CAP_HEIGHT = 0.2 * math.sin(math.radians(55)), 0.1 * (1 - math.cos(math.radians(55)))
CUBE = Cuboid(center=(-0.1, 0.05, 0.9), size=(0.15,) * 3, rotation=turned(x=35.26) @ turned(y=45))
OBJECTS: dict[str, tuple[AnalyticObject, tuple[float, ...]]] = {
    "a slab turned in the image": (
        Slab(center=(0.1, -0.05, 0.8), size=(0.2, 0.12), rotation=turned(z=30)),
        (0.0, 0.12, 0.2),
    ),
    "a slab at a slant": (
        Slab(center=(0.1, 0.05, 1.0), size=(0.2, 0.14), rotation=turned(y=50)),
        (0.0, 0.14, 0.2),
    ),
    "a slab at a slant, turned": (
        Slab(center=(0.1, -0.05, 0.8), size=(0.25, 0.12), rotation=turned(z=30) @ turned(y=60)),
        (0.0, 0.12, 0.25),
    ),
    "the top of a ball": (CAP, (CAP_HEIGHT, CAP_WIDTH, CAP_WIDTH)),
    "one face of a box": (
        Cuboid(center=(0.0, 0.0, 0.9), size=(0.2, 0.15, 0.1), rotation=turned()),
        (0.0, 0.15, 0.2),
    ),
    "two faces of a box": (
        Cuboid(center=(0.0, 0.0, 0.9), size=(0.2, 0.15, 0.1), rotation=turned(y=40)),
        (0.1, 0.15, 0.2),
    ),
    "two like faces of a box": (
        Cuboid(center=(0.0, 0.0, 0.9), size=(0.2, 0.15, 0.2), rotation=turned(y=45)),
        (0.15, 0.2, 0.2),
    ),
    "three faces of a box": (
        Cuboid(
            center=(0.0, 0.0, 0.9),
            size=(0.25, 0.1, 0.08),
            rotation=turned(z=10) @ turned(x=40) @ turned(y=25),
        ),
        (0.08, 0.1, 0.25),
    ),
    "three like faces of a box": (CUBE, (0.15,) * 3),
}


def measure(thing: AnalyticObject, camera: str = "pinhole", **settings) -> ObjectGeometry:
    picture = render(CAMERAS[camera], [thing])
    up = settings.pop("up", None)
    chosen = GeometrySettings(**settings)
    return measure_objects(picture.frame, picture.masks, picture.rois, chosen, up=up)[0]


def is_proper(rotation: np.ndarray) -> bool:
    return np.allclose(rotation.T @ rotation, np.eye(3)) and np.linalg.det(rotation) > 0.0


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("thing", OBJECTS)
def test_the_box_has_the_size_of_the_visible_surface(camera: str, thing: str) -> None:
    shape, size = OBJECTS[thing]
    geometry = measure(shape, camera)
    np.testing.assert_allclose(sorted(geometry.box_size), size, rtol=0.03, atol=5e-4)
    assert is_proper(geometry.box_rotation)


@pytest.mark.parametrize("thing", ["two faces of a box", "three faces of a box"])
def test_the_box_stands_as_the_object_does_and_lies_where_it_is(thing: str) -> None:
    shape = OBJECTS[thing][0]
    geometry = measure(shape)
    # Its axes are the object's, but for their order and sign.
    likeness = np.abs(geometry.box_rotation.T @ shape.rotation)
    np.testing.assert_allclose(np.sort(likeness.ravel())[6:], 1.0, atol=2e-3)
    np.testing.assert_allclose(geometry.box_center, shape.center, atol=2e-3)


def test_the_axes_are_named_after_the_cameras() -> None:
    for angle in (-40, -10, 0, 10, 40):
        thing = Slab(center=(0.0, 0.0, 0.8), size=(0.12, 0.2), rotation=turned(z=angle))
        geometry = measure(thing)
        np.testing.assert_allclose(geometry.box_rotation, turned(z=angle), atol=0.02)
        np.testing.assert_allclose(geometry.box_size, [0.12, 0.2, 0.0], rtol=0.02, atol=1e-3)


def test_the_box_does_not_turn_with_noise() -> None:
    things = [OBJECTS["two faces of a box"][0], OBJECTS["three faces of a box"][0], CAP]
    rng = np.random.default_rng(0)
    for thing in things:
        picture = render(PINHOLE, [thing])
        boxes = []
        for _ in range(12):
            depth = add_sensor_noise(picture.frame.depth_m, rng, sigma_at_1m=0.0015, patch_px=3)
            frame = picture.with_depth(depth).frame
            boxes += measure_objects(frame, picture.masks, picture.rois, GeometrySettings())
        turns = [boxes[0].box_rotation.T @ box.box_rotation for box in boxes]
        angles = [math.acos(min(1.0, (np.trace(turn) - 1) / 2)) for turn in turns]
        assert math.degrees(max(angles)) < 5.0
        sizes = np.stack([box.box_size for box in boxes])
        np.testing.assert_allclose(sizes.mean(axis=0), measure(thing).box_size, atol=0.008)


def test_the_box_of_something_round_keeps_to_the_images_horizontal() -> None:
    # Its mask is a polygon of pixels, whose least rectangle may stand at any angle.
    for column in (0.0, 0.013, 0.1):
        thing = SphereCap(center=(column, 0.02, 0.8), radius=0.1, half_angle=50)
        geometry = measure(thing)
        assert abs(geometry.box_rotation[1, 0]) < 0.01


@pytest.mark.parametrize("axis", ["camera", "gravity"])
def test_one_axis_of_the_box_keeps_to_the_vertical(axis: str) -> None:
    # The camera looks down by 30 degrees at a box that stands upright, turned by 35 degrees.
    tilt = turned(x=30) if axis == "gravity" else turned()
    thing = Cuboid(center=(0.0, 0.0, 0.9), size=(0.2, 0.15, 0.12), rotation=tilt @ turned(y=35))
    up = -tilt[:, 1]
    geometry = measure(thing, box_up_axis=axis, up=up)
    assert np.abs(geometry.box_rotation.T @ up).max() == pytest.approx(1.0)
    assert is_proper(geometry.box_rotation)
    np.testing.assert_allclose(sorted(geometry.box_size), [0.12, 0.15, 0.2], rtol=0.03)


def test_an_upright_box_takes_in_a_leaning_object() -> None:
    thing = Slab(center=(0.0, 0.0, 0.9), size=(0.08, 0.2), rotation=turned(z=25))
    geometry = measure(thing, box_up_axis="camera")
    c, s = math.cos(math.radians(25)), math.sin(math.radians(25))
    np.testing.assert_allclose(geometry.box_rotation[:, 1], [0.0, 1.0, 0.0], atol=1e-9)
    expected = [0.08 * c + 0.2 * s, 0.08 * s + 0.2 * c]
    # Corners are pointed; the outermost hundredth of the edge is not taken for it.
    np.testing.assert_allclose(geometry.box_size[:2], expected, rtol=0.065)


def test_without_a_vertical_the_box_follows_the_points() -> None:
    thing = OBJECTS["three faces of a box"][0]
    free, left_alone = measure(thing), measure(thing, box_up_axis="gravity")
    np.testing.assert_array_equal(free.box_rotation, left_alone.box_rotation)


def test_boxes_of_noisy_cuboids_stand_as_the_cuboids_do() -> None:
    rng = np.random.default_rng(1)
    degrees_off = []
    for _ in range(25):
        z = rng.uniform(0.6, 1.5)
        thing = Cuboid(
            center=(rng.uniform(-0.25, 0.25) * z, rng.uniform(-0.2, 0.2) * z, z),
            size=tuple(rng.uniform(0.1, 0.25) * rng.uniform(0.5, 1.0, 3)),
            rotation=turned(z=rng.uniform(-20, 20))
            @ turned(x=rng.uniform(30, 45))
            @ turned(y=rng.uniform(25, 45)),
        )
        picture = render(PINHOLE, [thing])
        for _ in range(3):
            depth = add_sensor_noise(picture.frame.depth_m, rng, sigma_at_1m=0.0015, patch_px=3)
            frame = picture.with_depth(np.round(depth, 3)).frame
            (box,) = measure_objects(frame, picture.masks, picture.rois, GeometrySettings())
            # Each axis of the box beside the nearest of the cuboid's, whatever it is called.
            alike = np.sort(np.abs(box.box_rotation.T @ thing.rotation).ravel())[-3:]
            degrees_off.append(math.degrees(math.acos(min(1.0, alike.min()))))
    assert np.percentile(degrees_off, 95) < 3.0
