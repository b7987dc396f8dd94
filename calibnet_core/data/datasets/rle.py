"""Instance masks of COCO files: polygons and run lengths, checked before anything is allocated."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from calibnet_core.structures import MAX_IMAGE_PIXELS

Rle = dict[str, Any]
"""`size` [height, width] and `counts`, compressed as pycocotools does: ASCII bytes."""

_MAX_OUTLINE = 1_000_000
"""Pixels: pycocotools keeps some twenty numbers for each pixel of an outline."""


class SegmentationError(ValueError):
    """A segmentation is not what COCO files hold; the message says why."""


def to_rle(segmentation: Any, size: tuple[int, int]) -> Rle:
    """Turn a segmentation of any COCO form into compressed run lengths.

    Args:
        segmentation: polygons [[x0, y0, x1, y1, ...], ...] in pixels, or a mapping with `size` and
            `counts`, a list of numbers or a compressed string.
        size: (height, width) of the image.

    Raises:
        SegmentationError: the form is unknown, numbers are missing or no numbers, an outline is
            longer than any object's, or run lengths do not add up to the image.
    """
    if min(size) < 1 or size[0] * size[1] > MAX_IMAGE_PIXELS:
        raise SegmentationError(f"the image declares {size[1]}x{size[0]} pixels")
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    raise SegmentationError(
        f"the segmentation is {type(segmentation).__name__}; expected polygons or run lengths"
    )


def decode(rle: Rle) -> NDArray[np.bool_]:
    """The mask (H, W) of what `to_rle` returned."""
    mask: NDArray[np.bool_] = coco_mask.decode(rle).astype(bool)
    return mask


def area(rle: Rle) -> int:
    """Pixels inside the mask."""
    return int(coco_mask.area(rle))


def box_xywh(rle: Rle) -> NDArray[np.float64]:
    """Left, top, width and height of the mask, in pixels."""
    box: NDArray[np.float64] = coco_mask.toBbox(rle)
    return box


def encode(mask: NDArray[np.bool_]) -> Rle:
    """Compressed run lengths of a mask (H, W)."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"]}


def polygon_excess(segmentation: Any, size: tuple[int, int]) -> float:
    """How far polygons reach beyond the image, in pixels; 0 for other forms and inside."""
    if not isinstance(segmentation, list) or not segmentation:
        return 0.0
    height, width = size
    excess = 0.0
    for ring in segmentation:
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        excess = max(
            excess,
            float(-points.min()),
            float(points[:, 0].max() - width),
            float(points[:, 1].max() - height),
        )
    return excess


def _from_polygons(polygons: list[Any], size: tuple[int, int]) -> Rle:
    if not polygons:
        raise SegmentationError("the segmentation is an empty list; draw it again or remove it")
    for ring in polygons:
        if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
            raise SegmentationError(
                "a polygon needs at least three points, x and y of each in one flat list"
            )
        if not all(_is_number(value) and abs(value) <= 1e6 for value in ring):
            raise SegmentationError("a polygon holds something else than finite pixel coordinates")
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        outline = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
        if outline > _MAX_OUTLINE:
            raise SegmentationError(
                f"a polygon's outline is {outline:.0f} pixels long, at most {_MAX_OUTLINE} are "
                "drawn; check its coordinates"
            )
    parts = coco_mask.frPyObjects(polygons, *size)
    merged: Rle = coco_mask.merge(parts)
    return {"size": list(size), "counts": merged["counts"]}


def _from_runs(rle: dict[str, Any], size: tuple[int, int]) -> Rle:
    declared, counts = rle.get("size"), rle.get("counts")
    if not isinstance(declared, (list, tuple)) or list(declared) != list(size):
        raise SegmentationError(
            f"the run lengths are for size {reprlib.repr(declared)}, the image has {list(size)} "
            "(height, width); export the masks at the size of the image"
        )
    if isinstance(counts, (str, bytes)):
        # What stands for a foreign character begins with one that is refused below.
        text = counts.encode("ascii", "xmlcharrefreplace") if isinstance(counts, str) else counts
        runs = runs_of(text)
    elif isinstance(counts, list) and all(
        isinstance(run, int) and not isinstance(run, bool) for run in counts
    ):
        runs = counts
    else:
        raise SegmentationError("the run lengths are neither a string nor a list of whole numbers")
    if any(run < 0 for run in runs):
        raise SegmentationError("the run lengths hold a negative number; export the masks again")
    if sum(runs) != size[0] * size[1]:
        raise SegmentationError(
            f"the run lengths add up to {sum(runs)}, not to the {size[0] * size[1]} pixels of the "
            "image"
        )
    # Written anew from the runs that were checked: pycocotools never sees the file's own string.
    return dict(coco_mask.frPyObjects({"size": list(size), "counts": list(runs)}, *size))


def runs_of(counts: bytes) -> Sequence[int]:
    """Run lengths of a compressed string: 5 bits a character, differences from the third run on.

    Written out here because pycocotools writes as many pixels as a string claims.

    Raises:
        SegmentationError: the string ends within a number, or holds other characters.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for byte in counts:
        group = byte - 48
        if not 0 <= group < 64 or shift > 30:
            raise SegmentationError("the compressed run lengths hold characters of another format")
        value |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            if group & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise SegmentationError("the compressed run lengths stop within a number")
    return runs


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
