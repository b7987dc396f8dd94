from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from calibnet_core.config import InferenceConfig
from calibnet_core.models.calibnet import RawPrediction
from calibnet_core.postprocess import candidate_confidence, mask_quality, select_instances
from calibnet_core.score_calibration import ScoreMap
from calibnet_core.structures import Instances, NonFiniteOutputError

EVERYTHING = {"score_threshold": 0.0, "min_area": 0, "min_piece": 0.0}


def prediction(
    score_logits: list[float], mask_logits: Tensor, objectness_logits: list[float] | None = None
) -> RawPrediction:
    """One image; objectness is as good as certain unless given."""
    count = len(score_logits)
    return RawPrediction(
        score_logits=torch.tensor([score_logits]),
        objectness_logits=torch.tensor([objectness_logits or [50.0] * count]),
        kernels=torch.zeros(1, count, 256),
        mask_logits=mask_logits.expand(1, count, -1, -1),
    )


def select(raw: RawPrediction, **settings: Any) -> Instances:
    """Instances at the size of the network's input, all of it image."""
    size = (4 * raw.mask_logits.shape[2], 4 * raw.mask_logits.shape[3])
    config = InferenceConfig(**settings)
    return select_instances(raw, network_size=size, image_size=size, config=config)


def flat_masks(*logits: float) -> Tensor:
    """Masks of 8x8 cells, each of one logit everywhere."""
    return torch.tensor(logits).view(1, -1, 1, 1).expand(1, -1, 8, 8)


def logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def test_a_case_worked_by_hand() -> None:
    # Left half foreground: at half resolution 8x16 cells of the 16x16, in the image 16x32 pixels.
    logits = torch.full((1, 1, 8, 8), -8.0)
    logits[..., :4] = 8.0
    raw = prediction([logit(0.81)], logits, [logit(0.64)])

    instances = select(raw, score_threshold=0.5, mask_threshold=0.5)

    confidence = math.sqrt(0.81 * 0.64)
    # Upsampling puts logits 8, ..., 8, 4 on the eight columns inside: sigmoid(8) and sigmoid(4).
    quality = (7 / (1 + math.exp(-8)) + 1 / (1 + math.exp(-4))) / 8
    assert instances.scores == pytest.approx([confidence * quality], rel=1e-5)
    assert instances.mask_quality == pytest.approx([quality], rel=1e-5)
    assert instances.masks.shape == (1, 32, 32)
    expected = np.zeros((32, 32), bool)
    expected[:, :16] = True
    np.testing.assert_array_equal(instances.masks[0], expected)
    assert instances.boxes_xyxy.tolist() == [[0, 0, 16, 32]]
    assert instances.kernel_indices.tolist() == [0]


def test_nothing_above_the_threshold_gives_no_instance_of_the_right_size() -> None:
    raw = prediction([-20.0, -20.0], flat_masks(5.0, 5.0))
    instances = select_instances(
        raw, network_size=(30, 32), image_size=(21, 17), config=InferenceConfig()
    )
    assert len(instances) == 0
    assert (instances.masks.shape, instances.masks.dtype) == ((0, 21, 17), np.bool_)
    assert instances.scores.dtype == np.float32
    assert instances.boxes_xyxy.shape == (0, 4)
    assert instances.mask_quality.shape == (0,)
    assert (instances.kernel_indices.shape, instances.kernel_indices.dtype) == ((0,), np.int64)


def test_no_instance_is_left_after_mask_quality_or_area() -> None:
    raw = prediction([5.0], flat_masks(-5.0))
    assert select(raw, score_threshold=0.5).masks.shape == (0, 32, 32)
    raw = prediction([5.0], flat_masks(5.0))
    assert select(raw, min_area=32 * 32 + 1).masks.shape == (0, 32, 32)


def test_both_thresholds_are_strict() -> None:
    # sigmoid(0) is exactly 0.5, and the square root of 0.25 too.
    raw = prediction([0.0], flat_masks(50.0), [0.0])
    assert len(select(raw, score_threshold=0.5, rescore_before_threshold=False)) == 0
    assert len(select(raw, score_threshold=0.4999, rescore_before_threshold=False)) == 1
    # Half sure of the mask and certain of the rest, the final score is exactly 0.5.
    raw = prediction([50.0], flat_masks(0.0))
    assert len(select(raw, mask_threshold=0.4, score_threshold=0.5)) == 0
    assert len(select(raw, mask_threshold=0.4, score_threshold=0.4999)) == 1
    unsure = select(raw, mask_threshold=0.5, **EVERYTHING, rescore_before_threshold=False)
    assert not unsure.masks.any()
    assert unsure.scores.tolist() == [0.0]
    assert select(raw, mask_threshold=0.4999, **EVERYTHING).masks.all()


