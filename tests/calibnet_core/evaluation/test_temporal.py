"""Steadiness and identity: worked cases, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.evaluation.temporal import IdSwitches, TrackedMask, TrackStability, roi_iou
from calibnet_core.perception.mask_codec import tight_roi

SIZE = (20, 30)
MS = 1_000_000


def box(top: int, left: int, height: int = 4, width: int = 5) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def tracked(track_id: int, mask: np.ndarray) -> TrackedMask:
    roi = tight_roi(mask)
    assert roi is not None
    return TrackedMask(track_id=track_id, roi=roi, mask=mask[roi.slices])


def test_a_track_that_vanishes_and_comes_back_is_one_return() -> None:
    stability = TrackStability(max_gap_s=0.1)
    shown = [[1, 2], [1], [1], [1, 2], [1, 2]]
    returns = [
        stability.update(k * 33 * MS, SIZE, [tracked(name, box(2, 8 * name)) for name in ids])
        for k, ids in enumerate(shown)
    ]
    assert [entry.num_returns for entry in returns] == [0, 0, 0, 1, 0]
    figures = stability.compute()
    assert (figures.num_frames, figures.num_tracks, figures.num_returns) == (5, 2, 1)
    assert figures.flicker_rate == pytest.approx(0.2)
    assert figures.num_compared == 5  # four of the first track, one of the second
    assert figures.mask_iou_mean == 1.0


@pytest.mark.parametrize(("gap_ms", "returns"), [(100, 1), (101, 0), (-500, 0)])
def test_only_a_gap_within_the_limit_counts_and_no_jump_back(gap_ms: int, returns: int) -> None:
    stability = TrackStability(max_gap_s=0.1)
    stability.update(1000 * MS, SIZE, [tracked(7, box(1, 1))])
    stability.update(1010 * MS, SIZE, [])
    back = stability.update((1000 + gap_ms) * MS, SIZE, [tracked(7, box(1, 1))])
    assert back.num_returns == returns


def test_overlap_is_taken_with_the_frame_before_only_and_at_one_size() -> None:
    stability = TrackStability(max_gap_s=1.0)
    stability.update(0, SIZE, [tracked(1, box(0, 0)), tracked(0, box(9, 9))])
    # Shifted by one of five columns: 16 pixels shared, 24 in all. What is not tracked is left out.
    moved = stability.update(33 * MS, SIZE, [tracked(1, box(0, 1)), tracked(0, box(9, 9))])
    assert moved.mask_ious == (pytest.approx(16 / 24),)
    resized = stability.update(66 * MS, (40, 60), [tracked(1, box(0, 1))])
    assert resized.mask_ious == ()


def test_no_frame_decides_nothing() -> None:
    figures = TrackStability(max_gap_s=1.0).compute()
    assert figures.num_frames == figures.num_tracks == 0
    assert math.isnan(figures.flicker_rate)
    assert math.isnan(figures.mask_iou_mean)


@given(st.integers(0, 2**32 - 1))
def test_overlap_of_crops_is_that_of_whole_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [
        box(*rng.integers(0, 12, 2), *rng.integers(1, 18, 2)) & (rng.random(SIZE) < 0.6)
        for _ in range(2)
    ]
    if all(mask.any() for mask in masks):
        shared, union = (masks[0] & masks[1]).sum(), (masks[0] | masks[1]).sum()
        first, second = (tracked(1, mask) for mask in masks)
        assert roi_iou(first, second) == pytest.approx(shared / union)
        assert roi_iou(first, second) == roi_iou(second, first)


def stack(*masks: np.ndarray) -> np.ndarray:
    return np.array(masks, bool).reshape(-1, *SIZE)


def test_two_objects_that_swap_their_tracks_are_two_switches() -> None:
    switches = IdSwitches()
    left, right = box(2, 2), box(2, 20)
    assert switches.update([10, 11], stack(left, right), [1, 2], stack(left, right)) == 0
    assert switches.update([10, 11], stack(left, right), [2, 1], stack(left, right)) == 2
    assert switches.num_switches == 2


def test_a_new_track_after_a_gap_is_a_switch_and_the_old_one_is_none() -> None:
    switches, here = IdSwitches(), box(2, 2)
    for track_id, expected in ((4, 0), (None, 0), (4, 0), (None, 0), (5, 1), (5, 0)):
        seen = [] if track_id is None else [track_id]
        masks = stack(*[here] * len(seen))
        assert switches.update([1], stack(here), seen, masks) == expected


def test_an_object_keeps_its_track_though_another_overlaps_more() -> None:
    switches, whole = IdSwitches(), box(0, 0, 10, 10)
    switches.update([1], stack(whole), [3], stack(box(0, 0, 10, 7)))
    again = stack(box(0, 0, 10, 7), whole)
    assert switches.update([1], stack(whole), [3, 4], again) == 0
    assert switches.update([1], stack(whole), [4], stack(whole)) == 1


def test_what_overlaps_too_little_or_is_not_tracked_matches_nothing() -> None:
    switches, whole = IdSwitches(), box(0, 0, 10, 10)
    switches.update([1], stack(whole), [1], stack(whole))
    assert switches.update([1], stack(whole), [2], stack(box(0, 0, 10, 4))) == 0
    assert switches.update([1], stack(whole), [0], stack(whole)) == 0
    assert switches.update([], stack(), [1], stack(whole)) == 0


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_the_order_of_objects_and_tracks_is_of_no_account(objects, tracks) -> None:
    masks = [box(0, 0), box(0, 10), box(8, 0), box(8, 10)]
    switches = IdSwitches()
    switches.update([1, 2, 3, 4], stack(*masks), [5, 6, 7, 8], stack(*masks))
    changed = [5, 7, 6, 9]
    found = switches.update(
        [1 + k for k in objects],
        stack(*[masks[k] for k in objects]),
        [changed[k] for k in tracks],
        stack(*[masks[k] for k in tracks]),
    )
    assert found == 3
