from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.data.scenes.parts import Material
from calibnet_core.data.scenes.surfaces.materials import (
    OBJECT_PURPOSES,
    ROOM_PURPOSES,
    fit_to_front,
    make_material,
    sample_texture,
)

FRONT = np.array([[0.0, -1.0, 0.0]])


def linear(value: float) -> float:
    """The sRGB standard's curve."""
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def quarters() -> NDArray[np.uint8]:
    """16 x 16: red and green above, blue and white below."""
    texture = np.zeros((16, 16, 3), np.uint8)
    texture[:8, :8, 0] = texture[:8, 8:, 1] = texture[8:, :8, 2] = 255
    texture[8:, 8:] = 255
    return texture


@pytest.mark.parametrize("purpose", [*OBJECT_PURPOSES, *ROOM_PURPOSES])
def test_every_purpose_gives_usable_materials_that_follow_from_the_seed(purpose: str) -> None:
    for seed in range(10):
        material = make_material(np.random.default_rng(seed), purpose)
        again = make_material(np.random.default_rng(seed), purpose)
        np.testing.assert_array_equal(material.texture, again.texture)
        assert (material.tile_m, material.gloss) == (again.tile_m, again.gloss)
        assert material.texture.dtype == np.uint8
        assert all(64 <= pixels <= 192 for pixels in material.texture.shape[:2])
        assert 0.02 < material.tile_m < 2.5
        assert 0.0 <= material.gloss <= 1.0
        assert material.projection == ("cylinder" if purpose == "label" else "box")


def test_an_unknown_purpose_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"purpose 'tabel_top'; use one of .*label.*table_top"):
        make_material(np.random.default_rng(0), "tabel_top")


def test_about_one_in_seven_objects_looks_like_anything_at_all() -> None:
    rng = np.random.default_rng(0)
    tiles = np.array([make_material(rng, "foam").tile_m for _ in range(1500)])
    # Foam repeats within 0.3 m; strange textures reach 0.4 m, two sevenths of them beyond 0.3 m.
    assert 0.15 * 2 / 7 * 0.6 < (tiles > 0.3).mean() < 0.15 * 2 / 7 * 1.5


def test_the_front_shows_the_texture_upright_and_centred() -> None:
    material = Material(texture=quarters(), tile_m=0.2)
    points = np.array([(x, -0.1, z) for z in (0.05, -0.05) for x in (-0.05, 0.05)])
    colors = sample_texture(material, points, np.repeat(FRONT, 4, axis=0))
    np.testing.assert_allclose(colors, [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], atol=1e-6)


def test_a_cylinder_shows_the_texture_once_around_and_centred_in_height() -> None:
    material = Material(texture=quarters(), projection="cylinder", tile_m=0.2)
    angles = np.array((0.5, -0.5, 0.5, -0.5)) * math.pi
    points = np.stack([np.cos(angles), np.sin(angles), [5, 5, -5, -5]], axis=1) * (0.03, 0.03, 0.01)
    colors = sample_texture(material, points, points * (1, 1, 0))
    np.testing.assert_allclose(colors, [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], atol=1e-6)


def test_a_cylinder_has_its_caps_as_a_box_has_them() -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    points, up = rng.normal(size=(50, 3)), np.tile((0.1, 0.2, -3.0), (50, 1))
    as_box = sample_texture(Material(texture=texture), points, up)
    around = sample_texture(Material(texture=texture, projection="cylinder"), points, up)
    np.testing.assert_array_equal(as_box, around)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_side_is_mirrored(axis: int, sign: int) -> None:
    """To the right as seen from outside the columns rise; downwards the rows do."""
    ramp = np.arange(64, dtype=np.uint8)
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[..., 0], texture[..., 1] = ramp, ramp[:, None]
    normal = np.zeros(3)
    normal[axis] = sign
    up = np.array((0.0, 0.0, 1.0)) if axis < 2 else np.array((0.0, 1.0, 0.0))
    right = np.cross(up, normal)
    starts = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    material = Material(texture=texture, tile_m=1.0)
    for step, channel in ((right, 0), (-up, 1)):
        here, there = (
            sample_texture(material, points, np.tile(normal, (200, 1)))[:, channel]
            for points in (starts, starts + 0.1 * step)
        )
        # A tenth of them step over the border of the texture.
        assert 0.8 < (there > here).mean() < 0.97