def test_the_threshold_looks_at_the_score_after_or_before_mask_quality() -> None:
    raw = prediction([50.0], flat_masks(logit(0.6)))
    assert len(select(raw, score_threshold=0.7)) == 0
    published = select(raw, score_threshold=0.7, rescore_before_threshold=False)
    assert published.scores == pytest.approx([0.6], rel=1e-5)


def test_the_best_come_first_or_kernels_keep_their_order() -> None:
    raw = prediction([logit(p) for p in (0.5, 0.9, 0.7, 0.9)], flat_masks(50.0))
    best_first = select(raw, **EVERYTHING)
    assert best_first.kernel_indices.tolist() == [1, 3, 2, 0]  # of equals the first kernel leads
    in_order = select(raw, **EVERYTHING, sort_by_score=False)
    assert in_order.kernel_indices.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(in_order.scores[best_first.kernel_indices], best_first.scores)


@pytest.mark.parametrize(("sort_by_score", "kernels"), [(True, [1, 3, 2]), (False, [1, 2, 3])])
def test_only_the_best_are_kept_in_either_order(sort_by_score: bool, kernels: list[int]) -> None:
    raw = prediction([logit(p) for p in (0.5, 0.9, 0.6, 0.8)], flat_masks(50.0))
    instances = select(raw, **EVERYTHING, max_instances=3, sort_by_score=sort_by_score)
    assert instances.kernel_indices.tolist() == kernels


def test_masks_below_the_least_area_are_dropped() -> None:
    logits = torch.full((1, 3, 8, 8), -50.0)
    logits[0, 0] = 50.0
    logits[0, 1, :, :4] = 50.0
    raw = prediction([3.0, 2.0, 1.0], logits)
    sizes = {
        area: len(select(raw, score_threshold=0.0, rescore_before_threshold=False, min_area=area))
        for area in (0, 1, 512, 513, 1024, 1025)
    }
    assert sizes == {0: 3, 1: 2, 512: 2, 513: 1, 1024: 1, 1025: 0}


def test_a_mask_too_small_takes_no_place_from_a_larger_one() -> None:
    logits = torch.full((1, 2, 8, 8), -50.0)
    logits[0, 0, 0, 0] = 50.0
    logits[0, 1] = 50.0
    instances = select(prediction([9.0, 1.0], logits), max_instances=1, min_area=200)
    assert instances.kernel_indices.tolist() == [1]


def test_a_loose_piece_is_dropped_before_the_area_is_looked_at() -> None:
    logits = torch.full((1, 1, 8, 8), -50.0)
    logits[0, 0, :, :3] = 50.0
    logits[0, 0, 0, 6:] = 50.0
    raw = prediction([3.0], logits)
    whole = select(raw, score_threshold=0.0, min_piece=0.0)
    assert whole.boxes_xyxy.tolist() == [[0, 0, 32, 32]]
    assert select(raw, score_threshold=0.0).boxes_xyxy.tolist() == [[0, 0, 12, 32]]
    assert len(select(raw, score_threshold=0.0, min_area=12 * 32 + 1)) == 0
    assert len(select(raw, score_threshold=0.0, min_area=12 * 32 + 1, min_piece=0.0)) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["score_logits", "objectness_logits", "mask_logits"])
@pytest.mark.parametrize("threshold", [0.0, 0.9])
def test_a_prediction_that_is_no_number_raises(name: str, bad: float, threshold: float) -> None:
    raw = prediction([0.0, 0.0], flat_masks(1.0, 1.0).clone())
    getattr(raw, name)[0, 1] = bad
    with pytest.raises(
        NonFiniteOutputError, match=r"holds NaN or infinity; check the weights file .* try fp32"
    ):
        select(raw, score_threshold=threshold)


