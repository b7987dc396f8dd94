"""The depth picture of inverse depth and surface normals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibnet_core.config import DepthConfig, InputConfig, ModelConfig, PipelineConfig
from calibnet_core.preprocessing import (
    PIXEL_MEAN,
    PIXEL_STD,
    depth_picture,
    mirrored,
    prepare,
    resize,
)
from calibnet_core.structures import CameraIntrinsics, RgbdFrame

# The whole range of valid depths is used, so that values can be worked by hand.
WHOLE = DepthConfig(low_percentile=0.0, high_percentile=100.0)
ANY_DEPTH = arrays(
    np.float32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.floats(width=32)
)


def normals_picture(frame: RgbdFrame, config: DepthConfig = WHOLE) -> NDArray[np.uint8]:
    return depth_picture(frame, config, "normals")


def colourless(**depth: Any) -> RgbdFrame:
    (values,) = (value for name, value in depth.items() if name.startswith("depth"))
    return RgbdFrame(rgb=np.zeros((*values.shape, 3), np.uint8), **depth)


def test_closeness_in_inverse_depth_is_worked_by_hand() -> None:
    # 1/z is 2, 1.25, 1, 0.5 per metre: from 0.5 to 2, that is all, half, a third and nothing.
    depth_m = np.array([[0.5, 0.8, 1.0, 2.0]], np.float32)
    assert normals_picture(colourless(depth_m=depth_m))[..., 0].tolist() == [[255, 128, 85, 0]]


def test_a_wall_ahead_has_normals_in_the_middle_of_the_scale() -> None:
    picture = normals_picture(colourless(depth_m=np.full((9, 9), 1.5, np.float32)))
    assert picture.dtype == np.uint8
    assert (picture[..., 1:] == 128).all()


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 0.0, -5.0, 99.0])
def test_what_is_not_measured_does_not_matter(rubbish: float) -> None:
    depth_m = np.broadcast_to(np.linspace(1.0, 1.4, 40, dtype=np.float32), (30, 40)).copy()
    depth_m[10:20, 10:30:3] = np.nan
    spoilt = np.where(np.isnan(depth_m), np.float32(rubbish), depth_m)
    np.testing.assert_array_equal(
        normals_picture(colourless(depth_m=spoilt)), normals_picture(colourless(depth_m=depth_m))
    )


def test_normals_follow_the_camera() -> None:
    # The same readings seen through a longer lens are a steeper surface.
    depth_m = np.broadcast_to(np.linspace(1.0, 1.1, 40, dtype=np.float32), (30, 40)).copy()
    facing = []
    for focal in (40.0, 400.0):
        camera = CameraIntrinsics(height=30, width=40, fx=focal, fy=focal, cx=19.5, cy=14.5)
        facing.append(normals_picture(colourless(depth_m=depth_m, intrinsics=camera)))
    assert int(facing[0][15, 20, 1]) > 128
    assert int(facing[1][15, 20, 1]) > int(facing[0][15, 20, 1]) + 40


@given(depth_m=ANY_DEPTH, picture=st.sampled_from(["closeness", "normals"]))
def test_any_floats_become_any_picture_without_complaint(
    depth_m: NDArray[np.float32], picture: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = depth_picture(colourless(depth_m=depth_m), DepthConfig(), picture)
    assert shown.dtype == np.uint8
    assert shown.shape == depth_m.shape + ((3,) if picture == "normals" else ())


@given(depth_m=arrays(np.float32, (12, 20), elements=st.floats(0.5, 3.0, width=32)))
def test_the_picture_of_a_mirrored_scene_is_the_mirrored_picture(
    depth_m: NDArray[np.float32],
) -> None:
    frame = colourless(depth_m=depth_m)
    swapped = colourless(depth_m=np.ascontiguousarray(depth_m[:, ::-1]))
    one, other = mirrored(normals_picture(frame)), normals_picture(swapped)
    # Rounding halves and the order of sums may move the last digit.
    assert np.abs(one.astype(int) - other).max() <= 1
    np.testing.assert_array_equal(mirrored(one)[..., 0], normals_picture(frame)[..., 0])


def test_the_published_picture_is_mirrored_as_it_is() -> None:
    picture = np.array([[0, 100, 255]], np.uint8)
    assert mirrored(picture).tolist() == [[255, 100, 0]]


def test_an_eight_bit_depth_map_is_taken_for_inverse_depth() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8), (40, 60)).copy()
    near_right = normals_picture(colourless(depth_map=ramp))
    assert (np.diff(near_right[20, :, 0].astype(int)) >= 0).all()
    assert (near_right[5:-5, 5:-5, 1] < 128).all()  # nearer to the right faces left
    far_is_bright = DepthConfig(near_is_bright=False)
    far_right = normals_picture(colourless(depth_map=ramp), far_is_bright)
    assert (far_right[5:-5, 5:-5, 1] > 128).all()


def test_the_network_sees_closeness_then_normals() -> None:
    depth_m = np.broadcast_to(np.linspace(2.0, 1.0, 64, dtype=np.float32), (32, 64)).copy()
    frame = colourless(depth_m=depth_m)
    config = PipelineConfig(
        model=ModelConfig(depth_picture="normals"),
        depth=WHOLE,
        input=InputConfig(shortest_edge=32, longest_edge=64),
    )
    seen = prepare(frame, config).depth[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    shown = (seen * std + mean).permute(1, 2, 0).round().byte().numpy()
    np.testing.assert_array_equal(shown, normals_picture(frame))


NORMALS = PipelineConfig(
    model=ModelConfig(depth_picture="normals"),
    depth=WHOLE,
    input=InputConfig(shortest_edge=48, longest_edge=64),
)


def shown_depth(frame: RgbdFrame) -> NDArray[np.uint8]:
    """What a network of 64x48 sees of the frame, as 8 bits."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    seen = prepare(frame, NORMALS).depth[0] * std + mean
    return seen[:, :48, :64].permute(1, 2, 0).round().byte().numpy()


