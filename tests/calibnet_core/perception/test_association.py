from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.perception.association import (
    DISTANCE_SCALE_M,
    LONGEST_GROWTH_S,
    MIN_LIKENESS,
    SPEED_M_S,
    UNSURE_DISCOUNT,
    Look,
    common_step,
    likeness,
    match,
)
from calibnet_core.perception.mask_codec import Roi

UNKNOWN = (math.nan, math.nan, math.nan)
FOCAL = 100.0


def look(
    mask: NDArray[np.bool_], left: int, top: int, position: tuple[float, float, float] = UNKNOWN
) -> Look:
    height, width = mask.shape
    roi = Roi(x_offset=left, y_offset=top, height=height, width=width)
    return Look.of(mask, roi, np.array(position))


def square(left: int, top: int, side: int = 10, depth_m: float = math.nan) -> Look:
    """A square, and where a camera that looks along its upper left corner would see it."""
    mask = np.ones((side, side), np.bool_)
    center = (left + side / 2) / FOCAL, (top + side / 2) / FOCAL
    return look(mask, left, top, (center[0] * depth_m, center[1] * depth_m, depth_m))


def pixels_of(one: Look) -> set[tuple[int, int]]:
    rows, columns = np.nonzero(one.mask)
    return {(int(r) + one.box[1], int(c) + one.box[0]) for r, c in zip(rows, columns, strict=True)}


def likeness_by_definition(one: Look, unseen_s: float, other: Look, iou_weight: float) -> float:
    mine, theirs = pixels_of(one), pixels_of(other)
    iou = len(mine & theirs) / len(mine | theirs)
    distance = math.dist(one.position, other.position)
    if math.isnan(distance):
        return iou
    scale = DISTANCE_SCALE_M + SPEED_M_S * min(unseen_s, LONGEST_GROWTH_S)
    return iou_weight * iou + (1 - iou_weight) * math.exp(-distance / scale)


@st.composite
def random_looks(draw: st.DrawFn, max_size: int = 4) -> list[Look]:
    looks = []
    for _ in range(draw(st.integers(0, max_size))):
        height, width, bits = (draw(st.integers(1, top)) for top in (6, 6, 2**36 - 1))
        mask = np.array([bits >> k & 1 for k in range(height * width)], np.bool_)
        mask[0] = True  # no mask is empty
        place = [draw(st.floats(-0.5, 0.5)) for _ in range(3)]
        if draw(st.integers(0, 3)) == 0:
            place[draw(st.integers(0, 2))] = math.nan
        left, top = draw(st.integers(0, 8)), draw(st.integers(0, 8))
        looks.append(look(mask.reshape(height, width), left, top, (place[0], place[1], place[2])))
    return looks


@given(data=st.data(), known=random_looks(), looks=random_looks(), weight=st.floats(0.0, 1.0))
def test_the_matching_is_the_best_of_all_that_the_gate_allows(
    data: st.DataObject, known: list[Look], looks: list[Look], weight: float
) -> None:
    unseen_s = [data.draw(st.floats(0.0, 3.0)) for _ in known]
    is_sure = [data.draw(st.booleans()) for _ in looks]
    gains = [
        [
            likeness_by_definition(one, gap, other, weight) * (1.0 if sure else UNSURE_DISCOUNT)
            if likeness_by_definition(one, gap, other, weight) >= MIN_LIKENESS
            else -math.inf
            for other, sure in zip(looks, is_sure, strict=True)
        ]
        for one, gap in zip(known, unseen_s, strict=True)
    ]
    # Every look takes a track or one of as many blanks, in every way there is.
    best = max(
        sum(gains[row][k] for k, row in enumerate(rows) if row < len(known))
        for rows in itertools.permutations(range(len(known) + len(looks)), len(looks))
    )
    found = match(known, unseen_s, looks, is_sure=is_sure, iou_weight=weight)
    assert len(set(found.values())) == len(found)
    assert sum(gains[row][k] for k, row in found.items()) == pytest.approx(best, abs=1e-9)


