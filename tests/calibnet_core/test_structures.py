from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibnet_core.structures import (
    MAX_IMAGE_PIXELS,
    CameraIntrinsics,
    FrameError,
    Instances,
    RgbdFrame,
    boxes_from_masks,
)

RGB = np.zeros((4, 6, 3), np.uint8)
DEPTH_M = np.ones((4, 6), np.float32)
DEPTH_MAP = np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize("depth", [{"depth_m": DEPTH_M}, {"depth_map": DEPTH_MAP}])
def test_a_frame_takes_depth_measured_or_as_a_picture(depth: dict[str, Any]) -> None:
    frame = RgbdFrame(rgb=RGB, **depth)
    assert frame.size == (4, 6)
    assert (frame.stamp_ns, frame.frame_id, frame.name, frame.intrinsics) == (0, "", "", None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rgb": RGB.astype(np.float32)},
            "rgb is float32 of shape (4, 6, 3); expected a uint8 array",
        ),
        ({"rgb": RGB[..., 0]}, "rgb is uint8 of shape (4, 6); expected"),
        (
            {"rgb": np.zeros((4, 6, 4), np.uint8)},
            "shape (4, 6, 4); expected a uint8 array of shape",
        ),
        ({"rgb": [[0, 0, 0]]}, "rgb is list; expected a uint8 array of shape (height, width, 3)"),
        (
            {"rgb": np.zeros((0, 6, 3), np.uint8)},
            "rgb has size (0, 6); expected 1 to 67108864 pixels",
        ),
        (
            {"rgb": np.broadcast_to(np.uint8(0), (MAX_IMAGE_PIXELS + 1, 1, 3))},
            "rgb has size (67108865, 1); expected 1 to 67108864 pixels",
        ),
        (
            {"rgb": np.broadcast_to(np.uint8(0), (1, 16385, 3))},
            "rgb has size (1, 16385); expected 1 to 67108864 pixels and at most 16384 a side",
        ),
        (
            {"depth_m": None},
            "give depth either as depth_m (float32 metres) or as depth_map (uint8)",
        ),
        ({"depth_map": DEPTH_MAP}, "not both or none"),
        (
            {"depth_m": DEPTH_M.astype(np.float64)},
            "depth_m is float64 of shape (4, 6); expected a float32 array of shape (height, width)",
        ),
        ({"depth_m": DEPTH_M[..., None]}, "depth_m is float32 of shape (4, 6, 1); expected"),
        ({"depth_m": 1.0}, "depth_m is float; expected a float32 array"),
        (
            {"depth_m": None, "depth_map": DEPTH_M},
            "depth_map is float32 of shape (4, 6); expected a uint8 array",
        ),
        (
            {"depth_m": np.ones((6, 4), np.float32)},
            "rgb is 6x4 but depth is 4x6 (width x height); use the camera driver's depth that is "
            "aligned to colour",
        ),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError, match=re.escape(message)):
        RgbdFrame(**({"rgb": RGB, "depth_m": DEPTH_M} | fields))


def test_frames_compare_by_identity() -> None:
    # Comparing arrays would have no single answer.
    frame = RgbdFrame(rgb=RGB, depth_m=DEPTH_M)
    assert frame != RgbdFrame(rgb=RGB, depth_m=DEPTH_M)
    assert frame in [frame]


def test_intrinsics_hold_what_the_camera_says() -> None:
    intrinsics = CameraIntrinsics(height=480, width=640, fx=600.0, fy=601.0, cx=319.5, cy=239.5)
    assert (intrinsics.distortion_model, intrinsics.distortion) == ("", ())
    assert intrinsics == dataclasses.replace(intrinsics)


@pytest.mark.parametrize(
    "change",
    [
        {"fx": 0.0},
        {"fy": -1.0},
        {"fx": np.nan},
        {"fy": np.inf},
        {"cx": np.nan},
        {"cy": -np.inf},
    ],
)
def test_intrinsics_that_cannot_project_are_refused(change: dict[str, float]) -> None:
    fields = {"fx": 600.0, "fy": 600.0, "cx": 320.0, "cy": 240.0} | change
    (name, value), *_ = change.items()
    with pytest.raises(FrameError, match=f"{name}={value}.* are not usable; calibrate the camera"):
        CameraIntrinsics(height=480, width=640, **fields)


def test_boxes_are_tight_with_exclusive_maxima() -> None:
    masks = np.zeros((3, 5, 7), bool)
    masks[0, 1:4, 2:6] = True
    masks[1, 4, 0] = masks[1, 0, 6] = True
    boxes = boxes_from_masks(masks)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[2, 1, 6, 4], [0, 0, 7, 5], [0, 0, 0, 0]]


@given(
    arrays(
        bool,
        st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([False, False, False, True]),
    )
)
def test_a_box_holds_its_mask_and_could_not_be_smaller(masks: NDArray[np.bool_]) -> None:
    boxes = boxes_from_masks(masks)
    assert boxes.shape == (len(masks), 4)
    for mask, (x_min, y_min, x_max, y_max) in zip(masks, boxes.astype(int), strict=True):
        pixels = [(x, y) for y, x in zip(*np.nonzero(mask), strict=True)]
        expected = (
            (
                min(x for x, _ in pixels),
                min(y for _, y in pixels),
                max(x for x, _ in pixels) + 1,
                max(y for _, y in pixels) + 1,
            )
            if pixels
            else (0, 0, 0, 0)
        )
        assert (x_min, y_min, x_max, y_max) == expected


def test_instances_from_masks_get_boxes_and_numbers() -> None:
    masks = np.zeros((2, 3, 4), bool)
    masks[1, 1, 2] = True
    instances = Instances.from_masks(masks, np.array([0.5, 0.25]))
    assert len(instances) == 2
    assert instances.scores.dtype == np.float32
    assert instances.boxes_xyxy.tolist() == [[0, 0, 0, 0], [2, 1, 3, 2]]
    assert instances.kernel_indices.tolist() == [0, 1]
    assert np.isnan(instances.mask_quality).tolist() == [True, True]


def test_no_instance_still_has_the_size_of_the_image() -> None:
    instances = Instances.empty((3, 4))
    assert len(instances) == 0
    assert (instances.masks.shape, instances.masks.dtype) == ((0, 3, 4), np.bool_)
    assert (instances.scores.shape, instances.scores.dtype) == ((0,), np.float32)
    assert (instances.boxes_xyxy.shape, instances.boxes_xyxy.dtype) == ((0, 4), np.float32)
    assert (instances.mask_quality.shape, instances.mask_quality.dtype) == ((0,), np.float32)
    assert (instances.kernel_indices.shape, instances.kernel_indices.dtype) == ((0,), np.int64)


def test_intrinsics_of_a_resized_image_see_the_same_rays() -> None:
    camera = CameraIntrinsics(height=480, width=640, fx=600.0, fy=580.0, cx=310.0, cy=250.0)
    small = camera.resized((240, 160))
    assert (small.height, small.width) == (240, 160)
    # The middle of four columns and two rows of the large image is a pixel of the small one.
    for column, row in ((0, 0), (100, 77)):
        across = (4 * column + 1.5 - camera.cx) / camera.fx
        down = (2 * row + 0.5 - camera.cy) / camera.fy
        assert (column - small.cx) / small.fx == pytest.approx(across)
        assert (row - small.cy) / small.fy == pytest.approx(down)
