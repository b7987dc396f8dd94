from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.data.scenes.sensors.color import ColorCamera, sample_color_camera

RNG = np.random.default_rng(0)
RAMP = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], (48, 1, 3))


def test_a_camera_without_faults_only_applies_its_tone_curve() -> None:
    pixels = ColorCamera(gain=1.0, gamma=2.0).photograph(RAMP, RNG)
    np.testing.assert_allclose(pixels, 255 * np.sqrt(RAMP), atol=1.5)


def test_a_gain_of_two_is_one_stop_and_what_is_too_bright_is_white() -> None:
    once = ColorCamera(gain=1.0).photograph(RAMP * 0.5, RNG)
    np.testing.assert_array_equal(ColorCamera(gain=0.5).photograph(RAMP, RNG), once)
    assert (ColorCamera(gain=100.0).photograph(RAMP, RNG)[:, 1:] == 255).all()


def test_balance_tells_the_channels_apart() -> None:
    pixels = ColorCamera(gain=1.0, balance=(1.0, 0.5, 0.25)).photograph(RAMP, RNG)
    red, green, blue = pixels[0, 40].astype(int)
    assert red > green > blue


def test_a_vignette_darkens_the_corners_and_not_the_middle() -> None:
    white = np.ones((49, 65, 3), np.float32)
    pixels = ColorCamera(gain=1.0, vignette=0.5, gamma=1.0).photograph(white, RNG)
    assert pixels[24, 32, 0] == 255
    assert pixels[0, 0, 0] == pytest.approx(0.5 * 255, abs=1)


@pytest.mark.parametrize("is_coarse", [False, True])
def test_noise_has_the_spread_that_was_asked_for(is_coarse: bool) -> None:
    gray = np.full((200, 200, 3), 0.5, np.float32)
    camera = ColorCamera(
        gain=1.0, gamma=1.0, photon_noise=0.04, read_noise=0.03, is_grain_coarse=is_coarse
    )
    pixels = camera.photograph(gray, np.random.default_rng(3))
    assert pixels.std() / 255 == pytest.approx(np.sqrt(0.04**2 * 0.5 + 0.03**2), rel=0.1)


def test_no_saturation_leaves_grey() -> None:
    color = np.tile(np.array([0.8, 0.2, 0.1], np.float32), (8, 8, 1))
    pixels = ColorCamera(gain=1.0, saturation=1e-6).photograph(color, RNG).astype(int)
    assert np.ptp(pixels[0, 0]) <= 1


def test_sharpening_overshoots_edges_and_blur_softens_them() -> None:
    step = np.where(np.arange(64)[None, :, None] < 32, 0.2, 0.5).astype(np.float32)
    step = np.broadcast_to(step, (16, 64, 3)).copy()
    plain, sharp, soft = (
        ColorCamera(gain=1.0, **options).photograph(step, RNG).astype(int)
        for options in ({}, {"sharpening": 1.0}, {"blur": 2 / 64})
    )
    assert sharp.max() > plain.max()
    assert np.abs(np.diff(soft[8, :, 0])).max() < np.abs(np.diff(plain[8, :, 0])).max()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), light=st.floats(1e-3, 1e3))
def test_any_camera_exposes_any_light_about_right_and_the_same_way_twice(
    seed: int, light: float
) -> None:
    picture = RAMP * np.float32(light)
    camera = sample_color_camera(picture, np.random.default_rng(seed))
    pixels = camera.photograph(picture, np.random.default_rng(seed))
    assert pixels.dtype == np.uint8
    assert pixels.shape == picture.shape
    assert 20 < pixels.mean() < 240
    np.testing.assert_array_equal(pixels, camera.photograph(picture, np.random.default_rng(seed)))


def test_darkness_stays_dark() -> None:
    dark = np.zeros((16, 16, 3), np.float32)
    camera = sample_color_camera(dark, np.random.default_rng(0))
    assert np.isfinite(camera.gain)
    assert camera.photograph(dark, np.random.default_rng(0)).mean() < 128
