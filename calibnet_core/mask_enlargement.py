"""Masks of the network at the size of the image, worked out only where they may be.

The published way enlarges twice, bilinearly: to the padded size of the network's input, of which
the image's part is cut out, and from there to the image. Both steps are linear along each axis, so
each axis has one matrix that does both. Both take means, so a pixel whose cells are all below the
threshold is below it, too: only those with a cell above it are worked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


class MaskEnlargement:
    """From probability maps of one image to masks of its size.

    Args:
        probabilities: (K, h, w) float in [0, 1], of the padded image.
        padded_size: (height, width) of the network's input.
        network_size: (height, width) of the image in it.
        image_size: (height, width) of the masks.
        threshold: pixels above it belong to a mask.
        min_piece: see `without_loose_pieces`.
    """

    def __init__(
        self,
        probabilities: Tensor,
        *,
        padded_size: tuple[int, int],
        network_size: tuple[int, int],
        image_size: tuple[int, int],
        threshold: float,
        min_piece: float = 0.0,
    ) -> None:
        self._probabilities, self._threshold = probabilities, threshold
        self._image_size, self._min_piece = image_size, min_piece
        self._down, self._across = (
            _axis(cells, padded, network, image, probabilities.dtype, probabilities.device)
            for cells, padded, network, image in zip(
                probabilities.shape[1:], padded_size, network_size, image_size, strict=True
            )
        )
        inside = probabilities > threshold
        self._rows, self._columns = (inside.any(axis).cpu().numpy() for axis in (2, 1))

    def mask(self, index: int) -> NDArray[np.bool_]:
        """(H, W) mask of one of the maps; not of every one of them, since they may be large."""
        mask = np.zeros(self._image_size, np.bool_)
        rows, columns = (
            axis.reach(np.flatnonzero(inside[index]))
            for axis, inside in ((self._down, self._rows), (self._across, self._columns))
        )
        if rows is None or columns is None:
            return mask
        here = self._probabilities[index, rows.cells, columns.cells]
        down = self._down.weights[rows.pixels, rows.cells]
        across = self._across.weights[columns.pixels, columns.cells]
        inside = (down @ here @ across.T > self._threshold).cpu().numpy()
        mask[rows.pixels, columns.pixels] = without_loose_pieces(inside, self._min_piece)
        return mask


def without_loose_pieces(mask: NDArray[np.bool_], min_piece: float) -> NDArray[np.bool_]:
    """Drop the small ones of a mask's separate pieces; pixels that touch at a corner are together.

    Args:
        mask: (H, W).
        min_piece: a piece stays if it has at least this share of the largest one's pixels.
    """
    if min_piece <= 0.0:
        return mask
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # what is no part of the mask
    stays = (areas > 0) & (areas >= min_piece * areas.max())
    if stays[1:].all():
        return mask
    kept: NDArray[np.bool_] = stays[labels]
    return kept


@dataclass(frozen=True)
class _Reach:
    """Pixels that take weight from some cells, and all cells that these pixels take weight from."""

    pixels: slice
    cells: slice


@dataclass(frozen=True, eq=False)
class _Axis:
    """How the pixels along one axis follow from cells.

    Attributes:
        weights: (pixels, cells); each row sums to 1.
        pixels_of: (cells, 2) first pixel that takes weight from a cell, and the one past the last.
        cells_of: (pixels, 2) likewise.
    """

    weights: Tensor
    pixels_of: NDArray[np.int64]
    cells_of: NDArray[np.int64]

    def reach(self, cells: NDArray[np.int64]) -> _Reach | None:
        """Of ascending cells; None where no pixel takes weight from any of them."""
        if not cells.size:
            return None
        starts, ends = self.pixels_of[cells[0] : cells[-1] + 1].T
        first, end = int(starts.min()), int(ends.max())
        if first >= end:
            return None
        (start, _), (_, stop) = self.cells_of[[first, end - 1]].tolist()
        return _Reach(pixels=slice(first, end), cells=slice(start, stop))


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # so that they can be used outside of it as well
def _axis(
    cells: int, padded: int, network: int, image: int, kind: torch.dtype, device: torch.device
) -> _Axis:
    # What happens to a single cell is what the steps do to one column of the identity.
    identity = torch.eye(cells, dtype=torch.float64)[None]
    steps = F.interpolate(identity, padded, mode="linear", align_corners=False)
    weights = F.interpolate(steps[..., :network], image, mode="linear", align_corners=False)[0].T
    taken = weights.numpy() > 0.0
    return _Axis(
        weights=weights.to(device, kind, copy=True).contiguous(),
        pixels_of=_spans(taken.T),
        cells_of=_spans(taken),
    )


def _spans(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 2) first place that is set in each row of (N, L), and the one past the last; or L, 0."""
    length = flags.shape[1]
    places = np.arange(length)
    first = np.where(flags, places, length).min(axis=1)
    return np.stack([first, np.where(flags, places + 1, 0).max(axis=1)], axis=1)
