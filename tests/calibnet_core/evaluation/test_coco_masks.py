from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from calibnet_core.evaluation.coco_masks import area, decode_masks, encode_masks, to_rle
from calibnet_core.evaluation.errors import EvaluationError

SIZE = (5, 7)
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))


@given(masks=MASKS)
def test_masks_survive_encoding_checking_and_decoding(masks: np.ndarray) -> None:
    size = masks.shape[1:]
    rles = [to_rle(entry, size, "here") for entry in encode_masks(masks)]
    np.testing.assert_array_equal(decode_masks(rles, size), masks)
    assert [area(entry) for entry in rles] == masks.sum(axis=(1, 2)).tolist()


def test_no_masks_are_an_empty_stack() -> None:
    assert decode_masks([], SIZE).shape == (0, *SIZE)
    assert encode_masks(np.zeros((0, *SIZE), bool)) == []


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (None, "NoneType"),
        ([[1, 1, 3, 3]], "at least three points"),
        ({"size": [7, 5], "counts": "S1"}, r"size \[7, 5\]"),
        ({"size": [5, 7], "counts": "0"}, "35 pixels"),
    ],
)
def test_the_entry_with_a_bad_mask_is_named(segmentation: Any, words: str) -> None:
    with pytest.raises(EvaluationError, match=rf"^results\[3\]: .*{words}.*; correct it"):
        to_rle(segmentation, SIZE, "results[3]")
