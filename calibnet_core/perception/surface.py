"""What of the depth image belongs to objects: their points, and depth with or without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.camera_rays import CameraModelError, camera_rays
from calibnet_core.perception.mask_codec import label_image
from calibnet_core.perception.perceiver import Perception

MaskedDepth: TypeAlias = Literal["keep", "remove"]

POINT_DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "instance"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<u2"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,  # a multiple of 4, so that a reader may map the points onto a struct
    }
)
"""One point of a cloud: metres in the optical frame; 0x00RRGGBB, the bits that point cloud tools
read as a float; value in the label image."""

_MM_TYPES = ("16UC1", "mono16")
_LARGEST_MM = 65534  # 65535 is what saturated sensors send


@dataclass(frozen=True, eq=False)
class ObjectPoints:
    """Points on objects, one for each of N pixels.

    Attributes:
        xyz: (N, 3) float32, metres in the optical frame, all finite.
        rgb: (N, 3) uint8.
        instance: (N,) uint16, value of each point's object in the label image.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    instance: NDArray[np.uint16]

    def packed(self) -> NDArray[np.void]:
        """(N,) of `POINT_DTYPE`."""
        points = np.zeros(len(self.xyz), POINT_DTYPE)
        for axis, name in enumerate("xyz"):
            points[name] = self.xyz[:, axis]
        red, green, blue = self.rgb.T.astype(np.uint32)
        points["rgb"] = red << 16 | green << 8 | blue
        points["instance"] = self.instance
        return points


def object_points(perception: Perception, *, stride: int = 1) -> ObjectPoints | None:
    """Points of all objects; where masks overlap, a point belongs to the better score.

    Args:
        perception: of the frame.
        stride: every so many rows and columns a point is taken, 1 or more.

    Returns:
        The points in the order of the image's rows; None where depth or a usable calibration of
        the camera is missing, so that "no points" is not taken for "no objects".
    """
    labels = label_image(perception.instances.masks)
    return _points(perception, labels, (0, 0), stride)


def instance_points(perception: Perception, index: int) -> ObjectPoints | None:
    """Every point of one object, also those that an object with a better score shares.

    Args:
        perception: of the frame.
        index: place of the object, counted from 0.
    """
    roi = perception.rois[index]
    inside = perception.instances.masks[index][roi.slices]
    labels = inside.astype(np.uint16) * np.uint16(perception.instance_ids[index])
    return _points(perception, labels, (roi.y_offset, roi.x_offset), 1)


def masked_depth(perception: Perception, which: MaskedDepth) -> NDArray[Any] | None:
    """The depth image with only the objects, or with everything but them.

    Args:
        perception: of the frame.
        which: `keep` the objects, or `remove` them.

    Returns:
        (H, W) in the type and unit of `perception.depth_encoding` (REP 118): uint16 millimetres
        with 0, or float metres with NaN, where nothing was measured or is shown. None where there
        is no depth.

    Raises:
        ValueError: the encoding is none of depth.
    """
    depth_m = perception.frame.depth_m
    if not perception.has_depth or depth_m is None:
        return None
    is_object = np.zeros(depth_m.shape, np.bool_)
    for mask, roi in zip(perception.instances.masks, perception.rois, strict=True):
        is_object[roi.slices] |= mask[roi.slices]
    is_shown = is_object if which == "keep" else ~is_object
    is_shown &= np.isfinite(depth_m) & (depth_m > 0)
    encoding = perception.depth_encoding
    if encoding in _MM_TYPES:
        depth_mm = np.rint(np.where(is_shown, depth_m, 0.0) * np.float32(1000.0))
        depth_mm[depth_mm > _LARGEST_MM] = 0.0
        return depth_mm.astype(np.uint16)
    if encoding not in ("32FC1", "64FC1"):
        raise ValueError(
            f"depth has encoding '{encoding}', in which it cannot be sent; use one of "
            f"{', '.join(_MM_TYPES)}, 32FC1, 64FC1"
        )
    dtype = np.float32 if encoding == "32FC1" else np.float64
    return np.where(is_shown, depth_m, np.float32(np.nan)).astype(dtype, copy=False)


def salient_pixels(perception: Perception) -> NDArray[np.uint8]:
    """(H, W) class of each pixel: 0 background, 1 salient object."""
    classes = np.zeros(perception.frame.size, np.uint8)
    for mask, roi in zip(perception.instances.masks, perception.rois, strict=True):
        classes[roi.slices] |= mask[roi.slices]
    return classes


def confidence_pixels(perception: Perception) -> NDArray[np.uint8]:
    """(H, W) best score of the objects on each pixel, 255 times; 0 where there is none."""
    confidence = np.zeros(perception.frame.size, np.uint8)
    levels = np.rint(np.clip(perception.instances.scores, 0.0, 1.0) * 255.0).astype(np.uint8)
    # Sorted by score, so that drawn last to first the best one stays.
    for index in reversed(range(len(perception))):
        inside = perception.rois[index].slices
        mask = perception.instances.masks[index][inside]
        np.copyto(confidence[inside], levels[index], where=mask)
    return confidence


def _points(
    perception: Perception, labels: NDArray[np.uint16], corner: tuple[int, int], stride: int
) -> ObjectPoints | None:
    """Points where `labels`, whose first pixel is at `corner` (row, column), are above 0."""
    frame = perception.frame
    if not perception.has_depth or frame.depth_m is None or frame.intrinsics is None:
        return None
    try:
        all_rays = camera_rays(frame.intrinsics)
    except CameraModelError:
        return None
    rows = slice(corner[0], corner[0] + labels.shape[0], stride)
    columns = slice(corner[1], corner[1] + labels.shape[1], stride)
    labels = labels[::stride, ::stride]
    depth_m = frame.depth_m[rows, columns]
    rays = all_rays[rows, columns]
    chosen = np.nonzero((labels > 0) & (depth_m > 0) & np.isfinite(depth_m))
    z = depth_m[chosen]
    xyz = np.column_stack([rays[chosen] * z[:, np.newaxis], z])
    is_seen = np.isfinite(xyz).all(axis=1)  # the corners of a wide lens may have no ray
    return ObjectPoints(
        xyz[is_seen], frame.rgb[rows, columns][chosen][is_seen], labels[chosen][is_seen]
    )
