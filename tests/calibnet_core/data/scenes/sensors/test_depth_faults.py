from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.data.scenes.sensors.depth_faults import (
    add_noise,
    beside_edges,
    blobs,
    border,
    depth_edges,
    fatten_foreground,
    hidden_from,
    incidence_cosine,
    inverse_depth,
    look_up,
    mix_flying_pixels,
    quantise_disparity,
    round_to_step,
    smooth_noise,
    speckle,
    too_weak,
)
from calibnet_core.structures import CameraIntrinsics

NAN = np.float32(np.nan)
CAMERA = CameraIntrinsics(height=60, width=80, fx=70.0, fy=70.0, cx=39.5, cy=29.5)


def step(near: float = 0.8, far: float = 1.6, size: tuple[int, int] = (40, 120)) -> np.ndarray:
    """A near board in columns 50 to 79 before a far wall."""
    depth = np.full(size, far, np.float32)
    depth[:, 50:80] = near
    return depth


def plane(normal: tuple[float, float, float], distance: float = 1.0) -> np.ndarray:
    """Depth of the plane normal . point = distance."""
    x = (np.arange(CAMERA.width) - CAMERA.cx) / CAMERA.fx
    y = ((np.arange(CAMERA.height) - CAMERA.cy) / CAMERA.fy)[:, None]
    return (distance / (normal[0] * x + normal[1] * y + normal[2])).astype(np.float32)


def test_inverse_depth_is_zero_where_there_is_no_surface() -> None:
    depth = np.array([[2.0, np.nan, np.inf, 0.0, -1.0]], np.float32)
    np.testing.assert_array_equal(inverse_depth(depth), [[0.5, 0.0, 0.0, 0.0, 0.0]])


@given(
    offset=st.floats(0.02, 0.1),
    near=st.floats(0.5, 1.0),
    gap=st.floats(0.1, 1.0),
)
def test_the_shadow_beside_a_board_is_as_wide_as_similar_triangles_say(
    offset: float, near: float, gap: float
) -> None:
    inverse = inverse_depth(step(near, near + gap))
    expected = 300.0 * offset * (1.0 / near - 1.0 / (near + gap))
    lost = hidden_from(inverse, 300.0, offset)
    columns = np.flatnonzero(lost[0])
    reach = min(expected, 50.0)
    assert len(columns) == pytest.approx(reach, abs=1.001)
    assert list(columns) == list(range(50 - len(columns), 50))
    assert (lost == lost[0]).all()


def test_a_device_on_the_other_side_has_its_shadow_on_the_other_side() -> None:
    inverse = inverse_depth(step())
    from_left = hidden_from(inverse, 300.0, -0.05)
    mirrored = hidden_from(np.ascontiguousarray(inverse[:, ::-1]), 300.0, 0.05)[:, ::-1]
    np.testing.assert_array_equal(from_left, mirrored)
    assert np.flatnonzero(from_left[0]).min() == 80


def test_nothing_is_hidden_on_a_wall_nor_where_there_is_no_surface() -> None:
    for depth in (np.full((4, 30), 1.3, np.float32), np.full((4, 30), NAN)):
        for offset in (-0.08, 0.08):
            assert not hidden_from(inverse_depth(depth), 300.0, offset).any()


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.5, 0.0, 0.8), (-0.3, 0.6, 0.5)])
def test_the_cosine_of_a_plane_is_that_of_its_normal(normal: tuple[float, float, float]) -> None:
    found = incidence_cosine(inverse_depth(plane(normal)), CAMERA)
    x = (np.arange(CAMERA.width) - CAMERA.cx) / CAMERA.fx
    y = ((np.arange(CAMERA.height) - CAMERA.cy) / CAMERA.fy)[:, None]
    ray = np.sqrt(x * x + y * y + 1.0)
    expected = (normal[0] * x + normal[1] * y + normal[2]) / ray / np.linalg.norm(normal)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_an_outline_does_not_read_as_a_slope() -> None:
    depth = plane((0.0, 0.0, 1.0))
    depth[:, 40:] *= 2.0
    assert incidence_cosine(inverse_depth(depth), CAMERA).min() > 0.7


def test_edges_are_the_two_pixels_beside_a_jump_and_not_on_a_steep_plane() -> None:
    edges = depth_edges(inverse_depth(step()))
    assert list(np.flatnonzero(edges[7])) == [49, 50, 79, 80]
    assert not depth_edges(inverse_depth(plane((0.0, 0.95, 0.45)))).any()


def test_the_end_of_all_surface_is_an_edge() -> None:
    depth = step()
    depth[depth > 1.0] = NAN
    assert list(np.flatnonzero(depth_edges(inverse_depth(depth))[0])) == [49, 50, 79, 80]


def test_the_band_beside_edges_has_the_radius_asked_for() -> None:
    edges = np.zeros((9, 21), bool)
    edges[:, 10] = True
    assert list(np.flatnonzero(beside_edges(edges, 2.5)[4])) == [8, 9, 10, 11, 12]
    assert not beside_edges(np.zeros((3, 3), bool), 5.0).any()


def test_too_weak_is_below_the_limit_times_the_factor() -> None:
    signal = np.array([[0.009, 0.011, 0.03]], np.float32)
    assert list(too_weak(signal, 0.01, 0.0)[0]) == [True, False, False]
    assert list(too_weak(signal, 0.01, 1.0)[0]) == [True, True, False]


