"""Edges tell whether depth is registered: on rendered scenes, on recordings, and on nonsense."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.data.analytic_scene import add_sensor_faults, render_sequence
from calibnet_core.data.bags import open_rgbd_bag, read_frames
from calibnet_core.perception.registration import ColorAndDepth, Registration, edge_agreement
from tests.support.shared import shared_file

Depth = NDArray[np.float32]


@cache
def scene(seed: int) -> ColorAndDepth:
    """A rendered table as an inexpensive sensor sees it, 320x240."""
    (frame,) = render_sequence(1, size=(240, 320), seed=seed)
    return frame.rgb, add_sensor_faults(frame.depth_m, seed=seed)


def moved(depth_m: Depth, x: int, y: int) -> Depth:
    """Depth moved right and down; nothing is measured where nothing comes from."""
    height, width = depth_m.shape
    canvas = np.full((3 * height, 3 * width), np.nan, np.float32)
    canvas[height + y : 2 * height + y, width + x : 2 * width + x] = depth_m
    return canvas[height : 2 * height, width : 2 * width]


def magnified(depth_m: Depth, factor: float) -> Depth:
    height, width = depth_m.shape
    matrix = np.array(
        [[factor, 0, (1 - factor) * width / 2], [0, factor, (1 - factor) * height / 2]]
    )
    return cv2.warpAffine(
        depth_m, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=float("nan")
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_rendered_depth_is_registered_with_confidence(seed: int) -> None:
    agreement = edge_agreement([scene(seed)])
    assert agreement is not None
    assert agreement.verdict is Registration.REGISTERED
    assert max(map(abs, agreement.shift_xy)) <= 1
    assert agreement.confidence > 0.6
    assert agreement.agreement_in_place == agreement.agreement


def test_pixels_without_a_measurement_count_alike_however_they_are_written() -> None:
    rgb, depth_m = scene(0)
    expected = edge_agreement([(rgb, depth_m)])
    for absent in (0.0, -1.0, np.inf):
        written = np.where(np.isnan(depth_m), np.float32(absent), depth_m)
        assert edge_agreement([(rgb, written)]) == expected


@pytest.mark.parametrize(("x", "y"), [(8, 0), (-8, 0), (0, 8), (-5, -12)])
def test_a_shift_is_measured_with_its_sign(x: int, y: int) -> None:
    rgb, depth_m = scene(0)
    agreement = edge_agreement([(rgb, moved(depth_m, x, y))])
    assert agreement is not None
    assert agreement.verdict is Registration.SHIFTED
    # What depth must be moved by is the opposite of what it was moved by.
    assert np.abs(np.add(agreement.shift_xy, (x, y))).max() <= 1
    assert agreement.agreement > 1.3 * agreement.agreement_in_place


def test_shifts_of_large_images_are_in_their_own_pixels() -> None:
    rgb, depth_m = scene(0)
    large = np.repeat(np.repeat(rgb, 4, 0), 4, 1), np.repeat(np.repeat(depth_m, 4, 0), 4, 1)
    agreement = edge_agreement([(large[0], moved(large[1], 40, 0))])
    assert agreement is not None
    assert agreement.verdict is Registration.SHIFTED
    assert abs(agreement.shift_xy[0] + 40) <= 4


@pytest.mark.parametrize(("factor", "undone"), [(0.72, 1.4), (0.8, 1.25), (1.25, 0.8)])
def test_depth_of_another_view_is_known_by_its_magnification(factor: float, undone: float) -> None:
    rgb, depth_m = scene(3)
    agreement = edge_agreement([(rgb, magnified(depth_m, factor))])
    assert agreement is not None
    assert agreement.verdict is Registration.OTHER_VIEW
    assert agreement.magnification == undone


@pytest.mark.parametrize(
    "name",
    [
        "ycbv_0000_16uc1_mcap/ycbv_0000_16uc1_mcap.mcap",
        "ycbv_0000_32fc1_sqlite3/ycbv_0000_32fc1_sqlite3.db3",
    ],
)
def test_real_recordings_are_registered_and_known_when_they_are_not(name: str) -> None:
    frames = list(read_frames(open_rgbd_bag(shared_file(f"data/bags/{name}").parent)))[:3]
    images = [(frame.rgb, frame.depth_m) for frame in frames if frame.depth_m is not None]
    agreement = edge_agreement(images)
    assert agreement is not None
    assert agreement.verdict is Registration.REGISTERED
    assert max(map(abs, agreement.shift_xy)) <= 3  # so far is this sensor's registration off
    spoilt = edge_agreement([(rgb, moved(depth_m, 8, 0)) for rgb, depth_m in images])
    assert spoilt is not None
    assert spoilt.verdict is Registration.SHIFTED
    assert abs(spoilt.shift_xy[0] + 8) <= 3


def test_a_wall_says_nothing() -> None:
    rgb, depth_m = scene(0)
    for depth in (np.full_like(depth_m, 2.0), np.full_like(depth_m, np.nan)):
        agreement = edge_agreement([(rgb, depth)])
        assert agreement is not None
        assert agreement.verdict is Registration.UNCLEAR
        assert agreement.confidence == 0.0


def test_noise_is_not_registered_to_a_picture() -> None:
    rgb, depth_m = scene(0)
    noise = np.random.default_rng(1).uniform(0.5, 3.0, depth_m.shape).astype(np.float32)
    agreement = edge_agreement([(rgb, noise)])
    assert agreement is not None
    assert agreement.verdict is not Registration.REGISTERED or agreement.confidence < 0.5


def test_no_images_small_images_and_images_of_several_sizes() -> None:
    rgb, depth_m = scene(0)
    assert edge_agreement([]) is None
    assert edge_agreement([(rgb[:90], depth_m[:90])]) is None
    with pytest.raises(ValueError, match="several sizes"):
        edge_agreement([(rgb, depth_m), (rgb[:200], depth_m[:200])])


@given(
    st.integers(96, 130),
    st.integers(96, 130),
    st.sampled_from([0.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, 1e30]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=12)
def test_odd_depths_never_break_it(height: int, width: int, odd: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth_m = rng.uniform(0.5, 3.0, (height, width)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < rng.random()] = odd
    agreement = edge_agreement(
        [(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), depth_m)]
    )
    assert agreement is not None
    assert 0.0 <= agreement.confidence <= 1.0
    assert isinstance(agreement.verdict, Registration)
