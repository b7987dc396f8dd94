"""From a COCO document to image records, with every fault of the document listed by name."""

from __future__ import annotations

import math
import reprlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from calibnet_core.data.datasets import rle
from calibnet_core.data.datasets.dataset import Annotation, ImageRecord
from calibnet_core.data.datasets.faults import Fault
from calibnet_core.data.sources import ImagePair
from calibnet_core.structures import MAX_IMAGE_PIXELS, FrameError

Entry = Mapping[str, Any]
MakePair = Callable[[Entry], ImagePair]

_MAX_EXCESS = 1.0
"""Pixels by which a polygon may leave the image before it is said: tools round outwards."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a document holds.

    Attributes:
        records: the usable images, in the order of the file.
        left_out: images whose files are known but whose annotations have faults, with the sound
            ones among them: enough to look at the files, too little to learn from.
        categories: those with an id of their own.
        faults: everything that is wrong, in the order it was met.
    """

    records: tuple[ImageRecord, ...]
    left_out: tuple[ImageRecord, ...]
    categories: tuple[dict[str, Any], ...]
    faults: tuple[Fault, ...]


def read_document(path: Path, document: Any, make_pair: MakePair) -> Contents:
    """Read a COCO document, without its images.

    An image is usable when it and all of its annotations are sound: an object left out would teach
    that it is background.

    Args:
        path: of the file, for messages.
        document: its content.
        make_pair: the colour and depth file of an entry of `images`; raises `FrameError`.
    """
    return _DocumentReader(path, make_pair).read(document)


