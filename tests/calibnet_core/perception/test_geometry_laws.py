from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.perception.geometry import (
    GeometrySettings,
    GeometryStatus,
    ObjectGeometry,
    measure_objects,
)
from tests.support.analytic_objects import (
    CAMERAS,
    Cuboid,
    Picture,
    Slab,
    SphereCap,
    add_sensor_noise,
    frame_of,
    picture_of,
    render,
    turned,
    visible_mean,
)

PINHOLE = CAMERAS["pinhole"]
SMALL = replace(PINHOLE, height=40, width=48, cx=23.0, cy=20.0, fx=60.0, fy=62.0)
BOX = Cuboid(center=(0.1, 0.0, 0.9), size=(0.2, 0.12, 0.1), rotation=turned(x=35) @ turned(y=30))
SCENE = render(
    PINHOLE,
    [
        BOX,
        SphereCap(center=(-0.2, 0.05, 0.8), radius=0.07),
        Slab(center=(0.0, -0.2, 1.0), size=(0.2, 0.1), rotation=turned(y=40)),
    ],
)
SETTINGS = GeometrySettings()


def measure(picture: Picture, settings: GeometrySettings = SETTINGS) -> tuple[ObjectGeometry, ...]:
    return measure_objects(picture.frame, picture.masks, picture.rois, settings)


def assert_sound(geometry: ObjectGeometry) -> None:
    """Everything that a reader may rely on, whatever was measured."""
    assert 0.0 <= geometry.depth_valid_ratio <= 1.0
    assert (geometry.box_size >= 0.0).all()
    rotation = geometry.box_rotation
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-6)
    if geometry.status is GeometryStatus.OK:
        for field in fields(geometry):
            assert np.isfinite(getattr(geometry, field.name)).all(), field.name
        assert geometry.depth_near_m <= geometry.depth_median_m <= geometry.depth_far_m
        np.testing.assert_array_equal(geometry.covariance, geometry.covariance.T)
        assert np.linalg.eigvalsh(geometry.covariance).min() > 0.0
        assert geometry.surface_area_m2 > 0.0


