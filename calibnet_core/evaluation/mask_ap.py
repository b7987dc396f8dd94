"""Mask AP of COCO dictionaries: the figures of the published tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

from calibnet_core.data.datasets.rle import Rle
from calibnet_core.evaluation.coco_masks import area, to_rle
from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.image_outcomes import match_image
from calibnet_core.evaluation.precision_recall import combine, mask_ap_figures

Details = TypeVar("Details")


def evaluate_instances(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Average precision and recall of instance masks, equal to pycocotools'.

    Ranges of area use the mask of a detection, also where it has a box, and the `area` of an
    annotation where it has one, else its mask. No results at all give 0, not an error. An
    annotation may have the id 0, which pycocotools would take for "not matched".

    Args:
        ground_truth: COCO dictionary with `images`, `annotations` and `categories`; polygons or run
            lengths.
        results: COCO results: `image_id`, `category_id`, `score` and `segmentation` each.

    Returns:
        Figures in per cent, as published tables print them, NaN where no object decides one; the
        keys are those of `precision_recall.mask_ap_figures`.

    Raises:
        EvaluationError: an entry lacks something, contradicts the images or occurs twice.
    """
    sizes = _image_sizes(_entries(ground_truth, "images"))
    category_ids = sorted(_unique_ids(_entries(ground_truth, "categories"), "categories"))
    annotations = _entries(ground_truth, "annotations")
    _unique_ids(annotations, "annotations")
    objects = _grouped(annotations, "annotations", sizes, category_ids, _object_entry)
    if isinstance(results, str | bytes | Mapping) or not isinstance(results, Sequence):
        raise EvaluationError(
            f"the results are {type(results).__name__}; give a list of COCO results"
        )
    detections = _grouped(results, "results", sizes, category_ids, _detection_entry)
    outcomes = []
    for category_id in category_ids:
        of_category = []
        for image_id in sizes:
            gt_masks, details = objects.get((image_id, category_id), ([], []))
            masks, scores = detections.get((image_id, category_id), ([], []))
            of_category.append(
                match_image(
                    image_id,
                    objects=gt_masks,
                    is_crowd=[is_crowd for is_crowd, _ in details],
                    object_areas=[pixels for _, pixels in details],
                    detections=masks,
                    scores=scores,
                )
            )
        outcomes.append(of_category)
    return mask_ap_figures(combine(outcomes))


def _entries(ground_truth: Any, name: str) -> list[Any]:
    entries = ground_truth.get(name) if isinstance(ground_truth, Mapping) else None
    if not isinstance(entries, list):
        raise EvaluationError(
            f"the ground truth has no list '{name}'; give a COCO dictionary with images, "
            "annotations and categories"
        )
    return entries


def _unique_ids(entries: Sequence[Any], name: str) -> list[int]:
    seen: dict[int, int] = {}
    for number, entry in enumerate(entries):
        identity = _integer(_member(entry, "id", f"{name}[{number}]"), f"{name}[{number}] 'id'")
        if identity in seen:
            raise EvaluationError(
                f"{name}[{seen[identity]}] and {name}[{number}] share the id {identity}; give "
                "every entry an id of its own"
            )
        seen[identity] = number
    return list(seen)


def _image_sizes(images: Sequence[Any]) -> dict[int, tuple[int, int]]:
    sizes = {}
    for number, (identity, image) in enumerate(
        zip(_unique_ids(images, "images"), images, strict=True)
    ):
        where = f"images[{number}] (id {identity})"
        height, width = (
            _integer(_member(image, side, where), f"{where} '{side}'")
            for side in ("height", "width")
        )
        if height < 1 or width < 1:
            raise EvaluationError(f"{where} has size {height}x{width}; give pixels above 0")
        sizes[identity] = (height, width)
    return sizes


def _grouped(
    entries: Sequence[Any],
    name: str,
    sizes: Mapping[int, tuple[int, int]],
    category_ids: Sequence[int],
    details_of: Callable[[Mapping[str, Any], Rle, str], Details],
) -> dict[tuple[int, int], tuple[list[Rle], list[Details]]]:
    """Masks and details of the entries by image and category, in the order given."""
    groups: dict[tuple[int, int], tuple[list[Rle], list[Details]]] = {}
    for number, entry in enumerate(entries):
        where = f"{name}[{number}]"
        image_id = _member(entry, "image_id", where)
        if not _is_integer(image_id) or image_id not in sizes:
            raise EvaluationError(
                f"{where} belongs to image {image_id!r}, which the ground truth does not have; "
                "evaluate against the file that the images came from"
            )
        where += f" (image {image_id})"
        category_id = _member(entry, "category_id", where)
        if not _is_integer(category_id) or category_id not in category_ids:
            raise EvaluationError(
                f"{where} has category {category_id!r}; the ground truth has {list(category_ids)}"
            )
        rle = to_rle(_member(entry, "segmentation", where), sizes[image_id], where)
        masks, details = groups.setdefault((int(image_id), int(category_id)), ([], []))
        masks.append(rle)
        details.append(details_of(entry, rle, where))
    return groups


def _object_entry(annotation: Mapping[str, Any], rle: Rle, where: str) -> tuple[bool, float]:
    """(is_crowd, area in pixels)."""
    declared = annotation.get("area")
    pixels = area(rle) if declared is None else _number(declared, f"{where} 'area'")
    return bool(annotation.get("iscrowd", 0)), pixels


def _detection_entry(result: Mapping[str, Any], rle: Rle, where: str) -> float:
    return _number(_member(result, "score", where), f"{where} 'score'")


def _member(entry: Any, name: str, where: str) -> Any:
    if not isinstance(entry, Mapping) or name not in entry:
        raise EvaluationError(f"{where} has no '{name}'; add it to the entry")
    return entry[name]


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _integer(value: Any, where: str) -> int:
    if not _is_integer(value):
        raise EvaluationError(f"{where} is {value!r}; give a whole number")
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise EvaluationError(f"{where} is {value!r}; give a finite number")
    return float(value)