class _DocumentReader:
    def __init__(self, path: Path, make_pair: MakePair) -> None:
        self._faults: list[Fault] = []
        self._file = str(path)
        self._make_pair = make_pair

    def read(self, document: Any) -> Contents:
        images, annotations, categories = (
            self._entries(document, name) for name in ("images", "annotations", "categories")
        )
        if images is None or annotations is None or categories is None:
            return Contents(records=(), left_out=(), categories=(), faults=tuple(self._faults))
        known = self._categories(categories)
        image_ids = self._count_ids("image", images)
        by_image = self._annotations_by_image(annotations, set(known), image_ids)
        found: list[tuple[ImageRecord, bool]] = []
        for number, entry in images:
            record = self._image(_label("image", number, entry), entry, by_image)
            if record is not None:
                found.append((record[0], record[1] and image_ids[record[0].image_id] == 1))
        usable = self._with_files_of_their_own(found)
        return Contents(
            records=tuple(r for (r, _), keep in zip(found, usable, strict=True) if keep),
            left_out=tuple(r for (r, _), keep in zip(found, usable, strict=True) if not keep),
            categories=tuple(known.values()),
            faults=tuple(dict.fromkeys(self._faults)),  # images of one id share their annotations
        )

    def _entries(self, document: Any, name: str) -> list[tuple[int, dict[str, Any]]] | None:
        entries = document.get(name) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            self._fault("", f"has no list '{name}'; expected a COCO instance file")
            return None
        return list(self._mappings(entries, name))

    def _mappings(self, entries: list[Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield number, entry
            else:
                self._fault(f"{name} number {number}", "is no mapping; export the file again")

    def _categories(self, entries: list[tuple[int, dict[str, Any]]]) -> dict[int, dict[str, Any]]:
        self._count_ids("category", entries)
        known: dict[int, dict[str, Any]] = {}
        names: dict[str, int] = {}
        for number, entry in entries:
            where, name = _label("category", number, entry), entry.get("name")
            identity = entry.get("id")
            if not isinstance(name, str):
                self._fault(where, "has no name; give it one")
            elif _is_whole(identity) and names.setdefault(name, identity) != identity:
                self._fault(
                    where,
                    f"has the name '{name}' of category {names[name]}; objects of the two are told "
                    "apart by number only",
                    severity="warning",
                )
            if _is_whole(identity):
                known.setdefault(identity, entry)
        return known

    def _count_ids(self, kind: str, entries: list[tuple[int, dict[str, Any]]]) -> Counter[int]:
        """How often each id stands in the entries; anything but once is said."""
        counts: Counter[int] = Counter()
        for number, entry in entries:
            value = entry.get("id")
            if not _is_whole(value):
                self._fault(
                    f"{kind} number {number}", f"has id {reprlib.repr(value)}; give a whole number"
                )
                continue
            counts[value] += 1
            if counts[value] > 1:
                self._fault(f"{kind} {value}", "has the id of an earlier one; number them anew")
        return counts

    def _annotations_by_image(
        self,
        entries: list[tuple[int, dict[str, Any]]],
        categories: set[int],
        images: Mapping[int, int],
    ) -> dict[int, list[dict[str, Any] | None]]:
        """The annotations of each image; None stands for one that cannot be used."""
        counts = self._count_ids("annotation", entries)
        by_image: dict[int, list[dict[str, Any] | None]] = defaultdict(list)
        for number, entry in entries:
            where = _label("annotation", number, entry)
            image, category = entry.get("image_id"), entry.get("category_id")
            if not _is_whole(image) or image not in images:
                self._fault(
                    where,
                    f"belongs to image {reprlib.repr(image)}, which is not in the file; correct "
                    "image_id or remove it",
                )
                continue
            identity = entry.get("id")
            is_sound = _is_whole(identity) and counts[identity] == 1
            if not _is_whole(category) or category not in categories:
                self._fault(
                    where,
                    f"has category {reprlib.repr(category)}, which is not among "
                    f"{reprlib.repr(sorted(categories))}; correct it or add the category",
                )
                is_sound = False
            if entry.get("iscrowd", 0) not in (0, 1):
                self._fault(where, f"has iscrowd {reprlib.repr(entry['iscrowd'])}; give 0 or 1")
                is_sound = False
            by_image[image].append(entry if is_sound else None)
        return by_image

    def _image(
        self, where: str, entry: dict[str, Any], by_image: dict[int, list[dict[str, Any] | None]]
    ) -> tuple[ImageRecord, bool] | None:
        """The image and whether its annotations are sound; None without usable files."""
        height, width = entry.get("height"), entry.get("width")
        if not (_is_whole(height) and _is_whole(width)) or not (
            height > 0 and width > 0 and height * width <= MAX_IMAGE_PIXELS
        ):
            declared = f"height {reprlib.repr(height)} and width {reprlib.repr(width)}"
            self._fault(where, f"declares {declared}; give its pixels")
            return None
        if not _is_whole(entry.get("id")):
            return None  # said already
        try:
            pair = self._make_pair(entry)
        except FrameError as error:
            self._fault(where, str(error))
            return None
        except KeyError as error:
            self._fault(where, f"lacks the entry {error}; add it")
            return None
        except (TypeError, ValueError, OverflowError, OSError) as error:
            self._fault(where, f"has an entry that cannot be used ({error}); correct it")
            return None
        if not (math.isfinite(pair.depth_scale_m) and pair.depth_scale_m > 0):
            self._fault(
                where,
                f"has depth_scale_m {pair.depth_scale_m}; give metres in one step of the depth "
                "image, 0.001 for millimetres",
            )
            return None
        size = (height, width)
        found = [
            self._annotation(size, item) if item is not None else None
            for item in by_image.get(entry["id"], [])
        ]
        scene = entry.get("scene")
        record = ImageRecord(
            pair=pair,
            image_id=entry["id"],
            size=size,
            scene=pair.file_name if scene in (None, "") else str(scene),
            annotations=tuple(annotation for annotation in found if annotation is not None),
        )
        return record, None not in found

    def _annotation(self, size: tuple[int, int], entry: dict[str, Any]) -> Annotation | None:
        where = f"annotation {entry['id']}"
        segmentation = entry.get("segmentation")
        try:
            mask = rle.to_rle(segmentation, size)
        except rle.SegmentationError as error:
            self._fault(where, str(error))
            return None
        excess = rle.polygon_excess(segmentation, size)
        if rle.area(mask) == 0:
            reason = "lies outside the image" if excess > 0 else "has an empty mask, not one pixel"
            self._fault(where, f"{reason}; remove it or draw it again")
            return None
        if excess > _MAX_EXCESS:
            self._fault(
                where,
                f"reaches {excess:.0f} pixels beyond the image and is cut there; check the size",
                severity="warning",
            )
        area = entry.get("area")
        return Annotation(
            annotation_id=entry["id"],
            category_id=entry["category_id"],
            mask=mask,
            is_crowd=bool(entry.get("iscrowd", 0)),
            area=float(area)
            if isinstance(area, (int, float)) and 0 < area <= MAX_IMAGE_PIXELS
            else float(rle.area(mask)),
        )

    def _with_files_of_their_own(self, found: list[tuple[ImageRecord, bool]]) -> list[bool]:
        """Which of the images are usable: sound, and the only one with their colour file."""
        first: dict[str, int] = {}
        usable = [is_sound for _, is_sound in found]
        depth_files: dict[Path, int] = {}
        for place, (record, _) in enumerate(found):
            name, depth_path = record.pair.file_name, record.pair.depth_path
            earlier = first.setdefault(name, place)
            if earlier != place:
                self._fault(
                    f"image {record.image_id}",
                    f"file_name '{name}' stands at an earlier image too; give each file one entry",
                )
                # Either entry may lack objects that the other one has.
                usable[place] = usable[earlier] = False
            elif depth_files.setdefault(depth_path, record.image_id) != record.image_id:
                self._fault(
                    f"image {record.image_id}",
                    f"has the depth file of image {depth_files[depth_path]}; check depth_file",
                    severity="warning",
                )
        return usable

    def _fault(
        self, where: str, reason: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self._faults.append(Fault(self._file, where, reason, severity))


def _label(kind: str, number: int, entry: Entry) -> str:
    identity = entry.get("id")
    return f"{kind} {identity}" if _is_whole(identity) else f"{kind} number {number}"


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
