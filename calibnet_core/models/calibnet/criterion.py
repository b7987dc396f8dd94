"""The training loss: eight terms with the names, weights and formulas of the published code."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from calibnet_core.config import ConfigError
from calibnet_core.models.calibnet.matcher import Match, match, paired_dice
from calibnet_core.models.calibnet.model import RawPrediction

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
PREDICTED_INSIDE = 0.4
"""Probability from which a pixel counts as predicted when overlap becomes the objectness target."""

_REGION_OF = {"t3": "rgb_t3", "d3": "depth_t3", "r2": "rgb_c2", "d2": "depth_d2"}
"""Term and the name of its auxiliary logits."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factor of each term in the total. The defaults are those of the published code."""

    ce: float = 2.0
    """Focal loss of the scores."""
    dice: float = 2.0
    """Dice loss of the masks."""
    mask: float = 5.0
    """Cross-entropy of the masks."""
    objectness: float = 1.0
    """Cross-entropy of the objectness against the overlap reached."""
    t3: float = 0.5
    """Cross-entropy of the colour region at T3."""
    d3: float = 0.5
    """Cross-entropy of the depth region at T3."""
    r2: float = 0.5
    """Cross-entropy of the colour region at C2."""
    d2: float = 0.2
    """Cross-entropy of the depth region at D2."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(
                    f"loss.weights.{name} is {value}; choose a finite number of 0 or more"
                )

    @classmethod
    def paper(cls) -> LossWeights:
        """The weights that the paper states (section IV-F), which the published code does not use.

        Its mask loss is the plain sum of dice and cross-entropy.
        """
        return cls(ce=2.0, dice=1.0, mask=1.0, objectness=1.0, t3=0.6, d3=0.4, r2=0.6, d2=0.4)


class Criterion:
    """Matches candidates to objects and weighs the eight terms.

    In a distributed run every term is normalised by the counts of the whole batch, so that the
    average over processes, which gradients undergo as well, is the loss of one process that holds
    the whole batch.

    Args:
        weights: factor of each term.
        mask_padding: leave padded cells out of matching and of every mean. False, as published,
            counts them as background.
    """

    def __init__(self, weights: LossWeights | None = None, *, mask_padding: bool = False) -> None:
        self.weights = weights or LossWeights()
        self.mask_padding = mask_padding

    def __call__(
        self,
        raw: RawPrediction,
        masks: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> dict[str, Tensor]:
        """The weighted terms and their sum.

        Args:
            raw: of a model in training mode, for a batch of B images.
            masks: for each image (n, H, W) bool on the padded canvas; n may be 0.
            sizes: (height, width) of each image inside the padding; needed to mask it.

        Returns:
            `loss_ce`, `loss_dice`, `loss_mask`, `loss_objectness`, `loss_t3`, `loss_d3`, `loss_r2`,
            `loss_d2` and `total`, scalars in fp32.

        Raises:
            ValueError: shapes do not fit, `raw` comes from evaluation mode, sizes are missing, or
                predictions are not finite.
        """
        height, width = (4 * side for side in raw.mask_logits.shape[2:])
        _check_masks(masks, len(raw.mask_logits), (height, width))
        if not raw.auxiliary_logits:
            raise ValueError("the model is in evaluation mode; call model.train() first")
        if self.mask_padding and sizes is None:
            raise ValueError("mask_padding needs the size of each image inside the padding")
        inside = _inside(
            sizes if self.mask_padding and sizes is not None else [(height, width)] * len(masks),
            (height // 2, width // 2),
            masks[0].device,
        )
        halves = [_half(image_masks) for image_masks in masks]
        terms = self._instance_terms(raw, halves, inside)
        region, region_inside = _regions(masks), inside[:, ::2, ::2]
        for term, name in _REGION_OF.items():
            # A network that sees colour only has no depth heads.
            logits = raw.auxiliary_logits.get(name)
            terms[term] = (
                region.new_zeros(())
                if logits is None
                else _region_loss(logits, region, region_inside)
            )
        factors = dataclasses.asdict(self.weights)
        weighted = {f"loss_{term}": factors[term] * value for term, value in terms.items()}
        return {**weighted, "total": torch.stack(list(weighted.values())).sum()}

    def match(self, raw: RawPrediction, halves: Sequence[Tensor], inside: Tensor) -> list[Match]:
        """Match every image; `halves` are its objects (n, H/2, W/2), `inside` (B, H/2, W/2)."""
        with torch.no_grad():
            matches = []
            for logits, scores, half, cells in zip(
                raw.mask_logits, raw.score_logits, halves, inside, strict=True
            ):
                probabilities = _doubled(logits).sigmoid() * cells
                matches.append(match(scores, probabilities, half * cells))
            return matches

    def _instance_terms(
        self, raw: RawPrediction, halves: Sequence[Tensor], inside: Tensor
    ) -> dict[str, Tensor]:
        matches = self.match(raw, halves, inside)
        device = raw.score_logits.device
        image = torch.cat(
            [torch.full_like(pairs.kernels, index) for index, pairs in enumerate(matches)]
        )
        kernel = torch.cat([pairs.kernels for pairs in matches])
        targets = torch.cat(
            [half[pairs.targets] for half, pairs in zip(halves, matches, strict=True)]
        )
        cells = inside[image]
        num_instances, num_pairs, num_cells = (
            mean_over_processes(
                torch.tensor(
                    [sum(len(half) for half in halves), len(kernel), int(cells.sum())],
                    dtype=torch.float64,
                    device=device,
                )
            )
            .clamp_min(1.0)
            .tolist()
        )

        is_object = torch.zeros_like(raw.score_logits, dtype=torch.float32)
        is_object[image, kernel] = 1.0
        logits = _doubled(raw.mask_logits[image, kernel])
        probabilities = logits.sigmoid() * cells
        targets = targets * cells
        cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        objectness = F.binary_cross_entropy_with_logits(
            raw.objectness_logits[image, kernel].float(),
            overlap(probabilities.detach(), targets),
            reduction="sum",
        )
        # Without a pair these sums are empty: zero, and still part of the graph, which a
        # distributed run needs.
        return {
            "ce": focal_loss(raw.score_logits.float(), is_object) / num_instances,
            "dice": (1.0 - paired_dice(probabilities, targets)).sum() / num_instances,
            "mask": (cross_entropy * cells).sum() / num_cells,
            "objectness": objectness / num_pairs,
        }


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid focal loss with alpha 0.25 and gamma 2, summed over all elements."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    missed = probability + targets - 2.0 * probability * targets  # 1 - p of the true answer
    alpha = FOCAL_ALPHA * targets + (1.0 - FOCAL_ALPHA) * (1.0 - targets)
    return (alpha * missed**FOCAL_GAMMA * cross_entropy).sum()


def overlap(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union, (M,) in [0, 1], of predicted and true maps (M, h, w)."""
    predicted, true = probabilities >= PREDICTED_INSIDE, targets > 0.5
    intersection = (predicted & true).flatten(1).sum(1)
    return intersection / ((predicted | true).flatten(1).sum(1) + 1e-6)


