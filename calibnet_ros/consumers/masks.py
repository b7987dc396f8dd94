"""From an instance's message to its pixels in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.mask_codec import (
    MAX_MASK_PIXELS,
    MaskFormatError,
    decode_mask,
)
from calibnet_ros.msg import InstanceMask


def full_mask(instance: InstanceMask, height: int, width: int) -> NDArray[np.bool_]:
    """Decode an instance's mask and put it in its place.

    Args:
        instance: of an `InstanceMaskArray`.
        height: rows of the image, from the array.
        width: columns of the image, likewise.

    Returns:
        (height, width) bool.

    Raises:
        MaskFormatError: the message contradicts itself, or carries no pixels.
    """
    roi = instance.roi
    if not 1 <= height * width <= MAX_MASK_PIXELS:
        raise MaskFormatError(
            f"an image of height {height}, width {width} is refused; expected 1 to "
            f"{MAX_MASK_PIXELS} pixels"
        )
    if roi.x_offset + roi.width > width or roi.y_offset + roi.height > height:
        raise MaskFormatError(
            f"roi at ({roi.x_offset}, {roi.y_offset}) with height {roi.height}, width {roi.width} "
            f"leaves the image of height {height}, width {width}; something changed the message"
        )
    mask = np.zeros((height, width), np.bool_)
    rows = slice(roi.y_offset, roi.y_offset + roi.height)
    columns = slice(roi.x_offset, roi.x_offset + roi.width)
    encoding: int = instance.mask_encoding
    mask[rows, columns] = decode_mask(
        instance.mask_data,
        roi.height,
        roi.width,
        encoding,  # type: ignore[arg-type]  # refused in words if it is no MaskEncoding
    )
    return mask
