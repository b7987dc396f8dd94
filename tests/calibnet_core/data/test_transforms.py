from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from calibnet_core.config import ConfigError, DepthConfig, InputConfig
from calibnet_core.data import transforms
from calibnet_core.data.transforms import (
    AugmentationConfig,
    TrainingImage,
    augment,
    published_crop,
    resize,
    scale_jitter,
)
from calibnet_core.preprocessing import depth_picture, encode_depth, resized_size
from calibnet_core.preprocessing import resize as resize_for_inference
from calibnet_core.structures import RgbdFrame

STILL = AugmentationConfig(flip=0.0, crop=0.0)
INPUT = InputConfig(shortest_edge=64, longest_edge=96)


def frame_with_a_square(size: tuple[int, int] = (60, 80)) -> tuple[RgbdFrame, NDArray[np.bool_]]:
    """A white square on black, near on far, and its mask."""
    mask = np.zeros((1, *size), np.bool_)
    mask[0, 10:30, 15:45] = True
    rgb = np.where(mask[0, ..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    depth_m = np.where(mask[0], np.float32(1.0), np.float32(2.0))
    return RgbdFrame(rgb=rgb, depth_m=depth_m), mask


def varied(
    augmentation: AugmentationConfig, *, seed: int = 0, frame: Any = None, **changes: Any
) -> TrainingImage:
    rgbd, mask = frame or frame_with_a_square()
    torch.manual_seed(seed)
    return augment(
        rgbd,
        changes.get("masks", mask),
        augmentation=augmentation,
        input_config=changes.get("input_config", INPUT),
        depth_config=DepthConfig(),
        picture=changes.get("picture", "closeness"),
    )


def agreement(image: TrainingImage) -> tuple[float, float]:
    """Share of pixels where colour, and depth, say the same as the mask."""
    inside = image.masks.any(0).numpy()
    bright = np.asarray(image.rgb).mean(axis=2) > 127
    near = np.asarray(image.depth) > 127
    return float((bright == inside).mean()), float((near == inside).mean())


def test_without_variation_an_image_is_what_inference_sees() -> None:
    rgbd, _ = frame_with_a_square()
    assert rgbd.depth_m is not None
    image = varied(STILL)
    size = resized_size(rgbd.size, INPUT)
    np.testing.assert_array_equal(np.asarray(image.rgb), resize_for_inference(rgbd.rgb, size))
    depth = encode_depth(rgbd.depth_m, DepthConfig())
    np.testing.assert_array_equal(np.asarray(image.depth), resize_for_inference(depth, size))
    assert image.masks.shape == (1, *size)
    assert image.masks.dtype == torch.bool


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_colour_depth_and_masks_move_together(seed: int) -> None:
    published = varied(AugmentationConfig(crop_side=(32, 60)), seed=seed)
    jittered = varied(AugmentationConfig(scale_jitter=(0.5, 2.0)), seed=seed)
    for image in (published, jittered):
        assert image.rgb.size == image.depth.size == image.masks.shape[:0:-1]
        if len(image.masks):
            # Pixels on the edge may fall to either side.
            assert min(agreement(image)) > 0.9


def test_a_flip_is_a_mirror_image() -> None:
    still, mirrored = varied(STILL), varied(AugmentationConfig(flip=1.0, crop=0.0))
    np.testing.assert_array_equal(np.asarray(mirrored.rgb), np.asarray(still.rgb)[:, ::-1])
    np.testing.assert_array_equal(np.asarray(mirrored.depth), np.asarray(still.depth)[:, ::-1])
    torch.testing.assert_close(mirrored.masks, still.masks.flip(-1))


def test_the_same_seed_gives_the_same_variation() -> None:
    strong = AugmentationConfig(
        scale_jitter=(0.5, 2.0), color_jitter=0.4, depth_noise=0.01, depth_holes=5, depth_shift=3
    )
    one, again, other = (varied(strong, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(np.asarray(one.rgb), np.asarray(again.rgb))
    np.testing.assert_array_equal(np.asarray(one.depth), np.asarray(again.depth))
    assert not np.array_equal(np.asarray(one.depth), np.asarray(other.depth))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_the_published_crop_cuts_sides_within_its_bounds(seed: int) -> None:
    torch.manual_seed(seed)
    rgbd, mask = frame_with_a_square((480, 640))
    image = TrainingImage(
        Image.fromarray(rgbd.rgb), Image.fromarray(rgbd.rgb[..., 0]), torch.from_numpy(mask)
    )
    height, width = published_crop(image, AugmentationConfig()).size
    assert 384 <= height <= 600
    assert 384 <= width <= 600


def test_a_side_below_the_least_cut_is_kept_whole() -> None:
    torch.manual_seed(0)
    rgb = Image.new("RGB", (60, 40))
    image = TrainingImage(rgb, rgb.convert("L"), torch.ones(1, 40, 60, dtype=torch.bool))
    cut = published_crop(image, AugmentationConfig(crop_shortest_edge=(100,)))
    assert cut.size == (100, 150)


def test_large_scale_jitter_always_gives_the_size_of_inference() -> None:
    rgbd, mask = frame_with_a_square()
    for scale in (0.5, 1.0, 1.7):
        image = TrainingImage(
            Image.fromarray(rgbd.rgb), Image.fromarray(rgbd.rgb[..., 0]), torch.from_numpy(mask)
        )
        jittered = scale_jitter(image, (scale, scale), INPUT)
        assert jittered.size == resized_size(rgbd.size, INPUT)


def test_objects_that_a_crop_leaves_out_are_dropped() -> None:
    masks = np.zeros((2, 60, 80), np.bool_)
    masks[0, :5, :5], masks[1] = True, True
    seen = {
        len(varied(AugmentationConfig(scale_jitter=(2.0, 2.0)), seed=seed, masks=masks).masks)
        for seed in range(20)
    }
    assert seen == {1, 2}


def test_an_image_without_objects_stays_one() -> None:
    image = varied(AugmentationConfig(), masks=np.zeros((0, 60, 80), np.bool_))
    assert image.masks.shape == (0, *image.size)


def test_normals_move_with_the_image_and_are_mirrored_with_it() -> None:
    # Columns come nearer to the right, so the surface faces left; in a mirror it faces right.
    depth_m = np.broadcast_to(np.linspace(2.0, 1.0, 80, dtype=np.float32), (60, 80)).copy()
    frame = RgbdFrame(rgb=np.zeros((60, 80, 3), np.uint8), depth_m=depth_m)
    labelled = (frame, np.ones((1, 60, 80), np.bool_))
    still, flipped = (
        np.asarray(
            varied(AugmentationConfig(flip=flip, crop=0.0), frame=labelled, picture="normals").depth
        )
        for flip in (0.0, 1.0)
    )
    assert still.shape == (*resized_size((60, 80), INPUT), 3)
    assert (still[..., 1] < 110).all()
    assert (flipped[..., 1] > 146).all()
    np.testing.assert_array_equal(flipped[..., 0], still[:, ::-1, 0])
    np.testing.assert_array_equal(flipped[..., 2], still[:, ::-1, 2])


def test_depth_faults_leave_colour_and_masks_alone() -> None:
    still = varied(STILL)
    faulty = varied(
        AugmentationConfig(flip=0.0, crop=0.0, depth_noise=0.05, depth_holes=8, depth_shift=4)
    )
    np.testing.assert_array_equal(np.asarray(faulty.rgb), np.asarray(still.rgb))
    torch.testing.assert_close(faulty.masks, still.masks)
    assert not np.array_equal(np.asarray(faulty.depth), np.asarray(still.depth))


def test_noise_grows_with_the_square_of_distance() -> None:
    torch.manual_seed(0)
    depth_m = np.ones((200, 400), np.float32)
    depth_m[:, 200:] = 3.0
    frame = RgbdFrame(rgb=np.zeros((200, 400, 3), np.uint8), depth_m=depth_m)
    seen: list[NDArray[np.float32]] = []

    def keep(frame: RgbdFrame, *settings: Any) -> NDArray[np.uint8]:
        assert frame.depth_m is not None
        seen.append(frame.depth_m)
        return depth_picture(frame, *settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "depth_picture", keep)
        noisy = AugmentationConfig(flip=0.0, crop=0.0, depth_noise=0.01)
        varied(noisy, frame=(frame, np.zeros((0, 200, 400), np.bool_)))
    assert seen[0][:, :200].std() == pytest.approx(0.01, rel=0.05)
    assert seen[0][:, 200:].std() == pytest.approx(0.09, rel=0.05)


def test_a_shift_repeats_the_edge() -> None:
    depth = np.arange(12, dtype=np.float32).reshape(3, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "_randint", lambda low, high: high)
        shifted = transforms._shifted(depth, 1)
    np.testing.assert_array_equal(shifted, [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]])


def test_eight_bit_depth_maps_are_varied_on_their_own_scale() -> None:
    depth_map = np.full((60, 80), 250, np.uint8)
    frame = RgbdFrame(rgb=np.zeros((60, 80, 3), np.uint8), depth_map=depth_map)
    image = varied(
        AugmentationConfig(flip=0.0, crop=0.0, depth_noise=0.1, depth_holes=3),
        frame=(frame, np.zeros((0, 60, 80), np.bool_)),
        input_config=InputConfig(shortest_edge=60, longest_edge=96),
    )
    values = np.asarray(image.depth)
    assert values.max() == 255  # cut off, not wrapped round
    assert 3.0 < values[values > 200].astype(float).std() < 12.0


def test_colour_jitter_changes_colour_only() -> None:
    still, jittered = (
        varied(STILL),
        varied(AugmentationConfig(flip=0.0, crop=0.0, color_jitter=0.5)),
    )
    assert not np.array_equal(np.asarray(jittered.rgb), np.asarray(still.rgb))
    np.testing.assert_array_equal(np.asarray(jittered.depth), np.asarray(still.depth))


def test_masks_are_resized_without_a_shift() -> None:
    masks = torch.zeros(1, 12, 12, dtype=torch.bool)
    masks[0, 3:9, 3:9] = True
    rgb = Image.new("RGB", (12, 12))
    small = resize(TrainingImage(rgb, rgb.convert("L"), masks), (4, 4)).masks[0]
    assert small.tolist() == [[r in (1, 2) and c in (1, 2) for c in range(4)] for r in range(4)]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("flip", 1.5),
        ("crop", -0.1),
        ("crop_shortest_edge", ()),
        ("crop_shortest_edge", (8,)),
        ("crop_side", (384,)),
        ("crop_side", (600, 384)),
        ("scale_jitter", (0.5,)),
        ("scale_jitter", (2.0, 0.5)),
        ("color_jitter", 2.0),
        ("depth_noise", -1.0),
        ("depth_holes", -1),
        ("depth_shift", -2),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"augmentation\.{setting} is "):
        AugmentationConfig(**{setting: value})
