from __future__ import annotations

import numpy as np
import pytest

from calibnet_core.data.scenes.surfaces.textures import (
    SURFACES,
    TEXTURES,
    fruit_skin,
    upright_wood,
    wood,
)

SIZES = ((64, 96), (128, 128), (50, 35), (16, 16))


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_has_the_size_asked_for_at_every_seed(name: str) -> None:
    for seed in range(12):
        size = SIZES[seed % len(SIZES)]
        texture = TEXTURES[name](np.random.default_rng(seed), size)
        assert texture.shape == (*size, 3)
        assert texture.dtype == np.uint8
        assert texture.flags.c_contiguous


@pytest.mark.parametrize("name", TEXTURES)
def test_the_same_seed_paints_the_same_picture_and_another_seed_another(name: str) -> None:
    first, again, other = (
        TEXTURES[name](np.random.default_rng(seed), (64, 64)) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_surface_repeats_without_a_seam(name: str, axis: int) -> None:
    for seed in range(12):
        texture = SURFACES[name](np.random.default_rng(seed), (96, 96)).astype(float)
        steps = np.abs(texture - np.roll(texture, 1, axis=axis)).mean(axis=(1 - axis, 2))
        # The first step leads across the border; no worse than the joints inside.
        assert steps[0] <= 1.3 * steps[1:].max() + 3, seed


@pytest.mark.parametrize("name", ["wood", "marble", "clouds", "concrete", "carpet", "pebbles"])
@pytest.mark.parametrize("axis", [0, 1])
def test_without_joints_the_border_is_as_smooth_as_the_rest(name: str, axis: int) -> None:
    border, inside = 0.0, 0.0
    for seed in range(40):
        texture = SURFACES[name](np.random.default_rng(seed), (64, 64)).astype(float)
        steps = np.abs(texture - np.roll(texture, 1, axis=axis)).mean(axis=(1 - axis, 2))
        border, inside = border + steps[0], inside + steps[1:].mean()
    assert 0.8 < border / inside < 1.2


def test_a_kind_of_texture_comes_in_many_colours() -> None:
    rng = np.random.default_rng(0)
    means = np.array([fruit_skin(rng, (32, 32)).mean((0, 1)) for _ in range(60)])
    assert (np.ptp(means, axis=0) > 60).all()


def test_upright_wood_has_its_grain_down() -> None:
    def roughness(texture: np.ndarray, axis: int) -> float:
        return float(np.abs(np.diff(texture.astype(float), axis=axis)).mean())

    lying = wood(np.random.default_rng(1), (64, 64))
    upright = upright_wood(np.random.default_rng(1), (64, 64))
    assert roughness(lying, 0) > 2 * roughness(lying, 1)
    assert roughness(upright, 1) > 2 * roughness(upright, 0)
