"""From the network's raw prediction to instances at the size of the input image."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calibnet_core.config import InferenceConfig
from calibnet_core.mask_enlargement import MaskEnlargement
from calibnet_core.models.calibnet.model import RawPrediction
from calibnet_core.score_calibration import ScoreMap
from calibnet_core.structures import Instances, NonFiniteOutputError


def select_instances(
    raw: RawPrediction,
    *,
    network_size: tuple[int, int],
    image_size: tuple[int, int],
    config: InferenceConfig,
    score_map: ScoreMap | None = None,
) -> Instances:
    """Score the candidates of one image, keep the good ones and bring their masks to image size.

    A candidate's score is the geometric mean of its score and objectness probabilities, times the
    mean foreground probability inside its mask at half resolution. Candidates are taken from the
    best on; only masks that may be kept are enlarged.

    Args:
        raw: a batch of one.
        network_size: (height, width) of the image inside the padding, see
            `preprocessing.NetworkInput.size`.
        image_size: (height, width) of the answer.
        config: thresholds, limits and order; `InferenceConfig.published()` gives the published
            evaluation.
        score_map: what turns scores into probabilities of being right. It rises, so it changes
            neither order nor overlaps, only scores and who passes the threshold.

    Raises:
        NonFiniteOutputError: the prediction holds NaN or infinity.
        ValueError: the batch is not one.
    """
    if raw.score_logits.shape[0] != 1:
        raise ValueError(f"the batch holds {raw.score_logits.shape[0]} images; pass one at a time")
    _require_finite(raw.score_logits, raw.objectness_logits, raw.mask_logits)
    confidence = candidate_confidence(raw)[0]
    # The mask quality is at most 1, so whoever fails here would fail after it too.
    least = _mapped(confidence, score_map if config.rescore_before_threshold else None)
    candidates = torch.nonzero(least > config.score_threshold).squeeze(1)
    if len(candidates) == 0:
        return Instances.empty(image_size)
    half = F.interpolate(
        raw.mask_logits[:, candidates].float(),
        scale_factor=2.0,
        mode="bilinear",
        align_corners=False,
    )
    probabilities = half.sigmoid()
    quality = mask_quality(probabilities[0], config.mask_threshold)
    raw_scores = confidence[candidates] * quality
    scores = _mapped(raw_scores, score_map)
    ranking = raw_scores.argsort(descending=True, stable=True)
    if config.rescore_before_threshold:
        ranking = ranking[scores[ranking] > config.score_threshold]

    enlargement = MaskEnlargement(
        probabilities[0],
        padded_size=(raw.mask_logits.shape[2] * 4, raw.mask_logits.shape[3] * 4),
        network_size=network_size,
        image_size=image_size,
        threshold=config.mask_threshold,
        min_piece=config.min_piece,
    )
    is_same = _same_object(probabilities[0], network_size, config)
    masks: dict[int, NDArray[np.bool_]] = {}
    for index in ranking.tolist():
        if len(masks) == config.max_instances:
            break
        if is_same is not None and any(is_same[index][better] for better in masks):
            continue
        mask = enlargement.mask(index)
        if np.count_nonzero(mask) >= config.min_area:
            masks[index] = mask
    if not masks:
        return Instances.empty(image_size)
    kept = list(masks) if config.sort_by_score else sorted(masks)
    return Instances.from_masks(
        np.stack([masks[index] for index in kept]),
        scores[kept].cpu().numpy(),
        mask_quality=quality[kept].cpu().numpy(),
        kernel_indices=candidates[kept].cpu().numpy().astype(np.int64),
        raw_scores=raw_scores[kept].cpu().numpy(),
    )


def _mapped(scores: Tensor, score_map: ScoreMap | None) -> Tensor:
    if score_map is None:
        return scores
    return torch.from_numpy(score_map(scores.cpu().numpy())).to(scores.device)


def _same_object(
    probabilities: Tensor, network_size: tuple[int, int], config: InferenceConfig
) -> list[list[bool]] | None:
    """Which of (K, H/2, W/2) masks overlap more than allowed, K by K; None if all may.

    The overlap is that of the masks at half the network's resolution, inside the image. Measured on
    smooth masks in images of 640x480, it is within 0.05 of that of the enlarged masks, from 3000
    pixels on within 0.02.
    """
    if config.nms_iou >= 1.0:
        return None
    height, width = (-(-edge // 2) for edge in network_size)
    inside = probabilities[:, :height, :width] > config.mask_threshold
    # Counts stay below 2^24, so float32 holds them exactly.
    flat = inside.flatten(1).float()
    common, area = flat @ flat.T, flat.sum(1)
    union = area[:, None] + area[None, :] - common
    flags: list[list[bool]] = (common > config.nms_iou * union).tolist()
    return flags


def candidate_confidence(raw: RawPrediction) -> Tensor:
    """Geometric mean of score and objectness probabilities, (B, N) in [0, 1]."""
    return (raw.score_logits.float().sigmoid() * raw.objectness_logits.float().sigmoid()).sqrt()


def mask_quality(probabilities: Tensor, threshold: float) -> Tensor:
    """Mean probability above `threshold` of each (K, h, w) map; 0 where nothing is above."""
    inside = probabilities > threshold
    total = (probabilities * inside).flatten(1).sum(1)
    return total / (inside.flatten(1).sum(1) + 1e-6)


def _require_finite(*tensors: Tensor) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise NonFiniteOutputError(
            "the network's output holds NaN or infinity; check the weights file and, in half "
            "precision, try fp32"
        )
