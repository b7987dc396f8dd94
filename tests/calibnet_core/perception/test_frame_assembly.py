from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.frame_assembly import (
    frame_from_images,
    header_stamp_ns,
    intrinsics_from_camera_info,
    receive_color,
    receive_depth,
)
from calibnet_core.perception.image_codec import ImageFormatError

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
DEPTH_MM = np.array([[0, 500, 1000], [1500, 2000, 65535]], np.uint16)


def image(pixels: np.ndarray, encoding: str, frame_id: str = "camera") -> SimpleNamespace:
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=7, nanosec=5), frame_id=frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=pixels.tobytes(),
    )


def color(pixels: np.ndarray = RGB, encoding: str = "rgb8", **options):
    return receive_color(image(pixels, encoding), 1, **options)


def test_a_pair_of_images_becomes_a_frame_with_the_colour_images_stamp_and_frame_id() -> None:
    depth = receive_depth(image(DEPTH_MM, "16UC1", frame_id="elsewhere"), 9)
    frame = frame_from_images(color(), depth, name="n")
    np.testing.assert_array_equal(frame.rgb, RGB)
    nan = np.nan
    np.testing.assert_allclose(frame.depth_m, [[nan, 0.5, 1.0], [1.5, 2.0, nan]])
    assert (frame.stamp_ns, frame.frame_id, frame.name) == (7_000_000_005, "camera", "n")
    assert frame.intrinsics is None


def test_the_stamp_of_a_header_is_in_nanoseconds() -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1_700_000_000, nanosec=999_999_999))
    assert header_stamp_ns(header) == 1_700_000_000_999_999_999


def test_sizes_that_differ_are_refused_with_both_sizes_and_the_remedy() -> None:
    depth = receive_depth(image(DEPTH_MM[:, :2].copy(), "16UC1"), 1)
    with pytest.raises(ImageFormatError, match=r"3x2 but depth is 2x2.*alignment") as caught:
        frame_from_images(color(), depth)
    assert caught.value.reason is DropReason.SIZE_MISMATCH


def test_a_depth_image_on_the_colour_topic_is_named_on_arrival() -> None:
    with pytest.raises(ImageFormatError, match="looks like a depth image"):
        receive_color(image(DEPTH_MM, "16UC1"), 1)


def test_a_colour_image_on_the_depth_topic_is_named_on_arrival() -> None:
    with pytest.raises(ImageFormatError, match="looks like a colour image"):
        receive_depth(image(RGB, "rgb8"), 1)


def test_an_encoding_that_is_not_read_here_is_refused_by_name_without_a_decoder() -> None:
    with pytest.raises(ImageFormatError, match="bayer_rggb8") as caught:
        color(encoding="bayer_rggb8")
    assert caught.value.reason is DropReason.BAD_ENCODING


def test_an_encoding_that_is_not_read_here_goes_to_the_decoder() -> None:
    received = color(encoding="bayer_rggb8", decoder=lambda msg: RGB[:, ::-1])
    frame = frame_from_images(received, receive_depth(image(DEPTH_MM, "16UC1"), 1))
    np.testing.assert_array_equal(frame.rgb, RGB[:, ::-1])
    assert frame.rgb.flags.c_contiguous


@pytest.mark.parametrize(
    "decoder", [lambda msg: 1 / 0, lambda msg: RGB[..., 0], lambda msg: RGB.astype(np.float32)]
)
def test_a_decoder_that_fails_or_returns_no_rgb_costs_the_frame_alone(decoder) -> None:
    received = color(encoding="yuv422", decoder=decoder)
    with pytest.raises(ImageFormatError, match=r"yuv422.*rgb8") as caught:
        frame_from_images(received, receive_depth(image(DEPTH_MM, "16UC1"), 1))
    assert caught.value.reason is DropReason.BAD_ENCODING


def test_more_pixels_than_a_frame_may_have_are_a_bad_size(monkeypatch) -> None:
    monkeypatch.setattr("calibnet_core.structures.MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ImageFormatError, match="expected 1 to 5 pixels") as caught:
        frame_from_images(color(), receive_depth(image(DEPTH_MM, "16UC1"), 1))
    assert caught.value.reason is DropReason.BAD_SIZE


def test_intrinsics_reach_the_frame_when_they_describe_its_size() -> None:
    depth = receive_depth(image(DEPTH_MM, "16UC1"), 1)
    fitting, foreign = camera_info(height=2, width=3), camera_info()
    assert frame_from_images(color(), depth, camera_info=fitting).intrinsics.fx == 500
    assert frame_from_images(color(), depth, camera_info=foreign).intrinsics is None


def camera_info(**changes) -> SimpleNamespace:
    values = {
        "height": 480,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": [0.1, 0.0, 0.0, 0.0, 0.0],
        "k": [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
        "p": [450.0, 0.0, 310.0, 0.0, 0.0, 460.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0),
    }
    return SimpleNamespace(**(values | changes))


def test_a_distorted_image_is_described_by_k_and_d() -> None:
    intrinsics = intrinsics_from_camera_info(camera_info(), (480, 640))
    assert (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy) == (500, 510, 320, 240)
    assert intrinsics.distortion_model == "plumb_bob"
    assert intrinsics.distortion == (0.1, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("d", [[], [0.0] * 5])
def test_a_rectified_image_is_described_by_p(d: list[float]) -> None:
    intrinsics = intrinsics_from_camera_info(camera_info(d=d), (480, 640))
    assert (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy) == (450, 460, 310, 230)
    assert intrinsics.distortion_model == ""
    assert intrinsics.distortion == ()


def test_a_rectified_image_without_p_falls_back_to_k() -> None:
    intrinsics = intrinsics_from_camera_info(camera_info(d=[], p=[0.0] * 12), (480, 640))
    assert intrinsics.fx == 500


def test_region_of_interest_and_binning_are_applied() -> None:
    roi = SimpleNamespace(x_offset=100, y_offset=40, height=400, width=500)
    info = camera_info(roi=roi, binning_x=2, binning_y=2)
    intrinsics = intrinsics_from_camera_info(info, (200, 250))
    assert (intrinsics.height, intrinsics.width) == (200, 250)
    assert (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy) == (250, 255, 110, 100)
    assert intrinsics_from_camera_info(info, (480, 640)) is None
