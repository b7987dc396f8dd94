"""Predictions on disk: overlay pictures, label images and a COCO results file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from calibnet_core.files import atomic_write
from calibnet_core.perception.mask_codec import label_image
from calibnet_core.structures import Instances, RgbdFrame
from calibnet_core.visualization import draw_instances

_CATEGORY = {"id": 1, "name": "object"}


class ResultFolder:
    """A folder that collects predictions frame by frame.

    - `overlays/NAME.png`: the colour image with the instances drawn in.
    - `labels/NAME.png`: 16 bit, 0 background, k where instance k is, the best score being 1.
    - `results.json`: COCO results, one entry an instance, with its label image's number as
      `instance`.
    - `images.json`: the images that the results refer to, in COCO form.

    Pictures are written at once, the JSON files by `finish`. Each file appears complete or not at
    all; files of the same name are replaced.

    Args:
        path: the folder; created when missing.
        reserved_ids: image numbers that frames will bring along, which no other frame may get.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, path: Path, *, reserved_ids: Iterable[int] = ()) -> None:
        self.path = path
        for name in ("overlays", "labels"):
            (path / name).mkdir(parents=True, exist_ok=True)
        self._next_id = max(reserved_ids, default=0) + 1
        self._ids: set[int] = set()
        self._names: set[str] = set()
        self._images: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []

    @property
    def num_frames(self) -> int:
        """Frames added so far."""
        return len(self._images)

    @property
    def num_instances(self) -> int:
        """Instances in all frames added so far."""
        return len(self._results)

    def add(
        self,
        frame: RgbdFrame,
        instances: Instances,
        *,
        image_id: int | None = None,
        file_name: str = "",
    ) -> None:
        """Write the pictures of one frame and remember its results.

        Args:
            frame: its name becomes that of the files; a number is appended to a name used before.
            instances: what was found in it, in any order.
            image_id: number of the image in its annotations; None, or one used before, gives a new
                number.
            file_name: what to call the image in `images.json`; empty takes the frame's name.

        Raises:
            OSError: a file cannot be written.
        """
        instances = _best_first(instances)
        name = self._unused_name(frame.name or "frame")
        _write_png(self.path / "overlays" / f"{name}.png", draw_instances(frame.rgb, instances))
        _write_png(self.path / "labels" / f"{name}.png", label_image(instances.masks))
        if image_id is None or image_id in self._ids:
            image_id, self._next_id = self._next_id, self._next_id + 1
        self._ids.add(image_id)
        height, width = frame.size
        self._images.append(
            {
                "id": image_id,
                "file_name": file_name or f"{name}.png",
                "height": height,
                "width": width,
            }
        )
        self._results += _coco_results(instances, image_id)

    def finish(self) -> None:
        """Write `results.json` and `images.json`.

        Raises:
            OSError: a file cannot be written.
        """
        _write_json(self.path / "results.json", self._results)
        images = {"images": self._images, "categories": [_CATEGORY]}
        _write_json(self.path / "images.json", images)

    def _unused_name(self, wanted: str) -> str:
        # Names come from files and recordings; a separator in one must not leave the folder.
        wanted = wanted.replace("/", "_").replace("\\", "_").lstrip(".") or "frame"
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name


def _best_first(instances: Instances) -> Instances:
    return instances[np.argsort(-instances.scores, kind="stable")]


def _coco_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    encoded = coco_mask.encode(np.asfortranarray(instances.masks.transpose(1, 2, 0), np.uint8))
    results = []
    for number, (rle, score, box) in enumerate(
        zip(encoded, instances.scores, instances.boxes_xyxy, strict=True), start=1
    ):
        x_min, y_min, x_max, y_max = (float(edge) for edge in box)
        results.append(
            {
                "image_id": image_id,
                "category_id": _CATEGORY["id"],
                "segmentation": {
                    "size": [int(length) for length in rle["size"]],
                    "counts": rle["counts"].decode("ascii"),
                },
                "score": float(score),
                "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                "instance": number,
            }
        )
    return results


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path, "w") as file:
        json.dump(content, file)
        file.write("\n")
