from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.compressed import encode_depth
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.received_image import (
    header_stamp_ns,
    pixels_of,
    receive_color,
    receive_compressed_color,
    receive_compressed_depth,
    receive_depth,
)
from tests.support.image_messages import compressed, image

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
DEPTH_MM = np.array([[0, 500, 1000], [1500, 2000, 65535]], np.uint16)


def reason_of(receive) -> DropReason:
    with pytest.raises(ImageFormatError) as caught:
        receive()
    return caught.value.reason


def test_the_stamp_of_a_header_is_in_nanoseconds() -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1_700_000_000, nanosec=999_999_999))
    assert header_stamp_ns(header) == 1_700_000_000_999_999_999


@pytest.mark.parametrize(
    ("receive", "pixels", "encoding"),
    [(receive_color, RGB, "rgb8"), (receive_depth, DEPTH_MM, "16UC1")],
)
def test_a_sound_image_is_a_view_of_the_messages_own_buffer(receive, pixels, encoding) -> None:
    msg = image(pixels, encoding)
    received = receive(msg, 9)
    view, read_encoding = received.read()
    assert (received.header, received.stamp_ns, read_encoding) == (msg.header, 9, encoding)
    np.testing.assert_array_equal(view, pixels)
    assert np.shares_memory(view, np.frombuffer(msg.data, np.uint8))
    assert not view.flags.writeable


def test_padding_and_byte_order_are_those_that_the_message_tells() -> None:
    padded = np.zeros((2, 5), ">u2")
    padded[:, :3] = DEPTH_MM
    msg = image(padded, "16UC1", width=3, is_bigendian=1)
    np.testing.assert_array_equal(pixels_of(msg), DEPTH_MM)


def test_a_depth_image_on_the_colour_topic_is_named_on_arrival() -> None:
    for decoder in (None, lambda msg: RGB):  # a foreign decoder would make a picture of it
        with pytest.raises(ImageFormatError, match="looks like a depth image"):
            receive_color(image(DEPTH_MM, "16UC1"), 1, decoder)


def test_a_colour_image_on_the_depth_topic_is_named_on_arrival() -> None:
    with pytest.raises(ImageFormatError, match="looks like a colour image"):
        receive_depth(image(RGB, "rgb8"), 1)


@pytest.mark.parametrize(
    "spoiled", [{"data": bytes(11)}, {"height": 0}, {"width": 0}, {"step": 5}, {"step": 2**31}]
)
def test_sizes_that_do_not_fit_are_refused_on_arrival(spoiled) -> None:
    for msg, receive in (
        (image(RGB, "rgb8", **spoiled), receive_color),
        (image(DEPTH_MM, "16UC1", **spoiled), receive_depth),
    ):
        assert reason_of(lambda msg=msg, receive=receive: receive(msg, 1)) is DropReason.BAD_SIZE


def test_an_encoding_that_is_not_read_here_is_refused_by_name_without_a_decoder() -> None:
    with pytest.raises(ImageFormatError, match="bayer_rggb8") as caught:
        receive_color(image(RGB, "bayer_rggb8"), 1)
    assert caught.value.reason is DropReason.BAD_ENCODING


def test_an_encoding_that_is_not_read_here_goes_to_the_decoder_when_it_is_read() -> None:
    decoded = []
    msg = image(RGB, "bayer_rggb8")
    received = receive_color(msg, 1, lambda given: decoded.append(given) or RGB[:, ::-1])
    assert decoded == []
    rgb, encoding = received.read()
    assert (decoded, encoding) == ([msg], "rgb8")
    np.testing.assert_array_equal(rgb, RGB[:, ::-1])
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize(
    "decoder", [lambda msg: 1 / 0, lambda msg: RGB[..., 0], lambda msg: RGB.astype(np.float32)]
)
def test_a_decoder_that_fails_or_returns_no_rgb_is_a_bad_encoding(decoder) -> None:
    received = receive_color(image(RGB, "yuv422"), 1, decoder)
    with pytest.raises(ImageFormatError, match=r"yuv422.*rgb8") as caught:
        received.read()
    assert caught.value.reason is DropReason.BAD_ENCODING


def test_compressed_colour_is_decoded_when_it_is_read() -> None:
    png = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    msg = compressed(png, "rgb8; png compressed bgr8")
    received = receive_compressed_color(msg, 9)
    assert (received.header, received.stamp_ns) == (msg.header, 9)
    rgb, encoding = received.read()
    np.testing.assert_array_equal(rgb, RGB)
    assert encoding == "rgb8"


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_compressed_depth_is_read_in_the_unit_of_its_encoding(codec) -> None:
    whole = receive_compressed_depth(compressed(*encode_depth(DEPTH_MM, codec)), 9)
    assert whole.stamp_ns == 9
    depth_mm, encoding = whole.read()
    np.testing.assert_array_equal(depth_mm, DEPTH_MM)
    assert encoding == "16UC1"
    depth_m = np.full((2, 3), 1.5, np.float32)
    quantised, encoding = receive_compressed_depth(
        compressed(*encode_depth(depth_m, codec)), 9
    ).read()
    np.testing.assert_allclose(quantised, 1.5, atol=1.5**2 / (2 * 100 * 101))
    assert encoding == "32FC1"


def test_what_is_wrong_with_a_compressed_image_shows_when_it_is_read() -> None:
    cut = receive_compressed_color(compressed(b"\xff\xd8\xff\xe0cut", "jpeg"), 1)
    assert reason_of(cut.read) is DropReason.DECODE_ERROR
    data, format = encode_depth(DEPTH_MM)
    cut = receive_compressed_depth(compressed(data[: len(data) // 2], format), 1)
    assert reason_of(cut.read) is DropReason.DECODE_ERROR
    exchanged = receive_compressed_color(compressed(data, format), 1)
    assert reason_of(exchanged.read) is DropReason.BAD_ENCODING
