"""What is wrong with data sets, their files included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets import rle
from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.data.datasets.faults import DatasetError, Fault, errors_among
from calibnet_core.data.datasets.opening import open_document
from calibnet_core.data.datasets.parallel import ordered_map
from calibnet_core.data.images import DepthImage, load_depth, load_rgb
from calibnet_core.structures import FrameError

_PLAUSIBLE_M = (0.05, 200.0)
"""Metres; a median depth elsewhere is more likely a wrong unit than a scene."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""


@dataclass(frozen=True, kw_only=True)
class CheckedSet:
    """What the check of one set found.

    Attributes:
        name: of the set.
        path: as it was given.
        num_images: usable or not; entries whose files could not be named are not counted.
        num_instances: their sound annotations.
        faults: of the document in its order, then of the files in the order of the images.
    """

    name: str
    path: str
    num_images: int
    num_instances: int
    faults: tuple[Fault, ...]

    @property
    def num_errors(self) -> int:
        """Faults that make an image or object unusable."""
        return len(errors_among(self.faults))

    @property
    def num_warnings(self) -> int:
        """Faults that can be lived with."""
        return len(self.faults) - self.num_errors

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "name": self.name,
            "path": self.path,
            "images": self.num_images,
            "instances": self.num_instances,
            "errors": self.num_errors,
            "warnings": self.num_warnings,
            "faults": [vars(fault) for fault in self.faults],
        }


def check_datasets(
    paths: Sequence[str | Path],
    *,
    root: str | Path | None = None,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> list[CheckedSet]:
    """Find every fault of one or several sets: in the documents, and in the files they name.

    Files of images whose annotations have faults are looked at, too, so that one run lists
    everything. A colour image that occurs twice is told within a set and across sets, where it
    would carry training images into a test.

    Args:
        paths: as for `open_dataset`. A set that cannot be opened has that as its one fault.
        root: the folder of the published sets.
        workers: threads; the result does not depend on their number.
        progress: told after every image.
    """
    opened: list[tuple[str, str, list[ImageRecord], list[Fault]]] = []
    for path in map(str, paths):
        try:
            document = open_document(path, root=root)
        except DatasetError as error:
            opened.append((path, path, [], [Fault(path, "", _without_path(str(error), path))]))
        else:
            contents = document.contents
            records = [*contents.records, *contents.left_out]
            opened.append((document.name, path, records, list(contents.faults)))
    total = sum(len(records) for _, _, records, _ in opened)
    every = [record for _, _, records, _ in opened for record in records]
    checks = ordered_map(check_image, every, workers)
    first_with: dict[bytes, Path] = {}
    done, checked = 0, []
    for name, path, records, faults in opened:
        for record in records:
            found = next(checks)
            faults += found.faults
            faults += _repetition(record, found.digest, first_with)
            done += 1
            progress(done, total)
        checked.append(
            CheckedSet(
                name=name,
                path=path,
                num_images=len(records),
                num_instances=sum(len(record.annotations) for record in records),
                faults=tuple(faults),
            )
        )
    return checked


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """What the files of one image show.

    Attributes:
        faults: of both files.
        digest: of size and pixels of the colour image; None where it cannot be read.
    """

    faults: tuple[Fault, ...]
    digest: bytes | None


def check_image(record: ImageRecord) -> CheckedImage:
    """Read the files of an image and compare them with what the annotations say of it."""
    rgb_path, depth_path = record.pair.rgb_path, record.pair.depth_path
    where = f"image {record.image_id}"
    faults: list[Fault] = []
    digest: bytes | None = None
    try:
        rgb = load_rgb(rgb_path)
    except FrameError as error:
        faults.append(Fault(str(rgb_path), where, _without_path(str(error), str(rgb_path))))
    else:
        faults += _wrong_size(rgb_path, where, rgb.shape[:2], record.size)
        digest = hashlib.blake2b(repr(rgb.shape).encode() + rgb.tobytes(), digest_size=16).digest()
    try:
        depth = load_depth(depth_path, scale_m=record.pair.depth_scale_m)
    except FrameError as error:
        faults.append(Fault(str(depth_path), where, _without_path(str(error), str(depth_path))))
    else:
        faults += _depth_faults(record, depth)
    return CheckedImage(faults=tuple(faults), digest=digest)


def _wrong_size(
    path: Path, where: str, size: tuple[int, ...], declared: tuple[int, int]
) -> list[Fault]:
    if size == declared:
        return []
    return [
        Fault(
            str(path),
            where,
            f"is {size[1]}x{size[0]}, but the annotations are for {declared[1]}x{declared[0]} "
            "(width x height); restore the file or export the annotations at its size",
        )
    ]


def _depth_faults(record: ImageRecord, depth: DepthImage) -> list[Fault]:
    path, where = record.pair.depth_path, f"image {record.image_id}"
    values: NDArray[Any] = depth["depth_m"] if "depth_m" in depth else depth["depth_map"]
    if wrong_size := _wrong_size(path, where, values.shape, record.size):
        return wrong_size
    if "depth_map" in depth:
        if values.min() < values.max():
            return []
        reason = f"holds the one value {values.flat[0]} everywhere, which says nothing about depth"
        return [Fault(str(path), where, f"{reason}; record it again or remove the image")]
    is_measured = np.isfinite(values)
    if not is_measured.any():
        reason = "holds no measured depth, not at one pixel; record it again or remove the image"
        return [Fault(str(path), where, reason)]
    median_m = float(np.median(values[is_measured]))
    faults = []
    if not _PLAUSIBLE_M[0] <= median_m <= _PLAUSIBLE_M[1]:
        reason = f"the median depth is {median_m:.3g} m; check depth_scale_m"
        faults.append(Fault(str(path), where, reason, "warning"))
    return faults + [
        Fault(
            str(path),
            f"{where}, annotation {annotation.annotation_id}",
            "no depth was measured anywhere on the object; it is learned from colour alone",
            "warning",
        )
        for annotation in record.annotations
        if not annotation.is_crowd and not is_measured[rle.decode(annotation.mask)].any()
    ]


def _repetition(
    record: ImageRecord, digest: bytes | None, first_with: dict[bytes, Path]
) -> list[Fault]:
    path = record.pair.rgb_path
    if digest is None or first_with.setdefault(digest, path) == path:
        return []
    return [
        Fault(
            str(path),
            f"image {record.image_id}",
            f"is the same picture as {first_with[digest]}; keep one, or both in the same part of a "
            "split",
            "warning",
        )
    ]


def _without_path(message: str, path: str) -> str:
    return message.removeprefix(f"{path}: ")
