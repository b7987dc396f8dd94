"""Labels of a recording: a COCO file whose images are frames of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.data.datasets.faults import raise_on_errors
from calibnet_core.data.datasets.reading import Contents, read_document
from calibnet_core.data.sources import ImagePair, read_coco
from calibnet_core.evaluation.coco_masks import decode_masks
from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.structures import FrameError, RgbdFrame

_NS_PER_S = 1_000_000_000
_STAMP = re.compile(r"(?:^|_)(\d+)_(\d{9})$")


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrame:
    """A frame with its labels; `evaluation.loading.Sample` asks for these.

    Attributes:
        image_id, file_name, scene: as the file has them.
        frame: of the recording.
        masks: (n, H, W) bool.
        is_crowd: (n,) bool.
        object_ids: n numbers that stay with the objects from frame to frame; None where the file
            does not tell.
    """

    image_id: int
    file_name: str
    scene: str
    frame: RgbdFrame
    masks: NDArray[np.bool_]
    is_crowd: NDArray[np.bool_]
    object_ids: tuple[int, ...] | None


class RecordingTruth:
    """The labels of one recording, by frame. Masks stay compressed until a frame asks for them.

    A file whose image names end in the colour stamp, `<seconds>_<nine digits>` before the suffix as
    in `kitchen_1700000000_033333333.png`, is matched by stamp. Where no name does, the k-th image
    of the file is the k-th colour image of the recording; tell it of each with `note_color`.

    Args:
        records: images with their annotations.
        object_ids: `track_id` of the annotations by annotation number.
        name: of the file, for messages.

    Raises:
        EvaluationError: only some of the names bear a stamp, or two bear the same.
    """

    def __init__(
        self, records: Sequence[ImageRecord], object_ids: Mapping[int, int], *, name: str
    ) -> None:
        self.name = name
        self._records, self._object_ids = tuple(records), dict(object_ids)
        stamps = [_stamp_of(record.pair.file_name) for record in records]
        self.is_by_stamp = any(stamp is not None for stamp in stamps)
        self._place: dict[int, int] = {}
        self._num_colors = 0
        if not self.is_by_stamp:
            return
        for place, stamp in enumerate(stamps):
            file_name = records[place].pair.file_name
            if stamp is None:
                raise EvaluationError(
                    f"{name}: '{file_name}' bears no stamp as other images do; name all images "
                    "'<seconds>_<nanoseconds, 9 digits>', or none to take them in order"
                )
            if stamp in self._place:
                raise EvaluationError(
                    f"{name}: '{file_name}' bears the stamp of an earlier image; keep one of them"
                )
            self._place[stamp] = place

    @classmethod
    def read(cls, path: str | Path) -> RecordingTruth:
        """Read a COCO instance file; of `images` it needs `id`, `file_name`, `height`, `width`.

        An annotation's `track_id`, a whole number, says which object it is throughout.

        Raises:
            EvaluationError: it cannot be read, or has faults; the first ones are listed.
        """
        path = Path(path)
        try:
            document = read_coco(path)
            contents = read_document(path, document, _unread_pair)
            _check(path, contents)
        except FrameError as error:
            raise EvaluationError(str(error)) from error
        return cls(contents.records, _object_ids(document), name=path.name)

    def __len__(self) -> int:
        return len(self._records)

    def note_color(self, stamp_ns: int) -> None:
        """Tell of the next colour image of the recording, in the order of the recording."""
        if not self.is_by_stamp and self._num_colors < len(self._records):
            # A stamp that comes again is the same picture in a loop, or no stamp at all.
            self._place.setdefault(stamp_ns, self._num_colors)
        self._num_colors += 1

    def labels_of(self, frame: RgbdFrame) -> LabelledFrame | None:
        """The labels of a frame; None where it has none.

        Raises:
            EvaluationError: the file declares another size for it.
        """
        place = self._place.get(frame.stamp_ns)
        if place is None:
            return None
        record = self._records[place]
        if frame.size != record.size:
            raise EvaluationError(
                f"{self.name}: image {record.image_id} ({record.pair.file_name}) is declared "
                f"{record.size} but the recording's is {frame.size} (height, width); label the "
                "images as they were recorded"
            )
        annotations = record.annotations
        ids = [self._object_ids.get(entry.annotation_id) for entry in annotations]
        known = [number for number in ids if number is not None]
        is_told = len(known) == len(ids) and len(set(known)) == len(known)
        return LabelledFrame(
            image_id=record.image_id,
            file_name=record.pair.file_name,
            scene=record.scene,
            frame=frame,
            masks=decode_masks([entry.mask for entry in annotations], record.size),
            is_crowd=np.array([entry.is_crowd for entry in annotations], np.bool_),
            object_ids=tuple(known) if is_told and self._object_ids else None,
        )


def _stamp_of(file_name: str) -> int | None:
    found = _STAMP.search(PurePosixPath(file_name).stem)
    return None if found is None else int(found[1]) * _NS_PER_S + int(found[2])


def _unread_pair(entry: Mapping[str, Any]) -> ImagePair:
    """The name alone: the pixels are in the recording."""
    name = str(entry["file_name"])
    return ImagePair(
        name=PurePosixPath(name).stem,
        rgb_path=Path(name),
        depth_path=Path(name),
        depth_scale_m=1.0,
        file_name=name,
    )


def _check(path: Path, contents: Contents) -> None:
    raise_on_errors(str(path), contents.faults)
    if not contents.records:
        raise EvaluationError(f"{path}: holds no image; label frames of the recording")


def _object_ids(document: Any) -> dict[int, int]:
    return {
        entry["id"]: entry["track_id"]
        for entry in document["annotations"]
        if isinstance(entry.get("track_id"), int) and not isinstance(entry["track_id"], bool)
    }
