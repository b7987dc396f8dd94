from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibnet_core.data.datasets import RgbdSample, measures
from calibnet_core.structures import RgbdFrame


def sample(masks: np.ndarray, is_crowd: list[bool] | None = None, **depth) -> RgbdSample:
    size = masks.shape[1:]
    depth = depth or {"depth_m": np.ones(size, np.float32)}
    return RgbdSample(
        image_id=1,
        file_name="1.png",
        scene="1",
        frame=RgbdFrame(rgb=np.zeros((*size, 3), np.uint8), **depth),
        masks=masks,
        is_crowd=np.array(is_crowd or [False] * len(masks), bool),
    )


def boxes(size: tuple[int, int], *corners: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((len(corners), *size), bool)
    for mask, (left, top, right, bottom) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def best_threshold(levels: np.ndarray) -> float:
    """The largest variance between two classes, tried out threshold by threshold."""
    best = 0.0
    for threshold in range(256):
        low, high = levels[levels <= threshold], levels[levels > threshold]
        if len(low) and len(high):
            weight = len(low) * len(high) / levels.size**2
            best = max(best, weight * (float(low.mean()) - float(high.mean())) ** 2)
    return best


@given(
    levels=hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 255)),
    near_is=st.sampled_from(["dark", "bright"]),
)
def test_near_and_far_are_parted_as_well_as_can_be(levels: np.ndarray, near_is) -> None:
    frame = RgbdFrame(rgb=np.zeros((6, 7, 3), np.uint8), depth_map=levels)
    near, is_measured = measures.near_region(frame, near_is)
    assert is_measured.all()
    if levels.min() == levels.max():
        assert not near.any()
        return
    own, other = levels[near].astype(float), levels[~near].astype(float)
    assert (own.max() < other.min()) if near_is == "dark" else (own.min() > other.max())
    weight = len(own) * len(other) / levels.size**2
    assert weight * (own.mean() - other.mean()) ** 2 == pytest.approx(best_threshold(levels))


def test_measured_depth_is_parted_among_measured_pixels_only() -> None:
    depth_m = np.full((10, 10), 2.0, np.float32)
    depth_m[:3] = 0.8
    depth_m[9] = np.nan
    depth_m[8, 0] = 0.0
    near, is_measured = measures.near_region(
        RgbdFrame(rgb=np.zeros((10, 10, 3), np.uint8), depth_m=depth_m)
    )
    assert near[:3].all()
    assert not near[3:].any()
    assert not is_measured[9].any()
    assert not is_measured[8, 0]
    assert is_measured.sum() == 89


def test_a_wrong_pixel_far_away_does_not_move_the_threshold() -> None:
    depth_m = np.full((20, 20), 2.0, np.float32)
    depth_m[:6] = 0.8
    depth_m[19, 19] = 5000.0
    frame = RgbdFrame(rgb=np.zeros((20, 20, 3), np.uint8), depth_m=depth_m)
    near, _ = measures.near_region(frame)
    assert near[:6].all()
    assert not near[6:].any()


@pytest.mark.parametrize("value", [np.nan, 1.5])
def test_depth_without_contrast_has_nothing_near(value: float) -> None:
    frame = RgbdFrame(rgb=np.zeros((4, 4, 3), np.uint8), depth_m=np.full((4, 4), value, np.float32))
    near, is_measured = measures.near_region(frame)
    assert not near.any()
    assert is_measured.all() == (not np.isnan(value))


def test_distances_of_hand_made_masks() -> None:
    # 6 wide and 8 high: the half diagonal is 5.
    masks = boxes((8, 6), (0, 0, 6, 8), (0, 0, 1, 1), (2, 0, 4, 2))
    center = measures.center_distances(masks)
    np.testing.assert_allclose(center, [0.0, math.hypot(2.5, 3.5) / 5, 3.0 / 5])
    margin = measures.margin_distances(masks)
    corner = math.hypot(2.5, 3.5) / 5
    np.testing.assert_allclose(margin, [corner, corner, math.hypot(0.5, 3.5) / 5])


