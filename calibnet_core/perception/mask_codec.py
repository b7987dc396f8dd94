"""Compact coding of instance masks, and the label image that shows them all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_MASK_PIXELS = 2**26
"""Larger masks are refused: a corrupt size must not make the decoder allocate without bound."""

MAX_INSTANCES = 65534
"""Ids of a label image run from 1 to this; 0 is background and 65535 is reserved."""

_MAX_VARINT_BYTES = 5  # enough for 2**35, and so for any run of a mask within the limit


class MaskEncoding(IntEnum):
    """How the pixels of a mask are stored. The value is the number in the message."""

    NONE = 0
    """No pixels, only the box."""
    BITS = 1
    """One bit a pixel, most significant bit leftmost, each row padded to whole bytes with zeros."""
    MONO8 = 2
    """One byte a pixel: 255 inside, 0 outside."""
    RLE = 3
    """Alternating run lengths over the rows, background first, each as an unsigned LEB128
    number."""

    @classmethod
    def from_name(cls, name: str) -> MaskEncoding:
        """Return the encoding of a parameter value: `none`, `bits`, `mono8` or `rle`.

        Raises:
            ValueError: if there is no such encoding.
        """
        names = {member.name.lower(): member for member in cls}
        if name not in names:
            raise ValueError(f"output.mask_encoding is '{name}'; choose one of {', '.join(names)}")
        return names[name]


class MaskFormatError(ValueError):
    """Mask data contradict their size or encoding."""


@dataclass(frozen=True, kw_only=True)
class Roi:
    """A box of whole pixels."""

    x_offset: int
    """Column of the leftmost pixel."""
    y_offset: int
    """Row of the topmost pixel."""
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices, so that `mask[roi.slices]` is the content of the box."""
        return (
            slice(self.y_offset, self.y_offset + self.height),
            slice(self.x_offset, self.x_offset + self.width),
        )


def tight_roi(mask: NDArray[np.bool_]) -> Roi | None:
    """Return the smallest box around the pixels of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        The box, or None if the mask is empty.

    Raises:
        ValueError: if `mask` is not a two-dimensional bool array.
    """
    _check_bool(mask, dims=2, name="mask")
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1])
    columns = np.flatnonzero(mask[top : bottom + 1].any(axis=0))
    left, right = int(columns[0]), int(columns[-1])
    return Roi(x_offset=left, y_offset=top, height=bottom - top + 1, width=right - left + 1)


def encode_mask(roi_mask: NDArray[np.bool_], encoding: MaskEncoding) -> bytes:
    """Encode the mask of one box.

    Args:
        roi_mask: (height, width) bool, the part of the mask inside its box.
        encoding: how to store it.

    Returns:
        The bytes; for `BITS` `ceil(width / 8) * height` of them, for `MONO8` `width * height`.

    Raises:
        ValueError: if `roi_mask` is no two-dimensional bool array.
        MaskFormatError: if it has no pixels or more than `MAX_MASK_PIXELS`, or the encoding is
            unknown.
    """
    _check_bool(roi_mask, dims=2, name="roi_mask")
    _check_size(*roi_mask.shape)
    encoding = _known_encoding(encoding)
    if encoding == MaskEncoding.NONE:
        return b""
    if encoding == MaskEncoding.BITS:
        return np.packbits(roi_mask, axis=1).tobytes()
    if encoding == MaskEncoding.MONO8:
        grey: NDArray[np.uint8] = np.where(roi_mask, np.uint8(255), np.uint8(0))
        return grey.tobytes()
    return _encode_runs(roi_mask)


def decode_mask(data: Buffer, height: int, width: int, encoding: MaskEncoding) -> NDArray[np.bool_]:
    """Decode the mask of one box.

    Padding bits of `BITS` are ignored, and any byte of `MONO8` but 0 is inside.

    Args:
        data: what `encode_mask` returned, or any buffer with the same bytes.
        height: rows of the box.
        width: columns of the box.
        encoding: how the mask is stored.

    Returns:
        (height, width) bool.

    Raises:
        MaskFormatError: if the size is zero or beyond `MAX_MASK_PIXELS`, if the data do not have
            exactly the length or the runs of that size, or if the encoding is unknown or `NONE`,
            which carries no pixels.
    """
    _check_size(height, width)
    encoding = _known_encoding(encoding)
    if encoding == MaskEncoding.NONE:
        raise MaskFormatError(
            "a mask of encoding none carries no pixels; set output.mask_encoding to bits, mono8 "
            "or rle"
        )
    values = np.frombuffer(memoryview(data), np.uint8)
    if encoding == MaskEncoding.RLE:
        return _decode_runs(values, height, width)
    row_bytes = (width + 7) // 8 if encoding == MaskEncoding.BITS else width
    if values.size != row_bytes * height:
        raise MaskFormatError(
            f"a mask of height {height}, width {width} in encoding {encoding.name.lower()} takes "
            f"{row_bytes * height} bytes, not {values.size}; pass the height and width of its roi"
        )
    rows = values.reshape(height, row_bytes)
    if encoding == MaskEncoding.BITS:
        return np.unpackbits(rows, axis=1, count=width).view(np.bool_)
    is_inside: NDArray[np.bool_] = rows != 0
    return is_inside