@pytest.mark.parametrize("cell", [1.0, 3.7, 40.0, 500.0])
def test_smooth_noise_has_a_mean_square_of_one_and_is_as_smooth_as_its_cells(cell: float) -> None:
    noise = smooth_noise(np.random.default_rng(0), (120, 160), cell)
    assert noise.shape == (120, 160)
    assert noise.dtype == np.float32
    assert np.mean(np.square(noise)) == pytest.approx(1.0, rel=1e-3)
    roughness = float(np.abs(np.diff(noise, axis=1)).mean())
    assert roughness == pytest.approx(1.13, rel=0.05) if cell == 1.0 else roughness < 2.5 / cell


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_blobs_and_speckle_cover_their_share_on_average(share: float) -> None:
    rng = np.random.default_rng(1)
    covered = np.mean([blobs(rng, (120, 160), share, 10.0).mean() for _ in range(20)])
    assert covered == pytest.approx(share, abs=0.003 + 0.05 * share)
    if share < 0.1:
        strewn = np.mean([speckle(rng, (120, 160), share).mean() for _ in range(20)])
        assert strewn == pytest.approx(share, rel=0.1)


def test_blobs_hang_together_and_speckle_does_not() -> None:
    rng = np.random.default_rng(1)
    blob, dots = blobs(rng, (120, 160), 0.05, 20.0), speckle(rng, (120, 160), 0.05)
    together = [(mask[:, 1:] & mask[:, :-1]).sum() / mask.sum() for mask in (blob, dots)]
    assert together[0] > 0.7
    assert together[1] < 0.15


def test_the_border_has_a_band_on_each_side() -> None:
    lost = border((8, 10), (1, 2, 3, 4))
    kept = np.argwhere(~lost)
    assert kept.min(axis=0).tolist() == [2, 1]
    assert kept.max(axis=0).tolist() == [3, 6]
    assert border((3, 3), (9, 9, 9, 9)).all()


def test_noise_grows_with_its_power_of_depth_and_keeps_holes() -> None:
    for power in (1.0, 2.0):
        spread = []
        for depth_m in (1.0, 3.0):
            depth = np.full((200, 200), depth_m, np.float32)
            depth[0, 0] = NAN
            noisy = add_noise(
                depth, np.full_like(depth, 0.01), power, 1.0, np.random.default_rng(0)
            )
            assert np.isnan(noisy).sum() == 1
            spread.append(np.nanstd(noisy))
        assert spread[0] == pytest.approx(0.01, rel=0.03)
        assert spread[1] == pytest.approx(0.01 * 3.0**power, rel=0.03)


@given(depth_m=st.floats(0.4, 6.0))
def test_disparity_counts_leave_depth_within_half_a_step_that_grows_with_its_square(
    depth_m: float,
) -> None:
    depth = np.array([[depth_m, NAN]], np.float32)
    counted = quantise_disparity(depth, 0.0029)
    assert np.isnan(counted[0, 1])
    assert abs(counted[0, 0] - depth_m) < 0.51 * 0.0029 * depth_m**2 / (1 - 0.0029 * depth_m)


def test_a_kinect_has_the_depth_steps_that_its_recordings_show() -> None:
    # Eighths of a pixel at 580 px and 75 mm; recordings step by 1, 3 and 5 mm at these depths.
    for depth_m, step_mm in ((0.6, 1.0), (1.0, 3.0), (1.3, 5.0)):
        depth = np.linspace(depth_m, depth_m + 0.05, 5000, dtype=np.float32)[None]
        steps = np.diff(np.unique(quantise_disparity(depth, 0.125 / 580 / 0.075))) * 1000
        assert np.median(steps) == pytest.approx(step_mm, abs=0.3)


def test_rounding_gives_the_numbers_of_a_millimetre_file_and_nan_for_the_impossible() -> None:
    depth = np.array([[0.6004, 0.0002, -1.0, np.nan, np.inf]], np.float32)
    rounded = round_to_step(depth, 0.001)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, np.array([[0.6, NAN, NAN, NAN, NAN]], np.float32))


def test_fattening_moves_outlines_by_no_more_than_its_reach_and_invents_no_depth() -> None:
    depth = step(size=(200, 120))
    changed = fatten_foreground(depth, 3.0, np.random.default_rng(0)) != depth
    columns = np.flatnonzero(changed.any(axis=0))
    assert set(columns) <= {*range(46, 54), *range(76, 84)}
    assert changed[:, 46:50].any()
    assert changed[:, 50:54].any()
    grown = fatten_foreground(depth, 3.0, np.random.default_rng(0))
    assert set(np.unique(grown)) == set(np.unique(depth))


def test_fattening_leaves_a_steep_plane_alone() -> None:
    depth = plane((0.0, 0.6, 0.8))
    out = fatten_foreground(depth, 2.0, np.random.default_rng(0))
    assert np.abs(out / depth - 1.0).max() < 0.03


def test_flying_pixels_lie_between_front_and_back_at_edges_only() -> None:
    depth = step() + np.linspace(0.0, 0.01, 120, dtype=np.float32)
    depth[3] = NAN
    edges = depth_edges(inverse_depth(depth))
    out = mix_flying_pixels(depth, edges, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(np.isnan(out), np.isnan(depth))
    np.testing.assert_array_equal(out[~edges], depth[~edges])
    flying = out[(out != depth) & ~np.isnan(out)]
    assert flying.min() > 0.8
    assert flying.max() < 1.61
    # Two vertical edges of two pixels in 37 rows, and both rows beside the lost one.
    assert len(flying) == pytest.approx(0.5 * (4 * 37 + 2 * 120), rel=0.15)


def test_looking_up_gives_the_nearest_value_and_nan_outside() -> None:
    depth = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    x = np.array([[0.4, 1.6, 2.6], [-0.6, 1.0, 0.0]], np.float32)
    y = np.array([[0.0, 0.4, 0.0], [0.0, 1.4, 5.0]], np.float32)
    np.testing.assert_array_equal(look_up(depth, x, y), [[1.0, 3.0, NAN], [NAN, 5.0, NAN]])