@given(
    masks=hnp.arrays(
        np.bool_, st.tuples(st.just(2), st.integers(1, 20), st.integers(1, 20))
    ).filter(lambda masks: masks.any(axis=(1, 2)).all())
)
def test_no_pixel_is_nearer_than_its_mean_says(masks: np.ndarray) -> None:
    center, margin = measures.center_distances(masks), measures.margin_distances(masks)
    assert (center >= 0).all()
    assert (center <= margin + 1e-12).all()
    assert (margin <= 1).all()
    np.testing.assert_allclose(measures.center_distances(masks[:, ::-1, ::-1]), center, atol=1e-12)


@given(size=st.tuples(st.integers(1, 200), st.integers(1, 200)), number=st.integers(0, 3))
def test_coverage_keeps_the_share_of_the_image(size: tuple[int, int], number: int) -> None:
    masks = np.random.default_rng(number).random((number, *size)) < 0.3
    cells = measures.coverage(masks)
    assert cells.shape == (measures.GRID, measures.GRID)
    assert cells.mean() == pytest.approx(masks.sum() / (size[0] * size[1]))
    assert cells.min() >= 0
    assert cells.max() <= number + 1e-9


def test_coverage_averages_whole_blocks_where_they_fit() -> None:
    masks = np.random.default_rng(0).random((2, 192, 128)) < 0.5
    blocks = masks.sum(axis=0).reshape(64, 3, 64, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(measures.coverage(masks), blocks)


def test_intersection_over_union() -> None:
    first, second = boxes((4, 4), (0, 0, 2, 2), (1, 0, 3, 2))
    assert measures.iou(first, second) == pytest.approx(1 / 3)
    assert measures.iou(first, ~first) == 0.0
    assert measures.iou(first & ~first, first & ~first) is None


def test_one_image_measured_by_hand() -> None:
    masks = boxes((8, 10), (0, 0, 4, 4), (4, 0, 6, 4), (8, 6, 10, 8))
    depth_m = np.full((8, 10), 2.0, np.float32)
    depth_m[:4, :3] = 0.9
    depth_m[:, 6:8] = np.nan
    region = boxes((8, 10), (0, 0, 6, 4))[0]
    found = measures.measure_image(
        sample(masks, [False, False, True], depth_m=depth_m), region, "dark"
    )
    assert found.size == (8, 10)
    assert found.areas_px.tolist() == [16, 8]
    assert found.coverage.mean() == pytest.approx(24 / 80)
    # The crowd is labelled foreground: 24 + 4 pixels, 24 of them in the region.
    assert found.object_iou == pytest.approx(24 / 28)
    assert found.depth_iou == pytest.approx(12 / 24)


def test_without_region_labels_the_masks_stand_for_saliency() -> None:
    masks = boxes((8, 10), (0, 0, 4, 4))
    depth_m = np.full((8, 10), 2.0, np.float32)
    depth_m[:4, :3] = 0.9
    found = measures.measure_image(sample(masks, depth_m=depth_m))
    assert found.object_iou is None
    assert found.depth_iou == pytest.approx(12 / 16)


def test_pixels_without_depth_take_no_part_in_the_comparison() -> None:
    masks = boxes((8, 10), (0, 0, 4, 4))
    depth_m = np.full((8, 10), 2.0, np.float32)
    depth_m[:4, :3] = 0.9
    depth_m[:4, 3] = np.nan
    assert measures.measure_image(sample(masks, depth_m=depth_m)).depth_iou == 1.0


def test_an_image_with_nothing_in_it() -> None:
    found = measures.measure_image(
        sample(np.zeros((0, 8, 10), bool), depth_m=np.full((8, 10), np.nan, np.float32)),
        np.zeros((8, 10), bool),
    )
    assert found.areas_px.shape == found.center_distances.shape == (0,)
    assert found.margin_distances.shape == (0,)
    assert not found.coverage.any()
    assert found.object_iou is None
    assert found.depth_iou is None
