from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.frame_assembly import (
    AssemblySettings,
    frame_from_images,
    intrinsics_from_camera_info,
)
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.received_image import ReceivedImage, receive_color, receive_depth
from tests.support.image_messages import camera_info, image

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
DEPTH_MM = np.array([[0, 500, 1000], [1500, 2000, 65535]], np.uint16)


def color() -> ReceivedImage:
    return receive_color(image(RGB, "rgb8", 7_000_000_005), 1)


def depth_of(pixels: np.ndarray, encoding: str = "16UC1", **changes) -> ReceivedImage:
    return receive_depth(image(pixels, encoding, **changes), 1)


def test_a_pair_of_images_becomes_a_frame_with_the_colour_images_stamp_and_frame_id() -> None:
    frame = frame_from_images(color(), depth_of(DEPTH_MM, frame_id="elsewhere"), name="n")
    np.testing.assert_array_equal(frame.rgb, RGB)
    nan = np.nan
    np.testing.assert_allclose(frame.depth_m, [[nan, 0.5, 1.0], [1.5, 2.0, nan]])
    assert (frame.stamp_ns, frame.frame_id, frame.name) == (7_000_000_005, "camera", "n")
    assert frame.intrinsics is None


def test_a_colour_image_alone_has_depth_that_is_nowhere_measured() -> None:
    frame = frame_from_images(color(), None, camera_info=camera_info(height=2, width=3))
    assert frame.depth_m.dtype == np.float32
    assert frame.depth_m.shape == (2, 3)
    assert np.isnan(frame.depth_m).all()
    assert frame.intrinsics.fx == 500


@pytest.mark.parametrize(
    ("unit", "encoding", "metres"),
    [
        ("auto", "16UC1", 2.0),
        ("m", "16UC1", 2000.0),
        ("mm", "mono16", 2.0),
        ("auto", "64FC1", 2000.0),
        ("mm", "32FC1", 2.0),
    ],
)
def test_depth_is_in_the_unit_that_is_set_and_its_encoding_is_kept(unit, encoding, metres) -> None:
    kind = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32, "64FC1": np.float64}
    pixels = np.full((2, 3), 2000, kind[encoding])
    frame = frame_from_images(color(), depth_of(pixels, encoding), AssemblySettings(unit=unit))
    np.testing.assert_array_equal(frame.depth_m, np.full((2, 3), metres, np.float32))
    assert frame.depth_encoding == encoding


def test_sizes_that_differ_are_refused_with_both_sizes_and_the_remedy() -> None:
    depth = depth_of(DEPTH_MM[:, :2].copy())
    with pytest.raises(ImageFormatError, match=r"3x2 but depth is 2x2.*alignment") as caught:
        frame_from_images(color(), depth)
    assert caught.value.reason is DropReason.SIZE_MISMATCH


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 9), (5, 5), (31, 17)])
def test_depth_of_another_size_is_brought_to_that_of_colour_without_mixing_readings(size) -> None:
    readings = np.random.default_rng(1).integers(0, 3000, size).astype(np.uint16)
    settings = AssemblySettings(size_mismatch="resize_depth")
    frame = frame_from_images(color(), depth_of(readings), settings)
    # The reading in which the middle of a colour pixel lies.
    rows, columns = (2 * np.arange(2) + 1) * size[0] // 4, (2 * np.arange(3) + 1) * size[1] // 6
    nearest = readings[np.ix_(rows, columns)].astype(np.float32) / 1000
    np.testing.assert_array_equal(frame.depth_m, np.where(nearest == 0, np.nan, nearest))


def test_images_that_fail_to_decode_cost_the_frame_with_the_reason_they_give() -> None:
    received = receive_color(image(RGB, "yuv422"), 1, lambda msg: 1 / 0)
    with pytest.raises(ImageFormatError, match="yuv422") as caught:
        frame_from_images(received, depth_of(DEPTH_MM))
    assert caught.value.reason is DropReason.BAD_ENCODING


def test_more_pixels_than_a_frame_may_have_are_a_bad_size(monkeypatch) -> None:
    monkeypatch.setattr("calibnet_core.structures.MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ImageFormatError, match="expected 1 to 5 pixels") as caught:
        frame_from_images(color(), depth_of(DEPTH_MM))
    assert caught.value.reason is DropReason.BAD_SIZE


def test_intrinsics_reach_the_frame_when_they_describe_its_size() -> None:
    fitting, foreign = camera_info(height=2, width=3), camera_info()
    depth = depth_of(DEPTH_MM)
    assert frame_from_images(color(), depth, camera_info=fitting).intrinsics.fx == 500
    assert frame_from_images(color(), depth, camera_info=foreign).intrinsics is None
    told = AssemblySettings(rectified="true")
    rectified = frame_from_images(color(), depth, told, camera_info=fitting).intrinsics
    assert (rectified.fx, rectified.distortion) == (450, ())


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


def test_a_parameter_settles_whether_the_image_is_rectified() -> None:
    info, zero = camera_info(), camera_info(d=[0.0] * 4, distortion_model="equidistant")
    told = intrinsics_from_camera_info(info, (480, 640), rectified="true")
    assert (told.fx, told.fy, told.cx, told.cy) == (450, 460, 310, 230)
    assert (told.distortion_model, told.distortion) == ("", ())
    # A fisheye whose coefficients are zero still bends rays.
    raw = intrinsics_from_camera_info(zero, (480, 640), rectified="false")
    assert (raw.fx, raw.distortion_model, raw.distortion) == (500, "equidistant", (0.0,) * 4)
    auto = intrinsics_from_camera_info(zero, (480, 640), rectified="auto")
    assert (auto.fx, auto.distortion_model) == (450, "")


def test_a_rectified_image_of_a_distorting_camera_needs_p() -> None:
    info = camera_info(p=[0.0] * 12)
    assert intrinsics_from_camera_info(info, (480, 640), rectified="true") is None
