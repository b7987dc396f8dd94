from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.object_overlap import (
    ImageOverlap,
    ObjectOverlap,
    PixelCounts,
    boundary_pixels,
)
from tests.calibnet_core.evaluation.coco_sets import box_mask

SIZE = (60, 80)  # the diagonal is 100 pixels


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    return box_mask(top, left, height, width, SIZE)


def stack(*masks: np.ndarray) -> np.ndarray:
    return np.array(masks, bool).reshape(-1, *SIZE)


def compare(objects: np.ndarray, masks: np.ndarray, **arguments) -> ImageOverlap:
    return ObjectOverlap(**arguments).update(objects, masks)


def test_a_worked_case() -> None:
    # The first prediction covers 8 of 10 rows of the first object; the second finds nothing.
    image = compare(stack(box(10, 10, 10, 20)), stack(box(10, 10, 8, 20), box(40, 40, 5, 8)))
    assert image.pairs == ((0, 0),)
    assert image.overlap == PixelCounts(right=160, predicted=200, recovered=160, annotated=200)
    assert image.overlap.f == pytest.approx(80.0)
    assert (image.num_objects, image.num_found) == (1, 1)
    # Outlines of 10x20, 8x20 and 5x8 pixels; the tolerance is 1 pixel, the lower edges 2 apart.
    outline, shorter, stray = 2 * 20 + 2 * 8, 2 * 20 + 2 * 6, 2 * 8 + 2 * 3
    assert image.boundary.predicted == shorter + stray
    assert image.boundary.annotated == outline
    # Of the prediction's lower edge two pixels at either end touch the object's sides; the object's
    # whole lower edge lies 2 away.
    assert image.boundary.right == shorter - 16
    assert image.boundary.recovered == outline - 20


def test_the_pairing_with_the_highest_sum_is_taken_not_the_greedy_one() -> None:
    # Greedy would pair the middle prediction with the object it fits best and leave the rest.
    objects = stack(box(0, 0, 10, 40), box(0, 40, 10, 40))
    masks = stack(box(0, 10, 10, 58), box(20, 0, 10, 40) | box(0, 0, 10, 10))
    image = compare(objects, masks)
    assert image.pairs == ((0, 1), (1, 0))


@st.composite
def scenes(draw) -> tuple[np.ndarray, np.ndarray]:
    """Up to three boxes on either side; the predictions do not overlap."""

    def boxes() -> np.ndarray:
        side = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 8)] * 2)
        return stack_of([box_mask(*b, (9, 10)) for b in draw(st.lists(side, max_size=3))])

    def stack_of(masks: list[np.ndarray]) -> np.ndarray:
        return np.array(masks, bool).reshape(-1, 9, 10)

    masks = boxes()
    for later in range(1, len(masks)):
        masks[later] &= ~masks[:later].any(axis=0)
    return boxes(), masks


@given(scene=scenes())
def test_counts_equal_those_of_trying_every_pairing(scene) -> None:
    objects, masks = scene
    image = compare(objects, masks)
    best = 0.0
    count = max(len(objects), len(masks))
    for order in itertools.permutations(range(count)):
        total = 0.0
        for i, j in enumerate(order):
            if i < len(objects) and j < len(masks) and masks[j].any():
                shared = (objects[i] & masks[j]).sum()
                total += 2 * shared / (objects[i].sum() + masks[j].sum())
        best = max(best, total)
    reached = sum(
        2 * (objects[i] & masks[j]).sum() / (objects[i].sum() + masks[j].sum())
        for i, j in image.pairs
    )
    assert reached == pytest.approx(best)
    assert image.overlap.right == sum((objects[i] & masks[j]).sum() for i, j in image.pairs)
    assert image.overlap.predicted == masks.sum()
    assert image.overlap.annotated == objects.sum()


@given(scene=scenes(), tolerance=st.sampled_from([0.0, 0.1]))
def test_boundary_counts_equal_those_of_measuring_every_distance(scene, tolerance: float) -> None:
    objects, masks = scene
    image = compare(objects, masks, boundary_tolerance=tolerance)
    radius = math.ceil(tolerance * math.hypot(9, 10))

    def near(pixels: np.ndarray, others: np.ndarray) -> int:
        points, targets = np.argwhere(pixels), np.argwhere(others)
        if not len(points) or not len(targets):
            return 0
        squares = ((points[:, None] - targets[None]) ** 2).sum(axis=2)
        return int((squares.min(axis=1) <= radius**2).sum())

    right = recovered = 0
    for i, j in image.pairs:
        outline, other = boundary_pixels(masks[j]), boundary_pixels(objects[i])
        right += near(outline, other)
        recovered += near(other, outline)
    assert (image.boundary.right, image.boundary.recovered) == (right, recovered)


