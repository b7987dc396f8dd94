"""Training augmentation on torchvision's transforms: colour, depth and masks move together.

A training image is a `TrainingImage`; geometric transforms change its three members alike, others
only the one they are about. Randomness comes from torch's global generator, which the caller
seeds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as VF

from calibnet_core.config import DepthConfig, DepthPicture, InputConfig, require
from calibnet_core.preprocessing import depth_picture, mirrored, resized_size
from calibnet_core.structures import RgbdFrame


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How training images are varied. The defaults are the published recipe, all else is off."""

    flip: float = 0.5
    """Probability of a mirror image."""
    crop: float = 0.5
    """Probability of the published crop: enlarged, then cut."""
    crop_shortest_edge: tuple[int, ...] = (400, 500, 600)
    """Shorter side, in pixels, before the cut; one is chosen at random."""
    crop_side: tuple[int, ...] = (384, 600)
    """Least and largest side of the cut in pixels; each side is drawn by itself."""
    scale_jitter: tuple[float, ...] = ()
    """Least and largest scale of large-scale jitter, for instance [0.5, 2.0]; instead of the crop.
    Smaller images are padded, larger ones cut to size."""
    color_jitter: float = 0.0
    """Strength of changes in brightness, contrast, saturation and, a quarter as much, hue."""
    depth_noise: float = 0.0
    """Standard deviation of depth noise at 1 m, in metres; it grows with the square of distance, as
    in structured light and stereo. On 8-bit depth maps 0.01 is one grey value."""
    depth_holes: int = 0
    """At most this many elliptic holes are torn into the depth."""
    depth_shift: int = 0
    """Depth is misaligned to colour by up to this many pixels each way."""

    def __post_init__(self) -> None:
        for name in ("flip", "crop"):
            require(
                0.0 <= getattr(self, name) <= 1.0,
                f"augmentation.{name}",
                getattr(self, name),
                "a probability from 0 to 1",
            )
        edges = self.crop_shortest_edge
        require(
            bool(edges) and all(32 <= edge <= 4096 for edge in edges),
            "augmentation.crop_shortest_edge",
            self.crop_shortest_edge,
            "numbers from 32 to 4096",
        )
        require(
            len(self.crop_side) == 2 and 32 <= self.crop_side[0] <= self.crop_side[1],
            "augmentation.crop_side",
            self.crop_side,
            "two numbers, the least (32 or more) and the largest",
        )
        scales = self.scale_jitter
        require(
            not scales or (len(scales) == 2 and 0.1 <= scales[0] <= scales[1] <= 10.0),
            "augmentation.scale_jitter",
            self.scale_jitter,
            "two numbers from 0.1 to 10, the least and the largest, or an empty list",
        )
        require(
            0.0 <= self.color_jitter <= 1.0,
            "augmentation.color_jitter",
            self.color_jitter,
            "a value from 0 to 1",
        )
        for name in ("depth_noise", "depth_holes", "depth_shift"):
            require(
                0 <= getattr(self, name) <= 1000,
                f"augmentation.{name}",
                getattr(self, name),
                "a value from 0 to 1000",
            )


@dataclass
class TrainingImage:
    """What transforms work on.

    Attributes:
        rgb: colour, 8 bit.
        depth: the depth picture, 8 bit, of one channel or three.
        masks: (n, H, W) bool.
    """

    rgb: Image.Image
    depth: Image.Image
    masks: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.height, self.rgb.width


def augment(
    frame: RgbdFrame,
    masks: NDArray[np.bool_],
    *,
    augmentation: AugmentationConfig,
    input_config: InputConfig,
    depth_config: DepthConfig,
    picture: DepthPicture = "closeness",
) -> TrainingImage:
    """One random variant of a labelled frame, at the size of the network's input before padding.

    Args:
        frame: colour and depth.
        masks: (n, H, W) bool; objects of which nothing is left are dropped.
        augmentation: what to vary.
        input_config: size of the result.
        depth_config: how depth becomes a picture, as in inference.
        picture: what the picture shows, `ModelConfig.depth_picture`.
    """
    depth = depth_picture(_with_sensor_faults(frame, augmentation), depth_config, picture)
    image = TrainingImage(
        Image.fromarray(frame.rgb), Image.fromarray(depth), torch.from_numpy(masks)
    )
    if _chance(augmentation.flip):
        image = TrainingImage(
            VF.horizontal_flip(image.rgb),
            Image.fromarray(mirrored(np.asarray(image.depth))),
            VF.horizontal_flip(image.masks),
        )
    if augmentation.scale_jitter:
        image = scale_jitter(image, augmentation.scale_jitter, input_config)
    else:
        if _chance(augmentation.crop):
            image = published_crop(image, augmentation)
        image = resize(image, resized_size(image.size, input_config))
    if augmentation.color_jitter > 0.0:
        strength = augmentation.color_jitter
        jitter = v2.ColorJitter(strength, strength, strength, strength / 4.0)
        image.rgb = jitter(image.rgb)
    image.masks = image.masks[image.masks.flatten(1).any(1)]
    return image


