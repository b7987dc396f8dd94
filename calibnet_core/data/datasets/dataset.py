"""A labelled data set: images with depth, and the masks of their objects."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets import rle
from calibnet_core.data.datasets.faults import DatasetError, Fault
from calibnet_core.data.sources import ImagePair
from calibnet_core.structures import FrameError, RgbdFrame


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One labelled object.

    Attributes:
        annotation_id, category_id: numbers in the file.
        mask: run lengths at the size of the image.
        is_crowd: a region of many objects, which is no instance to learn.
        area: pixels, as the file has it where it does, else of the mask.
    """

    annotation_id: int
    category_id: int
    mask: rle.Rle
    is_crowd: bool
    area: float


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """What the annotation file says about one image; nothing is read yet.

    Attributes:
        pair: colour and depth file.
        size: (height, width) in pixels.
        scene: what to keep together in a split; the file name where the file names no scene.
        annotations: in the order of the file.
    """

    pair: ImagePair
    image_id: int
    size: tuple[int, int]
    scene: str
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class RgbdSample:
    """One image with its labels.

    Attributes:
        image_id, file_name, scene: as in `ImageRecord`.
        frame: colour and depth.
        masks: (n, H, W) bool, one for each annotation; n may be 0.
        is_crowd: (n,) bool.
    """

    image_id: int
    file_name: str
    scene: str
    frame: RgbdFrame
    masks: NDArray[np.bool_]
    is_crowd: NDArray[np.bool_]


class RgbdDataset:
    """Images in the order of their annotation file.

    Args:
        name: for reports.
        records: one for each image.
        categories: of the COCO file. Segmentation is class-agnostic; evaluation, too.
        faults: what was found on opening and may be lived with.
    """

    def __init__(
        self,
        name: str,
        records: Sequence[ImageRecord],
        categories: Sequence[dict[str, Any]],
        faults: Sequence[Fault] = (),
    ) -> None:
        self.name = name
        self.records = tuple(records)
        self.categories = [dict(category) for category in categories]
        self.faults = tuple(faults)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Numbers of the images, in order."""
        return tuple(record.image_id for record in self.records)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes, sorted."""
        return tuple(sorted({record.scene for record in self.records}))

    def load(self, index: int) -> RgbdSample:
        """Read one image and decode its masks.

        Raises:
            FrameError: a file cannot be read, or its size is not the declared one. The message
                names the file.
        """
        record = self.records[index]
        frame = record.pair.load()
        if frame.size != record.size:
            raise FrameError(
                f"{record.pair.rgb_path}: is {frame.size[1]}x{frame.size[0]}, but its annotations "
                f"are for {record.size[1]}x{record.size[0]} (width x height); export them anew"
            )
        masks = [rle.decode(annotation.mask) for annotation in record.annotations]
        return RgbdSample(
            image_id=record.image_id,
            file_name=record.pair.file_name,
            scene=record.scene,
            frame=frame,
            masks=np.stack(masks) if masks else np.zeros((0, *record.size), np.bool_),
            is_crowd=np.array([a.is_crowd for a in record.annotations], np.bool_),
        )

    def ground_truth(self) -> dict[str, Any]:
        """The labels as a COCO dictionary with run lengths."""
        return {
            "images": [
                {
                    "id": record.image_id,
                    "file_name": record.pair.file_name,
                    "height": record.size[0],
                    "width": record.size[1],
                }
                for record in self.records
            ],
            "categories": [dict(category) for category in self.categories],
            "annotations": [
                {
                    "id": annotation.annotation_id,
                    "image_id": record.image_id,
                    "category_id": annotation.category_id,
                    "segmentation": {
                        "size": list(annotation.mask["size"]),
                        "counts": annotation.mask["counts"].decode("ascii"),
                    },
                    "area": annotation.area,
                    "bbox": [float(edge) for edge in rle.box_xywh(annotation.mask)],
                    "iscrowd": int(annotation.is_crowd),
                }
                for record in self.records
                for annotation in record.annotations
            ],
        }

    def where(self, keep: Callable[[ImageRecord], bool], *, name: str = "") -> RgbdDataset:
        """The images for which `keep` is true."""
        kept = [record for record in self.records if keep(record)]
        return RgbdDataset(name or self.name, kept, self.categories, self.faults)

    def split_by_scene(self, fraction: float, seed: int) -> tuple[RgbdDataset, RgbdDataset]:
        """Part the scenes at random, so that no scene is in both parts.

        Args:
            fraction: of the scenes that go to the second part, above 0 and below 1.
            seed: makes the split repeatable.

        Raises:
            DatasetError: a part would be empty.
        """
        scenes = list(self.scenes)
        random.Random(seed).shuffle(scenes)
        held_out = set(scenes[: round(fraction * len(scenes))])
        if not 0 < len(held_out) < len(scenes):
            raise DatasetError(
                f"{self.name}: holding out {fraction:.0%} of {len(scenes)} scenes leaves a part "
                "without images; choose another fraction or give a set of its own"
            )
        return (
            self.where(lambda record: record.scene not in held_out),
            self.where(lambda record: record.scene in held_out),
        )
