"""`open_dataset`: a name or a path goes in, a data set comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from calibnet_core.data.datasets.dataset import RgbdDataset
from calibnet_core.data.datasets.faults import DatasetError, Fault, raise_on_errors
from calibnet_core.data.datasets.layouts import LAYOUTS, existing_files
from calibnet_core.data.datasets.reading import Contents, MakePair, read_document
from calibnet_core.data.sources import ImagePair, coco_pair, find_coco_file, read_coco
from calibnet_core.structures import FrameError


@dataclass(frozen=True, kw_only=True)
class Document:
    """An annotation file that was read.

    Attributes:
        name: of the set, for reports.
        path: of the file.
        contents: images, categories and faults.
    """

    name: str
    path: Path
    contents: Contents


def open_dataset(
    path: str | Path, *, root: str | Path | None = None, skip_faulty: bool = False
) -> RgbdDataset:
    """Open a labelled set without reading its images.

    Two layouts are known: that of a published set, by its name in `layouts.LAYOUTS`, and
    `rgbd-coco`, a COCO instance file (or the one folder that it is in) whose images also carry
    `depth_file`, and may carry `depth_scale_m`, `intrinsics` and `scene`.

    Args:
        path: a published set's name, an annotation file, or its folder.
        root: the folder that the published sets are in; needed for those only.
        skip_faulty: leave images with faults out; `RgbdDataset.faults` names them.

    Raises:
        DatasetError: the set is not there, its file is unreadable, or has faults; the first ones
            are listed by place and reason.
    """
    dataset, faults = read_dataset(path, root=root)
    if not (skip_faulty and len(dataset)):
        raise_on_errors(dataset.name, faults)
    if not len(dataset):
        raise DatasetError(f"{dataset.name}: holds no image; check the path")
    return dataset


def read_dataset(
    path: str | Path, *, root: str | Path | None = None
) -> tuple[RgbdDataset, list[Fault]]:
    """All usable images of a set, and everything that is wrong with its annotations.

    Raises:
        DatasetError: there is no such set, or no document to speak of.
    """
    document = open_document(path, root=root)
    contents = document.contents
    dataset = RgbdDataset(document.name, contents.records, contents.categories, contents.faults)
    return dataset, list(contents.faults)


def open_document(path: str | Path, *, root: str | Path | None = None) -> Document:
    """The annotation file of a set, with its faulty images, too.

    Raises:
        DatasetError: as `read_dataset`.
    """
    try:
        return _open_document(str(path), None if root is None else Path(root))
    except DatasetError:
        raise
    except FrameError as error:
        raise DatasetError(str(error)) from error


def _open_document(name: str, root: Path | None) -> Document:
    make_pair: MakePair
    if name in LAYOUTS:
        if root is None:
            raise DatasetError(f"{name}: give the folder of the published sets as root")
        layout = LAYOUTS[name]
        file = root / layout.annotations
        if not file.is_file():
            raise DatasetError(
                f"{file}: is not there; {name} expects it, with colour in {layout.rgb} and depth "
                f"in {layout.depth} below {root}"
            )
        make_pair = partial(layout.pair, root)
    else:
        file = find_coco_file(Path(name))
        make_pair = partial(_existing_pair, file.parent)
        name = file.resolve().parent.name if file.stem == "annotations" else file.stem
    contents = read_document(file, read_coco(file), make_pair)
    return Document(name=name, path=file, contents=contents)


def _existing_pair(home: Path, entry: Mapping[str, Any]) -> ImagePair:
    return existing_files(coco_pair(home, entry), "copy it, or remove the image")
