"""Where objects are and how large: from a mask and registered depth to points, centroid and box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.mask_codec import Roi
from calibnet_core.structures import RgbdFrame

BoxUpAxis = Literal["none", "gravity", "camera"]


class GeometryStatus(IntEnum):
    """Whether geometry is known, and why not. The value is the number in the message."""

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
    """Points farther from the median depth than so many scaled median deviations are left out;
    1 to 10."""
    box_up_axis: BoxUpAxis = "none"
    """`none`: the box follows the points. `camera`: one axis is the image's vertical. `gravity`:
    one axis is the vertical that the caller gives."""
    min_m: float = 0.1
    """Nearer readings count as not measured, in metres."""
    max_m: float = 10.0
    """Farther readings count as not measured, in metres."""


def _absent_vector() -> NDArray[np.float64]:
    return np.full(3, math.nan)


def _absent_matrix() -> NDArray[np.float64]:
    return np.full((3, 3), math.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectGeometry:
    """One object's visible surface in the optical frame (x right, y down, z forward); metres.

    Unless `status` is `OK` every length is NaN, the box has size 0 and no rotation.

    Attributes:
        status: whether the rest is filled.
        depth_valid_ratio: share of the mask's pixels with a usable depth, in [0, 1].
        depth_median_m, depth_near_m, depth_far_m: median, 5th and 95th percentile of z.
        centroid: (3,) robust mean of the visible points.
        covariance: (3, 3) of the centroid, square metres.
        box_center: (3,) of the oriented box around the visible points.
        box_rotation: (3, 3) right-handed; the columns are the box's axes.
        box_size: (3,) full extents along these axes, each >= 0.
        surface_area_m2: of the visible surface.
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


def measure_objects(
    frame: RgbdFrame,
    masks: NDArray[np.bool_],
    rois: Sequence[Roi],
    settings: GeometrySettings,
    *,
    has_depth: bool = True,
    up: NDArray[np.float64] | None = None,
) -> tuple[ObjectGeometry, ...]:
    """Measure every object of a frame.

    Args:
        frame: with `depth_m`, and `intrinsics` where they are known.
        masks: (K, H, W), none of them empty.
        rois: K tight boxes of the masks.
        settings: see there.
        has_depth: False where the frame's depth is only a stand-in.
        up: (3,) unit vector against gravity in the optical frame, for `box_up_axis` `gravity`;
            without it such a box follows the points.

    Returns:
        K geometries.
    """
    raise NotImplementedError
