"""Writing labelled sets in the rgbd-coco format."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets import rle
from calibnet_core.data.datasets.dataset import Annotation, ImageRecord, RgbdDataset
from calibnet_core.files import atomic_write

_CATEGORY: dict[str, Any] = {"id": 1, "name": "object"}


def annotation_of(mask: NDArray[np.bool_], number: int) -> Annotation:
    """The annotation of one object of the only class.

    Args:
        mask: (H, W) of the object.
        number: of the annotation; those of a whole set are numbered anew on writing.
    """
    encoded = rle.encode(mask)
    return Annotation(
        annotation_id=number,
        category_id=_CATEGORY["id"],
        mask=encoded,
        is_crowd=False,
        area=float(rle.area(encoded)),
    )


def write_annotations(folder: Path, name: str, records: Sequence[ImageRecord]) -> None:
    """Write `annotations.json` into the folder of a set; annotations are numbered through.

    Args:
        folder: with the colour images in `imgs` and the depth images in `depths`.
        name: of the set.
        records: of the images, in order.

    Raises:
        OSError: it cannot be written.
    """
    numbers = itertools.count(1)
    numbered = [
        dataclasses.replace(
            record,
            annotations=tuple(
                dataclasses.replace(annotation, annotation_id=next(numbers))
                for annotation in record.annotations
            ),
        )
        for record in records
    ]
    document = RgbdDataset(name, numbered, [_CATEGORY]).ground_truth()
    for image, record in zip(document["images"], records, strict=True):
        image |= _image_entries(record)
    with atomic_write(folder / "annotations.json", "w") as file:
        json.dump({"info": {"description": name}, **document}, file)
        file.write("\n")


def _image_entries(record: ImageRecord) -> dict[str, Any]:
    pair = record.pair
    entries: dict[str, Any] = {
        "depth_file": pair.depth_path.name,
        "depth_scale_m": pair.depth_scale_m,
        "scene": record.scene,
    }
    if pair.intrinsics is not None:
        camera = pair.intrinsics
        entries["intrinsics"] = {
            "fx": camera.fx,
            "fy": camera.fy,
            "cx": camera.cx,
            "cy": camera.cy,
        }
    return entries
