"""Pictures of the worst and the best images, kept while a set streams by."""

from __future__ import annotations

import bisect
import io
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibnet_core.structures import Instances
from calibnet_core.visualization import RgbImage, draw_instances

MAX_WIDTH = 512
"""Pictures are scaled down to this many pixels of width."""
MAX_HEIGHT = 640
"""And to this many pixels of height."""

_JPEG_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """Ground truth and prediction drawn over the same image, as JPEG files in memory."""

    truth: bytes
    prediction: bytes
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class _Entry:
    rank: tuple[float, ...]
    image_id: int
    pictures: PicturePair


class Gallery:
    """Keeps the pictures of at most `size` worst and `size` best images.

    Args:
        size: images on either side, 0 for none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._worst: list[_Entry] = []
        self._best: list[_Entry] = []
        self._num_offered = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures kept."""
        entries = {entry.image_id: entry.pictures for entry in (*self._worst, *self._best)}
        return sum(len(pair.truth) + len(pair.prediction) for pair in entries.values())

    def offer(
        self,
        image_id: int,
        quality: tuple[float, ...],
        *,
        draw: Callable[[], PicturePair],
        can_be_best: bool,
    ) -> None:
        """Keep the image if it is among the worst or the best so far.

        Args:
            image_id: number of the image; of equally good images the lower number comes first.
            quality: figures that rank the images, the higher the better, the first one first.
            draw: makes the pictures; called only if they are kept.
            can_be_best: whether it may stand among the best.
        """
        self._num_offered += 1
        sides = [(self._worst, (*quality, image_id))]
        if can_be_best:
            sides.append((self._best, (*(-figure for figure in quality), image_id)))
        wanted = [
            (entries, rank)
            for entries, rank in sides
            if self._size and (len(entries) < self._size or rank < entries[-1].rank)
        ]
        if not wanted:
            return
        pictures = draw()
        for entries, rank in wanted:
            entry = _Entry(rank=rank, image_id=image_id, pictures=pictures)
            bisect.insort(entries, entry, key=lambda kept: kept.rank)
            del entries[self._size :]

    def worst_and_best(self) -> tuple[dict[int, PicturePair], dict[int, PicturePair]]:
        """Pictures by image number, the worst first and the best first; no image is in both."""
        num_worst = min(self._size, -(-self._num_offered // 2))
        worst = {entry.image_id: entry.pictures for entry in self._worst[:num_worst]}
        best = {e.image_id: e.pictures for e in self._best if e.image_id not in worst}
        return worst, best


def draw_pair(
    rgb: RgbImage,
    gt_masks: NDArray[np.bool_],
    instances: Instances,
    *,
    pairs: tuple[tuple[int, int], ...],
) -> PicturePair:
    """Draw objects and predictions over an image; what is paired has the same colour and number.

    Args:
        rgb: (H, W, 3) uint8.
        gt_masks: (N, H, W) bool.
        instances: predictions of the same size.
        pairs: (index of the object, index of the prediction).
    """
    scale = min(1.0, MAX_WIDTH / rgb.shape[1], MAX_HEIGHT / rgb.shape[0])
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    small = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    objects = Instances.from_masks(
        _scaled(gt_masks, height, width), np.ones(len(gt_masks), np.float32)
    )
    predictions = Instances.from_masks(_scaled(instances.masks, height, width), instances.scores)
    labels = _labels(len(gt_masks), len(instances), pairs)
    return PicturePair(
        truth=_jpeg(draw_instances(small, objects, with_captions=False)),
        prediction=_jpeg(draw_instances(small, predictions, labels=labels)),
        height=height,
        width=width,
    )


def _labels(num_objects: int, num_masks: int, pairs: tuple[tuple[int, int], ...]) -> list[int]:
    """A paired prediction has its object's number, the others count on after the objects."""
    object_of = {prediction: number for number, prediction in pairs}
    labels, following = [], num_objects
    for prediction in range(num_masks):
        if prediction not in object_of:
            following += 1
        labels.append(object_of.get(prediction, following - 1) + 1)
    return labels


def _scaled(masks: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    scaled = np.zeros((len(masks), height, width), np.bool_)
    for target, mask in zip(scaled, masks, strict=True):
        target[:] = cv2.resize(
            mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
        )
    return scaled


def _jpeg(rgb: RgbImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
