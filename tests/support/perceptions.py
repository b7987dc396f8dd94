"""Perceptions with known content, for whatever makes messages and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.mask_codec import tight_roi
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.tracking import TrackAssignment
from calibnet_core.structures import CameraIntrinsics, Instances, RgbdFrame

STAMP_NS = 1_700_000_000_123_456_789
FRAME_ID = "camera_color_optical_frame"
DISTORTION = (-0.3, 0.1, 0.002, -0.001, 0.0)


def camera(size: tuple[int, int], distortion: tuple[float, ...] = ()) -> CameraIntrinsics:
    """A camera of about 58 degrees across for images of (height, width)."""
    height, width = size
    return CameraIntrinsics(
        height=height,
        width=width,
        fx=0.9 * width,
        fy=0.9 * width,
        cx=(width - 1) / 2 + 0.3,
        cy=(height - 1) / 2 - 0.2,
        distortion_model="plumb_bob" if distortion else "",
        distortion=distortion,
    )


def known_geometry(seed: int = 0, *, distance_m: float = 1.2) -> ObjectGeometry:
    """A turned box in front of the camera, its centroid a little nearer than its centre."""
    rng = np.random.default_rng(seed)
    center = np.array([*rng.uniform(-0.2, 0.2, 2), distance_m])
    spread = rng.normal(size=(3, 3)) * 1e-3
    return ObjectGeometry(
        status=GeometryStatus.OK,
        depth_valid_ratio=0.75,
        depth_median_m=distance_m,
        depth_near_m=distance_m - 0.1,
        depth_far_m=distance_m + 0.1,
        centroid=center - (0.0, 0.0, 0.02),
        covariance=spread @ spread.T,
        box_center=center,
        box_rotation=Rotation.random(random_state=seed).as_matrix(),
        box_size=np.array([0.1, 0.2, 0.3]),
        surface_area_m2=0.05,
    )


def make_perception(
    masks: NDArray[np.bool_],
    *,
    scores: Sequence[float] | None = None,
    track_ids: Sequence[int] | None = None,
    geometry: Sequence[ObjectGeometry] | None = None,
    frame: dict[str, Any] | None = None,
    **options: Any,
) -> Perception:
    """What the perceiver would say of these masks, (K, H, W), without an empty one.

    Args:
        masks: best first.
        scores: K of them; None counts down from 0.9.
        track_ids: K of them; None leaves all untracked.
        geometry: K of them; None switches it off.
        frame: what differs from a random picture with depth between 0.5 and 2 m, in millimetres.
        options: of `Perception`.
    """
    count, size = masks.shape[0], masks.shape[1:]
    rng = np.random.default_rng(0)
    depth_m = rng.integers(500, 2000, size).astype(np.float32) / 1000
    depth_m[rng.random(size) < 0.2] = np.nan
    content: dict[str, Any] = {
        "rgb": rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        "depth_m": depth_m,
        "depth_encoding": "16UC1",
        "intrinsics": camera(size),
        "stamp_ns": STAMP_NS,
        "frame_id": FRAME_ID,
    }
    given = np.linspace(0.9, 0.5, count) if scores is None else np.array(scores)
    ids = [0] * count if track_ids is None else track_ids
    off = ObjectGeometry(status=GeometryStatus.DISABLED)
    rois = tuple(roi for roi in map(tight_roi, masks) if roi is not None)
    assert len(rois) == count
    return Perception(
        frame=RgbdFrame(**content | (frame or {})),
        instances=Instances.from_masks(masks, given.astype(np.float32)),
        rois=rois,
        geometry=(off,) * count if geometry is None else tuple(geometry),
        tracks=tuple(TrackAssignment(track_id=i, age=2 * i, is_shown=True) for i in ids),
        **{"has_depth": True} | options,
    )


def discs(size: tuple[int, int], count: int, *, radius: float = 0.25) -> NDArray[np.bool_]:
    """(count, H, W) discs along a diagonal, each overlapping the next; radius as share of H."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    share = (np.arange(count) + 1) / (count + 1)
    return np.stack(
        [np.hypot(rows - s * height, columns - s * width) < radius * height + 1e-9 for s in share]
    )
