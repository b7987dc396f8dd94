"""From a camera frame to the network's input tensors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from calibnet_core.config import DepthConfig, DepthPicture, InputConfig, PipelineConfig
from calibnet_core.structures import RgbdFrame
from calibnet_core.surface_normals import averaged, surface_normals

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""ImageNet statistics in RGB order on the 0..255 scale; the published network uses them for depth
too.
"""

STRIDE = 32
"""The network input is padded to multiples of this."""

_MIN_DEPTH_SPAN_M = 0.05
_MIN_INVERSE_SPAN = 0.05
"""A flatter scene, in metres or per metre, is not stretched to the full range, or sensor noise
would look like relief."""

_NOMINAL_RANGE_M = (0.5, 5.0)
"""Nearest and farthest that an 8-bit depth map without a scale is taken to show."""


@dataclass(frozen=True)
class NetworkInput:
    """A batch of one frame, ready for the network.

    Attributes:
        rgb, depth: (1, 3, H, W) float32, normalised, zero-padded right and below to multiples of
            32.
        size: (height, width) of the image inside the padding.
    """

    rgb: Tensor
    depth: Tensor
    size: tuple[int, int]


def prepare(
    frame: RgbdFrame, config: PipelineConfig, device: torch.device | str = "cpu"
) -> NetworkInput:
    """Resize, normalise and pad a frame as the published network expects it."""
    size = resized_size(frame.size, config.input)
    rgb = resize(frame.rgb, size)
    shown = depth_picture(frame, config.depth, config.model.depth_picture, size)
    depth = three_channels(resize(shown, size))
    return NetworkInput(rgb=normalise(rgb, device), depth=normalise(depth, device), size=size)