def test_depth_is_averaged_down_before_its_picture_is_taken() -> None:
    small = np.random.default_rng(3).uniform(0.6, 1.4, (48, 64)).astype(np.float32)
    camera = CameraIntrinsics(height=48, width=64, fx=60.0, fy=58.0, cx=30.0, cy=25.0)
    fine = CameraIntrinsics(height=96, width=128, fx=120.0, fy=116.0, cx=60.5, cy=50.5)
    native = colourless(depth_m=small, intrinsics=camera)
    doubled = colourless(depth_m=small.repeat(2, axis=0).repeat(2, axis=1), intrinsics=fine)
    np.testing.assert_array_equal(shown_depth(doubled), shown_depth(native))


def test_holes_have_no_say_in_the_average() -> None:
    depth_m = np.random.default_rng(3).uniform(0.6, 1.4, (48, 64)).repeat(2, axis=0)
    depth_m = depth_m.repeat(2, axis=1).astype(np.float32)
    whole = shown_depth(colourless(depth_m=depth_m))
    depth_m[1::2, ::2] = np.nan  # one reading of four
    np.testing.assert_array_equal(shown_depth(colourless(depth_m=depth_m)), whole)
    depth_m[20:40, 20:40] = np.nan
    filled = shown_depth(colourless(depth_m=depth_m))
    assert not np.array_equal(filled[10:20, 10:20], whole[10:20, 10:20])
    np.testing.assert_array_equal(filled[:6], whole[:6])


def test_an_image_smaller_than_the_input_keeps_its_readings_until_the_picture_is_taken() -> None:
    frame = colourless(depth_m=np.linspace(0.5, 2.0, 24 * 32, dtype=np.float32).reshape(24, 32))
    taken = resize(normals_picture(frame), (48, 64))
    np.testing.assert_array_equal(shown_depth(frame), taken)
