"""Colour and depth from image files, with everything odd about a file named in the error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from calibnet_core.structures import MAX_IMAGE_PIXELS, FrameError

_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
# JPEG returns grey pictures saved in colour with channels that differ by this much.
_GREY_TOLERANCE = 3


class DepthImage(TypedDict, total=False):
    """The depth arguments of `RgbdFrame`; exactly one of them is there."""

    depth_m: NDArray[np.float32]
    depth_map: NDArray[np.uint8]


def load_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read a colour image, turned upright as its EXIF data ask.

    Returns:
        (H, W, 3) uint8, red first; grey is repeated, transparency dropped.

    Raises:
        FrameError: the file is missing, damaged, too large, or holds depth.
    """
    with _opened(Path(path)) as image:
        if image.mode == "F" or image.mode.startswith("I"):
            raise FrameError(
                f"{path}: holds 16-bit or floating-point grey values, as depth images do; give the "
                "8-bit colour image here"
            )
        return np.array(image.convert("RGB"))


def load_depth(path: str | Path, *, scale_m: float = 0.001) -> DepthImage:
    """Read depth from an image or a numpy file.

    Integers of 16 or 32 bits are measurements: metres are the value times `scale_m`, 0 means not
    measured. Floating-point numbers (TIFF, .npy) are metres. 8-bit grey is the picture of depth
    that RGB-D saliency data sets ship, and stays as it is.

    Args:
        path: a PNG, TIFF or other image, or a .npy file, of shape (H, W).
        scale_m: metres in one step of an integer image: 0.001 for millimetres.

    Returns:
        `depth_m`, (H, W) float32 metres with NaN where nothing was measured, or `depth_map`,
        (H, W) uint8: keyword arguments for `RgbdFrame`.

    Raises:
        FrameError: the file is missing, damaged, too large or no depth, or `scale_m` is not
            positive.
    """
    path = Path(path)
    if not (np.isfinite(scale_m) and scale_m > 0):
        raise FrameError(f"depth scale is {scale_m} m; choose a number above 0, 0.001 for mm")
    values = _read_npy(path) if path.suffix == ".npy" else _read_depth_image(path)
    if values.dtype == np.uint8:
        return {"depth_map": values}
    if values.dtype.kind == "f":
        depth_m = values.astype(np.float32)
    else:
        # In double precision, so that 1234 mm become the float32 nearest to 1.234 m.
        depth_m = (values.astype(np.float64) * scale_m).astype(np.float32)
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = np.nan
    return {"depth_m": depth_m}


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The decoded, upright image; whatever goes wrong while reading becomes FrameError."""
    try:
        with Image.open(path) as image:
            check_num_pixels(path, image.height, image.width)
            image.load()
            upright = ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise FrameError(f"{path}: there is no such file; check the path") from error
    except (IsADirectoryError, PermissionError) as error:
        raise FrameError(f"{path}: cannot be opened ({error.strerror}); give a file") from error
    except UnidentifiedImageError as error:
        raise FrameError(f"{path}: is no image; give a PNG, JPEG or TIFF file") from error
    except Image.DecompressionBombError as error:
        raise FrameError(
            f"{path}: declares far more pixels than a camera has ({error}); check that the file is "
            "not corrupt"
        ) from error
    except FrameError:
        raise
    except Exception as error:  # Decoders meet arbitrary bytes and fail in any way Python can.
        raise FrameError(
            f"{path}: is damaged or cut off ({error}); copy or record it again"
        ) from error
    yield upright


def check_num_pixels(path: Path, height: int, width: int) -> None:
    """Refuse sizes that only a corrupt or hostile header declares, before memory is taken.

    Raises:
        FrameError: there is no pixel, or more than any RGB-D camera delivers.
    """
    if not 0 < height * width <= MAX_IMAGE_PIXELS:
        raise FrameError(
            f"{path}: declares {width}x{height} pixels; at most {MAX_IMAGE_PIXELS} are read. Check "
            "that the file is not corrupt, or scale the image down"
        )


def _read_depth_image(path: Path) -> NDArray[Any]:
    with _opened(path) as image:
        if image.mode in (*_SIXTEEN_BIT_MODES, "I", "F"):
            return np.array(image)
        if image.mode in ("1", "L"):
            return np.array(image.convert("L"))
        channels = np.array(image.convert("RGB"))
    spread = channels.max(axis=2).astype(int) - channels.min(axis=2)
    if spread.max() > _GREY_TOLERANCE:
        raise FrameError(
            f"{path}: this looks like a coloured picture of depth, from which distances cannot be "
            "recovered; give the 16-bit depth image, or an 8-bit grey one"
        )
    return np.ascontiguousarray(channels[..., 1])


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        # Mapped, so that a header that declares more than the file holds fails before memory is
        # taken; without pickles, so that nothing in the file is executed.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FrameError(f"{path}: there is no such file; check the path") from error
    except Exception as error:  # The header is arbitrary text to the parser.
        raise FrameError(
            f"{path}: is no readable numpy array ({error}); save it with numpy.save"
        ) from error
    if not isinstance(mapped, np.ndarray) or mapped.ndim != 2 or mapped.dtype.kind not in "uif":
        kind = f"{mapped.dtype} of shape {mapped.shape}" if hasattr(mapped, "shape") else "archive"
        raise FrameError(f"{path}: holds {kind}; expected numbers of shape (height, width)")
    check_num_pixels(path, *mapped.shape)
    return np.array(mapped)
