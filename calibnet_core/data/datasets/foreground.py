"""Black and white images: which pixels are meant, whatever two values a tool writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibnet_core.data.images import check_num_pixels
from calibnet_core.structures import FrameError


def load_foreground(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask or a region label.

    Where some values are in the upper half of the format's range, those are meant: 0 and 255, also
    with smoothed edges. Otherwise all but 0 are: 0 and 1, and label images.

    Args:
        path: an image of one channel, or of equal ones.
        size: (height, width) that it must have.

    Returns:
        (H, W) bool.

    Raises:
        FrameError: the file cannot be read, is coloured or of another size.
    """
    values = load_values(path, size)
    # Pillow hands out 16-bit files as 32-bit numbers at times.
    is_bright = values > (127 if values.dtype == np.uint8 else 32767)
    return np.asarray(is_bright if is_bright.any() else values > 0, np.bool_)


def load_values(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    """Read the numbers of a label image: of a palette the indices, else the grey values.

    Args:
        path: an image of one channel, or of equal ones.
        size: (height, width) that it must have.

    Returns:
        (H, W) whole numbers from 0.

    Raises:
        FrameError: as `load_foreground`.
    """
    try:
        with Image.open(path) as image:
            check_num_pixels(path, image.height, image.width)
            values = np.array(image)
    except FrameError:
        raise
    except FileNotFoundError as error:
        raise FrameError(f"{path}: there is no such file; check the path") from error
    except Exception as error:  # Decoders meet arbitrary bytes and fail in any way Python can.
        raise FrameError(f"{path}: is no readable image ({error}); save it again") from error
    if values.ndim == 3:
        colors = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        if (colors != colors[..., :1]).any():
            raise FrameError(
                f"{path}: is a coloured picture; expected one number a pixel. Save an 8 or 16 bit "
                "grey image, or one with a palette"
            )
        values = colors[..., 0]
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "ui" or values.min(initial=0) < 0:
        raise FrameError(f"{path}: holds {values.dtype} values; expected whole numbers from 0")
    if values.shape != size:
        raise FrameError(
            f"{path}: is {values.shape[1]}x{values.shape[0]}, the image {size[1]}x{size[0]} (width "
            "x height); save it at the size of the image"
        )
    return values
