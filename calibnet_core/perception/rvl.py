"""RVL: lossless compression of depth images, fast enough for a camera.

A. D. Wilson, "Fast Lossless Depth Image Compression", Interactive Surfaces and Spaces 2017. An
image, row after row, is a series of pairs of runs: pixels that measured nothing (zero), then pixels
that did. Each pair is written as the two lengths, then as the measured values' differences, each to
the measured value before it (the first to 0), folded so that small negative ones become small
numbers: 0, -1, 1, -2 ... are 0, 1, 2, 3 ...

A number is written in digits of three bits, lowest first, one in each nibble; the nibble's top bit
says that more follow. Eight nibbles make a word of 32 bits, first nibble highest, and words are
little-endian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.image_codec import ImageFormatError

_DIGIT_BITS = 3
# Ten digits hold any run of an image, and fit 32 bits. A longer number is never written.
_MAX_DIGITS = 10
_TOO_LARGE = 2**31 - 1
# Differences of 16-bit values need 17 bits when folded.
_MAX_FOLDED = 2**17 - 1
# Six digits for a difference, and two for the lengths where every second pixel is zero, are eight
# nibbles for two pixels. Two long runs and the filling of the last word come on top.
_MAX_BYTES_PER_PIXEL = 3
_MAX_EXTRA_BYTES = 2 * _MAX_DIGITS // 2 + 4


def decode_rvl(stream: memoryview, num_pixels: int) -> NDArray[np.uint16]:
    """Decode one image.

    Memory is taken in proportion to `stream` until it has shown that it holds `num_pixels`.

    Args:
        stream: the words; bytes after the image's end are ignored.
        num_pixels: of the image, at least 1.

    Returns:
        (num_pixels,) uint16, 0 where nothing was measured.

    Raises:
        ImageFormatError: the stream ends early, or holds what no encoder writes.
    """
    numbers = _read_numbers(stream[: _MAX_BYTES_PER_PIXEL * num_pixels + _MAX_EXTRA_BYTES])
    heads, end = _find_run_lengths(numbers, num_pixels)
    run_lengths = numbers[heads[:, None] + (0, 1)].ravel()
    is_difference = np.ones(end, np.bool_)
    is_difference[heads] = is_difference[heads + 1] = False
    folded = numbers[:end][is_difference]
    if folded.size and int(folded.max()) > _MAX_FOLDED:
        raise _damaged("it holds a difference that no two 16-bit values have")
    differences = (folded >> 1) ^ -(folded & 1)
    is_measured = np.repeat(np.tile((False, True), len(heads)), run_lengths)
    depth = np.zeros(num_pixels, np.uint16)
    depth[is_measured] = np.cumsum(differences, dtype=np.int64).astype(np.uint16)
    return depth


def encode_rvl(depth: NDArray[np.uint16]) -> bytes:
    """Encode an image of any shape, row after row; `decode_rvl` gives it back."""
    pixels = depth.ravel().astype(np.int64)
    is_measured = pixels > 0
    borders = np.flatnonzero(np.diff(is_measured, prepend=False, append=not is_measured[-1]))
    run_lengths = np.diff(borders, prepend=0)
    if run_lengths.size % 2:
        run_lengths = np.append(run_lengths, 0)
    differences = np.diff(pixels[is_measured], prepend=0)
    folded = (differences << 1) ^ (differences >> 63)
    measured_lengths = run_lengths[1::2]
    heads = np.cumsum(measured_lengths) - measured_lengths
    return _write_numbers(np.insert(folded, np.repeat(heads, 2), run_lengths))


def _read_numbers(stream: memoryview) -> NDArray[np.int32]:
    """All numbers of a stream, those of the filling behind the last one included."""
    words = np.frombuffer(stream[: len(stream) // 4 * 4], np.uint8).reshape(-1, 4)[:, ::-1]
    nibbles = np.stack((words >> 4, words & 15), axis=-1).ravel()
    ends = np.flatnonzero(nibbles < 8)
    num_digits = np.diff(ends, prepend=-1)
    numbers = nibbles[ends].astype(np.int32)
    for digit in range(1, min(_MAX_DIGITS, int(num_digits.max(initial=0)))):
        longer = np.flatnonzero(num_digits > digit)
        lower = nibbles[ends[longer] - digit] & 7
        numbers[longer] = (numbers[longer] << _DIGIT_BITS) | lower
    numbers[num_digits > _MAX_DIGITS] = _TOO_LARGE
    return numbers


def _find_run_lengths(numbers: NDArray[np.int32], num_pixels: int) -> tuple[NDArray[np.int64], int]:
    """Where the two lengths of each pair of runs stand in `numbers`, and where the image ends."""
    view, heads = numbers.data, []
    position = num_covered = 0
    while num_covered < num_pixels:
        if position + 1 >= len(view):
            raise _damaged(f"it ends after {num_covered} of {num_pixels} pixels")
        num_zeros, num_measured = view[position], view[position + 1]
        if num_zeros == num_measured == 0:
            raise _damaged("it holds a run of no pixels")
        heads.append(position)
        num_covered += num_zeros + num_measured
        position += 2 + num_measured
    if num_covered > num_pixels:
        raise _damaged(f"its runs cover more than {num_pixels} pixels")
    if position > len(view):
        raise _damaged(f"it ends within the last run of {num_pixels} pixels")
    return np.array(heads, np.int64), position


def _write_numbers(numbers: NDArray[np.int64]) -> bytes:
    num_digits = np.ones(numbers.shape, np.int64)
    for digit in range(1, _MAX_DIGITS):
        num_digits += numbers >> (_DIGIT_BITS * digit) > 0
    starts = np.cumsum(num_digits) - num_digits
    num_nibbles = int(num_digits.sum())
    nibbles = np.zeros(-(-num_nibbles // 8) * 8, np.uint8)
    for digit in range(int(num_digits.max())):
        there = num_digits > digit
        bits = numbers[there] >> (_DIGIT_BITS * digit) & 7
        nibbles[starts[there] + digit] = bits | (num_digits[there] > digit + 1) << 3
    return ((nibbles[0::2] << 4) | nibbles[1::2]).reshape(-1, 4)[:, ::-1].tobytes()


def _damaged(what: str) -> ImageFormatError:
    return ImageFormatError(
        f"the RVL stream of a depth image is damaged: {what}; look for losses on the network, or "
        "record it again",
        DropReason.DECODE_ERROR,
    )
