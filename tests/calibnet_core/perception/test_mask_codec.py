from __future__ import annotations

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.perception.mask_codec import (
    MAX_INSTANCES,
    MAX_MASK_PIXELS,
    MaskEncoding,
    MaskFormatError,
    Roi,
    decode_mask,
    encode_mask,
    label_image,
    tight_roi,
)
from tests.golden.make_mask_codec import plain_runs

PIXEL_ENCODINGS = [MaskEncoding.BITS, MaskEncoding.MONO8, MaskEncoding.RLE]


def drawn(*rows: str) -> NDArray[np.bool_]:
    """Turn rows of '#' and '.' into a mask."""
    return np.array([[character == "#" for character in row] for row in rows])


@st.composite
def masks(draw: st.DrawFn, max_side: int = 40) -> NDArray[np.bool_]:
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # From empty through noise to full, so that runs of every length occur.
    return generator.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))


# Worked by hand. One row of nine pixels, `.##..###.`, needs two bytes of bits: 01100111 0(0000000).
GOLDEN = [
    (drawn(".##..###."), MaskEncoding.BITS, "67 00"),
    (drawn(".##..###."), MaskEncoding.MONO8, "00 ff ff 00 00 ff ff ff 00"),
    (drawn(".##..###."), MaskEncoding.RLE, "01 02 02 03 01"),
    # Begins inside, so the first background run is empty; runs cross from row to row.
    (drawn("##.", "..#"), MaskEncoding.BITS, "c0 20"),
    (drawn("##.", "..#"), MaskEncoding.MONO8, "ff ff 00 00 00 ff"),
    (drawn("##.", "..#"), MaskEncoding.RLE, "00 02 03 01"),
    # Ends exactly at a byte.
    (drawn("#......#"), MaskEncoding.BITS, "81"),
    (drawn("#"), MaskEncoding.RLE, "00 01"),
    (drawn("."), MaskEncoding.RLE, "01"),
    (drawn("."), MaskEncoding.BITS, "00"),
    # 127 fits one byte; 128 is 1 0000000, so low group 0x00 with continuation, then 0x01.
    (np.zeros((1, 127), np.bool_), MaskEncoding.RLE, "7f"),
    (np.zeros((2, 64), np.bool_), MaskEncoding.RLE, "80 01"),
    # 300 = 10 0101100: low group 0x2c with continuation, then 0x02.
    (np.ones((3, 100), np.bool_), MaskEncoding.RLE, "00 ac 02"),
    # 16384 = 1 0000000 0000000.
    (np.ones((128, 128), np.bool_), MaskEncoding.RLE, "00 80 80 01"),
    (drawn("#.", ".#"), MaskEncoding.NONE, ""),
]


@pytest.mark.parametrize(("mask", "encoding", "golden"), GOLDEN)
def test_golden_vectors(mask: NDArray[np.bool_], encoding: MaskEncoding, golden: str) -> None:
    data = bytes.fromhex(golden)
    assert encode_mask(mask, encoding) == data
    if encoding != MaskEncoding.NONE:
        decoded = decode_mask(data, *mask.shape, encoding)
        assert decoded.dtype == np.bool_
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("encoding", PIXEL_ENCODINGS)
@given(mask=masks())
def test_decoding_undoes_encoding(encoding: MaskEncoding, mask: NDArray[np.bool_]) -> None:
    data = encode_mask(mask, encoding)
    np.testing.assert_array_equal(decode_mask(data, *mask.shape, encoding), mask)


@given(mask=masks())
def test_the_size_of_bits_and_mono8_is_fixed_by_the_box(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    assert len(encode_mask(mask, MaskEncoding.BITS)) == -(-width // 8) * height
    assert len(encode_mask(mask, MaskEncoding.MONO8)) == width * height


@given(mask=masks(max_side=20))
def test_run_lengths_agree_with_a_plain_pixel_by_pixel_coder(mask: NDArray[np.bool_]) -> None:
    assert encode_mask(mask, MaskEncoding.RLE) == plain_runs(mask)


@pytest.mark.parametrize("encoding", PIXEL_ENCODINGS)
def test_a_view_of_a_larger_mask_and_a_message_array_are_accepted(encoding: MaskEncoding) -> None:
    mask = np.random.default_rng(5).random((12, 30)) < 0.5
    view = mask[2:9, 3:24:2]
    data = array.array("B", encode_mask(view, encoding))
    np.testing.assert_array_equal(decode_mask(data, 7, 11, encoding), view)


@given(
    data=st.binary(max_size=40),
    height=st.integers(-1, 12),
    width=st.integers(-1, 12),
    encoding=st.sampled_from(list(MaskEncoding)),
)
def test_arbitrary_bytes_give_a_mask_of_the_right_size_or_a_format_error(
    data: bytes, height: int, width: int, encoding: MaskEncoding
) -> None:
    try:
        mask = decode_mask(data, height, width, encoding)
    except MaskFormatError:
        return
    assert mask.shape == (height, width)
    assert mask.dtype == np.bool_
    if encoding == MaskEncoding.RLE and len(data) == len(encode_mask(mask, encoding)):
        assert encode_mask(mask, encoding) == data


@given(mask=masks(), encoding=st.sampled_from(PIXEL_ENCODINGS), cut=st.integers(1, 5))
def test_truncated_data_are_an_error(
    mask: NDArray[np.bool_], encoding: MaskEncoding, cut: int
) -> None:
    data = encode_mask(mask, encoding)
    with pytest.raises(MaskFormatError):
        decode_mask(data[: max(0, len(data) - cut)], *mask.shape, encoding)


def test_padding_bits_are_ignored() -> None:
    np.testing.assert_array_equal(decode_mask(b"\xbf", 1, 3, MaskEncoding.BITS), drawn("#.#"))


def test_any_grey_but_zero_is_inside() -> None:
    np.testing.assert_array_equal(
        decode_mask(b"\x00\x01\xff", 1, 3, MaskEncoding.MONO8), drawn(".##")
    )


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ("", "stop within a number"),
        ("80", "stop within a number"),
        ("03 80", "stop within a number"),
        ("05", "add up to 6 pixels"),
        ("07", "add up to 6 pixels"),
        ("ff ff ff ff 0f", "add up to 6 pixels"),
        ("80 80 80 80 80 01", "a number of 6 bytes, more than 5"),
        ("03 00 03", "an empty run"),
        ("06 00", "an empty run"),
    ],
)
def test_run_lengths_that_make_no_sense_are_refused(golden: str, words: str) -> None:
    with pytest.raises(MaskFormatError, match=words):
        decode_mask(bytes.fromhex(golden), 2, 3, MaskEncoding.RLE)


