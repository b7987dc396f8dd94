from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.data.scenes.surfaces import paint

SEEDS = st.integers(0, 2**32 - 1)


def test_hue_saturation_and_value_give_the_known_corners() -> None:
    np.testing.assert_allclose(paint.hsv(0.0, 1.0, 1.0), (255, 0, 0), atol=1e-3)
    np.testing.assert_allclose(paint.hsv(1 / 3 + 2, 1.0, 0.5), (0, 127.5, 0), atol=1e-3)
    np.testing.assert_allclose(paint.hsv(0.0, 2.0, 1.0), (255, 0, 0), atol=1e-3)
    np.testing.assert_allclose(paint.hsv(0.3, -1.0, 7.0), (255, 255, 255), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_every_colour_stays_in_range_and_ink_can_be_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for maker in (paint.object_color, paint.room_color, paint.wood_color):
        color = maker(rng)
        near, ink = paint.similar(rng, color, 0.5), paint.contrasting(rng, color)
        for value in (color, near, ink):
            assert value.shape == (3,)
            assert value.dtype == np.float32
            assert value.min() >= 0
            assert value.max() <= 255
        assert abs(paint.brightness(ink) - paint.brightness(color)) > 25


def test_rooms_are_paler_than_objects() -> None:
    rng = np.random.default_rng(0)

    def saturation(maker: object) -> float:
        colors = np.array([maker(rng) for _ in range(2000)])  # type: ignore[operator]
        return float(np.mean(1 - colors.min(1) / np.maximum(colors.max(1), 1)))

    assert saturation(paint.object_color) > 0.4
    assert saturation(paint.room_color) < 0.25


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, height=st.integers(8, 70), width=st.integers(8, 70), hills=st.integers(1, 4))
def test_noise_is_standardised_and_meets_itself_across_the_borders(
    seed: int, height: int, width: int, hills: int
) -> None:
    field = paint.noise(np.random.default_rng(seed), (height, width), (2, hills), octaves=2)
    assert field.shape == (height, width)
    assert field.dtype == np.float32
    assert abs(float(field.mean())) < 1e-3
    assert float(field.std()) == pytest.approx(1.0, abs=1e-3)
    inner = np.abs(np.diff(field, axis=0)).max()
    assert np.abs(field[0] - field[-1]).max() < 2 * inner


def test_noise_with_one_row_of_hills_only_varies_across() -> None:
    field = paint.noise(np.random.default_rng(3), (16, 32), (1, 5), octaves=1)
    assert np.ptp(field, axis=0).max() < 1e-5
    assert np.ptp(field, axis=1).min() > 1


def test_spline_weights_add_to_one_and_agree_with_a_hand_worked_pixel() -> None:
    weights = paint._spline(4, 12)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    # Pixel 1 lies on the centre of cell 0: two thirds of it, a sixth of either neighbour.
    np.testing.assert_allclose(weights[1], (2 / 3, 1 / 6, 0, 1 / 6), atol=1e-6)


def test_cells_name_the_nearest_seed_round_the_borders() -> None:
    size, number = (40, 56), 30
    names, distance = paint.cells(np.random.default_rng(2), size, number)
    rows, columns = np.nonzero(distance == 0)
    assert 25 <= len(rows) <= number
    assert names.min() >= 1
    assert names.max() <= 2 * number
    down = np.abs(np.arange(size[0])[:, None] - rows)
    across = np.abs(np.arange(size[1])[:, None] - columns)
    down, across = np.minimum(down, size[0] - down), np.minimum(across, size[1] - across)
    exact = np.hypot(down[:, None], across[None])
    np.testing.assert_allclose(distance, exact.min(2), atol=0.6)
    nearest = names[rows, columns][exact.argmin(2)]
    # The distances are rounded along slanting ways, so seams may be a pixel off.
    assert (nearest == names).mean() > 0.93


def test_a_ramp_runs_from_the_first_colour_to_the_last() -> None:
    field = np.array([[-9.0, -2.0, 0.0, 2.0, 9.0]], np.float32)
    black, white = np.zeros(3, np.float32), np.full(3, 255, np.float32)
    texture = paint.ramp(field, (black, white))
    np.testing.assert_array_equal(texture[0, :, 0], (0, 0, 127, 255, 255))


def test_shade_scales_brightness_and_clips() -> None:
    texture = paint.filled((1, 3), np.full(3, 100, np.float32))
    shaded = paint.shade(texture, np.array([[0.0, 1.0, -9.0]]), 0.5)
    np.testing.assert_array_equal(shaded[0], np.repeat([[100], [150], [0]], 3, axis=1))
    bright = paint.shade(paint.filled((1, 1), np.full(3, 200, np.float32)), np.ones((1, 1)), 1.0)
    assert bright.max() == 255


def test_a_mixture_shows_what_lies_above_where_it_covers() -> None:
    below = paint.filled((1, 3), np.array((10, 20, 30), np.float32))
    above = paint.filled((1, 3), np.array((110, 120, 130), np.float32))
    mixed = paint.mix(below, above, np.array([[-1.0, 0.5, 2.0]]))
    np.testing.assert_allclose(mixed[0], [(10, 20, 30), (60, 70, 80), (110, 120, 130)], atol=1)
