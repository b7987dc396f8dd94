"""Folders in which annotators leave their instance masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets.foreground import load_foreground, load_values
from calibnet_core.structures import FrameError

_MAX_LABELS = 1000
"""An image with more values than that is a photograph, not a label image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedMask:
    """One mask as an annotator drew it.

    Attributes:
        name: the file, and the value in a label image.
        mask: (H, W) bool; may be empty.
    """

    name: str
    mask: NDArray[np.bool_]


class MaskFolder:
    """The masks of one annotator.

    For each image there is either NAME.png, a label image (0 is background, every other value one
    instance; with a palette its index counts), or a folder NAME with one black and white PNG for
    each instance.

    Args:
        path: the folder.

    Raises:
        FrameError: it is no folder, or an image has both forms.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise FrameError(f"{path}: is no folder; give the folder of an annotator's masks")
        self.path = path
        self._labels = {file.stem: file for file in path.glob("*.png") if file.is_file()}
        self._folders = {f.name: f for f in path.iterdir() if f.is_dir() and f.name[0] != "."}
        if both := sorted(self._labels.keys() & self._folders.keys()):
            raise FrameError(
                f"{path}: {', '.join(both[:5])} has a label image and a folder of masks; keep one"
            )

    @property
    def names(self) -> set[str]:
        """Images that the annotator worked on, those without an instance included."""
        return self._labels.keys() | self._folders.keys()

    def load(self, name: str, size: tuple[int, int]) -> list[NamedMask]:
        """The masks of one image, by value or by file name.

        Args:
            name: one of `names`.
            size: (height, width) of the image.

        Raises:
            FrameError: a file cannot be read, is of another size, or no mask.
        """
        if name in self._labels:
            return self._from_labels(self._labels[name], size)
        files = sorted(self._folders[name].glob("*.png"))
        return [NamedMask(name=str(file), mask=load_foreground(file, size)) for file in files]

    def _from_labels(self, path: Path, size: tuple[int, int]) -> list[NamedMask]:
        values = load_values(path, size)
        labels = [int(value) for value in np.unique(values) if value]
        if len(labels) > _MAX_LABELS:
            raise FrameError(
                f"{path}: holds {len(labels)} values; a label image has one for each instance. "
                "Save it without smoothing and without compression losses"
            )
        return [NamedMask(name=f"{path}, value {v}", mask=values == v) for v in labels]
