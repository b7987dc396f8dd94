"""Points of objects, and pictures of which pixels belong to them."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.perception.image_codec import depth_to_metres
from calibnet_core.perception.surface import (
    POINT_DTYPE,
    confidence_pixels,
    instance_points,
    masked_depth,
    object_points,
    salient_pixels,
)
from tests.support.perceptions import DISTORTION, camera, discs, make_perception

SIZE = (24, 32)


def seen_points(perception, pixels, value_of):
    """x, y, z, r, g, b, id of chosen pixels (row, column), by OpenCV and pixel by pixel."""
    k, frame = perception.frame.intrinsics, perception.frame
    matrix = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1.0]])
    lens = np.array(k.distortion if k.distortion else np.zeros(5))
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    points = []
    for row, column in pixels:
        z = frame.depth_m[row, column]
        if not np.isfinite(z) or z <= 0:
            continue
        at = np.array([[[column, row]]], float)
        x, y = cv2.undistortPointsIter(at, matrix, lens, None, None, stop).ravel()
        points.append([x * z, y * z, z, *frame.rgb[row, column], value_of(row, column)])
    return np.array(points)


def columns_of(points):
    return np.column_stack([points.xyz, points.rgb, points.instance])


@pytest.mark.parametrize("distortion", [(), DISTORTION])
@pytest.mark.parametrize("stride", [1, 3])
def test_every_measured_object_pixel_becomes_a_point_of_the_best_object_on_it(distortion, stride):
    masks = discs(SIZE, 3)
    perception = make_perception(masks, frame={"intrinsics": camera(SIZE, distortion)})
    best = np.where(masks.any(axis=0), masks.argmax(axis=0) + 1, 0)
    pixels = [(r, c) for r, c in np.argwhere(best) if r % stride == c % stride == 0]
    expected = seen_points(perception, pixels, lambda r, c: best[r, c])
    found = columns_of(object_points(perception, stride=stride))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_cloud_of_one_object_has_also_what_a_better_one_covers():
    masks = discs(SIZE, 3)
    assert (masks[0] & masks[1]).any()
    perception = make_perception(masks)
    expected = seen_points(perception, np.argwhere(masks[1]), lambda r, c: 2)
    found = columns_of(instance_points(perception, 1))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    "unknown",
    [
        {"has_depth": False},
        {"frame": {"intrinsics": None}},
        {"frame": {"depth_m": None, "depth_map": np.zeros(SIZE, np.uint8)}},
        {"frame": {"intrinsics": camera(SIZE, (0.1,))}},  # a lens that cannot be computed
    ],
)
def test_without_depth_or_calibration_there_is_no_cloud_rather_than_an_empty_one(unknown):
    perception = make_perception(discs(SIZE, 2), **unknown)
    assert object_points(perception) is None
    assert instance_points(perception, 0) is None


def test_only_measured_depth_makes_points():
    odd = {"depth_m": np.array([[np.inf, -1.0, 0.0, np.nan, 1.5]], np.float32)}
    points = object_points(make_perception(np.ones((1, 1, 5), bool), frame=odd))
    np.testing.assert_array_equal(points.xyz[:, 2], [1.5])


def test_no_object_and_no_valid_depth_give_empty_clouds():
    nothing = np.zeros((0, *SIZE), bool)
    blind = {"depth_m": np.full(SIZE, np.nan, np.float32)}
    for perception in (make_perception(nothing), make_perception(discs(SIZE, 2), frame=blind)):
        points = object_points(perception)
        assert points.packed().shape == (0,)
        assert points.xyz.shape == (0, 3)


def test_points_are_packed_as_point_cloud_tools_read_them():
    points = object_points(make_perception(discs(SIZE, 2)))
    data = points.packed().tobytes()
    assert len(data) == 20 * len(points.xyz)
    assert POINT_DTYPE.itemsize == 20
    for index in (0, len(points.xyz) - 1):
        x, y, z, color, instance = struct.unpack_from("<fffIH", data, 20 * index)
        np.testing.assert_array_equal(points.xyz[index], [x, y, z])
        assert (color >> 16, color >> 8 & 255, color & 255) == tuple(points.rgb[index])
        assert instance == points.instance[index]


@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1", "64FC1"])
def test_depth_with_and_without_objects_are_the_two_parts_of_what_was_measured(encoding):
    masks = discs(SIZE, 2)
    perception = make_perception(masks, frame={"depth_encoding": encoding})
    kept, removed = (
        depth_to_metres(masked_depth(perception, which), encoding) for which in ("keep", "remove")
    )
    is_object = masks.any(axis=0)
    measured = perception.frame.depth_m
    np.testing.assert_array_equal(kept, np.where(is_object, measured, np.nan))
    np.testing.assert_array_equal(removed, np.where(is_object, np.nan, measured))


@given(millimetres=st.integers(1, 65534))
def test_every_millimetre_that_came_goes_out_again(millimetres):
    raw = np.full((1, 1), millimetres, np.uint16)
    frame = {"depth_m": depth_to_metres(raw, "16UC1")}
    perception = make_perception(np.ones((1, 1, 1), bool), frame=frame)
    np.testing.assert_array_equal(masked_depth(perception, "keep"), raw)


def test_depth_that_is_missing_too_far_or_of_no_known_encoding_is_not_made_up():
    mask = np.ones((1, 1, 3), bool)
    odd = {"depth_m": np.array([[np.inf, -1.0, 70.0]], np.float32)}
    np.testing.assert_array_equal(
        masked_depth(make_perception(mask, frame=odd), "keep"), [[0, 0, 0]]
    )
    assert masked_depth(make_perception(mask, has_depth=False), "keep") is None
    with pytest.raises(ValueError, match=r"encoding 'rgb8'.*use one of 16UC1"):
        masked_depth(make_perception(mask, frame={"depth_encoding": "rgb8"}), "keep")


def test_salient_pixels_are_a_class_and_confidence_is_that_of_the_best_object():
    masks = discs(SIZE, 3)
    perception = make_perception(masks, scores=[1.0, 0.5, 0.25])
    np.testing.assert_array_equal(salient_pixels(perception), masks.any(axis=0))
    expected = (masks * np.array([255, 128, 64])[:, None, None]).max(axis=0)
    np.testing.assert_array_equal(confidence_pixels(perception), expected)
    nothing = make_perception(np.zeros((0, *SIZE), bool))
    assert not salient_pixels(nothing).any()
    assert not confidence_pixels(nothing).any()
