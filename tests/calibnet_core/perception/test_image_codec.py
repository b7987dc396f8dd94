from __future__ import annotations

import array
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.image_codec import (
    MAX_IMAGE_BYTES,
    DepthUnit,
    ImageFormatError,
    color_to_rgb8,
    depth_to_metres,
    is_native_color,
    is_native_depth,
    wrap_image,
)

# Encoding -> (struct code of one element, channels), written down apart from the source.
FORMATS = {
    "rgb8": ("B", 3),
    "bgr8": ("B", 3),
    "8UC3": ("B", 3),
    "rgba8": ("B", 4),
    "bgra8": ("B", 4),
    "8UC4": ("B", 4),
    "mono8": ("B", 1),
    "8UC1": ("B", 1),
    "mono16": ("H", 1),
    "16UC1": ("H", 1),
    "32FC1": ("f", 1),
    "64FC1": ("d", 1),
}
COLORS = ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC1", "8UC3", "8UC4"]
DEPTHS = ["32FC1", "64FC1", "16UC1", "mono16"]


def packed(
    rows: list[list[list[float]]], encoding: str, *, padding: int, is_bigendian: bool
) -> tuple[bytes, int]:
    """Pack rows of pixels of channels; return the buffer and its step."""
    code, _ = FORMATS[encoding]
    order = ">" if is_bigendian else "<"
    lines = [
        b"".join(struct.pack(f"{order}{len(pixel)}{code}", *pixel) for pixel in row)
        + b"\xa5" * padding
        for row in rows
    ]
    return b"".join(lines), len(lines[0])


def wrapped(array_: NDArray[Any], encoding: str) -> NDArray[Any]:
    """Wrap an array as a message without padding would carry it."""
    height, width = array_.shape[:2]
    return wrap_image(
        encoding=encoding,
        height=height,
        width=width,
        step=array_.nbytes // height,
        is_bigendian=False,
        data=array_.tobytes(),
    )


@pytest.mark.parametrize("encoding", FORMATS)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    padding=st.integers(0, 9),
    is_bigendian=st.booleans(),
    cuts_last_padding=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_wrapping_a_packed_image_gives_its_pixels(
    encoding: str,
    height: int,
    width: int,
    padding: int,
    is_bigendian: bool,
    cuts_last_padding: bool,
    seed: int,
) -> None:
    code, channels = FORMATS[encoding]
    limit = {"B": 256, "H": 65536}.get(code, 1000)
    plain = np.random.default_rng(seed).integers(0, limit, (height, width, channels))
    data, step = packed(plain.tolist(), encoding, padding=padding, is_bigendian=is_bigendian)
    if cuts_last_padding:
        data = data[: len(data) - padding]
    view = wrap_image(
        encoding=encoding,
        height=height,
        width=width,
        step=step,
        is_bigendian=is_bigendian,
        data=data,
    )
    np.testing.assert_array_equal(view, plain if channels > 1 else plain[..., 0])


@given(
    encoding=st.sampled_from(list(FORMATS)),
    height=st.integers(-1, 6),
    width=st.integers(-1, 6),
    step=st.integers(-1, 60),
    is_bigendian=st.booleans(),
    data=st.binary(max_size=200),
)
def test_any_header_and_buffer_give_the_right_pixels_or_a_format_error(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: bytes
) -> None:
    code, channels = FORMATS[encoding]
    row_bytes = width * channels * struct.calcsize(f"={code}")
    fits = (height > 0 and width > 0 and step >= row_bytes) and step * (
        height - 1
    ) + row_bytes <= len(data)
    header: dict[str, Any] = {
        "encoding": encoding,
        "height": height,
        "width": width,
        "step": step,
        "is_bigendian": is_bigendian,
    }
    if not fits:
        with pytest.raises(ImageFormatError) as caught:
            wrap_image(**header, data=data)
        assert caught.value.reason == DropReason.BAD_SIZE
        return
    view = wrap_image(**header, data=data)
    order = ">" if is_bigendian else "<"
    rows = [
        struct.unpack_from(f"{order}{width * channels}{code}", data, row * step)
        for row in range(height)
    ]
    np.testing.assert_array_equal(view.reshape(height, width * channels), rows)