def label_image(masks: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Draw instance masks into one image of ids.

    Args:
        masks: (K, H, W) bool, sorted by score, highest first; K may be 0.

    Returns:
        (H, W) uint16: i + 1 where mask i is the first to cover the pixel, so that the higher score
        wins an overlap; 0 where none does.

    Raises:
        ValueError: if `masks` is no three-dimensional bool array, or K exceeds `MAX_INSTANCES`.
    """
    _check_bool(masks, dims=3, name="masks")
    num_instances = masks.shape[0]
    if num_instances > MAX_INSTANCES:
        raise ValueError(
            f"{num_instances} masks do not fit a label image; lower detection.max_instances to "
            f"at most {MAX_INSTANCES}"
        )
    labels = np.zeros(masks.shape[1:], np.uint16)
    for index in reversed(range(num_instances)):  # the highest score is drawn last, over all others
        np.copyto(labels, np.uint16(index + 1), where=masks[index])
    return labels


def _encode_runs(mask: NDArray[np.bool_]) -> bytes:
    pixels = mask.ravel()
    starts = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(starts, prepend=0, append=pixels.size)
    if pixels[0]:  # runs begin with background, here an empty one
        runs = np.insert(runs, 0, 0)
    # One row a number: its groups of 7 bits, lowest first. A group is written if any bit is left
    # for it, and carries the continuation bit if any is left for the next.
    left = runs[:, np.newaxis] >> (7 * np.arange(_MAX_VARINT_BYTES + 1))
    groups = (left[:, :-1] & 0x7F) | np.where(left[:, 1:] > 0, 0x80, 0)
    is_written = left[:, :-1] > 0
    is_written[:, 0] = True
    return groups[is_written].astype(np.uint8).tobytes()


def _decode_runs(values: NDArray[np.uint8], height: int, width: int) -> NDArray[np.bool_]:
    what = f"run lengths of a mask of height {height}, width {width}"
    ends = np.flatnonzero(values < 0x80)
    if ends.size == 0 or ends[-1] != values.size - 1:
        raise MaskFormatError(f"{what} stop within a number; the data were cut short")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _MAX_VARINT_BYTES:
        raise MaskFormatError(
            f"{what} hold a number of {lengths.max()} bytes, more than {_MAX_VARINT_BYTES}; "
            "check mask_encoding"
        )
    starts = ends - lengths + 1
    place = np.arange(values.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((values & 0x7F).astype(np.int64) << (7 * place), starts)
    if (runs[1:] == 0).any():
        raise MaskFormatError(f"{what} hold an empty run; only the first may be empty")
    # The largest run is compared too, because a sum of hostile runs could wrap around.
    if runs.max() > height * width or runs.sum() != height * width:
        raise MaskFormatError(
            f"{what} must add up to {height * width} pixels; pass the height and width of its roi"
        )
    is_inside = np.arange(runs.size) % 2 == 1
    return np.repeat(is_inside, runs).reshape(height, width)


def _check_bool(array: NDArray[np.bool_], *, dims: int, name: str) -> None:
    if array.dtype != np.bool_ or array.ndim != dims:
        raise ValueError(
            f"{name} must be a bool array of {dims} dimensions, not {array.dtype} of shape "
            f"{array.shape}; compare probabilities with a threshold first"
        )


def _known_encoding(value: int) -> MaskEncoding:
    try:
        return MaskEncoding(value)
    except ValueError:
        known = ", ".join(f"{member.value} ({member.name.lower()})" for member in MaskEncoding)
        raise MaskFormatError(f"mask_encoding {value} is unknown; use one of {known}") from None


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > MAX_MASK_PIXELS:
        raise MaskFormatError(
            f"a mask of height {height}, width {width} is refused; give it 1 to "
            f"{MAX_MASK_PIXELS} pixels"
        )