def depth_picture(
    frame: RgbdFrame,
    config: DepthConfig,
    kind: DepthPicture = "closeness",
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """What the network is shown of a frame's depth.

    Args:
        frame: with either form of depth.
        config: range and filling.
        kind: `ModelConfig.depth_picture`.
        size: (height, width) that the picture is going to be resized to, which saves time: where it
            is smaller, depth is averaged down to it before `normals` are taken.

    Returns:
        uint8. For `closeness` (H, W): `encode_depth`, or the 8-bit depth map as it is. For
        `normals` (H, W, 3), or of `size` where that is smaller: closeness in inverse depth, then
        `surface_normals` as 128 + 127 n. An 8-bit depth map is taken for inverse depth between
        nominal limits.
    """
    if kind == "normals":
        return _normals_picture(frame, config, size or frame.size)
    if frame.depth_m is not None:
        return encode_depth(frame.depth_m, config)
    assert frame.depth_map is not None  # RgbdFrame holds one of the two
    return frame.depth_map


def three_channels(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A depth picture (H, W) three times, (H, W, 3); one that has three channels passes."""
    return picture if picture.ndim == 3 else picture[..., None].repeat(3, axis=2)


def mirrored(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The depth picture (H, W) or (H, W, 3) of a scene seen in a mirror that swaps left and right.

    Normals are mirrored, too: what faced right faces left.
    """
    flipped = picture[:, ::-1].copy()
    if flipped.ndim == 3:
        flipped[..., 1] = np.minimum(256 - flipped[..., 1].astype(np.int16), 255)
    return flipped


def _normals_picture(
    frame: RgbdFrame, config: DepthConfig, size: tuple[int, int]
) -> NDArray[np.uint8]:
    inverse, camera = _inverse_depth(frame, config), frame.intrinsics
    presence = (inverse > 0.0).astype(np.float32)
    if size[0] < frame.size[0] and size[1] < frame.size[1]:
        inverse, presence = averaged(inverse, presence, size)
        camera = camera.resized(size) if camera else None
    picture = np.empty((*inverse.shape, 3), np.uint8)
    picture[..., 0] = _stretched(-inverse, presence > 0.0, config, _MIN_INVERSE_SPAN)
    picture[..., 1:] = np.rint(128.0 + 127.0 * surface_normals(inverse, camera, presence))
    return picture


def _inverse_depth(frame: RgbdFrame, config: DepthConfig) -> NDArray[np.float32]:
    """(H, W) per metre, 0 where nothing was measured."""
    if frame.depth_m is not None:
        valid = is_measured(frame.depth_m, config)
        nothing = np.zeros_like(frame.depth_m)
        inverse: NDArray[np.float32] = np.divide(1.0, frame.depth_m, out=nothing, where=valid)
        return inverse
    assert frame.depth_map is not None  # RgbdFrame holds one of the two
    closeness = frame.depth_map.astype(np.float32) / 255.0
    if not config.near_is_bright:
        closeness = 1.0 - closeness
    nearest, farthest = _NOMINAL_RANGE_M
    return 1.0 / farthest + closeness * (1.0 / nearest - 1.0 / farthest)


def resized_size(size: tuple[int, int], config: InputConfig) -> tuple[int, int]:
    """The published resize rule for an image of (height, width), aspect kept.

    The shorter side becomes `shortest_edge`, unless the longer one would then exceed
    `longest_edge`; halves round up.
    """
    scale = config.shortest_edge / min(size)
    height, width = size[0] * scale, size[1] * scale
    if max(height, width) > config.longest_edge:
        scale = config.longest_edge / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize (H, W) or (H, W, 3) uint8 with Pillow's antialiased bilinear filter."""
    if image.shape[:2] == size:
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def normalise(image: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Turn (H, W, 3) uint8 into (1, 3, H', W') float32, zero-padded right and below."""
    # A view of a message's buffer is read-only, which torch does not take.
    writable = np.require(image, requirements=["C_CONTIGUOUS", "WRITEABLE"])
    pixels = torch.from_numpy(writable).to(device).permute(2, 0, 1).unsqueeze(0).float()
    mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    height, width = image.shape[:2]
    return F.pad((pixels - mean) / std, (0, -width % STRIDE, 0, -height % STRIDE))


def encode_depth(depth_m: NDArray[np.float32], config: DepthConfig) -> NDArray[np.uint8]:
    """Turn measured depth into the 8-bit depth picture that the network was trained on.

    The robust range of the scene (percentiles of the valid depths) is mapped linearly to 0..255;
    what lies beyond it saturates. Valid is what is finite and within `min_m`..`max_m`. Pixels
    without a measurement take the value of the nearest one that has it, or of the far end, so that
    a hole never looks like an edge of its own.

    Args:
        depth_m: (H, W) float32 metres; NaN, infinite, zero and negative values count as not
            measured.
        config: range, direction and filling.

    Returns:
        (H, W) uint8. An image without a single valid pixel becomes the far end everywhere.
    """
    return _stretched(depth_m, is_measured(depth_m, config), config, _MIN_DEPTH_SPAN_M)


def is_measured(depth_m: NDArray[np.float32], config: DepthConfig) -> NDArray[np.bool_]:
    """Where depth (H, W) is finite, positive and within the limits of `config`."""
    with np.errstate(invalid="ignore"):
        valid: NDArray[np.bool_] = (
            (depth_m > 0.0) & (depth_m >= config.min_m) & (depth_m <= config.max_m)
        )
    return valid


def _stretched(
    distances: NDArray[np.float32],
    valid: NDArray[np.bool_],
    config: DepthConfig,
    least_span: float,
) -> NDArray[np.uint8]:
    """Values (H, W) that grow with distance, as 8 bits over the robust range of the valid ones."""
    far_value = 0 if config.near_is_bright else 255
    known = distances[valid]
    if known.size == 0:
        return np.full(distances.shape, far_value, np.uint8)
    near, far = np.percentile(known, (config.low_percentile, config.high_percentile))
    closeness = np.clip((far - known) / max(far - near, least_span), 0.0, 1.0)
    values = closeness if config.near_is_bright else 1.0 - closeness
    encoded = np.full(distances.shape, far_value, np.uint8)
    encoded[valid] = np.rint(255.0 * values)
    if config.fill == "nearest" and known.size < distances.size:
        encoded = _fill_from_nearest(encoded, valid)
    return encoded


def _fill_from_nearest(image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    # Each valid pixel gets a label of its own; the distance transform then names the nearest one
    # for every pixel.
    _, labels = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of_label = np.zeros(int(labels.max()) + 1, np.uint8)
    value_of_label[labels[valid]] = image[valid]
    filled: NDArray[np.uint8] = value_of_label[labels]
    return filled
