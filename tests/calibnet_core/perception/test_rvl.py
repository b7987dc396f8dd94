"""RVL against a scalar reader and writer made after the paper, and against damage."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.rvl import decode_rvl, encode_rvl

VALUES = st.one_of(st.just(0), st.integers(0, 65535), st.integers(1000, 1010))
IMAGES = hnp.arrays(np.uint16, st.integers(1, 60), elements=VALUES)


def reference_encode(pixels: list[int]) -> bytes:
    """One nibble after the other, as the paper tells it."""
    nibbles: list[int] = []

    def write(number: int) -> None:
        while number >= 8:
            nibbles.append(number % 8 + 8)
            number //= 8
        nibbles.append(number)

    place, before = 0, 0
    while place < len(pixels):
        zeros = place
        while zeros < len(pixels) and pixels[zeros] == 0:
            zeros += 1
        measured = zeros
        while measured < len(pixels) and pixels[measured] != 0:
            measured += 1
        write(zeros - place)
        write(measured - zeros)
        for value in pixels[zeros:measured]:
            difference = value - before
            write(2 * difference if difference >= 0 else -2 * difference - 1)
            before = value
        place = measured
    nibbles += [0] * (-len(nibbles) % 8)
    words = (nibbles[i : i + 8] for i in range(0, len(nibbles), 8))
    return b"".join(
        struct.pack("<I", int("".join(f"{nibble:x}" for nibble in word), 16)) for word in words
    )


def reference_decode(stream: bytes, count: int) -> list[int]:
    def digits() -> Iterator[int]:
        for (word,) in struct.iter_unpack("<I", stream):
            yield from (word >> shift & 15 for shift in range(28, -4, -4))

    source = digits()

    def read() -> int:
        number, shift = 0, 0
        while True:
            digit = next(source)
            number |= (digit & 7) << shift
            shift += 3
            if digit < 8:
                return number

    pixels: list[int] = []
    before = 0
    while len(pixels) < count:
        pixels += [0] * read()
        for _ in range(read()):
            folded = read()
            before += folded // 2 if folded % 2 == 0 else -(folded // 2) - 1
            pixels.append(before)
    return pixels


def test_a_case_worked_by_hand() -> None:
    # Two zeros, three values: +5 (10, two digits: 2 and 1), +1 (2), -2 (3); one zero, no values.
    pixels = np.array([0, 0, 5, 6, 4, 0], np.uint16)
    stream = bytes.fromhex("1023a123")  # 0x23A12310, little-endian
    assert encode_rvl(pixels) == stream
    assert decode_rvl(memoryview(stream), 6).tolist() == pixels.tolist()


@given(pixels=IMAGES)
def test_it_writes_and_reads_as_the_scalar_reference_does(pixels: np.ndarray) -> None:
    stream = encode_rvl(pixels)
    assert stream == reference_encode(pixels.tolist())
    assert reference_decode(stream, pixels.size) == pixels.tolist()
    decoded = decode_rvl(memoryview(stream), pixels.size)
    assert decoded.dtype == np.uint16
    assert decoded.tolist() == pixels.tolist()


@pytest.mark.parametrize("value", [0, 1, 65535])
def test_long_runs_take_long_numbers(value: int) -> None:
    pixels = np.full(70_000, value, np.uint16)
    pixels[69_000] = 65535 - value
    assert np.array_equal(decode_rvl(memoryview(encode_rvl(pixels)), pixels.size), pixels)


def test_the_worst_image_stays_within_three_bytes_a_pixel() -> None:
    # Only so much of a stream is looked at; a camera's buffer may be longer than its content.
    pixels = np.zeros(4001, np.uint16)
    pixels[0::4], pixels[2::4] = 65535, 1
    stream = encode_rvl(pixels)
    assert np.array_equal(decode_rvl(memoryview(stream + b"\xff" * 99_999), 4001), pixels)
    pixels[1::2] = 2
    assert np.array_equal(decode_rvl(memoryview(encode_rvl(pixels)), 4001), pixels)


@given(pixels=IMAGES, cut=st.integers(1, 30))
def test_a_stream_cut_short_is_refused(pixels: np.ndarray, cut: int) -> None:
    stream = encode_rvl(pixels)
    words_left = (len(stream) - 1) // 4 - cut // 4
    with pytest.raises(ImageFormatError, match="damaged: it ends"):
        decode_rvl(memoryview(stream)[: max(0, 4 * words_left)], pixels.size)


@pytest.mark.parametrize(
    ("nibbles", "what"),
    [
        ("00000000", "a run of no pixels"),
        ("91000000", "cover more than 6"),  # nine zeros
        ("09100000", "cover more than 6"),  # no zeros, nine values
        ("01ffffff75000000", "a difference that no two"),
        ("9888888888800000", "cover more than 6"),  # a number of more digits than are read
    ],
)
def test_what_no_encoder_writes_is_refused(nibbles: str, what: str) -> None:
    words = [int(nibbles[i : i + 8], 16) for i in range(0, len(nibbles), 8)]
    with pytest.raises(ImageFormatError, match=what):
        decode_rvl(memoryview(struct.pack(f"<{len(words)}I", *words)), 6)


@given(stream=st.binary(max_size=400), count=st.integers(1, 300))
def test_any_bytes_make_an_image_or_an_error(stream: bytes, count: int) -> None:
    with suppress(ImageFormatError):
        assert decode_rvl(memoryview(stream), count).shape == (count,)


@pytest.mark.parametrize(
    ("length", "count", "most"),
    [(10_240, 2**26, 1_000_000), (10_000_000, 100, 100_000)],
    ids=["a size that the stream does not fill", "a stream longer than any of its size"],
)
def test_memory_goes_with_what_is_there_to_decode(length: int, count: int, most: int) -> None:
    stream = memoryview(bytes(range(1, 251)) * (length // 250))
    tracemalloc.start()
    try:
        with pytest.raises(ImageFormatError):
            decode_rvl(stream, count)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