@pytest.mark.parametrize(("encoding", "size"), [(MaskEncoding.BITS, 2), (MaskEncoding.MONO8, 6)])
def test_a_wrong_length_is_an_error_that_shows_both_lengths(
    encoding: MaskEncoding, size: int
) -> None:
    for wrong in (size - 1, size + 1):
        with pytest.raises(MaskFormatError, match=f"takes {size} bytes, not {wrong}; pass"):
            decode_mask(bytes(wrong), 2, 3, encoding)


def test_the_encoding_none_cannot_be_decoded() -> None:
    with pytest.raises(MaskFormatError, match=r"set output\.mask_encoding to bits"):
        decode_mask(b"", 2, 3, MaskEncoding.NONE)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(MaskFormatError, match=r"mask_encoding 7 is unknown; use one of 0 \(none\)"):
        decode_mask(b"", 2, 3, 7)  # type: ignore[arg-type]
    with pytest.raises(MaskFormatError, match="mask_encoding 7 is unknown"):
        encode_mask(drawn("#"), 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("height", "width"), [(0, 3), (3, 0), (-1, 3), (MAX_MASK_PIXELS, 2), (2**40, 2**40)]
)
def test_impossible_sizes_are_refused_before_any_memory_is_taken(height: int, width: int) -> None:
    with pytest.raises(MaskFormatError, match="is refused"):
        decode_mask(b"\x00", height, width, MaskEncoding.RLE)


def test_a_mask_without_pixels_is_not_encoded() -> None:
    with pytest.raises(MaskFormatError, match="height 0, width 4 is refused"):
        encode_mask(np.zeros((0, 4), np.bool_), MaskEncoding.BITS)


def test_encodings_have_the_numbers_of_the_message_and_the_names_of_the_parameter() -> None:
    names = {name: int(MaskEncoding.from_name(name)) for name in ("none", "bits", "mono8", "rle")}
    assert names == {"none": 0, "bits": 1, "mono8": 2, "rle": 3}
    with pytest.raises(
        ValueError, match=r"output\.mask_encoding is 'png'; choose one of none, bits"
    ):
        MaskEncoding.from_name("png")


def test_tight_roi_of_a_hand_worked_mask() -> None:
    mask = drawn(
        "......",
        "..#...",
        "....#.",
        "......",
    )
    roi = tight_roi(mask)
    assert roi == Roi(x_offset=2, y_offset=1, height=2, width=3)
    np.testing.assert_array_equal(mask[roi.slices], drawn("#..", "..#"))


def test_an_empty_mask_has_no_roi() -> None:
    assert tight_roi(np.zeros((4, 5), np.bool_)) is None
    assert tight_roi(np.zeros((0, 5), np.bool_)) is None


@given(mask=masks())
def test_a_tight_roi_holds_every_pixel_and_each_side_touches_one(mask: NDArray[np.bool_]) -> None:
    roi = tight_roi(mask)
    if roi is None:
        assert not mask.any()
        return
    inside = mask[roi.slices]
    assert inside.shape == (roi.height, roi.width)
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_the_higher_score_wins_where_masks_overlap() -> None:
    masks_by_score = np.stack([drawn(".##.", "...."), drawn("..##", "...#"), drawn("####", "#...")])
    labels = label_image(masks_by_score)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, [[3, 1, 1, 2], [3, 0, 0, 2]])


def test_no_instance_gives_an_empty_label_image() -> None:
    labels = label_image(np.zeros((0, 2, 3), np.bool_))
    np.testing.assert_array_equal(labels, np.zeros((2, 3), np.uint16))


@given(
    num_instances=st.integers(1, 5),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_label_is_the_first_mask_that_covers_the_pixel(
    num_instances: int, height: int, width: int, seed: int
) -> None:
    stack = np.random.default_rng(seed).random((num_instances, height, width)) < 0.4
    labels = label_image(stack)
    for row in range(height):
        for column in range(width):
            covering = np.flatnonzero(stack[:, row, column])
            assert labels[row, column] == (covering[0] + 1 if covering.size else 0)


def test_ids_reach_65534_and_no_further() -> None:
    stack = np.zeros((MAX_INSTANCES, 1, 1), np.bool_)
    stack[-1] = True
    assert label_image(stack)[0, 0] == 65534
    with pytest.raises(ValueError, match="65535 masks do not fit"):
        label_image(np.zeros((65535, 1, 1), np.bool_))


def test_masks_of_another_type_or_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="bool array of 2 dimensions, not float32"):
        encode_mask(np.zeros((2, 2), np.float32), MaskEncoding.BITS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bool array of 2 dimensions"):
        tight_roi(np.zeros((1, 2, 2), np.bool_))
    with pytest.raises(ValueError, match="masks must be a bool array of 3 dimensions"):
        label_image(np.zeros((2, 2), np.bool_))
