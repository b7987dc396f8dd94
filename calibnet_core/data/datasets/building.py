"""A data set from folders: colour, depth and the instance masks of one or several annotators."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibnet_core.data.datasets.build_settings import BuildSettings
from calibnet_core.data.datasets.consensus import Dropped, Material
from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.data.datasets.faults import DatasetError, Fault, errors_among
from calibnet_core.data.datasets.opening import open_dataset
from calibnet_core.data.datasets.parallel import ordered_map
from calibnet_core.data.datasets.writing import write_annotations
from calibnet_core.files import atomic_folder, atomic_write


@dataclass
class BuildReport:
    """What became of the material.

    Attributes:
        num_images, num_instances: in the set.
        dropped: instances left out.
        ambiguous: images left out because none of the marked instances was kept, by name.
        faults: images left out for what is wrong with a file ("error"), and what the set has to
            live with ("warning").
    """

    num_images: int = 0
    num_instances: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def to_json(self, settings: BuildSettings) -> dict[str, Any]:
        """The report and the settings as plain values."""
        chosen = vars(settings) | {"masks": [str(path) for path in settings.masks]}
        return {
            "images": self.num_images,
            "instances": self.num_instances,
            "settings": {k: str(v) if isinstance(v, Path) else v for k, v in chosen.items()},
            "dropped_instances": [vars(dropped) for dropped in self.dropped],
            "ambiguous_images": self.ambiguous,
            "faults": [vars(fault) for fault in self.faults],
        }


def build_dataset(
    settings: BuildSettings,
    output: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Build a set in the rgbd-coco format; it appears complete or not at all.

    An image needs a depth image, masks of at least one annotator and, where there is a folder of
    them, a region label. Annotators without a file for an image do not vote on it. An image whose
    marked instances were all dropped is ambiguous and left out, as in the paper (III-A); one in
    which every annotator saw nothing stays.

    Args:
        settings: folders and rules.
        output: the folder to create: annotations.json, report.json, imgs/, depths/.
        workers: threads; the result does not depend on their number.
        progress: called with the number of images done and their total.

    Raises:
        DatasetError: nothing is left, with the first reasons.
        FrameError: a folder is missing or unclear.
        FileExistsError: the output exists.
        OSError: it cannot be written.
    """
    material = Material(settings)
    report = BuildReport(faults=material.unused())
    records: list[ImageRecord] = []
    with atomic_folder(output) as folder:
        for name in ("imgs", "depths"):
            (folder / name).mkdir(parents=True)
        outcomes = ordered_map(material.outcome, material.names, workers)
        for done, (name, outcome) in enumerate(zip(material.names, outcomes, strict=True), start=1):
            report.dropped += outcome.dropped
            report.faults += outcome.faults
            if outcome.is_ambiguous:
                report.ambiguous.append(name)
            elif outcome.record is not None:
                records.append(outcome.record)
                _take_files(outcome.record, folder, link=settings.link)
            progress(done, len(material.names))
        if not records:
            raise DatasetError(_nothing_left(settings, report))
        report.num_images = len(records)
        report.num_instances = sum(len(record.annotations) for record in records)
        write_annotations(folder, settings.name or output.name, records)
        with atomic_write(folder / "report.json", "w") as file:
            json.dump(report.to_json(settings), file, indent=1)
            file.write("\n")
        open_dataset(folder)  # what cannot be opened must not appear
    return report


def _take_files(record: ImageRecord, folder: Path, *, link: bool) -> None:
    for source, place in ((record.pair.rgb_path, "imgs"), (record.pair.depth_path, "depths")):
        target = folder / place / source.name
        if link:
            # Of the file itself: a link to a symbolic link would break with it.
            os.link(source.resolve(), target)
        else:
            shutil.copyfile(source, target)


def _nothing_left(settings: BuildSettings, report: BuildReport) -> str:
    reasons = [str(fault) for fault in errors_among(report.faults)]
    reasons += [f"{dropped.image}: {dropped.reason}" for dropped in report.dropped]
    listed = "\n".join(reasons[:5])
    return f"{settings.images}: no image can be used, so nothing is written:\n{listed}"
