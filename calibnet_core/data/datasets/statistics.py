"""The paper's analyses of data sets: numbers for a JSON file, from one pass over the images.

"The paper" is CalibNet (RGB-D salient instance segmentation), section III, figures 4 to 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.datasets.dataset import RgbdDataset
from calibnet_core.data.datasets.faults import Fault, errors_among
from calibnet_core.data.datasets.foreground import load_foreground
from calibnet_core.data.datasets.measures import GRID, ImageMeasures, NearIs, measure_image
from calibnet_core.data.datasets.parallel import ordered_map
from calibnet_core.structures import FrameError

SIZE_EDGES = np.logspace(-4.0, 0.0, 25)
"""Shares of the image area that part the classes of figure 5a: six to a factor of ten."""
IOU_EDGES = np.linspace(0.0, 1.0, 101)
"""Where the matching curves of figures 5b and 5c are sampled."""
_SMALL_PX, _LARGE_PX = 32**2, 96**2
_PERCENTILES = (5, 25, 50, 75, 95)
_DIGITS = 6


class SetStatistics:
    """Analyses of one set, image by image; what is kept are a few numbers for each object.

    Args:
        name: of the set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.instances_per_image: Counter[int] = Counter()
        self.shares: list[float] = []
        self.sizes_px: Counter[str] = Counter(small=0, medium=0, large=0)
        self.center_distances: list[float] = []
        self.margin_distances: list[float] = []
        self.object_ious: list[float] = []
        self.depth_ious: list[float] = []
        self.faults: list[Fault] = []
        self.has_regions = False
        self._coverage = np.zeros((GRID, GRID))
        self._height_sum = self._width_sum = 0

    @property
    def num_images(self) -> int:
        """Images that were measured."""
        return self.instances_per_image.total()

    @property
    def num_instances(self) -> int:
        """Their instances."""
        return len(self.shares)

    @property
    def aspect(self) -> float:
        """Mean width over mean height; 1 without images."""
        return self._width_sum / self._height_sum if self._height_sum else 1.0

    @property
    def center_map(self) -> NDArray[np.float64]:
        """The mean of all instance masks on one grid (figure 6).

        Returns:
            (GRID, GRID), the share of the instances that cover each place, in [0, 1].
        """
        return self._coverage / max(self.num_instances, 1)

    @property
    def size_histogram(self) -> NDArray[np.float64]:
        """Share of the instances in each class of `SIZE_EDGES`; smaller ones count in the first."""
        shares = np.clip(self.shares, SIZE_EDGES[0], SIZE_EDGES[-1])
        return np.histogram(shares, SIZE_EDGES)[0] / max(self.num_instances, 1)

    def add(self, measures: ImageMeasures) -> None:
        """Take in one image."""
        areas = measures.areas_px
        self.instances_per_image[len(areas)] += 1
        height, width = measures.size
        self._height_sum += height
        self._width_sum += width
        self.shares += [float(area) / (height * width) for area in areas]
        self.sizes_px.update(_size_class(int(area)) for area in areas)
        self.center_distances += measures.center_distances.tolist()
        self.margin_distances += measures.margin_distances.tolist()
        self._coverage += measures.coverage
        if measures.object_iou is not None:
            self.object_ious.append(measures.object_iou)
        if measures.depth_iou is not None:
            self.depth_ious.append(measures.depth_iou)

    def to_json(self) -> dict[str, Any]:
        """All figures, the map of centres included, as plain values."""
        counts = [
            number for number, times in self.instances_per_image.items() for _ in range(times)
        ]
        return {
            "name": self.name,
            "images": self.num_images,
            "instances": self.num_instances,
            "instances_per_image": {
                **_summary(counts),
                "images_with": {
                    str(number): self.instances_per_image[number]
                    for number in sorted(self.instances_per_image)
                },
            },
            "instance_size": {
                "share_of_image": _summary(self.shares),
                "histogram": {
                    "edges": _rounded(SIZE_EDGES),
                    "share_of_instances": _rounded(self.size_histogram),
                },
                "coco_classes": dict(self.sizes_px),
            },
            "center_bias": {
                "center_distance": _summary(self.center_distances),
                "margin_distance": _summary(self.margin_distances),
                "map": [_rounded(row) for row in self.center_map],
            },
            "object_instance_iou": _matching(self.object_ious) if self.has_regions else None,
            "depth_saliency_iou": {
                "salient": "region labels" if self.has_regions else "union of the instances",
                **_matching(self.depth_ious),
            },
            "left_out": [vars(fault) for fault in self.faults],
        }


def matching_curve(ious: Sequence[float]) -> NDArray[np.float64]:
    """Share of the images whose IoU is at least each of `IOU_EDGES`.

    The paper draws "matching curves" without their definition (figures 5b and 5c). The area under
    this one is the mean IoU, the number that the paper's text compares.
    """
    if not ious:
        return np.zeros_like(IOU_EDGES)
    # A hair's breadth, so that an IoU computed as 0.29 counts as reaching 0.29.
    return np.array([(np.asarray(ious) >= edge - 1e-9).mean() for edge in IOU_EDGES])


def collect_statistics(
    dataset: RgbdDataset,
    *,
    regions: Path | None = None,
    near_is: NearIs = "dark",
    workers: int = 1,
    on_image: Callable[[], None] = lambda: None,
) -> SetStatistics:
    """Read all images of a set once.

    Images that cannot be read are left out and stand in `SetStatistics.faults`, after the errors
    that were met on opening.

    Args:
        dataset: opened with `skip_faulty` where faults shall not end it.
        regions: folder of region labels, named as the colour images with the suffix .png.
        near_is: how 8-bit pictures of depth show what is near.
        workers: threads; the result does not depend on their number.
        on_image: called after every image.
    """
    statistics = SetStatistics(dataset.name)
    statistics.has_regions = regions is not None
    statistics.faults += errors_among(dataset.faults)
    measure = partial(_measure, dataset, regions, near_is)
    for measured in ordered_map(measure, range(len(dataset)), workers):
        if isinstance(measured, Fault):
            statistics.faults.append(measured)
        else:
            statistics.add(measured)
        on_image()
    return statistics


def _measure(
    dataset: RgbdDataset, regions: Path | None, near_is: NearIs, index: int
) -> ImageMeasures | Fault:
    record = dataset.records[index]
    try:
        region = None
        if regions is not None:
            name = PurePosixPath(record.pair.file_name).with_suffix(".png")
            region = load_foreground(regions / name, record.size)
        return measure_image(dataset.load(index), region, near_is)
    except FrameError as error:
        return Fault(str(record.pair.rgb_path), f"image {record.image_id}", str(error))


def _size_class(area_px: int) -> str:
    """The classes of COCO's evaluation, in pixels of the file."""
    return "small" if area_px < _SMALL_PX else "medium" if area_px < _LARGE_PX else "large"


def _matching(ious: Sequence[float]) -> dict[str, Any]:
    return {
        "images": len(ious),
        **_summary(ious),
        "curve": {"iou": _rounded(IOU_EDGES), "share_of_images": _rounded(matching_curve(ious))},
    }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, extremes and percentiles; None for each where there is no value."""
    names = ("mean", "min", "max", *(f"p{percent}" for percent in _PERCENTILES))
    if not values:
        return dict.fromkeys(names)
    array = np.asarray(values, np.float64)
    figures = (array.mean(), array.min(), array.max(), *np.percentile(array, _PERCENTILES))
    return dict(zip(names, _rounded(np.array(figures)), strict=True))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
