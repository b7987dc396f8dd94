"""Samples of a data set in its order, read ahead by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibnet_core.structures import FrameError, RgbdFrame

Item = TypeVar("Item")


class Sample(Protocol):
    """One labelled image; `data.datasets.RgbdSample` is one.

    Attributes:
        image_id: number of the image.
        file_name, scene: what it is called and where it was taken.
        frame: colour and depth.
        masks: (n, H, W) bool, the objects annotated.
        is_crowd: (n,) bool, regions of many objects.
    """

    @property
    def image_id(self) -> int: ...  # noqa: D102
    @property
    def file_name(self) -> str: ...  # noqa: D102
    @property
    def scene(self) -> str: ...  # noqa: D102
    @property
    def frame(self) -> RgbdFrame: ...  # noqa: D102
    @property
    def masks(self) -> NDArray[np.bool_]: ...  # noqa: D102
    @property
    def is_crowd(self) -> NDArray[np.bool_]: ...  # noqa: D102


class SampleSource(Protocol):
    """What is evaluated; `data.datasets.RgbdDataset` is one.

    Attributes:
        name: for reports.
        image_ids: numbers of the images, in order.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def image_ids(self) -> tuple[int, ...]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def load(self, index: int) -> Sample:
        """Read one image with its masks; `FrameError` names the file that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be evaluated as it should.

    Attributes:
        image_id: number of the image.
        reason: what happened, naming the file.
    """

    image_id: int
    reason: str


def load_samples(
    source: SampleSource, *, num_workers: int = 0, limit: int | None = None
) -> Iterator[Sample | Failure]:
    """Read the images one after the other, in order, whatever the number of workers.

    Args:
        source: the data set; sent to the workers.
        num_workers: processes that read ahead, two images each; 0 reads in this one.
        limit: only that many images from the start.

    Yields:
        The sample, or the failure of an image that cannot be read.
    """
    import torch
    from torch.utils.data import DataLoader

    count = len(source) if limit is None else min(limit, len(source))
    loader: Any = DataLoader(
        _Reading(source),  # type: ignore[arg-type]  # a mapping by index is all it asks for
        sampler=range(count),
        batch_size=None,
        num_workers=num_workers,
        # Else the loader draws from the global generator, which a training run relies on.
        generator=torch.Generator(),
        # Samples hold numpy arrays, which are to arrive as they are.
        collate_fn=_as_it_is,
    )
    yield from loader


@dataclass(frozen=True)
class _Reading:
    """The data set as `DataLoader` wants it, with failures as values that can be sent."""

    source: SampleSource

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample | Failure:
        try:
            return self.source.load(index)
        except (FrameError, OSError) as error:
            return Failure(image_id=self.source.image_ids[index], reason=str(error))


def _as_it_is(item: Item) -> Item:
    return item
