"""Random COCO sets, and what pycocotools itself says about them."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIZE = (72, 60)


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode()}


def box_mask(top: int, left: int, height: int, width: int, size=SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def random_set(
    seed: int, *, num_images: int = 6, num_categories: int = 1, max_detections: int = 8
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Boxes of all sizes, with crowds, ties of scores, empty images and empty masks."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, 40))[:num_images].tolist()
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i}.png"} for i in ids]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in images:
        for _ in range(rng.integers(0, 5)):
            top, left = int(rng.integers(0, 60)), int(rng.integers(0, 50))
            height, width = int(rng.integers(1, 70)), int(rng.integers(1, 60))
            mask = box_mask(top, left, height, width)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.integers(1, num_categories + 1)),
                    "iscrowd": int(rng.random() < 0.15),
                    "segmentation": rle(mask),
                    "area": int(mask.sum()),
                    "bbox": [left, top, width, height],
                }
            )
            if rng.random() < 0.8:
                shift = rng.integers(-3, 4, 4)
                near = box_mask(
                    max(0, top + shift[0]), max(0, left + shift[1]),
                    max(0, height + shift[2]), max(0, width + shift[3]),
                )  # fmt: skip
                results.append(result(image["id"], near, rng, num_categories))
        for _ in range(rng.integers(0, max_detections)):
            stray = box_mask(*(int(n) for n in rng.integers(0, 40, 4)))
            results.append(result(image["id"], stray, rng, num_categories))
    categories = [{"id": k, "name": f"thing {k}"} for k in range(1, num_categories + 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return truth, [results[i] for i in rng.permutation(len(results))]


def result(image_id: int, mask: np.ndarray, rng, num_categories: int) -> dict[str, Any]:
    # Few levels, so that scores tie within and across images.
    return {
        "image_id": image_id,
        "category_id": int(rng.integers(1, num_categories + 1)),
        "score": float(rng.integers(0, 12)) / 11,
        "segmentation": rle(mask),
    }


def reference(truth: dict[str, Any], results: list[dict[str, Any]]) -> COCOeval:
    """pycocotools over the whole set at once."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
