"""What to build a data set from, and by which rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from calibnet_core.data.datasets.faults import DatasetError


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What to build from, and by which rules.

    Attributes:
        images, depth: folders of colour and depth images, which belong together by name.
        masks: one folder for each annotator, see `MaskFolder`.
        regions: folder of region labels NAME.png, the salient objects of an image as one; None
            keeps every instance.
        name: of the set.
        depth_scale_m: metres in one step of integer depth images.
        min_iou: see `voting.propose`.
        min_inside: share of an instance's pixels that must lie inside the region label.
        scene_pattern: a regular expression; what its first group (or all of it) finds in an image's
            name is the scene. None makes every image a scene of its own.
        link: link the images instead of copying them; needs the same file system.

    Raises:
        DatasetError: a rule is out of its range.
    """

    images: Path
    depth: Path
    masks: tuple[Path, ...]
    regions: Path | None = None
    name: str = ""
    depth_scale_m: float = 0.001
    min_iou: float = 0.5
    min_inside: float = 0.5
    scene_pattern: str | None = None
    link: bool = False

    def __post_init__(self) -> None:
        if not self.masks:
            raise DatasetError("give at least one folder of masks")
        if len({path.resolve() for path in self.masks}) < len(self.masks):
            raise DatasetError("a folder of masks is given twice; it would vote twice")
        if not 0.0 < self.min_iou <= 1.0:
            raise DatasetError(f"min_iou is {self.min_iou}; choose a value above 0, at most 1")
        if not 0.0 <= self.min_inside <= 1.0:
            raise DatasetError(f"min_inside is {self.min_inside}; choose a value from 0 to 1")
        if not 0.0 < self.depth_scale_m < float("inf"):
            raise DatasetError(f"depth_scale_m is {self.depth_scale_m}; 0.001 means millimetres")
        if self.scene_pattern is not None:
            try:
                re.compile(self.scene_pattern)
            except re.error as error:
                raise DatasetError(
                    f"scene pattern '{self.scene_pattern}' is no regular expression: {error}"
                ) from error

    def scene(self, name: str) -> str:
        """The scene of an image; its name where the pattern finds nothing."""
        found = re.search(self.scene_pattern, name) if self.scene_pattern else None
        if found is None:
            return name
        return (found.group(1) if found.re.groups else found.group()) or name
