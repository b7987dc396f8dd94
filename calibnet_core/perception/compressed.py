"""Compressed images, as image_transport's plugins publish them, to arrays and back.

Of sensor_msgs/CompressedImage only `data` and `format` are needed, so nothing of ROS is imported.
`format` says what was compressed and how: `rgb8; jpeg compressed bgr8` for colour, for depth
`16UC1; compressedDepth png` (or `rvl`; older publishers leave the last word out).

Depth begins with twelve bytes, little-endian: an int32 that names the coding and two float32, a and
b. They are the quantisation of floating-point depth: a 16-bit value v stands for a / (v - b)
metres, 0 for nothing measured. Integer depth is stored as it is, without loss.
"""

from __future__ import annotations

import struct
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.rvl import decode_rvl, encode_rvl
from calibnet_core.structures import MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from typing_extensions import Buffer

DepthCodec: TypeAlias = Literal["png", "rvl"]

_CONFIG_HEADER = struct.Struct("<iff")
_RVL_SIZE = struct.Struct("<II")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_INVERSE_DEPTH = 0  # the only coding there is
# What Pillow calls 16-bit grey; before version 10 it widened such PNG images to 32 bit.
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_INTEGER_DEPTHS = ("16UC1", "mono16")
# The first publishers wrote nothing but the encoding, and all before RVL left out "png".
_DEPTH_CODECS: MappingProxyType[str, DepthCodec] = MappingProxyType(
    {
        "": "png",
        "compressedDepth": "png",
        "compressedDepth png": "png",
        "compressedDepth rvl": "rvl",
    }
)
_MAX_U16 = 65535


def decode_color(data: Buffer, format: str) -> NDArray[np.uint8]:
    """Decode a colour image.

    The image stays as the sensor stored it: EXIF orientation is ignored, as by the other readers
    of these messages.

    Args:
        data: a JPEG or PNG file.
        format: of the message; it says whether blue and red are exchanged in the file.

    Returns:
        (H, W, 3) uint8, red first; grey is repeated, alpha dropped.

    Raises:
        ImageFormatError: `format` names depth or a Bayer mosaic, or the data are damaged, too large
            or of another kind.
    """
    encoding, codec = _split(format)
    if "compressedDepth" in codec:
        raise ImageFormatError(
            f"the compressed colour image has format '{format}', which is depth; remap "
            "'color/image' to the camera's compressed colour topic",
            DropReason.BAD_ENCODING,
        )
    if encoding.startswith("bayer_"):
        raise ImageFormatError(
            f"the compressed colour image has format '{format}': a raw Bayer mosaic was "
            "compressed; compress its output of image_proc's debayer node instead",
            DropReason.BAD_ENCODING,
        )
    image = _open_image(memoryview(data).cast("B"), "colour")
    if image.mode == "F" or image.mode in _SIXTEEN_BIT_MODES:
        raise ImageFormatError(
            f"the compressed colour image (format '{format}') holds 16-bit grey values, as depth "
            "does; remap 'color/image' to the camera's compressed colour topic",
            DropReason.BAD_ENCODING,
        )
    rgb: NDArray[np.uint8] = np.array(image.convert("RGB"))
    # The publisher gave the encoder red where it takes blue; image_transport's subscribers turn
    # it back by the same word.
    return np.ascontiguousarray(rgb[..., ::-1]) if "compressed rgb" in codec else rgb


def decode_depth(data: Buffer, format: str) -> tuple[NDArray[Any], str]:
    """Decode a depth image.

    Args:
        data: of a `compressedDepth` message, or a bare 16-bit PNG file, which the `compressed`
            transport makes of integer depth.
        format: of the message.

    Returns:
        The (H, W) image and its ROS encoding: uint16 and `16UC1` (millimetres, 0 for nothing
        measured), or float32 and `32FC1` (metres, NaN for nothing measured; what a damaged
        quantisation yields may also be infinite or negative).

    Raises:
        ImageFormatError: `format` is not known, or the data are damaged, too large or of another
            kind.
    """
    encoding, codec = _split(format)
    bytes_ = memoryview(data).cast("B")
    is_bare_png = bytes(bytes_[: len(_PNG_SIGNATURE)]) == _PNG_SIGNATURE
    if is_bare_png and encoding in (*_INTEGER_DEPTHS, "png") and "rvl" not in codec:
        return _decode_png(bytes_), "16UC1"
    if bytes(bytes_[: len(_JPEG_SIGNATURE)]) == _JPEG_SIGNATURE or codec.startswith("jpeg"):
        raise ImageFormatError(
            f"the compressed depth image (format '{format}') is a JPEG, which changes every "
            "distance; use the camera's compressedDepth topic",
            DropReason.BAD_ENCODING,
        )
    if encoding not in (*_INTEGER_DEPTHS, "32FC1") or codec not in _DEPTH_CODECS:
        raise ImageFormatError(
            f"the compressed depth image has format '{format}'; expected '16UC1' or '32FC1' and "
            "'; compressedDepth png' or '; compressedDepth rvl'. Remap 'depth/image' to the "
            "camera's compressedDepth topic",
            DropReason.BAD_ENCODING,
        )
    if len(bytes_) <= _CONFIG_HEADER.size:
        raise _damaged("depth", f"{len(bytes_)} bytes are not even its header")
    _, depth_a, depth_b = _CONFIG_HEADER.unpack_from(bytes_)
    content = bytes_[_CONFIG_HEADER.size :]
    values = _decode_png(content) if _DEPTH_CODECS[codec] == "png" else _decode_rvl(content)
    if encoding != "32FC1":
        return values, "16UC1"
    return _dequantised(values, depth_a, depth_b), "32FC1"


