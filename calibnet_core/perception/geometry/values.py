"""What measuring an object needs and what it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

BoxUpAxis = Literal["none", "gravity", "camera"]


class GeometryStatus(IntEnum):
    """Whether geometry is known, and why not. The value is the number in the message.

    Where several reasons hold, the first of `DISABLED`, `NO_DEPTH`, `NO_CAMERA_INFO` and
    `TOO_FEW_POINTS` is given.
    """

    OK = 0
    NO_DEPTH = 1
    TOO_FEW_POINTS = 2
    NO_CAMERA_INFO = 3
    DISABLED = 4


@dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """How geometry is measured.

    Raises:
        ValueError: if a value is out of range; the message names the parameter.
    """

    enabled: bool = True
    min_points: int = 30
    """Fewer usable points than this give no geometry; 3 to 1 000 000."""
    stride: int = 2
    """Every so many rows and columns a point is taken, 1 to 16."""
    erode: int = 2
    """Pixels taken off the rim of each mask, where depth mixes object and background; 0 to 20."""
    outlier_mad: float = 3.0
    """Points that no continuous surface joins to the rest of the object are left out where they are
    farther from the median depth than so many scaled median deviations; 1 to 10."""
    box_up_axis: BoxUpAxis = "none"
    """`none`: the box follows the points. `camera`: one axis is the image's vertical. `gravity`:
    one axis is the vertical that the caller gives."""
    min_m: float = 0.1
    """Nearer readings count as not measured, in metres; 0 to below `max_m`. Below 1 mm none
    count."""
    max_m: float = 10.0
    """Farther readings count as not measured, in metres; at most 1000."""
    depth_noise: float = 0.0025
    """Standard deviation of one reading at 1 m, in metres; 0 to 0.1. It grows with the square of
    the distance, as with every sensor that triangulates."""
    noise_patch_px: float = 8.0
    """Width of the patches of pixels whose depth errs together, 1 to 100."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("min_points", 3, 1_000_000),
            ("stride", 1, 16),
            ("erode", 0, 20),
            ("outlier_mad", 1.0, 10.0),
            ("depth_noise", 0.0, 0.1),
            ("noise_patch_px", 1.0, 100.0),
            ("max_m", 0.0, 1000.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"geometry.{name} is {value}; choose a value from {low} to {high}")
        if not 0.0 <= self.min_m < self.max_m:
            raise ValueError(
                f"geometry.min_m is {self.min_m}; choose a value from 0 to below geometry.max_m "
                f"({self.max_m})"
            )
        if self.box_up_axis not in get_args(BoxUpAxis):
            raise ValueError(
                f"geometry.box_up_axis is '{self.box_up_axis}'; choose one of "
                f"{', '.join(get_args(BoxUpAxis))}"
            )


def _absent_vector() -> NDArray[np.float64]:
    return np.full(3, math.nan)


def _absent_matrix() -> NDArray[np.float64]:
    return np.full((3, 3), math.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectGeometry:
    """One object's visible surface in the optical frame (x right, y down, z forward); metres.

    Unless `status` is `OK` every length is NaN, the box has size 0 and no rotation; but without
    camera info the three depths are known, since they need none.

    Attributes:
        status: whether the rest is filled.
        depth_valid_ratio: share of the mask's pixels with a usable depth, in [0, 1].
        depth_median_m, depth_near_m, depth_far_m: median, 5th and 95th percentile of z.
        centroid: (3,) robust mean of the visible points: every pixel counts the same, so a face
            seen at a slant weighs what it takes up in the image, not its area.
        covariance: (3, 3) of the centroid, square metres.
        box_center: (3,) of the oriented box around the visible points.
        box_rotation: (3, 3) right-handed; the columns are the box's axes. Of the 24 ways to name
            them it is the one nearest to the camera's axes, so that they do not flip from frame
            to frame, unless the box stands half way between two of them.
        box_size: (3,) full extents along these axes, each >= 0. Faces and limbs seen so slantingly
            that they are no wider in the image than the rim left out are not in it: the box around
            a whole ball is a tenth less deep than what is seen of it.
        surface_area_m2: of the visible surface, an estimate: what is seen at more than 80 degrees
            counts as if at 80.
    """

    status: GeometryStatus
    depth_valid_ratio: float = 0.0
    depth_median_m: float = math.nan
    depth_near_m: float = math.nan
    depth_far_m: float = math.nan
    centroid: NDArray[np.float64] = field(default_factory=_absent_vector)
    covariance: NDArray[np.float64] = field(default_factory=_absent_matrix)
    box_center: NDArray[np.float64] = field(default_factory=_absent_vector)
    box_rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    box_size: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    surface_area_m2: float = math.nan