def test_two_sides_show_different_pieces() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sides = np.concatenate([np.eye(3), -np.eye(3)])
    colors = sample_texture(Material(texture=texture), np.zeros((6, 3)), sides)
    assert len(np.unique(colors.round(4), axis=0)) == 6


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    tile_m=st.floats(0.05, 2.0),
)
def test_colours_agree_with_interpolation_by_hand(
    seed: int, size: tuple[int, int], tile_m: float
) -> None:
    rng = np.random.default_rng(seed)
    height, width = size
    smooth = rng.integers(60, 190, (height, width, 3), dtype=np.uint8)
    points = rng.uniform(-1, 1, (40, 3))
    colors = sample_texture(
        Material(texture=smooth, tile_m=tile_m), points, np.repeat(FRONT, 40, axis=0)
    )
    pixel_m = tile_m / height
    for point, color in zip(points, colors, strict=True):
        column = point[0] / pixel_m + width / 2 - 0.5
        row = -point[2] / pixel_m + height / 2 - 0.5
        x, y = math.floor(column), math.floor(row)
        dx, dy = column - x, row - y
        value = sum(
            weight * smooth[(y + down) % height, (x + across) % width].astype(float)
            for down, across, weight in (
                (0, 0, (1 - dy) * (1 - dx)),
                (0, 1, (1 - dy) * dx),
                (1, 0, dy * (1 - dx)),
                (1, 1, dy * dx),
            )
        )
        expected = [linear(channel) for channel in value]
        # Places are rounded to a 32nd of a pixel, values to whole levels.
        np.testing.assert_allclose(color, expected, atol=0.05)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), times=st.integers(-3, 3))
def test_the_texture_repeats_after_its_tile(seed: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    texture = np.repeat(rng.integers(0, 256, (8, 16, 1), dtype=np.uint8), 3, axis=2)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    material = Material(texture=texture, tile_m=0.25)
    points, normals = rng.uniform(-0.3, 0.3, (30, 3)), np.repeat(FRONT, 30, axis=0)
    shift = np.array((0.5, 0.0, 0.25)) * times
    np.testing.assert_allclose(
        sample_texture(material, points, normals),
        sample_texture(material, points + shift, normals),
        atol=0.04,
    )


def test_a_picture_fitted_to_a_front_fills_it_once() -> None:
    fitted = fit_to_front(Material(texture=quarters(), tile_m=9.0), 0.6, 0.3)
    assert fitted.texture.shape == (16, 32, 3)
    assert fitted.tile_m == 0.3
    corners = np.array([(x, -0.1, z) for z in (0.14, -0.14) for x in (-0.28, 0.28)])
    colors = sample_texture(fitted, corners, np.repeat(FRONT, 4, axis=0))
    np.testing.assert_allclose(colors, [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], atol=1e-6)


@pytest.mark.parametrize("number", [0, 1, 511, 513, 40_000])
def test_any_number_of_points_is_coloured(number: int) -> None:
    rng = np.random.default_rng(0)
    for projection in ("box", "cylinder"):
        material = Material(texture=quarters(), projection=projection)  # type: ignore[arg-type]
        points, normals = rng.normal(size=(2, number, 3))
        colors = sample_texture(material, points, normals)
        assert colors.shape == (number, 3)
        assert colors.dtype == np.float32
        assert ((colors >= 0) & (colors <= 1)).all()


def test_a_vessel_shows_its_lining_from_within_and_on_its_rim() -> None:
    red, blue = (np.full((4, 4, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))
    material = Material(texture=red, lining=Material(texture=blue))
    wall = np.array([[0.04, 0.03, 0.0]])
    outwards, inwards, up = np.array([[0.8, 0.6, 0.0]]), np.array([[-0.8, -0.6, 0.0]]), (0, 0, 1)
    bulging = np.array([[0.64, 0.48, 0.6]])  # the shoulder of a round pot
    for normal, is_inside in (
        (outwards, False),
        (bulging, False),
        (inwards, True),
        (np.array([up]), True),
        (-np.array([up]), False),
    ):
        color = sample_texture(material, wall, normal)[0]
        assert color.tolist() == ([0, 0, 1] if is_inside else [1, 0, 0])


def test_arrays_of_other_shapes_are_refused() -> None:
    material = Material(texture=quarters())
    with pytest.raises(ValueError, match=r"points \(4, 3\) and normals \(3, 3\)"):
        sample_texture(material, np.zeros((4, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"must both be \(N, 3\)"):
        sample_texture(material, np.zeros((4, 2)), np.zeros((4, 2)))
