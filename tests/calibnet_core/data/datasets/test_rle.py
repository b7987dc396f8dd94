from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from calibnet_core.data.datasets import rle
from calibnet_core.structures import MAX_IMAGE_PIXELS

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
MASKS = SIZES.flatmap(lambda size: hnp.arrays(np.bool_, size))


def runs_by_hand(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, background first, counted one pixel after the other."""
    runs, value = [0], False
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            runs.append(0)
            value = bool(pixel)
        runs[-1] += 1
    return runs


@given(mask=MASKS)
def test_masks_survive_encoding_and_decoding(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode(encoded), mask)
    assert rle.area(encoded) == mask.sum()


@given(mask=MASKS)
def test_lists_and_strings_of_runs_mean_the_same_mask(mask: np.ndarray) -> None:
    size = [int(side) for side in mask.shape]
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = encoded["counts"]
    for form in (runs_by_hand(mask), counts, counts.decode()):
        read = rle.to_rle({"size": size, "counts": form}, mask.shape)
        np.testing.assert_array_equal(rle.decode(read), mask)
    assert list(rle.runs_of(counts)) == runs_by_hand(mask)


@given(mask=MASKS)
def test_boxes_are_tight_around_the_mask(mask: np.ndarray) -> None:
    box = rle.box_xywh(rle.encode(mask))
    rows, columns = np.nonzero(mask)
    if not len(rows):
        assert not box.any()
        return
    left, top = columns.min(), rows.min()
    np.testing.assert_array_equal(box, [left, top, columns.max() - left + 1, rows.max() - top + 1])


@given(size=SIZES, data=st.data())
def test_runs_of_no_pixels_change_nothing(size: tuple[int, int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, size[0] * size[1]), max_size=8)))
    runs = np.diff([0, *cuts, size[0] * size[1]]).tolist()
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")
    read = rle.to_rle({"size": list(size), "counts": runs}, size)
    np.testing.assert_array_equal(rle.decode(read), values)
    assert rle.area(read) == values.sum()


COORDINATES = st.floats(-20.0, 60.0).map(lambda value: round(value, 2))
RINGS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=8).map(
    lambda points: [value for point in points for value in point]
)


@given(size=SIZES, rings=st.lists(RINGS, min_size=1, max_size=3))
def test_polygons_are_drawn_as_pycocotools_draws_them(
    size: tuple[int, int], rings: list[list[float]]
) -> None:
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *size)))
    np.testing.assert_array_equal(rle.decode(rle.to_rle(rings, size)), expected.astype(bool))


def test_a_box_with_whole_corners_covers_its_pixels() -> None:
    mask = rle.decode(rle.to_rle([[2, 1, 5, 1, 5, 4, 2, 4]], (6, 8)))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [4, 5], "counts": [3, 4]}, r"add up to 7, not to the 20 pixels"),
        ({"size": [4, 5], "counts": [3, 400]}, r"add up to 403, not to the 20"),
        ({"size": [4, 5], "counts": []}, "add up to 0"),
        ({"size": [4, 5], "counts": [25, -5]}, "hold a negative number"),
        ({"size": [4, 5], "counts": [10, 10.0]}, "neither a string nor a list of whole"),
        ({"size": [4, 5], "counts": [True, 19]}, "neither a string nor a list of whole"),
        ({"size": [4, 5]}, "neither a string nor a list of whole"),
        ({"size": [5, 4], "counts": [20]}, r"for size \[5, 4\], the image has \[4, 5\]"),
        ({"size": 20, "counts": [20]}, "for size 20, the image has"),
        ({"size": None, "counts": [20]}, "for size None"),
        ({"counts": [20]}, "for size None"),
        ({"size": [4, 5], "counts": "é0"}, "characters of another format"),
        ({"size": [4, 5], "counts": "0 0"}, "characters of another format"),
        ({"size": [4, 5], "counts": b"d0\x00"}, "characters of another format"),
        ({"size": [4, 5], "counts": "oooooooooooo0"}, "characters of another format"),
        ({"size": [4, 5], "counts": "d"}, "stop within a number"),
        ({"size": [4, 5], "counts": "O5"}, "hold a negative number"),
        ([], "is an empty list"),
        ([[]], "at least three points"),
        ([[0, 0, 3, 3]], "at least three points"),
        ([[0, 0, 3, 3, 1]], "at least three points"),
        ([0, 0, 3, 0, 3, 3], "at least three points"),
        ([[0, 0, 3, 0, 3, float("nan")]], "something else than finite"),
        ([[0, 0, 3, 0, 3, float("inf")]], "something else than finite"),
        ([[0, 0, 3, 0, 3, 10**400]], "something else than finite"),
        ([[0, 0, 3, 0, 3, "3"]], "something else than finite"),
        ([[0, 0, 3, 0, 3, True]], "something else than finite"),
        ([[0, 0, 1e6, 1e6, 5, 5]], "outline is 2000000 pixels long"),
        (None, "is NoneType; expected polygons or run lengths"),
        ("0", "is str; expected polygons or run lengths"),
    ],
)  # fmt: skip
def test_what_is_no_segmentation_is_refused(segmentation: object, words: str) -> None:
    with pytest.raises(rle.SegmentationError, match=words):
        rle.to_rle(segmentation, (4, 5))


@pytest.mark.parametrize("size", [(0, 5), (-4, -5), (1 << 20, 1 << 20)])
def test_sizes_of_no_image_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(rle.SegmentationError, match="declares"):
        rle.to_rle([[0, 0, 3, 0, 3, 3]], size)


def test_huge_claims_are_refused_before_memory_is_taken() -> None:
    claims = [
        {"size": [4, 5], "counts": [2**40]},
        {"size": [4, 5], "counts": "ooooo7"},
        [[0, 0, 1e6, 1e6] * 200],
    ]
    tracemalloc.start()
    for claim in claims:
        with pytest.raises(rle.SegmentationError):
            rle.to_rle(claim, (4, 5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@given(text=st.text(alphabet=[chr(code) for code in range(40, 120)], max_size=12))
def test_any_string_is_refused_or_a_mask_of_that_size(text: str) -> None:
    try:
        read = rle.to_rle({"size": [3, 4], "counts": text}, (3, 4))
    except rle.SegmentationError:
        return
    assert rle.decode(read).shape == (3, 4)


def test_the_largest_image_still_passes() -> None:
    size = (1 << 13, 1 << 13)
    assert size[0] * size[1] == MAX_IMAGE_PIXELS
    read = rle.to_rle({"size": list(size), "counts": [5, MAX_IMAGE_PIXELS - 5]}, size)
    assert rle.area(read) == MAX_IMAGE_PIXELS - 5


@pytest.mark.parametrize(
    ("polygon", "excess"),
    [
        ([0, 0, 16, 0, 16, 12], 0.0),
        ([1, 1, 18.5, 1, 18.5, 5], 2.5),
        ([1, 1, 5, 1, 5, 14], 2.0),
        ([-3, 1, 5, 1, 5, 4], 3.0),
    ],
)
def test_the_reach_of_polygons_beyond_the_image(polygon: list[float], excess: float) -> None:
    assert rle.polygon_excess([[2, 2, 4, 2, 4, 4], polygon], (12, 16)) == excess


def test_run_lengths_never_leave_the_image() -> None:
    assert rle.polygon_excess({"size": [4, 5], "counts": [20]}, (4, 5)) == 0.0