def test_more_than_one_image_is_refused() -> None:
    raw = prediction([0.0], flat_masks(1.0))
    two = RawPrediction(*(torch.cat((t, t)) for t in list(vars(raw).values())[:4]))
    with pytest.raises(ValueError, match="the batch holds 2 images; pass one at a time"):
        select(two)


def test_quality_is_the_mean_of_what_is_inside() -> None:
    maps = torch.tensor([[[0.2, 0.6], [0.8, 0.5]], [[0.1, 0.2], [0.3, 0.4]]])
    assert mask_quality(maps, 0.5).tolist() == pytest.approx([0.7, 0.0], abs=1e-6)


@given(seed=st.integers(0, 2**31), threshold=st.floats(0.05, 0.95), count=st.integers(0, 3))
def test_quality_lies_above_the_threshold_or_is_zero(
    seed: int, threshold: float, count: int
) -> None:
    maps = torch.rand(count, 5, 7, generator=torch.Generator().manual_seed(seed))
    quality = mask_quality(maps, threshold)
    assert quality.shape == (count,)
    inside = (maps > threshold).flatten(1).any(1)
    assert (quality[~inside] == 0).all()
    assert (quality[inside] > threshold - 1e-5).all()
    assert (quality <= 1.0).all()


def test_confidence_is_the_geometric_mean() -> None:
    raw = prediction([logit(0.9), 0.0], flat_masks(0.0), [logit(0.4), -100.0])
    assert candidate_confidence(raw)[0].tolist() == pytest.approx([0.6, 0.0], abs=1e-6)