def test_a_view_shares_memory_with_the_message_and_cannot_write_to_it() -> None:
    message_data = array.array("B", bytes(range(12)))
    view = wrap_image(
        encoding="rgb8", height=2, width=2, step=6, is_bigendian=False, data=message_data
    )
    message_data[0] = 200
    assert view[0, 0, 0] == 200
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("height", "width", "step", "size", "words"),
    [
        (0, 4, 12, 48, "height 0, width 4, step 12 has no pixels; check"),
        (4, 0, 12, 48, "height 4, width 0, step 12 has no pixels; check"),
        (4, 4, 11, 48, "needs a step of at least 12 bytes"),
        (4, 4, 0, 48, "needs a step of at least 12 bytes"),
        (4, 4, 12, 47, "needs 48 contiguous bytes but its buffer has 47; the message was cut"),
        (4, 4, 20, 71, "needs 72 contiguous bytes but its buffer has 71"),
        (4, 4, 12, 0, "needs 48 contiguous bytes but its buffer has 0"),
        (2, 4, MAX_IMAGE_BYTES, 48, f"more than the limit of {MAX_IMAGE_BYTES}"),
        (2**31, 2**31, 2**33, 48, f"more than the limit of {MAX_IMAGE_BYTES}"),
    ],
)
def test_impossible_sizes_are_refused_with_their_numbers(
    height: int, width: int, step: int, size: int, words: str
) -> None:
    with pytest.raises(ImageFormatError, match=f"rgb8 image.*{words}") as caught:
        wrap_image(
            encoding="rgb8",
            height=height,
            width=width,
            step=step,
            is_bigendian=False,
            data=bytes(size),
        )
    assert caught.value.reason == DropReason.BAD_SIZE


def test_a_buffer_that_is_not_contiguous_is_refused() -> None:
    strided = memoryview(bytes(40))[::2]
    with pytest.raises(ImageFormatError, match="contiguous"):
        wrap_image(encoding="mono8", height=2, width=4, step=4, is_bigendian=False, data=strided)


@pytest.mark.parametrize(
    ("encoding", "remedy"),
    [
        ("bayer_rggb8", "image_proc::DebayerNode"),
        ("yuv422", "image_proc::DebayerNode"),
        ("yuv422_yuy2", "isaac_ros_image_proc's ImageFormatConverterNode"),
        ("nv12", "isaac_ros_image_proc's ImageFormatConverterNode"),
        ("16SC1", "publish colour as one of rgb8"),
        ("", "publish colour as one of rgb8"),
    ],
)
def test_other_encodings_are_refused_by_name_with_a_remedy(encoding: str, remedy: str) -> None:
    with pytest.raises(ImageFormatError, match=f"'{encoding}'.*{remedy}") as caught:
        wrap_image(encoding=encoding, height=2, width=2, step=8, is_bigendian=False, data=bytes(16))
    assert caught.value.reason == DropReason.BAD_ENCODING
    with pytest.raises(ImageFormatError, match=f"'{encoding}'.*{remedy}"):
        color_to_rgb8(np.zeros((2, 2), np.uint8), encoding)


def test_native_encodings_are_the_documented_ones() -> None:
    candidates = [*FORMATS, "yuv422", "bayer_rggb8", "rgb16", "RGB8", ""]
    assert sorted(filter(is_native_color, candidates)) == sorted(COLORS)
    assert sorted(filter(is_native_depth, candidates)) == sorted(DEPTHS)