def mean_over_processes(counts: Tensor) -> Tensor:
    """The mean of `counts` over all processes of a distributed run; unchanged outside of one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        counts = counts.clone()
        torch.distributed.all_reduce(counts)
        counts /= torch.distributed.get_world_size()
    return counts


def _region_loss(logits: Tensor, region: Tensor, inside: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, 1, h, w), brought to (B, H/4, W/4), against the region."""
    enlarged = logits.float()
    if logits.shape[2:] != region.shape[1:]:
        enlarged = F.interpolate(
            enlarged, tuple(region.shape[1:]), mode="bilinear", align_corners=False
        )
    loss = F.binary_cross_entropy_with_logits(enlarged[:, 0], region, reduction="none")
    num_cells = mean_over_processes(inside.sum(dtype=torch.float64)).clamp_min(1.0).item()
    return (loss * inside).sum() / num_cells


def _doubled(logits: Tensor) -> Tensor:
    """Maps (K, h, w) at twice the size, in fp32."""
    if not len(logits):
        return (
            logits.float().new_zeros((0, 2 * logits.shape[1], 2 * logits.shape[2])) + logits.sum()
        )
    return F.interpolate(
        logits.float().unsqueeze(0), scale_factor=2.0, mode="bilinear", align_corners=False
    )[0]


def _half(masks: Tensor) -> Tensor:
    """Masks (n, H, W) at half size, soft: each cell is the mean of its 2x2 pixels."""
    return F.avg_pool2d(masks.float().unsqueeze(1), 2).squeeze(1)


def _regions(masks: Sequence[Tensor]) -> Tensor:
    """The union of each image's objects at a quarter of the size, (B, H/4, W/4), soft.

    Bilinear resizing without antialiasing comes down to the middle 2x2 of every 4x4 pixels.
    """
    union = torch.stack([image_masks.any(0) for image_masks in masks]).float()
    return F.avg_pool2d(F.pad(union, (-1, -1, -1, -1)), 2, stride=4)


def _inside(
    sizes: Sequence[tuple[int, int]], shape: tuple[int, int], device: torch.device
) -> Tensor:
    """Which cells of half size show the image, (B, H/2, W/2) bool."""
    inside = torch.zeros((len(sizes), *shape), dtype=torch.bool, device=device)
    for cells, (height, width) in zip(inside, sizes, strict=True):
        cells[: (height + 1) // 2, : (width + 1) // 2] = True
    return inside


def _check_masks(masks: Sequence[Tensor], batch: int, size: tuple[int, int]) -> None:
    if len(masks) != batch:
        raise ValueError(f"there are masks for {len(masks)} images but the batch has {batch}")
    for index, image_masks in enumerate(masks):
        if (
            image_masks.dim() != 3
            or image_masks.dtype != torch.bool
            or image_masks.shape[1:] != size
        ):
            raise ValueError(
                f"masks of image {index} are {image_masks.dtype} {tuple(image_masks.shape)}; "
                f"expected bool (n, {size[0]}, {size[1]}) on the padded canvas"
            )
