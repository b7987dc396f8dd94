from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from calibnet_core.evaluation.gallery import MAX_HEIGHT, MAX_WIDTH, Gallery, PicturePair, draw_pair
from calibnet_core.structures import Instances
from calibnet_core.visualization import instance_color

PICTURES = PicturePair(truth=b"12", prediction=b"345", height=3, width=4)


def fill(gallery: Gallery, qualities: list[float], *, can_be_best: bool = True) -> list[int]:
    """Offer images numbered from 0; which of them were drawn."""
    drawn: list[int] = []

    def draw(image_id: int) -> PicturePair:
        drawn.append(image_id)
        return PICTURES

    for image_id, quality in enumerate(qualities):
        gallery.offer(
            image_id,
            (quality,),
            draw=lambda image_id=image_id: draw(image_id),
            can_be_best=can_be_best,
        )
    return drawn


@given(qualities=st.lists(st.integers(0, 5), max_size=20), size=st.integers(0, 5))
def test_the_worst_and_the_best_are_kept_in_order_and_apart(qualities, size: int) -> None:
    gallery = Gallery(size)
    fill(gallery, qualities)
    worst, best = (list(side) for side in gallery.worst_and_best())
    ranked = sorted(range(len(qualities)), key=lambda i: (qualities[i], i))
    assert worst == ranked[: min(size, (len(qualities) + 1) // 2)]
    best_first = sorted(range(len(qualities)), key=lambda i: (-qualities[i], i))[:size]
    assert best == [i for i in best_first if i not in worst]
    assert gallery.nbytes <= 2 * size * 5


def test_only_what_is_kept_is_drawn() -> None:
    assert fill(Gallery(1), [5, 4, 6, 5, 5]) == [0, 1, 2]
    assert fill(Gallery(0), [5, 4, 6]) == []


def test_some_images_are_never_among_the_best() -> None:
    gallery = Gallery(3)
    fill(gallery, [1, 2, 3], can_be_best=False)
    assert gallery.worst_and_best()[1] == {}


def boxes(*columns: int) -> np.ndarray:
    masks = np.zeros((len(columns), 120, 200), bool)
    for mask, column in zip(masks, columns, strict=True):
        mask[20:100, column : column + 50] = True
    return masks


def opened(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def test_pairs_share_a_colour_and_others_get_one_of_their_own() -> None:
    grey = np.full((120, 200, 3), 128, np.uint8)
    found = Instances.from_masks(boxes(140, 5, 70), np.array([0.9, 0.8, 0.7], np.float32))
    pair = draw_pair(grey, boxes(0, 75), found, pairs=((0, 1), (1, 2)))
    assert (pair.height, pair.width) == (120, 200)
    truth, prediction = opened(pair.truth), opened(pair.prediction)

    def tint(label: int) -> np.ndarray:
        return 128 * 0.55 + np.array(instance_color(label)) * 0.45

    for picture, column, label in (
        (truth, 25, 0), (truth, 100, 1),
        (prediction, 165, 2), (prediction, 30, 0), (prediction, 95, 1),
    ):  # fmt: skip
        np.testing.assert_allclose(picture[80, column], tint(label), atol=12)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (384, MAX_WIDTH)),
        ((100, 90), (100, 90)),
        ((2000, 500), (MAX_HEIGHT, 160)),
        ((2, 4000), (1, MAX_WIDTH)),
    ],
)
def test_pictures_are_made_smaller_never_larger(size, expected) -> None:
    pair = draw_pair(
        np.zeros((*size, 3), np.uint8), np.ones((1, *size), bool), Instances.empty(size), pairs=()
    )
    assert (pair.height, pair.width) == expected
    assert opened(pair.truth).shape == (*expected, 3)
