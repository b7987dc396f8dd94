"""Masks as the run lengths that pycocotools compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from calibnet_core.data.datasets import rle as checked
from calibnet_core.data.datasets.rle import Rle
from calibnet_core.evaluation.errors import EvaluationError


def encode_masks(masks: NDArray[np.bool_]) -> list[Rle]:
    """Run lengths of (K, H, W) masks."""
    encoded: list[Rle] = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8))
    return encoded


def decode_masks(rles: Sequence[Rle], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(K, H, W) bool of K run lengths of one image of `size` (height, width)."""
    if not rles:
        return np.zeros((0, *size), np.bool_)
    decoded = coco_mask.decode(list(rles))
    return np.ascontiguousarray(decoded.transpose(2, 0, 1)).view(np.bool_)


def area(rle: Rle) -> float:
    """Pixels of a mask."""
    # One at a time: pycocotools cannot count more than 255 masks in one call.
    return float(coco_mask.area(rle))


def to_rle(segmentation: Any, size: tuple[int, int], where: str) -> Rle:
    """Turn any COCO segmentation into run lengths.

    Args:
        segmentation: polygons, or run lengths as a list or as COCO's compressed string.
        size: (height, width) of the image.
        where: what to call the entry in errors.

    Raises:
        EvaluationError: it is none of these, or made for an image of another size.
    """
    try:
        return checked.to_rle(segmentation, size)
    except checked.SegmentationError as error:
        raise EvaluationError(f"{where}: {error}; correct it or leave it out") from error
