"""Compressed images against OpenCV, which image_transport's plugins use, and against damage."""

from __future__ import annotations

import array
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.compressed import decode_color, decode_depth, encode_depth
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.structures import MAX_IMAGE_PIXELS

RNG = np.random.default_rng(5)
SIZE = (24, 33)
RGB = RNG.integers(0, 256, (6, 11, 3), np.uint8).repeat(4, 0).repeat(3, 1)[: SIZE[0], : SIZE[1]]
DEPTH_MM = (1200 + RNG.integers(-300, 300, SIZE)).astype(np.uint16)
DEPTH_MM[RNG.random(SIZE) < 0.2] = 0
DEPTH_MM[0, :2] = 1, 65535
DEPTH_M = np.where(DEPTH_MM == 0, np.nan, DEPTH_MM / 1000).astype(np.float32)
NO_HEADER = bytes(12)


def opencv_file(kind: str, image: NDArray) -> bytes:
    """A file as cv2 writes it: three channels are taken for blue, green, red."""
    return cv2.imencode(kind, image)[1].tobytes()


def rvl_size(height: int, width: int) -> bytes:
    return struct.pack("<II", width, height)


# --- colour -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["rgb8; png compressed bgr8", "bgr8; png compressed", "png"])
def test_a_png_gives_the_pixels_back(format: str) -> None:
    data = opencv_file(".png", RGB[..., ::-1])
    assert np.array_equal(decode_color(data, format), RGB)
    assert np.array_equal(decode_color(array.array("B", data), format), RGB)
    assert np.array_equal(decode_color(np.frombuffer(data, np.uint8), format), RGB)


@pytest.mark.parametrize("format", ["rgb8; jpeg compressed bgr8", "rgba8; jpeg compressed", "jpeg"])
def test_a_jpeg_is_what_opencv_reads(format: str) -> None:
    data = opencv_file(".jpg", RGB[..., ::-1])
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    rgb = decode_color(data, format)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - expected).max() <= 2  # decoders may round differently


def test_red_and_blue_are_turned_back_where_the_format_says_they_are_exchanged() -> None:
    data = opencv_file(".png", RGB)  # red where cv2 takes blue
    assert np.array_equal(decode_color(data, "rgb8; png compressed rgb8"), RGB)


def test_grey_is_repeated_and_alpha_dropped() -> None:
    grey = decode_color(opencv_file(".png", RGB[..., 0]), "mono8; png compressed mono8")
    assert np.array_equal(grey, RGB[..., [0, 0, 0]])
    bgra = np.dstack([RGB[..., ::-1], np.full(SIZE, 7, np.uint8)])
    assert np.array_equal(decode_color(opencv_file(".png", bgra), "bgra8; png"), RGB)


# --- depth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_integer_depth_comes_back_without_loss(codec: str) -> None:
    data, format = encode_depth(DEPTH_MM, codec)
    assert format == f"16UC1; compressedDepth {codec}"
    depth, encoding = decode_depth(array.array("B", data), format)
    assert encoding == "16UC1"
    assert depth.dtype == np.uint16
    assert np.array_equal(depth, DEPTH_MM)


@pytest.mark.parametrize(
    ("header", "format"),
    [
        (NO_HEADER, "16UC1; compressedDepth png"),
        (NO_HEADER, "16UC1; compressedDepth"),
        (NO_HEADER, "16UC1"),
        (NO_HEADER, "mono16; compressedDepth png"),
        (b"", "16UC1; png compressed 16UC1"),
        (b"", "16UC1; png compressed "),
        (b"", "png"),
    ],
)
def test_every_way_publishers_name_a_depth_png_is_read(header: bytes, format: str) -> None:
    depth, encoding = decode_depth(header + opencv_file(".png", DEPTH_MM), format)
    assert (encoding, depth.dtype) == ("16UC1", np.uint16)
    assert np.array_equal(depth, DEPTH_MM)


def test_floating_point_depth_is_the_quotient_that_the_header_describes() -> None:
    # The parameters of image_transport's defaults: quantization 100, 10 m at most.
    depth_a, depth_b = 10100.0, 1.0 - 10100.0 / 10.0
    values = np.array([[0, 1, 9091, 65535]], np.uint16)
    header = struct.pack("<iff", 0, depth_a, depth_b)
    depth, encoding = decode_depth(
        header + opencv_file(".png", values), "32FC1; compressedDepth png"
    )
    assert (encoding, depth.dtype) == ("32FC1", np.float32)
    assert np.isnan(depth[0, 0])
    assert depth[0, 1:].tolist() == pytest.approx([10.0, 1.0, 10100 / 66544], rel=1e-6)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_floating_point_depth_comes_back_within_half_a_step(codec: str) -> None:
    data, format = encode_depth(DEPTH_M, codec)
    assert format == f"32FC1; compressedDepth {codec}"
    depth, _ = decode_depth(data, format)
    kept = (DEPTH_M < 10.0) & (DEPTH_M > 0.152)  # nearer ones exceed 16 bits
    assert np.array_equal(np.isfinite(depth), kept)
    error = np.abs(depth[kept] - DEPTH_M[kept])
    assert (error <= 1.01 * DEPTH_M[kept] ** 2 / (2 * 100 * 101) + 1e-6).all()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-9, 1e30])
def test_what_is_no_reading_stays_none(special: float) -> None:
    depth, _ = decode_depth(*encode_depth(np.array([[special, 1.0]], np.float32)))
    assert np.isnan(depth[0, 0])
    assert depth[0, 1] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("wrong", [np.ones((2, 2)), np.ones((1, 2, 2), np.uint16), DEPTH_MM[:0]])