def published_crop(image: TrainingImage, augmentation: AugmentationConfig) -> TrainingImage:
    """Enlarge to a random shorter side, then cut a random part out."""
    edges = augmentation.crop_shortest_edge
    scale = edges[_randint(0, len(edges) - 1)] / min(image.size)
    image = resize(image, tuple(int(side * scale + 0.5) for side in image.size))  # type: ignore[arg-type]
    least, largest = augmentation.crop_side
    height, width = (_randint(min(side, least), min(side, largest)) for side in image.size)
    top = _randint(0, image.size[0] - height)
    left = _randint(0, image.size[1] - width)
    return _geometric(image, VF.crop, top, left, height, width)


def scale_jitter(
    image: TrainingImage, scales: tuple[float, ...], input_config: InputConfig
) -> TrainingImage:
    """Scale at random about the size that the network sees, then cut or pad to that size."""
    height, width = resized_size(image.size, input_config)
    scale = scales[0] + (scales[1] - scales[0]) * float(torch.rand(()))
    image = resize(image, (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))))
    top = _randint(0, max(0, image.size[0] - height))
    left = _randint(0, max(0, image.size[1] - width))
    # A crop beyond the edge pads with zeros.
    return _geometric(image, VF.crop, top, left, height, width)


def resize(image: TrainingImage, size: tuple[int, int]) -> TrainingImage:
    """Colour and depth with Pillow's antialiased bilinear filter, masks to the nearest pixel."""
    if image.size == size:
        return image
    rgb, depth = (
        picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for picture in (image.rgb, image.depth)
    )
    masks = image.masks
    if len(masks):
        masks = F.interpolate(masks.unsqueeze(0).to(torch.uint8), size, mode="nearest-exact")[0]
    else:
        masks = masks.new_zeros((0, *size))
    return TrainingImage(rgb, depth, masks.bool())


def _geometric(image: TrainingImage, transform: Any, *args: Any) -> TrainingImage:
    return TrainingImage(
        transform(image.rgb, *args), transform(image.depth, *args), transform(image.masks, *args)
    )


def _with_sensor_faults(frame: RgbdFrame, augmentation: AugmentationConfig) -> RgbdFrame:
    """The frame with the faults of a sensor put into its depth."""
    if frame.depth_m is not None:
        depth_m = _faulty(frame.depth_m, augmentation, is_metric=True)
        return dataclasses.replace(frame, depth_m=depth_m)
    assert frame.depth_map is not None  # RgbdFrame holds one of the two
    grey = _faulty(frame.depth_map.astype(np.float32), augmentation, is_metric=False)
    return dataclasses.replace(frame, depth_map=np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def _faulty(
    depth: NDArray[np.float32], augmentation: AugmentationConfig, *, is_metric: bool
) -> NDArray[np.float32]:
    depth = depth.copy()
    if augmentation.depth_noise > 0.0:
        noise = torch.randn(depth.shape).numpy() * augmentation.depth_noise
        depth += noise * (depth**2 if is_metric else np.float32(100.0))
    if augmentation.depth_shift > 0:
        depth = _shifted(depth, augmentation.depth_shift)
    if augmentation.depth_holes > 0:
        _tear_holes(depth, _randint(0, augmentation.depth_holes), np.nan if is_metric else 0.0)
    return depth


def _shifted(depth: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Moved by a random number of whole pixels; the edge repeats where nothing comes in."""
    dx, dy = (_randint(-most, most) for _ in "xy")
    height, width = depth.shape
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    shifted: NDArray[np.float32] = depth[np.ix_(rows, columns)]
    return shifted


def _tear_holes(depth: NDArray[np.float32], number: int, value: float) -> None:
    height, width = depth.shape
    for _ in range(number):
        center = (_randint(0, width - 1), _randint(0, height - 1))
        most = max(2, min(height, width) // 12)
        axes = (_randint(1, most), _randint(1, most))
        cv2.ellipse(depth, center, axes, float(_randint(0, 179)), 0.0, 360.0, value, cv2.FILLED)


def _chance(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _randint(low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, ()))