@given(
    seed=st.integers(0, 2**31),
    score_threshold=st.floats(0.005, 1.0),
    max_instances=st.integers(1, 8),
    min_area=st.integers(0, 300),
)
def test_stricter_settings_drop_instances_but_change_none(
    seed: int, score_threshold: float, max_instances: int, min_area: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = prediction(
        (3.0 * torch.randn(8, generator=generator)).tolist(),
        4.0 * torch.randn(1, 8, 4, 4, generator=generator),
        torch.randn(8, generator=generator).tolist(),
    )

    def answers(config: InferenceConfig) -> dict[int, tuple[NDArray[np.bool_], float]]:
        instances = select_instances(raw, network_size=(15, 14), image_size=(23, 21), config=config)
        rows = zip(instances.kernel_indices, instances.masks, instances.scores, strict=True)
        return {int(kernel): (mask, float(score)) for kernel, mask, score in rows}

    strict = InferenceConfig(
        score_threshold=score_threshold,
        mask_threshold=0.45,
        max_instances=max_instances,
        min_area=min_area,
        min_piece=0.0,
    )
    published, kept = answers(InferenceConfig.published()), answers(strict)
    # The last digit of a score depends on how many are computed together.
    assume(all(abs(score - score_threshold) > 1e-5 for _, score in published.values()))
    for kernel, (mask, score) in kept.items():
        np.testing.assert_array_equal(mask, published[kernel][0])
        assert score == pytest.approx(published[kernel][1], rel=1e-5)
    passing = {
        kernel
        for kernel, (mask, score) in published.items()
        if score > score_threshold and mask.sum() >= min_area
    }
    assert kept.keys() <= passing
    assert len(kept) == min(len(passing), max_instances)
    scores = [score for _, score in kept.values()]
    assert scores == sorted(scores, reverse=True)


# --- masks of one object


def columns(*spans: tuple[int, int]) -> Tensor:
    """Masks of 8x8 cells that hold the columns from start to stop."""
    logits = torch.full((1, len(spans), 8, 8), -50.0)
    for mask, (start, stop) in zip(logits[0], spans, strict=True):
        mask[:, start:stop] = 50.0
    return logits


def test_a_mask_that_overlaps_too_much_with_a_better_one_is_dropped() -> None:
    # In cells: 0 and 1 share 4 of 5 columns, 0 and 2 share 3 of 5, 2 and 3 share 2 of 3, 0 and 3
    # share 2 of 5.
    raw = prediction([4.0, 3.0, 2.0, 1.0], columns((0, 4), (0, 5), (1, 5), (2, 4)))

    def kept(nms_iou: float, **settings: Any) -> list[int]:
        return select(raw, **EVERYTHING | settings, nms_iou=nms_iou).kernel_indices.tolist()

    assert kept(1.0) == [0, 1, 2, 3]
    assert kept(0.7) == [0, 2, 3]
    assert kept(0.5) == [0, 3]
    assert kept(0.3) == kept(0.0) == [0]
    # What is dropped takes no place, and drops nobody itself: 1 would have dropped 2.
    assert kept(0.7, max_instances=2) == [0, 2]
    assert kept(0.7, sort_by_score=False) == [0, 2, 3]


def test_what_is_too_small_to_be_kept_drops_nobody() -> None:
    # The best one overlaps with the second by 3 of 4 columns and has 12x32 pixels.
    raw = prediction([4.0, 3.0], columns((0, 3), (0, 4)))
    assert select(raw, nms_iou=0.5, score_threshold=0.0).kernel_indices.tolist() == [0]
    found = select(raw, nms_iou=0.5, score_threshold=0.0, min_area=13 * 32)
    assert found.kernel_indices.tolist() == [1]


def test_padding_does_not_count_as_overlap() -> None:
    # Apart in the image, and the same in the padding to the right of it.
    logits = columns((0, 2), (2, 4))
    logits[..., 4:] = 50.0
    found = select_instances(
        prediction([4.0, 3.0], logits),
        network_size=(32, 16),
        image_size=(32, 16),
        config=InferenceConfig(score_threshold=0.0, nms_iou=0.3),
    )
    assert found.kernel_indices.tolist() == [0, 1]


@given(seed=st.integers(0, 2**31), nms_iou=st.floats(0.1, 0.9), max_instances=st.integers(1, 20))
def test_kept_masks_differ_and_dropped_ones_resemble_a_better_one(
    seed: int, nms_iou: float, max_instances: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = 60.0 * torch.randn(1, 4, 8, 8, generator=generator)
    noise = 60.0 * torch.randn(1, 20, 8, 8, generator=generator)
    raw = prediction(
        (3.0 * torch.randn(20, generator=generator)).tolist(),
        # A few different masks, each several times with more or less noise.
        shapes.repeat(1, 5, 1, 1) + noise * torch.rand(20, 1, 1, generator=generator),
    )
    every = select(raw, **EVERYTHING)
    kept = select(raw, **EVERYTHING, nms_iou=nms_iou, max_instances=max_instances)
    assert kept.kernel_indices[0] == every.kernel_indices[0]
    # Overlaps are told at half size: within a small margin of those of the masks themselves.
    flat = every.masks.reshape(len(every), -1).astype(float)
    common, areas = flat @ flat.T, flat.sum(1)
    overlaps = common / np.maximum(areas[:, None] + areas - common, 1.0)
    is_kept = np.isin(every.kernel_indices, kept.kernel_indices)
    assert is_kept.sum() == len(kept)
    for place in range(len(every)):
        better = overlaps[place, :place][is_kept[:place]].max(initial=0.0)
        if is_kept[place]:
            assert better <= nms_iou + 0.05
        elif len(kept) < max_instances:
            assert better > nms_iou - 0.05


def test_the_threshold_of_the_final_score_looks_at_calibrated_scores() -> None:
    score_map = ScoreMap(
        raw=(0.0, 0.5, 1.0),
        calibrated=(0.0, 0.1, 0.6),
        dataset="kitchen",
        date="2025-11-21",
        num_detections=100,
    )

    def found(mask_logit: float = 50.0, **settings: Any) -> Instances:
        return select_instances(
            prediction([logit(0.9**2), logit(0.5**2)], flat_masks(mask_logit)),
            network_size=(32, 32),
            image_size=(32, 32),
            config=InferenceConfig(**settings),
            score_map=score_map,
        )

    both = found(score_threshold=0.0)
    assert both.scores.tolist() == pytest.approx([0.5, 0.1], rel=1e-5)
    assert both.raw_scores.tolist() == pytest.approx([0.9, 0.5], rel=1e-5)
    assert both.scores.dtype == np.float32
    assert len(found(score_threshold=0.55)) == 0
    assert found(score_threshold=0.45).kernel_indices.tolist() == [0]
    # With a mask quality of 0.8 the better one comes to 0.72, which means 0.32.
    assert len(found(logit(0.8), score_threshold=0.45)) == 0
    assert len(found(logit(0.8), score_threshold=0.31)) == 1
    # The published protocol asks the network's own score.
    published = found(score_threshold=0.8, rescore_before_threshold=False)
    assert published.scores.tolist() == pytest.approx([0.5], rel=1e-5)