RED_GREEN_BLUE = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", [[[10, 20, 30], [40, 50, 60]]]),
        ("bgr8", [[[30, 20, 10], [60, 50, 40]]]),
        ("8UC3", [[[30, 20, 10], [60, 50, 40]]]),
        ("rgba8", [[[10, 20, 30, 99], [40, 50, 60, 0]]]),
        ("bgra8", [[[30, 20, 10, 99], [60, 50, 40, 0]]]),
        ("8UC4", [[[30, 20, 10, 99], [60, 50, 40, 0]]]),
    ],
)
def test_every_colour_order_becomes_rgb(encoding: str, pixels: list[list[list[float]]]) -> None:
    for padding in (0, 5):
        data, step = packed(pixels, encoding, padding=padding, is_bigendian=False)
        view = wrap_image(
            encoding=encoding, height=1, width=2, step=step, is_bigendian=False, data=data
        )
        rgb = color_to_rgb8(view, encoding)
        np.testing.assert_array_equal(rgb, RED_GREEN_BLUE)
        assert rgb.dtype == np.uint8
        assert rgb.flags.c_contiguous


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated(encoding: str) -> None:
    rgb = color_to_rgb8(np.array([[7, 200]], np.uint8), encoding)
    np.testing.assert_array_equal(rgb, [[[7, 7, 7], [200, 200, 200]]])
    assert rgb.flags.c_contiguous


@given(height=st.integers(1, 6), width=st.integers(1, 6), padding=st.integers(0, 7))
def test_rgb_is_contiguous_whatever_the_row_padding(height: int, width: int, padding: int) -> None:
    plain = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    data, step = packed(plain.tolist(), "rgb8", padding=padding, is_bigendian=False)
    view = wrap_image(
        encoding="rgb8", height=height, width=width, step=step, is_bigendian=False, data=data
    )
    rgb = color_to_rgb8(view, "rgb8")
    np.testing.assert_array_equal(rgb, plain)
    assert rgb.flags.c_contiguous
    assert rgb.base is not None or padding > 0


@pytest.mark.parametrize("encoding", DEPTHS)
def test_a_depth_image_on_the_colour_topic_is_recognised(encoding: str) -> None:
    with pytest.raises(ImageFormatError, match="looks like a depth image; remap 'color/image'"):
        color_to_rgb8(np.zeros((2, 2), np.uint8), encoding)


@pytest.mark.parametrize("encoding", COLORS)
def test_a_colour_image_on_the_depth_topic_is_recognised(encoding: str) -> None:
    with pytest.raises(ImageFormatError, match="looks like a colour image; remap 'depth/image'"):
        depth_to_metres(np.zeros((2, 2), np.uint8), encoding)


def test_an_unknown_depth_encoding_is_refused_with_the_ones_that_are_read() -> None:
    with pytest.raises(ImageFormatError, match=r"'16SC1'; depth is read as 16UC1 \(mm\)") as caught:
        depth_to_metres(np.zeros((2, 2), np.int16), "16SC1")
    assert caught.value.reason == DropReason.BAD_ENCODING


@pytest.mark.parametrize(
    ("view", "encoding"),
    [
        (np.zeros((2, 2), np.uint8), "rgb8"),
        (np.zeros((2, 2, 4), np.uint8), "rgb8"),
        (np.zeros((2, 2, 3), np.float32), "rgb8"),
        (np.zeros((2, 2, 1), np.uint8), "mono8"),
    ],
)
def test_a_view_of_another_layout_is_no_colour_image(view: NDArray[Any], encoding: str) -> None:
    with pytest.raises(ImageFormatError, match=r"needs an array \(H, W.*wrap_image") as caught:
        color_to_rgb8(view, encoding)
    assert caught.value.reason == DropReason.BAD_SIZE


def test_a_view_of_another_layout_is_no_depth_image() -> None:
    with pytest.raises(ImageFormatError, match=r"16UC1 needs an array \(H, W\) of uint16"):
        depth_to_metres(np.zeros((2, 2), np.float32), "16UC1")


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_integer_depth_is_in_millimetres(encoding: str, order: str) -> None:
    view = np.array([[0, 1, 1234, 65534, 65535]], f"{order}u2")
    depth_m = depth_to_metres(view, encoding)
    assert depth_m.dtype == np.float32
    assert depth_m.dtype.isnative
    expected = np.array([[np.nan, 0.001, 1.234, 65.534, np.nan]], np.float32)
    np.testing.assert_array_equal(depth_m, expected)


