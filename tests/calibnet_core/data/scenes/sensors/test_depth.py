from __future__ import annotations

import math
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.data.analytic_scene import render_sequence
from calibnet_core.data.scenes.sensors.depth import (
    DepthSensor,
    SensorKind,
    observe,
    sample_sensor,
)
from calibnet_core.structures import CameraIntrinsics

KINDS: tuple[SensorKind, ...] = ("structured_light", "active_stereo", "time_of_flight", "ideal")
PERFECT = DepthSensor(kind="structured_light")


def camera(height: int, width: int) -> CameraIntrinsics:
    return CameraIntrinsics(
        height=height,
        width=width,
        fx=0.9 * width,
        fy=0.9 * width,
        cx=(width - 1) / 2,
        cy=(height - 1) / 2,
    )


def board(height: int = 120, width: int = 160) -> np.ndarray:
    depth = np.full((height, width), 1.2, np.float32)
    depth[height // 4 : 3 * height // 4, width // 3 : 2 * width // 3] = 0.7
    return depth


def test_a_sensor_without_faults_rounds_to_its_step_and_nothing_else() -> None:
    depth = np.linspace(0.5, 2.0, 120 * 160, dtype=np.float32).reshape(120, 160)
    depth[5:9, 7] = np.nan
    for kind in KINDS:
        seen = observe(depth, camera(120, 160), DepthSensor(kind=kind), np.random.default_rng(0))
        np.testing.assert_allclose(seen, depth, atol=0.00051, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_gives_the_same_picture_and_leaves_the_input_alone(
    kind: SensorKind,
) -> None:
    depth = board()
    pictures = []
    for _ in range(2):
        rng = np.random.default_rng(4)
        pictures.append(observe(depth, camera(120, 160), sample_sensor(rng, kind), rng))
    np.testing.assert_array_equal(*pictures)
    np.testing.assert_array_equal(depth, board())
    other = observe(depth, camera(120, 160), PERFECT, np.random.default_rng(5))
    assert kind == "ideal" or not np.array_equal(other, pictures[0], equal_nan=True)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1 << 30),
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_size_and_any_holes_give_finite_depth_in_range_or_nan(
    seed: int, kind: SensorKind, height: int, width: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.05, 9.0, (height, width)).astype(np.float32)
    depth[rng.random((height, width)) < share] = np.nan
    sensor = sample_sensor(rng, kind)
    seen = observe(depth, camera(height, width), sensor, rng, reflectance=np.zeros_like(depth) + 1)
    assert seen.shape == depth.shape
    assert seen.dtype == np.float32
    measured = seen[~np.isnan(seen)]
    assert np.isfinite(measured).all()
    assert (measured >= sensor.range_m[0] - 0.001).all()
    assert (measured <= sensor.range_m[1] + 0.001).all()
    if share == 1.0:
        assert not len(measured)


@pytest.mark.parametrize("size", [(120, 160), (240, 320), (720, 1280)])
def test_holes_cover_about_the_same_share_at_any_size(size: tuple[int, int]) -> None:
    shares = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        seen = observe(board(*size), camera(*size), sample_sensor(rng, "structured_light"), rng)
        shares.append(np.isnan(seen).mean())
    small = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        seen = observe(board(), camera(120, 160), sample_sensor(rng, "structured_light"), rng)
        small.append(np.isnan(seen).mean())
    np.testing.assert_allclose(shares, small, atol=0.04)


def test_a_kinect_loses_more_on_the_left_of_a_board_than_on_the_right() -> None:
    sensor = replace(PERFECT, viewpoints_m=(0.05, -0.025))
    seen = observe(board(480, 640), camera(480, 640), sensor, np.random.default_rng(0))
    width = 0.9 * 640 * (1 / 0.7 - 1 / 1.2)
    row = np.isnan(seen[240])
    assert row[:320].sum() == pytest.approx(0.05 * width, abs=1.0)
    assert row[320:].sum() == pytest.approx(0.025 * width, abs=1.0)
    assert not np.isnan(seen[10]).any()


def test_dark_things_are_lost_before_bright_ones_and_far_ones_before_near_ones() -> None:
    depth = np.full((60, 80), 1.0, np.float32)
    depth[30:] = 3.0
    reflectance = np.full((60, 80), 0.5, np.float32)
    reflectance[:, :40] = 0.02
    sensor = replace(PERFECT, kind="time_of_flight", signal_limit=0.02)
    seen = np.isnan(
        observe(
            depth, camera(60, 80), sensor, np.random.default_rng(0), reflectance=reflectance * 0.5
        )
    )
    lost = [[block.mean() for block in np.split(half, 2, axis=1)] for half in np.split(seen, 2)]
    assert lost[0][0] > 0.9
    assert lost[0][1] == 0.0
    assert lost[1][0] == 1.0
    assert 0.05 < lost[1][1] < 0.95


def test_a_slanted_surface_returns_less_light() -> None:
    intrinsics = camera(60, 80)
    slope = (np.arange(80) - intrinsics.cx) / intrinsics.fx
    slanted = np.tile((1.0 / (1.0 + 2.0 * slope)).astype(np.float32), (60, 1))[:, 30:50]
    facing = np.ones((60, 20), np.float32)
    narrow = replace(intrinsics, width=20, cx=intrinsics.cx - 30)
    # The cosine of 2 in 1 is 0.45, so 0.22 of the light comes back and not 0.5.
    sensor = replace(PERFECT, signal_limit=0.33)
    rng = np.random.default_rng(0)
    lost = [np.isnan(observe(depth, narrow, sensor, rng)).mean() for depth in (slanted, facing)]
    assert lost[0] > 0.7
    assert lost[1] < 0.3


def test_what_is_no_depth_stays_without_depth() -> None:
    depth = board()
    depth[0, :4] = (np.inf, 0.0, -1.0, np.nan)
    for kind in KINDS:
        seen = observe(depth, camera(120, 160), DepthSensor(kind=kind), np.random.default_rng(0))
        assert np.flatnonzero(np.isnan(seen)).tolist() == [0, 1, 2, 3]


def test_edge_loss_and_flying_pixels_stay_beside_edges() -> None:
    depth = board(480, 640) + np.linspace(0.0, 0.05, 640, dtype=np.float32)
    beside = cv2.dilate((board(480, 640) < 1.0).astype(np.uint8), np.ones((49, 49))) > 0
    beside &= cv2.erode((board(480, 640) < 1.0).astype(np.uint8), np.ones((49, 49))) == 0
    for fault in ({"edge_loss_px": 5.0}, {"flying_share": 0.7}):
        sensor = replace(PERFECT, **fault)
        seen = observe(depth, camera(480, 640), sensor, np.random.default_rng(0))
        is_wrong = ~(np.abs(seen - depth) < 0.001)
        assert is_wrong.sum() > 500
        assert not is_wrong[~beside].any()


def test_glare_is_lost_where_it_is_near_and_white() -> None:
    depth = np.full((60, 80), 0.4, np.float32)
    depth[30:] = 2.0
    sensor = replace(PERFECT, glare_limit=2.0)
    white = np.ones((60, 80), np.float32)
    seen = observe(depth, camera(60, 80), sensor, np.random.default_rng(0), reflectance=white)
    assert np.isnan(seen[:29]).mean() > 0.9
    assert not np.isnan(seen[31:]).any()


def test_a_floor_seen_flat_is_lost_towards_the_horizon() -> None:
    intrinsics = camera(120, 160)
    rows = (np.arange(120) - 20.0) / intrinsics.fy
    with np.errstate(divide="ignore"):
        depth = np.where(rows > 0.0, 0.6 / rows, np.nan)[:, None] * np.ones((1, 160))
    flat = replace(PERFECT, grazing_cosine=0.3)
    floor, rng = depth.astype(np.float32), np.random.default_rng(0)
    seen = [observe(floor, intrinsics, flat, rng) for _ in range(20)]
    lost = np.isnan(seen).mean(axis=(0, 2))
    # Row 20 is the horizon; the sine of the angle below it is the cosine of incidence.
    assert lost[21:35].min() > 0.9
    assert lost[62:67].mean() == pytest.approx(0.5, abs=0.1)  # 0.3 lies in row 65
    assert lost[100:].mean() < 0.1


def test_time_of_flight_is_noisier_on_dark_things() -> None:
    depth = np.full((100, 200), 1.5, np.float32)
    reflectance = np.full((100, 200), 0.8, np.float32)
    reflectance[:, 100:] = 0.08
    spread = {}
    for kind in ("time_of_flight", "structured_light"):
        sensor = replace(PERFECT, kind=kind, noise_m=0.005, noise_cell_px=0.0)
        rng = np.random.default_rng(0)
        seen = observe(depth, camera(100, 200), sensor, rng, reflectance=reflectance)
        spread[kind] = seen[:, 120:].std() / seen[:, :80].std()
    # Facing signals of 0.8 and 0.08 over 1.5², of which no more than 0.3 counts.
    assert spread["time_of_flight"] == pytest.approx(math.sqrt(0.3 * 1.5**2 / 0.08), rel=0.1)
    assert spread["structured_light"] == pytest.approx(1.0, rel=0.05)


def test_depth_is_shifted_and_scaled_against_colour() -> None:
    depth = board(480, 640)
    shifted = observe(
        depth, camera(480, 640), replace(PERFECT, shift_px=(3.0, -2.0)), np.random.default_rng(0)
    )
    np.testing.assert_allclose(shifted[:478, 3:], depth[2:, :637], atol=0.0006)
    assert np.isnan(shifted[:, :3]).all()
    assert np.isnan(shifted[478:]).all()
    scaled = observe(depth, camera(480, 640), replace(PERFECT, scale=1.1), np.random.default_rng(0))
    assert (scaled < 1.0).sum() == pytest.approx(1.21 * (depth < 1.0).sum(), rel=0.02)


def test_wobbling_edges_move_by_little_and_invent_no_depth() -> None:
    depth = board(480, 640)
    seen = observe(
        depth, camera(480, 640), replace(PERFECT, jitter_px=1.0), np.random.default_rng(0)
    )
    near = seen < 1.0
    changed = near != (depth < 1.0)
    assert 100 < changed.sum() < 6000
    assert not changed[:, 330:410][:110].any()
    assert set(np.unique(seen[~np.isnan(seen)])) == {np.float32(0.7), np.float32(1.2)}


def test_torn_places_are_shifted_by_so_much_more() -> None:
    depth = np.tile(np.linspace(1.0, 2.0, 640, dtype=np.float32), (480, 1))
    sensor = replace(PERFECT, torn_share=0.2, torn_px=4.0)
    seen = observe(depth, camera(480, 640), sensor, np.random.default_rng(0))
    moved = np.rint((depth - seen)[:, 10:] * 639)
    assert set(np.unique(moved)) <= {-1.0, 0.0, 1.0, 3.0, 4.0, 5.0}
    assert (moved > 2).mean() == pytest.approx(0.2, abs=0.05)


def test_every_kind_is_drawn_and_every_figure_lies_where_devices_have_it() -> None:
    rng = np.random.default_rng(0)
    sensors = [sample_sensor(rng) for _ in range(400)]
    counts = {kind: sum(sensor.kind == kind for sensor in sensors) for kind in KINDS}
    assert min(counts.values()) >= 8
    assert max(counts, key=lambda kind: counts[kind]) == "structured_light"
    for sensor in sensors:
        for field in fields(sensor):
            value = getattr(sensor, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                assert isinstance(number, str) or not math.isnan(number)
        assert max(map(abs, sensor.shift_px)) <= 3.0
        if sensor.kind != "ideal":
            assert 0.15 <= sensor.range_m[0] <= 0.55
            assert 3.5 <= sensor.range_m[1] <= 10.0
        if sensor.kind == "structured_light":
            baseline = abs(sensor.viewpoints_m[0] - sensor.viewpoints_m[1])
            assert baseline == pytest.approx(0.075, rel=0.16)


def test_a_furnished_scene_loses_a_few_to_a_third_of_its_pixels_and_little_accuracy() -> None:
    frame = next(render_sequence(1, (120, 160), seed=3))
    intrinsics = frame.camera.intrinsics
    for kind in KINDS[:3]:
        shares, errors = [], []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            seen = observe(frame.depth_m, intrinsics, sample_sensor(rng, kind), rng)
            shares.append(np.isnan(seen).mean())
            errors.append(np.nanmedian(np.abs(seen - frame.depth_m)))
        assert 0.01 < np.median(shares) < 0.35
        assert max(shares) < 0.6
        assert np.median(errors) < 0.015