@settings(max_examples=30)
@given(scene=scenes())
def test_swapping_objects_and_predictions_swaps_precision_and_recall(scene) -> None:
    objects, masks = scene
    for later in range(1, len(objects)):
        objects[later] &= ~objects[:later].any(axis=0)
    one, other = compare(objects, masks), compare(masks, objects)
    assert one.overlap.f == pytest.approx(other.overlap.f)
    if one.pairs:  # two pairings may be equally good
        assert one.overlap.right == other.overlap.right or len(one.pairs) > 1


def test_perfect_masks_reach_100_everywhere() -> None:
    objects = stack(box(0, 0, 20, 30), box(30, 30, 20, 30))
    overlap = ObjectOverlap()
    overlap.update(objects, objects[::-1])
    figures = overlap.compute()
    for means in (figures.per_image, figures.pooled):
        assert set(vars(means).values()) == {100.0}


def test_an_object_at_the_edge_of_the_image_has_no_boundary_there() -> None:
    assert not boundary_pixels(np.ones((4, 5), bool)).any()
    corner = boundary_pixels(box_mask(0, 0, 3, 3, (6, 6)))
    assert np.argwhere(corner).tolist() == [[0, 2], [1, 2], [2, 0], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("objects", "masks", "expected"),
    [
        (stack(), stack(), (100.0, 100.0, 100.0)),
        (stack(box(0, 0, 5, 5)), stack(), (100.0, 0.0, 0.0)),
        (stack(), stack(box(0, 0, 5, 5)), (0.0, 100.0, 0.0)),
        (stack(box(0, 0, 5, 5)), stack(box(20, 20, 5, 5)), (0.0, 0.0, 0.0)),
        (stack(box(0, 0, 5, 5)), stack(box(0, 0, 0, 0)), (100.0, 0.0, 0.0)),
    ],
    ids=["nothing", "no prediction", "no object", "no overlap", "empty mask"],
)
def test_images_with_an_empty_side_follow_the_stated_convention(objects, masks, expected) -> None:
    counts = compare(objects, masks).overlap
    assert (counts.precision, counts.recall, counts.f) == expected


def test_where_predictions_overlap_the_first_keeps_the_pixels() -> None:
    image = compare(stack(box(0, 0, 10, 10)), stack(box(0, 0, 10, 10), box(0, 0, 10, 20)))
    assert image.overlap.predicted == 200
    assert image.pairs == ((0, 0),)


def test_predictions_in_a_crowd_count_for_nothing() -> None:
    objects = stack(box(0, 0, 10, 10))
    masks = stack(box(0, 0, 10, 10), box(20, 20, 10, 10))
    image = ObjectOverlap().update(objects, masks, is_outside=box(0, 0, 40, 40))
    assert (image.overlap.f, image.boundary.f) == (100.0, 100.0)


def test_per_image_and_pooled_figures_differ_as_stated() -> None:
    overlap = ObjectOverlap()
    small, large = stack(box(0, 0, 10, 10)), stack(box(0, 0, 30, 30), box(40, 40, 10, 10))
    overlap.update(small, small)
    overlap.update(large, stack())
    overlap.update(stack(), stack())
    figures = overlap.compute()
    assert figures.per_image.overlap_recall == pytest.approx((100 + 0 + 100) / 3)
    assert figures.pooled.overlap_recall == pytest.approx(100 * 100 / 1100)
    # Images without objects have no share of objects.
    assert figures.per_image.found_above_75 == pytest.approx(50.0)
    assert figures.pooled.found_above_75 == pytest.approx(100 / 3)
    assert (figures.num_images, figures.num_objects, figures.num_found) == (3, 3, 1)


def test_an_object_is_found_only_above_three_quarters() -> None:
    # F of 2 * 60 / (100 + 60) is 0.75 exactly.
    assert compare(stack(box(0, 0, 10, 10)), stack(box(0, 0, 6, 10))).num_found == 0
    assert compare(stack(box(0, 0, 10, 10)), stack(box(0, 0, 7, 10))).num_found == 1


def test_reset_forgets_and_an_empty_set_decides_nothing() -> None:
    overlap = ObjectOverlap()
    overlap.update(stack(box(0, 0, 5, 5)), stack())
    overlap.reset()
    figures = overlap.compute()
    assert figures.num_images == 0
    assert all(math.isnan(value) for value in vars(figures.per_image).values())
    assert all(math.isnan(value) for value in vars(figures.pooled).values())


def test_other_sizes_and_tolerances_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"objects have size \(60, 80\) but predictions"):
        ObjectOverlap().update(stack(), np.zeros((1, 4, 4), bool))
    with pytest.raises(EvaluationError, match="the boundary tolerance is 3"):
        ObjectOverlap(boundary_tolerance=3)
