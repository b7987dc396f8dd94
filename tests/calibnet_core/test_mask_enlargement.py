from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from calibnet_core.mask_enlargement import MaskEnlargement, without_loose_pieces

SIZES = [((32, 64), (30, 50), (47, 91)), ((64, 32), (64, 32), (20, 9)), ((32, 32), (1, 32), (3, 7))]
"""Padded, of the image inside, of the masks."""


def enlargement(
    maps: Tensor,
    padded: tuple[int, int] = (32, 32),
    network: tuple[int, int] = (32, 32),
    image: tuple[int, int] = (64, 64),
    threshold: float = 0.5,
) -> MaskEnlargement:
    return MaskEnlargement(
        maps, padded_size=padded, network_size=network, image_size=image, threshold=threshold
    )


def bilinear(image: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Resize (h, w) between pixel centres, the border repeated; rows first, then columns."""
    for _ in range(2):
        length, new = image.shape[0], size[0]
        position = np.clip((np.arange(new) + 0.5) * length / new - 0.5, 0.0, length - 1.0)
        lower = np.floor(position).astype(int)
        upper = np.minimum(lower + 1, length - 1)
        share = (position - lower)[:, None]
        image = ((1.0 - share) * image[lower] + share * image[upper]).T
        size = size[::-1]
    return image


@pytest.mark.parametrize(("padded", "network", "image"), SIZES)
@given(seed=st.integers(0, 2**31), threshold=st.floats(0.05, 0.95), blob=st.booleans())
def test_masks_are_those_of_both_published_steps(
    padded: tuple[int, int],
    network: tuple[int, int],
    image: tuple[int, int],
    seed: int,
    threshold: float,
    blob: bool,
) -> None:
    random = np.random.default_rng(seed)
    maps = random.random((2, padded[0] // 2, padded[1] // 2))
    if blob:  # all but a small part is certainly outside
        top, left = (int(random.integers(edge)) for edge in maps.shape[1:])
        blob_only = np.zeros_like(maps)
        here = (slice(None), slice(top, top + 4), slice(left, left + 5))
        blob_only[here] = maps[here]
        maps = blob_only
    found = enlargement(torch.from_numpy(maps), padded, network, image, threshold)
    for index in range(2):
        inside = bilinear(maps[index], padded)[: network[0], : network[1]]
        expected = bilinear(inside, image)
        mask = found.mask(index)
        assert (mask.shape, mask.dtype) == (image, np.bool_)
        clear = np.abs(expected - threshold) > 1e-12
        np.testing.assert_array_equal(mask[clear], (expected > threshold)[clear])


def test_single_precision_gives_the_same_masks_but_on_the_threshold() -> None:
    maps = np.random.default_rng(0).random((4, 120, 160), np.float32)
    found = enlargement(torch.from_numpy(maps), (240, 320), (240, 320), (480, 640))
    for index in range(4):
        expected = bilinear(bilinear(maps[index].astype(float), (240, 320)), (480, 640))
        clear = np.abs(expected - 0.5) > 1e-6
        np.testing.assert_array_equal(found.mask(index)[clear], (expected > 0.5)[clear])


def test_a_map_with_nothing_above_the_threshold_is_an_empty_mask() -> None:
    assert not enlargement(torch.full((1, 16, 16), 0.5)).mask(0).any()


def test_what_is_in_the_padding_alone_is_not_seen() -> None:
    maps = torch.zeros(1, 16, 16)
    maps[..., 10:] = 1.0
    assert not enlargement(maps, network=(32, 18), image=(64, 36)).mask(0).any()


def drawn(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_small_pieces_are_dropped_and_corners_hold_together() -> None:
    mask = drawn("####..#", "####...", "....#..", ".......", ".###...")  # 9, 3 and 1 pixels
    assert without_loose_pieces(mask, 0.0) is mask
    assert without_loose_pieces(mask, 1 / 9) is mask
    without_one = drawn("####...", "####...", "....#..", ".......", ".###...")
    np.testing.assert_array_equal(without_loose_pieces(mask, 1 / 3), without_one)
    largest = drawn("####...", "####...", "....#..", ".......", ".......")
    np.testing.assert_array_equal(without_loose_pieces(mask, 0.34), largest)


@given(
    mask=arrays(np.bool_, (9, 12)),
    min_piece=st.floats(0.0, 1.0),
)
def test_pieces_stay_whole_or_go_and_the_largest_stays(
    mask: NDArray[np.bool_], min_piece: float
) -> None:
    kept = without_loose_pieces(mask, min_piece)
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    areas = [int((pieces == index).sum()) for index in range(1, count + 1)]
    expected = np.zeros_like(mask)
    for index, area in enumerate(areas, start=1):
        expected |= (pieces == index) & (area >= min_piece * max(areas))
    np.testing.assert_array_equal(kept, expected)
