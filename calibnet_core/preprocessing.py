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

from calibnet_core.config import DepthConfig, InputConfig, PipelineConfig
from calibnet_core.structures import RgbdFrame

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""ImageNet statistics in RGB order on the 0..255 scale; the published network uses them for depth
too.
"""

STRIDE = 32
"""The network input is padded to multiples of this."""

_MIN_DEPTH_SPAN_M = 0.05
"""A flatter scene is not stretched to the full range, or sensor noise would look like relief."""


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
    depth_map = (
        frame.depth_map if frame.depth_m is None else encode_depth(frame.depth_m, config.depth)
    )
    assert depth_map is not None  # RgbdFrame holds one of the two
    size = resized_size(frame.size, config.input)
    rgb = resize(frame.rgb, size)
    depth = resize(depth_map, size)[..., None].repeat(3, axis=2)
    return NetworkInput(rgb=normalise(rgb, device), depth=normalise(depth, device), size=size)


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
    far_value = 0 if config.near_is_bright else 255
    with np.errstate(invalid="ignore"):
        valid = (depth_m > 0.0) & (depth_m >= config.min_m) & (depth_m <= config.max_m)
    depths = depth_m[valid]
    if depths.size == 0:
        return np.full(depth_m.shape, far_value, np.uint8)
    near, far = np.percentile(depths, (config.low_percentile, config.high_percentile))
    closeness = np.clip((far - depths) / max(far - near, _MIN_DEPTH_SPAN_M), 0.0, 1.0)
    values = closeness if config.near_is_bright else 1.0 - closeness
    encoded = np.full(depth_m.shape, far_value, np.uint8)
    encoded[valid] = np.rint(255.0 * values)
    if config.fill == "nearest" and depths.size < depth_m.size:
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