@settings(max_examples=50)
@given(known=random_looks(), looks=random_looks(), weight=st.floats(0.0, 1.0))
def test_likeness_is_that_of_whole_images(
    known: list[Look], looks: list[Look], weight: float
) -> None:
    if known and looks:
        gaps = [0.7 * k for k in range(len(known))]
        expected = [
            [likeness_by_definition(one, gap, other, weight) for other in looks]
            for one, gap in zip(known, gaps, strict=True)
        ]
        np.testing.assert_allclose(
            likeness(known, gaps, looks, iou_weight=weight), expected, atol=1e-12
        )


def test_a_gap_widens_the_reach_but_not_without_end() -> None:
    here, there = square(0, 0, depth_m=1.0), square(40, 0, depth_m=1.0)  # 0.4 m apart

    def is_found(unseen_s: float) -> bool:
        return bool(match([here], [unseen_s], [there], is_sure=[True], iou_weight=0.5))

    assert [is_found(gap) for gap in (0.0, 0.1, 0.6, 1.0)] == [False, False, True, True]
    far = square(80, 0, depth_m=1.0)
    assert match([here], [30.0], [far], is_sure=[True], iou_weight=0.5) == {}


def test_an_unsure_duplicate_does_not_take_the_place_of_the_object() -> None:
    known, duplicate, same = square(0, 0, 20), square(0, 0, 20), square(1, 0, 20)
    assert match([known], [0.0], [duplicate, same], is_sure=[False, True], iou_weight=0.5) == {1: 0}


SCENE = ((10, 10, 12), (48, 22, 10), (70, 60, 14), (25, 55, 11), (95, 35, 13), (52, 90, 10))


def moved_scene(across: int, down: int, *, depth_m: float = math.nan) -> list[Look]:
    return [
        square(left + across, top + down, side, depth_m * (1 + 0.3 * k))
        for k, (left, top, side) in enumerate(SCENE)
    ]


def test_a_turn_of_the_camera_is_found_though_objects_vanish_and_appear() -> None:
    before, after = moved_scene(0, 0, depth_m=1.0), moved_scene(37, -9, depth_m=1.0)
    step = common_step(before[:5], [*after[1:], square(130, 120, 12, 1.0)])
    assert step is not None
    assert step.pixels == (37, -9)
    assert step.bearing == pytest.approx((0.37, -0.09))
    # The nearer and the farther object land where they are seen, each by its own way in metres.
    for old, new in zip(before, after, strict=True):
        assert old.moved(step).box == new.box
        np.testing.assert_allclose(old.moved(step).position, new.position)


def test_a_turn_is_found_without_depth() -> None:
    step = common_step(moved_scene(0, 0), moved_scene(-40, 5))
    assert step is not None
    assert (step.pixels, step.bearing) == ((-40, 5), (0.0, 0.0))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([square(0, 0)], [square(50, 0)]),
        ([square(0, 0), square(90, 0)], [square(0, 0), square(50, 0)]),
        ([square(x, 0) for x in (0, 30, 60, 90)], [square(x, 0) for x in (30, 60, 90, 120)]),
        ([square(x, 0, depth_m=1.0) for x in (0, 90)], [square(x, 0, 25) for x in (40, 130)]),
        ([square(x, 0, 10, 1.0) for x in (0, 90)], [square(x, 0, 10, 2.0) for x in (40, 130)]),
        ([square(x, 0) for x in (0, 90)], [square(50, 0), square(300, 200)]),
        ([square(0, 0), square(0, 200)], [square(50, 0), square(52, 0), square(50, 2)]),
        ([], [square(0, 0), square(50, 0)]),
        ([square(0, 0), square(50, 0)], []),
    ],
    ids=[
        "one object",
        "one of two",
        "row of cups",
        "other sizes",
        "other depths",
        "others",
        "one that broke",
        "none",
        "gone",
    ],
)
def test_what_is_no_turn_is_not_taken_for_one(before: list[Look], after: list[Look]) -> None:
    assert common_step(before, after) is None


def test_a_vote_of_hundreds_of_objects_stays_small() -> None:
    draw = np.random.default_rng(0)
    crowd = [(int(x), int(y)) for x, y in draw.integers(0, 2000, (100, 2))]
    before = [square(x, y, 10 + k) for k, (x, y) in enumerate(crowd)]
    after = [square(x + 300, y, 10 + k) for k, (x, y) in enumerate(crowd)]
    tracemalloc.start()
    step = common_step(before, after)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert step is not None
    assert step.pixels == (300, 0)
    assert peak < 20e6  # bytes; with all 100 voting it is 900e6
