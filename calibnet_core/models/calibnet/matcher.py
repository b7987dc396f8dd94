"""Which candidate learns which object: a one-to-one assignment by mask overlap and score."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

OVERLAP_EXPONENT = 0.8
SCORE_EXPONENT = 0.2
_EPS = 1e-4


class NonFinitePredictionError(ValueError):
    """The network predicts NaN or infinity, so that no order among its candidates exists."""


class Match(NamedTuple):
    """M pairs of one image: candidate `kernels[m]` learns object `targets[m]`; both (M,) int64."""

    kernels: Tensor
    targets: Tensor


@torch.no_grad()
def match(score_logits: Tensor, probabilities: Tensor, gt_masks: Tensor) -> Match:
    """Assign the N candidates of one image to its n objects (paper section IV-F).

    The Hungarian method maximises dice^0.8 * score^0.2 over all pairs; objectness has no say.

    Args:
        score_logits: (N,).
        probabilities: (N, h, w) foreground probabilities in [0, 1].
        gt_masks: (n, h, w) soft masks in [0, 1]; n may be 0, or above N.

    Returns:
        min(n, N) pairs, ordered by candidate.

    Raises:
        NonFinitePredictionError: a prediction is NaN or infinite.
    """
    affinity = pairwise_dice(probabilities.float(), gt_masks.float()) ** OVERLAP_EXPONENT
    affinity = affinity * score_logits.float().sigmoid().unsqueeze(1) ** SCORE_EXPONENT
    if not affinity.isfinite().all():
        raise NonFinitePredictionError(
            "the predicted masks or scores hold NaN or infinity, so candidates cannot be matched; "
            "lower the learning rate or clip gradients"
        )
    kernels, targets = linear_sum_assignment(affinity.cpu().numpy(), maximize=True)
    device = score_logits.device
    return Match(
        torch.as_tensor(kernels, dtype=torch.int64, device=device),
        torch.as_tensor(targets, dtype=torch.int64, device=device),
    )


def pairwise_dice(probabilities: Tensor, gt_masks: Tensor) -> Tensor:
    """Dice of every pair, (N, n) in [0, 1], of maps (N, h, w) and (n, h, w)."""
    p, t = probabilities.flatten(1), gt_masks.flatten(1)
    squares = p.square().sum(1).unsqueeze(1) + t.square().sum(1).unsqueeze(0)
    return 2.0 * (p @ t.T) / (squares + _EPS)


def paired_dice(probabilities: Tensor, gt_masks: Tensor) -> Tensor:
    """Dice of M pairs, (M,) in [0, 1], of maps (M, h, w) and (M, h, w)."""
    p, t = probabilities.flatten(1), gt_masks.flatten(1)
    return 2.0 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + _EPS)