@pytest.mark.parametrize(("encoding", "kind"), [("32FC1", "f4"), ("64FC1", "f8")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point_depth_is_in_metres(encoding: str, kind: str, order: str) -> None:
    view = np.array([[0.0, -1.0, np.inf, -np.inf, np.nan, 1.5, 65535.0]], order + kind)
    depth_m = depth_to_metres(view, encoding)
    assert depth_m.dtype == np.float32
    expected = np.array([[np.nan] * 5 + [1.5, 65535.0]], np.float32)
    np.testing.assert_array_equal(depth_m, expected)


def test_a_64_bit_depth_beyond_float32_is_no_measurement() -> None:
    depth_m = depth_to_metres(np.array([[1e300, 1e-300, 2.0]]), "64FC1")
    np.testing.assert_array_equal(depth_m, np.array([[np.nan, np.nan, 2.0]], np.float32))


def test_the_unit_can_be_overridden_for_drivers_that_break_the_rule() -> None:
    millimetres = np.array([[1500.0]], np.float32)
    assert depth_to_metres(millimetres, "32FC1", "mm")[0, 0] == np.float32(1.5)
    metres = np.array([[3]], np.uint16)
    assert depth_to_metres(metres, "16UC1", "m")[0, 0] == np.float32(3.0)
    with pytest.raises(ValueError, match=r"depth\.unit is 'cm'; choose auto, m or mm"):
        depth_to_metres(metres, "16UC1", "cm")  # type: ignore[arg-type]


def test_an_image_without_any_measurement_is_all_nan() -> None:
    assert np.isnan(depth_to_metres(np.zeros((3, 4), np.uint16), "16UC1")).all()


@pytest.mark.parametrize("encoding", DEPTHS)
@given(
    data=st.binary(min_size=48, max_size=48),
    is_bigendian=st.booleans(),
    unit=st.sampled_from(["auto", "m", "mm"]),
)
@example(data=bytes.fromhex("000000000000f17f") * 6, is_bigendian=False, unit="auto")
@example(data=bytes.fromhex("010000000100807f") * 6, is_bigendian=False, unit="mm")
def test_depth_of_arbitrary_bytes_is_positive_and_finite_or_nan(
    encoding: str, data: bytes, is_bigendian: bool, unit: DepthUnit
) -> None:
    itemsize = struct.calcsize(f"={FORMATS[encoding][0]}")
    view = wrap_image(
        encoding=encoding,
        height=2,
        width=3,
        step=3 * itemsize,
        is_bigendian=is_bigendian,
        data=data,
    )
    depth_m = depth_to_metres(view, encoding, unit)
    assert depth_m.shape == (2, 3)
    measured_m = depth_m[~np.isnan(depth_m)]
    assert np.isfinite(measured_m).all()
    assert (measured_m > 0).all()


def test_the_input_of_a_conversion_is_left_alone() -> None:
    depth = np.array([[0, 5]], np.uint16)
    depth_to_metres(depth, "16UC1")
    np.testing.assert_array_equal(depth, [[0, 5]])
    float_depth = np.array([[-1.0, 5.0]], np.float32)
    depth_to_metres(float_depth, "32FC1", "mm")
    np.testing.assert_array_equal(float_depth, np.array([[-1.0, 5.0]], np.float32))


def test_a_camera_sized_round_trip_from_wrapped_buffers() -> None:
    generator = np.random.default_rng(0)
    bgr = generator.integers(0, 256, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(color_to_rgb8(wrapped(bgr, "bgr8"), "bgr8"), bgr[..., ::-1])
    millimetres = generator.integers(1, 65535, (480, 640), np.uint16)
    np.testing.assert_allclose(
        depth_to_metres(wrapped(millimetres, "16UC1"), "16UC1"), millimetres * 1e-3, rtol=1e-6
    )
