from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibnet_core.data.datasets.voting import part, propose

SIZE = (10, 12)


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_one_annotator_is_a_majority() -> None:
    masks = [box(0, 0, 3, 3), box(5, 5, 9, 9)]
    found = propose([masks])
    assert [proposal.members for proposal in found] == [((0, 0),), ((0, 1),)]
    for proposal, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(proposal.mask, mask)


def test_three_annotators_decide_pixel_by_pixel() -> None:
    (found,) = propose([[box(0, 0, 6, 6)], [box(1, 0, 7, 6)], [box(0, 0, 6, 5)]])
    assert found.members == ((0, 0), (1, 0), (2, 0))
    expected = box(0, 0, 6, 5) | box(1, 0, 6, 6)
    np.testing.assert_array_equal(found.mask, expected)
    assert found.votes.max() == 3


def test_two_annotators_must_agree_and_half_is_no_majority() -> None:
    (found,) = propose([[box(0, 0, 6, 6)], [box(1, 0, 7, 6)]])
    np.testing.assert_array_equal(found.mask, box(1, 0, 6, 6))


def test_annotators_who_saw_nothing_vote_too() -> None:
    (found,) = propose([[box(0, 0, 3, 3)], [], [box(0, 0, 3, 3)]])
    assert found.mask.any()
    (found,) = propose([[box(0, 0, 3, 3)], [], []])
    assert not found.mask.any()


def test_an_object_that_the_first_annotator_missed_is_found() -> None:
    found = propose([[], [box(0, 0, 3, 3)], [box(0, 0, 3, 3)]])
    assert [proposal.members for proposal in found] == [((1, 0), (2, 0))]


def test_nobody_and_nothing() -> None:
    assert propose([]) == []
    assert propose([[], []]) == []
    assert part([]) == []


def test_masks_that_overlap_too_little_are_two_objects() -> None:
    masks = [[box(0, 0, 4, 4)], [box(2, 0, 6, 4)]]
    assert len(propose(masks, min_iou=0.5)) == 2
    assert len(propose(masks, min_iou=0.3)) == 1


def test_the_assignment_is_best_as_a_whole() -> None:
    # Greedily the first pair would take the mask that is the only partner of the second.
    wide, left, right = box(0, 0, 8, 4), box(0, 0, 5, 4), box(3, 0, 8, 4)
    found = propose([[wide, left], [wide & box(0, 0, 7, 4), right]], min_iou=0.2)
    assert sorted(proposal.members for proposal in found) == [((0, 0), (1, 1)), ((0, 1), (1, 0))]


def test_pairs_below_the_limit_cannot_outweigh_a_good_one() -> None:
    # IoU 0.6 for the first pair; 0.375 each for the two pairs that would take its masks apart.
    first = [box(0, 0, 8, 1), box(7, 0, 10, 1)]
    second = [box(2, 0, 10, 1), box(0, 0, 3, 1)]
    found = propose([first, second], min_iou=0.5)
    assert sorted(proposal.members for proposal in found) == [
        ((0, 0), (1, 0)),
        ((0, 1),),
        ((1, 1),),
    ]


def test_the_overlap_with_a_group_is_the_mean_over_its_members() -> None:
    # The third mask overlaps the two others by 0.5 each: together that would be above the limit.
    first, second = box(0, 0, 10, 1), box(0, 0, 10, 1)
    third = box(4, 0, 12, 1)
    found = propose([[first], [second], [third]], min_iou=0.6)
    assert [proposal.members for proposal in found] == [((0, 0), (1, 0)), ((2, 0),)]


LABELS = hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 3))


def masks_of(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == value for value in np.unique(labels) if value]


@given(images=st.lists(LABELS, min_size=1, max_size=5))
def test_label_images_never_lead_to_overlap(images: list[np.ndarray]) -> None:
    found = propose([masks_of(labels) for labels in images], min_iou=0.1)
    total = np.sum([proposal.mask for proposal in found], axis=0) if found else np.zeros(1)
    assert total.max() <= 1
    for proposal, mask in zip(found, part(found), strict=True):
        np.testing.assert_array_equal(mask, proposal.mask)


@given(images=st.lists(LABELS, min_size=1, max_size=4))
def test_every_mask_is_in_exactly_one_group(images: list[np.ndarray]) -> None:
    by_annotator = [masks_of(labels) for labels in images]
    members = [member for proposal in propose(by_annotator) for member in proposal.members]
    expected = [(a, i) for a, masks in enumerate(by_annotator) for i in range(len(masks))]
    assert sorted(members) == expected
    for proposal in propose(by_annotator):
        annotators = [annotator for annotator, _ in proposal.members]
        assert len(set(annotators)) == len(annotators)


@given(labels=LABELS, number=st.integers(1, 5))
def test_annotators_of_one_mind_are_taken_at_their_word(labels: np.ndarray, number: int) -> None:
    masks = masks_of(labels)
    found = propose([masks] * number)
    assert len(found) == len(masks)
    for proposal, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(proposal.mask, mask)


def test_a_contested_pixel_goes_to_the_one_with_more_votes() -> None:
    large, small = box(0, 0, 8, 8), box(4, 0, 8, 4)
    annotators = [[large, small], [large, small], [large]]
    whole, rest = part(propose(annotators))
    np.testing.assert_array_equal(whole, large)
    assert not rest.any()


def test_with_equal_votes_the_smaller_one_lies_in_front() -> None:
    large, small = box(0, 0, 8, 8), box(4, 0, 8, 4)
    for masks in ([large, small], [small, large]):
        parts = dict(zip(map(id, masks), part(propose([masks])), strict=True))
        np.testing.assert_array_equal(parts[id(small)], small)
        np.testing.assert_array_equal(parts[id(large)], large & ~small)


def test_equal_in_all_the_first_one_wins() -> None:
    first, second = part(propose([[box(0, 0, 4, 2), box(2, 0, 6, 2)]]))
    np.testing.assert_array_equal(first, box(0, 0, 4, 2))
    np.testing.assert_array_equal(second, box(4, 0, 6, 2))


@given(masks=hnp.arrays(np.bool_, st.tuples(st.integers(1, 4), st.just(5), st.just(5))))
def test_parting_loses_no_pixel_and_shares_none(masks: np.ndarray) -> None:
    drawn = [mask for mask in masks if mask.any()]
    parts = part(propose([drawn]))
    if not drawn:
        assert parts == []
        return
    np.testing.assert_array_equal(np.sum(parts, axis=0), np.any(drawn, axis=0))


@pytest.mark.parametrize("number", [300])
def test_more_annotators_than_a_byte_counts(number: int) -> None:
    (found,) = propose([[box(0, 0, 3, 3)]] * number)
    assert found.votes.max() == number
    assert found.mask.sum() == 9
