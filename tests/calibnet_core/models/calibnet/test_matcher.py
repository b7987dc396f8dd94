from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.models.calibnet.matcher import (
    NonFinitePredictionError,
    match,
    paired_dice,
    pairwise_dice,
)


def blocks(*columns: tuple[int, int]) -> torch.Tensor:
    """Maps (K, 4, 8) that are 1 from the first to before the second column."""
    maps = torch.zeros(len(columns), 4, 8)
    for index, (start, stop) in enumerate(columns):
        maps[index, :, start:stop] = 1.0
    return maps


def test_each_object_gets_the_candidate_that_covers_it() -> None:
    candidates = blocks((4, 8), (0, 1), (0, 4))
    pairs = match(torch.zeros(3), candidates, blocks((0, 4), (4, 8)))
    assert pairs.kernels.tolist() == [0, 2]
    assert pairs.targets.tolist() == [1, 0]


def test_between_equal_masks_the_score_decides() -> None:
    same = blocks((0, 4), (0, 4))
    assert match(torch.tensor([-2.0, 2.0]), same, blocks((0, 4))).kernels.tolist() == [1]


def test_overlap_counts_four_times_as_much_as_the_score_in_the_exponent() -> None:
    # Dice 1 and 2/3 at scores s and 1: equal where s^0.2 = (2/3)^0.8, that is s = (2/3)^4.
    candidates = blocks((0, 4), (0, 8))
    turning_point = (2 / 3) ** 4
    for factor, winner in ((0.95, 1), (1.05, 0)):
        score = turning_point * factor
        logits = torch.tensor([np.log(score / (1 - score)), 50.0], dtype=torch.float32)
        assert match(logits, candidates, blocks((0, 4))).kernels.tolist() == [winner]


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_no_other_assignment_has_a_larger_sum(num: int, num_objects: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, generator=generator)
    maps = torch.rand(num, 3, 4, generator=generator)
    targets = torch.rand(num_objects, 3, 4, generator=generator)
    pairs = match(logits, maps, targets)
    assert len(pairs.kernels) == len(pairs.targets) == min(num, num_objects)
    affinity = (pairwise_dice(maps, targets) ** 0.8 * logits.sigmoid()[:, None] ** 0.2).numpy()
    reached = affinity[pairs.kernels, pairs.targets].sum()
    few, many = sorted((num, num_objects))
    for choice in itertools.permutations(range(many), few):
        rows, columns = (range(few), choice) if num <= num_objects else (choice, range(few))
        assert affinity[list(rows), list(columns)].sum() <= reached + 1e-5


def test_an_image_without_objects_has_no_pairs() -> None:
    pairs = match(torch.zeros(3), torch.rand(3, 4, 8), torch.zeros(0, 4, 8))
    assert pairs.kernels.dtype == pairs.targets.dtype == torch.int64
    assert len(pairs.kernels) == len(pairs.targets) == 0


def test_with_more_objects_than_candidates_every_candidate_gets_one() -> None:
    pairs = match(torch.zeros(2), torch.rand(2, 4, 8), torch.rand(7, 4, 8))
    assert pairs.kernels.tolist() == [0, 1]
    assert len(set(pairs.targets.tolist())) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_predictions_that_are_no_numbers_are_refused(bad: float) -> None:
    maps = torch.rand(2, 4, 8)
    maps[1, 0, 0] = bad
    with pytest.raises(NonFinitePredictionError, match="NaN or infinity"):
        match(torch.zeros(2), maps, torch.rand(1, 4, 8))


def test_dice_of_a_worked_case() -> None:
    half, whole = blocks((0, 4)), blocks((0, 8))
    # 2 * 16 / (16 + 32 + 1e-4)
    expected = 32.0 / 48.0001
    assert pairwise_dice(half, whole).item() == pytest.approx(expected, rel=1e-6)
    assert paired_dice(half, whole).item() == pytest.approx(expected, rel=1e-6)


def test_the_diagonal_of_pairwise_dice_is_paired_dice() -> None:
    generator = torch.Generator().manual_seed(0)
    p, t = (torch.rand(4, 6, 5, generator=generator) for _ in "pt")
    torch.testing.assert_close(pairwise_dice(p, t).diagonal(), paired_dice(p, t))