@settings(max_examples=120)
@given(data=st.data())
def test_any_mask_and_depth_give_sound_figures(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (SMALL.height, SMALL.width)
    kind = data.draw(st.sampled_from(["flat", "ramp", "noise", "steps", "junk"]))
    ramp = np.linspace(0.2, 3.0, shape[1]) * np.ones(shape)
    depth = {
        "flat": np.full(shape, 1.0),
        "ramp": ramp,
        "noise": rng.uniform(0.0, 12.0, shape),
        "steps": np.round(ramp * 2) / 2,
        "junk": rng.choice([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-30, 1.0, 5.0, 3e38], shape),
    }[kind]
    depth[rng.random(shape) < data.draw(st.sampled_from([0.0, 0.3, 0.95]))] = np.nan
    mask = rng.random(shape) < data.draw(st.sampled_from([0.05, 0.5, 0.9, 1.1]))
    if data.draw(st.booleans()):
        mask[:, data.draw(st.integers(1, 40)) :] = False
    if data.draw(st.booleans()):
        mask[::2] = False
    mask[3, 4] = True
    chosen = GeometrySettings(
        stride=data.draw(st.integers(1, 16)),
        erode=data.draw(st.integers(0, 20)),
        min_points=data.draw(st.sampled_from([3, 10, 30])),
        min_m=data.draw(st.sampled_from([0.0, 0.1])),
        max_m=1000.0,
        depth_noise=data.draw(st.sampled_from([0.0, 0.0025])),
        box_up_axis=data.draw(st.sampled_from(["none", "camera"])),
    )
    distortion = data.draw(st.sampled_from([(), (-0.9, 0.0, 0.0, 0.0)]))
    camera = replace(SMALL, distortion_model="plumb_bob", distortion=distortion or (0.0,) * 4)
    for geometry in measure(picture_of(mask[None], frame_of(depth, camera)), chosen):
        assert_sound(geometry)


@settings(max_examples=8)
@given(factor=st.floats(0.5, 3.0))
def test_an_object_as_many_times_larger_as_farther_measures_as_many_times_larger(
    factor: float,
) -> None:
    near = SCENE
    far = near.with_depth(near.frame.depth_m * factor)
    # No noise, or distance alone would change the tolerances.
    chosen = GeometrySettings(depth_noise=0.0)
    for one, other in zip(measure(near, chosen), measure(far, chosen), strict=True):
        np.testing.assert_allclose(other.centroid, one.centroid * factor, rtol=1e-4)
        np.testing.assert_allclose(other.box_size, one.box_size * factor, rtol=1e-2, atol=1e-4)
        assert other.surface_area_m2 == pytest.approx(one.surface_area_m2 * factor**2, rel=1e-3)
        assert other.depth_far_m == pytest.approx(one.depth_far_m * factor, rel=1e-5)


@settings(max_examples=6)
@given(order=st.permutations([0, 1, 2]))
def test_the_order_of_the_masks_is_the_order_of_the_results(order: list[int]) -> None:
    rois = tuple(SCENE.rois[index] for index in order)
    turned_round = replace(SCENE, masks=SCENE.masks[order], rois=rois)
    expected = measure(SCENE)
    for index, geometry in zip(order, measure(turned_round), strict=True):
        for field in fields(geometry):
            np.testing.assert_array_equal(
                getattr(geometry, field.name), getattr(expected[index], field.name)
            )


def test_an_object_measures_the_same_whatever_else_is_in_the_picture() -> None:
    rod = np.zeros((480, 640), bool)
    rod[100:300, 60:63] = True  # too thin for the grid of the others
    frame = replace(SCENE.frame, depth_m=np.where(rod, np.float32(1.2), SCENE.frame.depth_m))
    masks = np.concatenate([SCENE.masks, rod[None]])
    together = measure(picture_of(masks, frame))
    assert {geometry.status for geometry in together} == {GeometryStatus.OK}
    for mask, expected in zip(masks, together, strict=True):
        (alone,) = measure(picture_of(mask[None], frame))
        for field in fields(alone):
            np.testing.assert_allclose(
                getattr(alone, field.name), getattr(expected, field.name), rtol=1e-5, atol=1e-9
            )


def test_a_mirrored_scene_gives_mirrored_results() -> None:
    # An odd width keeps the sampling grid in place.
    camera = replace(PINHOLE, width=639, cx=319.0)
    seen = render(camera, [BOX])
    mirrored = picture_of(
        seen.masks[..., ::-1].copy(), frame_of(seen.frame.depth_m[:, ::-1], camera)
    )
    one, other = measure(seen)[0], measure(mirrored)[0]
    flip = np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(other.centroid, one.centroid * flip, atol=1e-6)
    np.testing.assert_allclose(other.box_center, one.box_center * flip, atol=1e-3)
    np.testing.assert_allclose(other.box_size, one.box_size, rtol=0.01)
    assert other.surface_area_m2 == pytest.approx(one.surface_area_m2, rel=0.01)


@settings(max_examples=15)
@given(share=st.floats(0.0, 1.0), seed=st.integers(0, 2**32 - 1))
def test_missing_depth_lowers_the_valid_share_and_moves_little_else(
    share: float, seed: int
) -> None:
    gaps = np.random.default_rng(seed).random(SCENE.frame.depth_m.shape) < share
    holes = SCENE.with_depth(np.where(gaps, np.nan, SCENE.frame.depth_m))
    for full, partial, mask in zip(measure(SCENE), measure(holes), SCENE.masks, strict=True):
        assert_sound(partial)
        expected = 1.0 - np.count_nonzero(gaps & mask) / np.count_nonzero(mask)
        assert partial.depth_valid_ratio == pytest.approx(expected)
        if share < 0.4:
            assert partial.status is GeometryStatus.OK
            np.testing.assert_allclose(partial.centroid, full.centroid, atol=3e-3)
            np.testing.assert_allclose(partial.box_size, full.box_size, rtol=0.05, atol=8e-3)


@pytest.mark.parametrize("patch_px", [1, 8])
def test_the_covariance_covers_the_error_in_nine_of_ten_noisy_trials(patch_px: int) -> None:
    rng = np.random.default_rng(patch_px)
    squared, predicted, actual = [], [], []
    for _ in range(10):
        size = rng.uniform(0.05, 0.2)
        center = (rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15), rng.uniform(0.6, 1.5))
        angles = rng.uniform(-50, 50, 2)
        thing = Cuboid(
            center=center,
            size=tuple(size * rng.uniform(0.4, 1.0, 3)),
            rotation=turned(x=angles[0]) @ turned(y=angles[1]),
        )
        picture = render(PINHOLE, [thing])
        truth = visible_mean(PINHOLE, thing, picture.rois[0])
        for _ in range(5):
            noisy = add_sensor_noise(
                picture.frame.depth_m,
                rng,
                sigma_at_1m=SETTINGS.depth_noise,
                patch_px=patch_px,
            )
            (geometry,) = measure(picture.with_depth(np.round(noisy, 3)))
            error = geometry.centroid - truth
            squared.append(error @ np.linalg.solve(geometry.covariance, error))
            predicted.append(np.trace(geometry.covariance))
            actual.append(error @ error)
    # 6.25 holds 90 % of a chi-squared variable of three degrees of freedom.
    assert np.mean(np.array(squared) <= 6.25) >= 0.9
    assert np.sqrt(np.mean(predicted)) < 6.0 * np.sqrt(np.mean(actual))
