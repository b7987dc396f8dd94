from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calibnet_core.config import ConfigError
from calibnet_core.models.calibnet.criterion import (
    Criterion,
    LossWeights,
    focal_loss,
    overlap,
)
from calibnet_core.models.calibnet.model import RawPrediction

TERMS = ("ce", "dice", "mask", "objectness", "t3", "d3", "r2", "d2")
HEIGHT, WIDTH, KERNELS = 32, 64, 5


def prediction(batch: int = 2, *, seed: int = 0, kernels: int = KERNELS) -> RawPrediction:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    quarter, eighth = (HEIGHT // 4, WIDTH // 4), (HEIGHT // 8, WIDTH // 8)
    return RawPrediction(
        score_logits=random(batch, kernels),
        objectness_logits=random(batch, kernels),
        kernels=random(batch, kernels, 8),
        mask_logits=random(batch, kernels, *quarter),
        auxiliary_logits={
            "rgb_t3": random(batch, 1, *eighth),
            "depth_t3": random(batch, 1, *eighth),
            "rgb_c2": random(batch, 1, *quarter),
            "depth_d2": random(batch, 1, *quarter),
        },
    )


def objects(*numbers: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(n, HEIGHT, WIDTH, generator=generator) > 0.7 for n in numbers]


def leaves(raw: RawPrediction) -> list[Tensor]:
    return [
        raw.score_logits,
        raw.objectness_logits,
        raw.mask_logits,
        *raw.auxiliary_logits.values(),
    ]


def test_the_total_is_the_sum_of_the_eight_weighted_terms() -> None:
    losses = Criterion()(prediction(), objects(2, 3))
    assert list(losses) == [*(f"loss_{term}" for term in TERMS), "total"]
    assert losses["total"].item() == pytest.approx(
        sum(losses[f"loss_{term}"].item() for term in TERMS), rel=1e-6
    )


@pytest.mark.parametrize("term", TERMS)
def test_each_weight_scales_its_own_term_only(term: str) -> None:
    raw, masks = prediction(), objects(2, 3)
    plain = Criterion()(raw, masks)
    weights = dataclasses.replace(LossWeights(), **{term: 3.0 * getattr(LossWeights(), term)})
    scaled = Criterion(weights)(raw, masks)
    for name in TERMS:
        factor = 3.0 if name == term else 1.0
        torch.testing.assert_close(scaled[f"loss_{name}"], factor * plain[f"loss_{name}"])


def test_the_paper_weighs_otherwise_than_the_published_code() -> None:
    paper = LossWeights.paper()
    assert (paper.ce, paper.dice, paper.mask, paper.objectness) == (2.0, 1.0, 1.0, 1.0)
    assert (paper.t3, paper.r2, paper.d3, paper.d2) == (0.6, 0.6, 0.4, 0.4)
    assert LossWeights() != paper


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_that_make_no_sense_are_named(value: float) -> None:
    with pytest.raises(ConfigError, match=r"loss\.weights\.dice"):
        LossWeights(dice=value)


def test_a_batch_without_any_object_trains_scores_and_regions() -> None:
    raw = prediction()
    losses = Criterion()(raw, objects(0, 0))
    assert losses["loss_dice"] == losses["loss_mask"] == losses["loss_objectness"] == 0.0
    assert losses["loss_ce"] > 0.0
    losses["total"].backward()
    for leaf in leaves(raw):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_more_objects_than_kernels_leave_the_other_image_as_it_is() -> None:
    alone = Criterion()(prediction(), objects(0, 2))
    masks = objects(0, 2)
    crowded = [objects(KERNELS + 4, seed=5)[0], masks[1]]
    criterion, raw = Criterion(), prediction()
    halves = [F.avg_pool2d(m.float().unsqueeze(1), 2).squeeze(1) for m in (*masks, *crowded)]
    inside = torch.ones(2, HEIGHT // 2, WIDTH // 2, dtype=torch.bool)
    before, after = (criterion.match(raw, part, inside) for part in (halves[:2], halves[2:]))
    assert len(after[0].kernels) == KERNELS
    assert after[1].kernels.tolist() == before[1].kernels.tolist()
    assert after[1].targets.tolist() == before[1].targets.tolist()
    losses = Criterion()(raw, crowded)
    assert losses["total"].isfinite()
    assert alone["total"].isfinite()


def test_focal_loss_of_worked_numbers() -> None:
    # p = 0.8 for an object: 0.25 * 0.2^2 * -ln 0.8; for none: 0.75 * 0.8^2 * -ln 0.2.
    logit = torch.tensor([math.log(4.0)])
    hit = focal_loss(logit, torch.ones(1)).item()
    miss = focal_loss(logit, torch.zeros(1)).item()
    assert hit == pytest.approx(0.25 * 0.04 * -math.log(0.8), rel=1e-5)
    assert miss == pytest.approx(0.75 * 0.64 * -math.log(0.2), rel=1e-5)


def test_overlap_counts_probabilities_from_0_4_on_against_more_than_half() -> None:
    probabilities = torch.tensor([[[0.4, 0.39, 0.9, 0.0]]])
    targets = torch.tensor([[[1.0, 1.0, 0.5, 0.0]]])
    # Predicted are cells 0 and 2, true are 0 and 1.
    assert overlap(probabilities, targets).item() == pytest.approx(1 / (3 + 1e-6))


def test_masks_are_compared_at_half_size_with_soft_edges() -> None:
    raw = prediction(1, kernels=1)
    masks = [torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)]
    masks[0][0, :, :7] = True  # half of the cells of column 3
    target = torch.zeros(1, HEIGHT // 2, WIDTH // 2)
    target[..., :3], target[..., 3] = 1.0, 0.5
    logits = F.interpolate(raw.mask_logits, scale_factor=2.0, mode="bilinear", align_corners=False)[
        0
    ]
    expected = 5.0 * F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(Criterion()(raw, masks)["loss_mask"], expected)


def test_the_region_is_the_union_resized_as_torch_does() -> None:
    raw, masks = prediction(), objects(2, 3)
    union = torch.stack([m.any(0) for m in masks]).float().unsqueeze(1)
    region = F.interpolate(union, scale_factor=0.25, mode="bilinear", align_corners=False)
    expected = F.binary_cross_entropy_with_logits(raw.auxiliary_logits["rgb_c2"], region)
    torch.testing.assert_close(Criterion()(raw, masks)["loss_r2"], 0.5 * expected)


def test_a_network_without_depth_heads_has_no_depth_terms() -> None:
    raw = prediction()
    del raw.auxiliary_logits["depth_t3"], raw.auxiliary_logits["depth_d2"]
    losses = Criterion()(raw, objects(1, 1))
    assert losses["loss_d3"] == losses["loss_d2"] == 0.0
    assert losses["loss_t3"] > 0.0


def test_masked_padding_has_no_influence() -> None:
    sizes, masks = [(HEIGHT, 40), (20, WIDTH)], objects(2, 2)
    for image_masks, (height, width) in zip(masks, sizes, strict=True):
        image_masks[:, height:] = False
        image_masks[:, :, width:] = False
    raw = prediction()
    disturbed = dataclasses.replace(raw)
    noise = 5.0 * torch.randn(raw.mask_logits.shape, generator=torch.Generator().manual_seed(9))
    keep = torch.zeros_like(noise, dtype=torch.bool)
    for image, (height, width) in enumerate(sizes):
        # One cell beyond the edge still reaches inside by interpolation.
        keep[image, :, : height // 4 + 1, : width // 4 + 1] = True
    disturbed.mask_logits = torch.where(keep, raw.mask_logits, raw.mask_logits + noise)
    masked, published = Criterion(mask_padding=True), Criterion()
    one, other = masked(raw, masks, sizes), masked(disturbed, masks, sizes)
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    assert published(raw, masks)["total"] != published(disturbed, masks)["total"]


def test_without_padding_masking_it_changes_nothing() -> None:
    raw, masks, sizes = prediction(), objects(2, 3), [(HEIGHT, WIDTH)] * 2
    masked = Criterion(mask_padding=True)(raw, masks, sizes)
    for name, value in Criterion()(raw, masks).items():
        torch.testing.assert_close(masked[name], value)


def test_sums_of_half_precision_are_taken_in_single_precision() -> None:
    raw, masks = prediction(), objects(2, 3)
    half = RawPrediction(
        *(t.detach().bfloat16() for t in (raw.score_logits, raw.objectness_logits)),
        raw.kernels.detach().bfloat16(),
        raw.mask_logits.detach().bfloat16(),
        {name: value.detach().bfloat16() for name, value in raw.auxiliary_logits.items()},
    )
    single = RawPrediction(
        half.score_logits.float(),
        half.objectness_logits.float(),
        half.kernels.float(),
        half.mask_logits.float(),
        {name: value.float() for name, value in half.auxiliary_logits.items()},
    )
    for name, value in Criterion()(half, masks).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, Criterion()(single, masks)[name])


def test_masks_of_another_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"image 1 .*\(2, 32, 60\).*\(n, 32, 64\)"):
        Criterion()(prediction(), [objects(1)[0], torch.zeros(2, 32, 60, dtype=torch.bool)])


def test_masks_must_be_boolean_and_as_many_as_images() -> None:
    with pytest.raises(ValueError, match=r"float32.*expected bool"):
        Criterion()(prediction(1), [torch.zeros(1, HEIGHT, WIDTH)])
    with pytest.raises(ValueError, match="masks for 1 images but the batch has 2"):
        Criterion()(prediction(2), objects(1))


def test_a_prediction_of_evaluation_mode_is_refused() -> None:
    raw = prediction()
    raw.auxiliary_logits = {}
    with pytest.raises(ValueError, match=r"model\.train\(\)"):
        Criterion()(raw, objects(1, 1))


def test_masking_padding_needs_the_sizes() -> None:
    with pytest.raises(ValueError, match="size of each image"):
        Criterion(mask_padding=True)(prediction(), objects(1, 1))
