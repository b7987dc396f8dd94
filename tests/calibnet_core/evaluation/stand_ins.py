"""A small data set in memory, with the shape of `data.datasets.RgbdDataset`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calibnet_core.structures import FrameError, Instances, RgbdFrame

SIZE = (60, 80)


@dataclass(frozen=True, kw_only=True, eq=False)
class MemorySample:
    image_id: int
    file_name: str
    scene: str
    frame: RgbdFrame
    masks: np.ndarray
    is_crowd: np.ndarray


@dataclass
class MemoryDataset:
    """`broken` has images that cannot be read: index to reason."""

    samples: list[MemorySample]
    name: str = "drawers"
    broken: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def image_ids(self) -> tuple[int, ...]:
        return tuple(sample.image_id for sample in self.samples)

    def load(self, index: int) -> MemorySample:
        if index in self.broken:
            raise FrameError(self.broken[index])
        return self.samples[index]


def sample(
    image_id: int, masks: np.ndarray, *, is_crowd: list[bool] | None = None, **names: str
) -> MemorySample:
    size = masks.shape[1:]
    rgb = np.random.default_rng(image_id).integers(0, 256, (*size, 3), np.uint8)
    frame = RgbdFrame(rgb=rgb, depth_m=np.ones(size, np.float32), name=f"drawer_{image_id}")
    return MemorySample(
        image_id=image_id,
        file_name=names.get("file_name", f"drawer_{image_id}.png"),
        scene=names.get("scene", f"kitchen {image_id % 2}"),
        frame=frame,
        masks=masks,
        is_crowd=np.array(is_crowd or [False] * len(masks), bool),
    )


def random_masks(rng: np.random.Generator, count: int, size=SIZE) -> np.ndarray:
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        top, left = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
        mask[top : top + rng.integers(4, 40), left : left + rng.integers(4, 50)] = True
    return masks


def random_dataset(seed: int, num_images: int = 7) -> MemoryDataset:
    """Images whose numbers are in no order, with up to four objects, some of them crowds."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, 50))[:num_images].tolist()
    samples = []
    for image_id in ids:
        masks = random_masks(rng, int(rng.integers(0, 5)))
        samples.append(sample(image_id, masks, is_crowd=(rng.random(len(masks)) < 0.15).tolist()))
    return MemoryDataset(samples)


@dataclass
class Oracle:
    """Finds displaced objects and strays, always the same for an image."""

    dataset: MemoryDataset
    fails_on: int | None = None

    def __call__(self, frame: RgbdFrame) -> Instances:
        (found,) = [s for s in self.dataset.samples if s.frame.name == frame.name]
        if found.image_id == self.fails_on:
            raise FrameError("depth is missing everywhere")
        rng = np.random.default_rng(found.image_id)
        shifted = [np.roll(mask, rng.integers(-3, 4, 2), axis=(0, 1)) for mask in found.masks]
        masks = np.concatenate(
            [np.array(shifted, bool).reshape(-1, *frame.size), random_masks(rng, 3, frame.size)]
        )
        # Few levels, so that scores tie.
        return Instances.from_masks(masks, rng.integers(0, 9, len(masks)).astype(np.float32) / 8)
