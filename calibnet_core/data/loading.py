"""Batches for training in an order that depends on nothing but the seed.

Which image comes when, and how it is varied, follows from the seed and the number of the draw: not
from the number of worker or training processes, and not from where a run was interrupted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from calibnet_core.config import DepthConfig, DepthPicture, InputConfig
from calibnet_core.data.datasets import RgbdDataset
from calibnet_core.data.transforms import AugmentationConfig, augment
from calibnet_core.preprocessing import normalise, three_channels
from calibnet_core.structures import FrameError


class Draw(NamedTuple):
    """One image of the order: which, and the seed of its variation."""

    image: int
    seed: int


@dataclass
class Batch:
    """B labelled images on a common canvas.

    Attributes:
        rgb: (B, 3, H, W) float32, normalised, zero-padded right and below.
        depth: the same of the depth picture.
        masks: for each image (n, H, W) bool on the canvas.
        sizes: (height, width) of each image inside the padding.
        names: file names, for messages.
    """

    rgb: Tensor
    depth: Tensor
    masks: list[Tensor]
    sizes: list[tuple[int, int]]
    names: list[str]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.rgb.shape[2]), int(self.rgb.shape[3])

    def padded_to(self, canvas: tuple[int, int]) -> Batch:
        """The batch on a canvas at least as large."""
        if canvas == self.canvas:
            return self
        room = (0, canvas[1] - self.canvas[1], 0, canvas[0] - self.canvas[0])
        return Batch(
            F.pad(self.rgb, room),
            F.pad(self.depth, room),
            [F.pad(masks, room) for masks in self.masks],
            self.sizes,
            self.names,
        )

    def to(self, device: torch.device) -> Batch:
        """The batch on another device, pictures with channels last, as networks compute."""
        layout = torch.channels_last
        return Batch(
            self.rgb.to(device, non_blocking=True, memory_format=layout),
            self.depth.to(device, non_blocking=True, memory_format=layout),
            [masks.to(device, non_blocking=True) for masks in self.masks],
            self.sizes,
            self.names,
        )

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU can copy from; the loader calls this."""
        return Batch(
            self.rgb.pin_memory(),
            self.depth.pin_memory(),
            [masks.pin_memory() for masks in self.masks],
            self.sizes,
            self.names,
        )


class TrainingImages(Dataset[Batch]):
    """Labelled images, varied, as batches of one."""

    def __init__(
        self,
        dataset: RgbdDataset,
        *,
        augmentation: AugmentationConfig,
        input_config: InputConfig,
        depth_config: DepthConfig,
        picture: DepthPicture = "closeness",
    ) -> None:
        self._dataset = dataset
        self._augmentation = augmentation
        self._input, self._depth, self._picture = input_config, depth_config, picture

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, draw: Draw) -> Batch:
        """Read and vary one image.

        Raises:
            FrameError: a file cannot be read; the message names it.
        """
        sample = self._dataset.load(draw.image)
        with torch.random.fork_rng(devices=()):
            # Not torch.manual_seed, which would also seed the GPUs' generators.
            torch.default_generator.manual_seed(draw.seed)
            image = augment(
                sample.frame,
                sample.masks[~sample.is_crowd],
                augmentation=self._augmentation,
                input_config=self._input,
                depth_config=self._depth,
                picture=self._picture,
            )
        rgb = normalise(np.asarray(image.rgb))
        alone = Batch(
            rgb,
            normalise(three_channels(np.asarray(image.depth))),
            [image.masks],
            [image.size],
            [sample.file_name],
        )
        room = (0, rgb.shape[3] - image.size[1], 0, rgb.shape[2] - image.size[0])
        alone.masks = [F.pad(image.masks, room)]
        return alone


def collate(images: Sequence[Batch]) -> Batch:
    """Put images on the smallest canvas that holds them all."""
    height, width = (max(image.canvas[side] for image in images) for side in (0, 1))
    padded = [image.padded_to((height, width)) for image in images]
    return Batch(
        torch.cat([image.rgb for image in padded]),
        torch.cat([image.depth for image in padded]),
        [masks for image in padded for masks in image.masks],
        [size for image in padded for size in image.sizes],
        [name for image in padded for name in image.names],
    )


class TrainingOrder(Sampler[list[Draw]]):
    """An endless order of batches: every image once an epoch, of one orientation in a batch.

    Images wait until a batch of their orientation (wider, or taller than wide) is full, across
    epochs, so that none is left out.

    Args:
        sizes: (height, width) of every image.
        batch_size: of all processes together.
        seed: of the order and of all variations.
        start: number of batches to leave out, those that an interrupted run has used.
        process, num_processes: which share of every batch to yield.

    Raises:
        ValueError: the batch cannot be shared equally, or there is no image.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        *,
        batch_size: int,
        seed: int,
        start: int = 0,
        process: int = 0,
        num_processes: int = 1,
    ) -> None:
        if not sizes:
            raise ValueError("there is no image to train on")
        if batch_size % num_processes:
            raise ValueError(
                f"a batch of {batch_size} cannot be shared by {num_processes} processes; make "
                "run.batch_size a multiple of them"
            )
        self._is_wide = [width >= height for height, width in sizes]
        self._batch_size, self._seed, self._start = batch_size, seed, start
        self._process, self._num_processes = process, num_processes

    def __iter__(self) -> Iterator[list[Draw]]:
        share = self._batch_size // self._num_processes
        first = self._process * share
        for batch in itertools.islice(self._batches(), self._start, None):
            yield batch[first : first + share]

    def _batches(self) -> Iterator[list[Draw]]:
        waiting: dict[bool, list[Draw]] = {True: [], False: []}
        for draw in self._draws():
            group = waiting[self._is_wide[draw.image]]
            group.append(draw)
            if len(group) == self._batch_size:
                yield group.copy()
                group.clear()

    def _draws(self) -> Iterator[Draw]:
        for epoch in itertools.count():
            order = np.random.default_rng((self._seed, epoch))
            indices = order.permutation(len(self._is_wide)).tolist()
            seeds = order.integers(0, 2**63, len(indices)).tolist()
            yield from (Draw(index, seed) for index, seed in zip(indices, seeds, strict=True))


def training_batches(
    images: TrainingImages, order: TrainingOrder, *, num_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Batches in the given order, read ahead by worker processes.

    Raises:
        FrameError: an image cannot be read; the message names it, whichever process read it.
    """
    loader: DataLoader[Any] = DataLoader(
        _Reading(images),
        batch_sampler=order,
        collate_fn=_collate_or_fail,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        # Else the loader draws from the global generator, whose state is part of a run's.
        generator=torch.Generator(),
        # Workers must not copy a parent that runs threads.
        multiprocessing_context="spawn" if num_workers else None,
    )
    for item in loader:
        if isinstance(item, FrameError):
            raise item
        yield item


class _Reading(Dataset[Any]):
    """Images with failures as values: what a worker raises arrives wrapped in its traceback."""

    def __init__(self, images: TrainingImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, draw: Draw) -> Batch | FrameError:
        try:
            return self._images[draw]
        except FrameError as error:
            return FrameError(str(error))


def _collate_or_fail(items: Sequence[Batch | FrameError]) -> Batch | FrameError:
    batches = []
    for item in items:
        if isinstance(item, FrameError):
            return item
        batches.append(item)
    return collate(batches)