def test_the_encoder_refuses_other_arrays(wrong: NDArray) -> None:
    with pytest.raises(ValueError, match=r"depth is .* of shape .*; give \(height, width\) as"):
        encode_depth(wrong)


# --- refusals ---------------------------------------------------------------------------------

COLOR_PNG = opencv_file(".png", RGB)
DEPTH_PNG = opencv_file(".png", DEPTH_MM)
JPEG = opencv_file(".jpg", RGB)
ENCODING, DAMAGE = DropReason.BAD_ENCODING, DropReason.DECODE_ERROR


@pytest.mark.parametrize(
    ("decode", "data", "format", "reason", "sentence"),
    [
        (decode_color, DEPTH_PNG, "16UC1; png compressed", ENCODING, "16-bit grey.*remap 'color"),
        (decode_color, b"", "16UC1; compressedDepth png", ENCODING, "which is depth; remap"),
        (decode_color, JPEG, "bayer_rggb8; jpeg compressed ", ENCODING, "mosaic.*debayer"),
        (decode_color, b"", "jpeg", DAMAGE, "no complete JPEG or PNG.*network"),
        (decode_color, opencv_file(".bmp", RGB), "jpeg", DAMAGE, "no complete JPEG or PNG"),
        (decode_color, JPEG[:-200], "jpeg", DAMAGE, "no complete JPEG or PNG.*truncated"),
        (decode_color, COLOR_PNG[:-60], "png", DAMAGE, "no complete JPEG or PNG"),
        (decode_depth, JPEG, "16UC1; png compressed", ENCODING, "a JPEG.*compressedDepth topic"),
        (decode_depth, b"", "rgb8; jpeg compressed bgr8", ENCODING, "changes every distance"),
        (decode_depth, b"", "rgb8; compressedDepth png", ENCODING, "expected '16UC1' or '32FC1'"),
        (decode_depth, b"", "16UC1; compressedDepth zstd", ENCODING, "compressedDepth rvl'. Remap"),
        (decode_depth, b"", "", ENCODING, "format ''; expected"),
        (decode_depth, NO_HEADER, "16UC1; compressedDepth png", DAMAGE, "12 bytes are not even"),
        (decode_depth, NO_HEADER + COLOR_PNG, "16UC1; compressedDepth", ENCODING, "RGB pixels"),
        (decode_depth, NO_HEADER + b"1234567", "16UC1; compressedDepth rvl", DAMAGE, "its size is"),
        (decode_depth, NO_HEADER + DEPTH_PNG, "32FC1; compressedDepth", DAMAGE, "a = 0.0, b = 0.0"),
        (
            decode_depth,
            struct.pack("<iff", 0, np.nan, 1.0) + DEPTH_PNG,
            "32FC1; compressedDepth png",
            DAMAGE,
            "quantisation is a = nan",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(
    decode: Callable, data: bytes, format: str, reason: DropReason, sentence: str
) -> None:
    with pytest.raises(ImageFormatError, match=sentence) as caught:
        decode(data, format)
    assert caught.value.reason is reason


def png_declaring(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return DEPTH_PNG[:8] + chunk + DEPTH_PNG[33:]


def jpeg_declaring(width: int, height: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(MAX_IMAGE_PIXELS + 1, 1), (60_000, 60_000), (0, 5)])
def test_a_size_that_no_camera_has_is_refused_before_memory_is_taken(
    size: tuple[int, int],
) -> None:
    width, height = size
    depth = NO_HEADER + png_declaring(width, height)
    rvl = NO_HEADER + rvl_size(height, width) + bytes(64)
    cases = [
        (decode_depth, depth, "16UC1; compressedDepth png"),
        (decode_depth, rvl, "16UC1; compressedDepth rvl"),
    ]
    if max(size) < 65536 and min(size) > 0:
        cases.append((decode_color, jpeg_declaring(width, height), "jpeg"))
    for decode, data, format in cases:
        with pytest.raises(ImageFormatError, match=r"declares|no complete") as caught:
            decode(data, format)
        assert caught.value.reason is DAMAGE


WHOLE = [
    (decode_color, COLOR_PNG, "rgb8; png compressed bgr8"),
    (decode_color, JPEG, "rgb8; jpeg compressed bgr8"),
    *((decode_depth, *encode_depth(DEPTH_MM, codec)) for codec in ("png", "rvl")),
    *((decode_depth, *encode_depth(DEPTH_M, codec)) for codec in ("png", "rvl")),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=400)
@given(
    whole=st.sampled_from(WHOLE),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    end=st.one_of(st.just(1.0), st.floats(0, 1)),
    format=st.one_of(st.none(), st.text(max_size=12), st.sampled_from([w[2] for w in WHOLE])),
)
def test_damaged_messages_make_an_image_or_an_error(
    whole: tuple[Callable, bytes, str],
    changes: list[tuple[float, int]],
    end: float,
    format: str | None,
) -> None:
    decode, data, own_format = whole
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    with suppress(ImageFormatError):
        cut = damaged[: int(end * len(damaged))]
        answer = decode(cut, own_format if format is None else format)
        image = answer if decode is decode_color else answer[0]
        assert 0 < image.shape[0] * image.shape[1] <= MAX_IMAGE_PIXELS


@given(data=st.binary(max_size=200), format=st.sampled_from([w[2] for w in WHOLE]))
def test_random_bytes_are_refused(data: bytes, format: str) -> None:
    for decode in (decode_color, decode_depth):
        with pytest.raises(ImageFormatError):
            decode(data, format)
