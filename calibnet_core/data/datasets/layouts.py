"""The published data sets by name: where each keeps colour, depth and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from calibnet_core.data.sources import ImagePair
from calibnet_core.structures import FrameError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Folders and the annotation file of a published set, below the root of all data sets.

    Colour files stand in the annotations by name; depth files have the same name and end in .png.
    """

    rgb: str
    depth: str
    annotations: str

    def pair(self, root: Path, entry: Mapping[str, Any]) -> ImagePair:
        """The files of an entry of `images`.

        Raises:
            FrameError: the name leaves the folder, or a file is missing.
        """
        name = PurePosixPath(str(entry["file_name"]))
        if name.is_absolute() or ".." in name.parts:
            raise FrameError(f"file name '{name}' leaves the folder; use names inside it")
        pair = ImagePair(
            name="_".join(name.with_suffix("").parts),
            rgb_path=root / self.rgb / name,
            depth_path=root / self.depth / name.with_suffix(".png"),
            depth_scale_m=0.001,
            image_id=int(entry["id"]),
            file_name=str(name),
        )
        return existing_files(pair, "complete the download")


def existing_files(pair: ImagePair, remedy: str) -> ImagePair:
    """The same pair, both files of which are there.

    Raises:
        FrameError: one or both are missing.
    """
    missing = [str(path) for path in (pair.rgb_path, pair.depth_path) if not path.is_file()]
    if missing:
        is_or_are = "is" if len(missing) == 1 else "are"
        raise FrameError(f"{' and '.join(missing)} {is_or_are} not there; {remedy}")
    return pair


LAYOUTS: dict[str, Layout] = {
    "come15k_train": Layout(
        rgb="COME15K/train/imgs_right",
        depth="COME15K/train/depths",
        annotations="COME15K/annotations/COME15K-Train.json",
    ),
    "come15k_test_e": Layout(
        rgb="COME15K/COME-E/RGB",
        depth="COME15K/COME-E/depth",
        annotations="COME15K/annotations/COME15K-Test-E.json",
    ),
    "come15k_test_h": Layout(
        rgb="COME15K/COME-H/RGB",
        depth="COME15K/COME-H/depth",
        annotations="COME15K/annotations/COME15K-Test-H.json",
    ),
    "sip_test": Layout(rgb="SIP/RGB", depth="SIP/depth", annotations="SIP/SIP.json"),
    "dsis_test": Layout(rgb="DSIS/RGB", depth="DSIS/depth", annotations="DSIS/DSIS.json"),
}
"""Sets of the paper by the names of the published code (calibnet specification, data sets)."""