def encode_depth(
    depth: NDArray[Any],
    codec: DepthCodec = "png",
    *,
    max_depth_m: float = 10.0,
    quantization: float = 100.0,
) -> tuple[bytes, str]:
    """Encode a depth image, for recordings and tests.

    Args:
        depth: (H, W) uint16 millimetres, kept without loss; or float32 metres, quantised so that
            an error is at most z^2 / (2 q (q + 1)) for a distance z and quantization q.
        codec: `png` is smaller, `rvl` faster.
        max_depth_m: farther floating-point readings are dropped.
        quantization: q, as image_transport's parameter of this name.

    Returns:
        `data` and `format` of a CompressedImage message.

    Raises:
        ValueError: the type or the shape of `depth` is wrong.
    """
    if depth.ndim != 2 or not depth.size or depth.dtype not in (np.uint16, np.float32):
        raise ValueError(
            f"depth is {depth.dtype} of shape {depth.shape}; give (height, width) as uint16 (mm) "
            "or float32 (m)"
        )
    if depth.dtype == np.uint16:
        encoding, depth_a, depth_b = "16UC1", 0.0, 0.0
        values = depth.astype("<u2", copy=False)
    else:
        depth_a = quantization * (quantization + 1.0)
        encoding, depth_b = "32FC1", 1.0 - depth_a / max_depth_m
        values = _quantised(depth, depth_a, depth_b, max_depth_m)
    header = _CONFIG_HEADER.pack(_INVERSE_DEPTH, depth_a, depth_b)
    if codec == "rvl":
        height, width = depth.shape
        content = _RVL_SIZE.pack(width, height) + encode_rvl(values)
    else:
        file = BytesIO()
        Image.fromarray(values).save(file, "PNG", compress_level=1)
        content = file.getvalue()
    return header + content, f"{encoding}; compressedDepth {codec}"


def _split(format: str) -> tuple[str, str]:
    encoding, _, codec = format.partition(";")
    return encoding.strip(), codec.strip()


def _decode_png(content: memoryview) -> NDArray[np.uint16]:
    image = _open_image(content, "depth")
    if image.mode not in _SIXTEEN_BIT_MODES:
        raise ImageFormatError(
            f"the PNG of a compressed depth image has {image.mode} pixels instead of 16-bit grey; "
            "remap 'depth/image' to the camera's compressedDepth topic",
            DropReason.BAD_ENCODING,
        )
    return np.array(image).astype(np.uint16, copy=False)


def _decode_rvl(content: memoryview) -> NDArray[np.uint16]:
    if len(content) < _RVL_SIZE.size:
        raise _damaged("depth", "its size is missing")
    width, height = _RVL_SIZE.unpack_from(content)
    _check_size("depth", height, width)
    return decode_rvl(content[_RVL_SIZE.size :], height * width).reshape(height, width)


def _dequantised(values: NDArray[np.uint16], depth_a: float, depth_b: float) -> NDArray[np.float32]:
    if not np.isfinite((depth_a, depth_b)).all() or depth_a <= 0:
        raise _damaged("depth", f"its quantisation is a = {depth_a}, b = {depth_b}")
    with np.errstate(all="ignore"):  # what b hits exactly becomes infinite, and so no measurement
        depth_m = np.float32(depth_a) / (values.astype(np.float32) - np.float32(depth_b))
    depth_m[values == 0] = np.nan
    return depth_m


def _quantised(
    depth_m: NDArray[np.float32], depth_a: float, depth_b: float, max_depth_m: float
) -> NDArray[np.uint16]:
    with np.errstate(all="ignore"):
        values = np.rint(depth_a / depth_m.astype(np.float64) + depth_b)
        is_measured = (depth_m > 0) & (depth_m < max_depth_m) & (values <= _MAX_U16)
    return np.where(is_measured, values, 0).astype("<u2")


def _open_image(content: memoryview, kind: str) -> Image.Image:
    """The decoded image; its size is checked before memory for the pixels is taken."""
    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            _check_size(kind, image.height, image.width)
            image.load()
            return image
    except ImageFormatError:
        raise
    except Exception as error:  # decoders meet arbitrary bytes and fail in any way Python can
        raise _damaged(kind, f"it is no complete JPEG or PNG file ({error})") from error


def _check_size(kind: str, height: int, width: int) -> None:
    if not 0 < height * width <= MAX_IMAGE_PIXELS:
        raise _damaged(
            kind, f"it declares {width}x{height} pixels; 1 to {MAX_IMAGE_PIXELS} are read"
        )


def _damaged(kind: str, what: str) -> ImageFormatError:
    return ImageFormatError(
        f"the compressed {kind} image is damaged: {what}; look for losses on the network, or "
        "record it again",
        DropReason.DECODE_ERROR,
    )
