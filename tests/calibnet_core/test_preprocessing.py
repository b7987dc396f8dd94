from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibnet_core.config import DepthConfig, InputConfig, PipelineConfig
from calibnet_core.preprocessing import (
    PIXEL_MEAN,
    PIXEL_STD,
    encode_depth,
    normalise,
    prepare,
    resize,
    resized_size,
)
from calibnet_core.structures import RgbdFrame

# The whole range of valid depths is used, so that values can be worked by hand.
WHOLE = DepthConfig(low_percentile=0.0, high_percentile=100.0)
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))
ANY_DEPTH = arrays(np.float32, SHAPES, elements=st.floats(width=32))
GOOD_DEPTH = arrays(np.float32, SHAPES, elements=st.floats(0.125, 8.0, width=32))
HOLED_DEPTH = arrays(
    np.float32,
    SHAPES,
    elements=st.one_of(
        st.floats(0.125, 8.0, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 99.0])
    ),
)
CONFIGS = st.builds(
    DepthConfig,
    min_m=st.sampled_from([0.0, 0.1, 0.5]),
    max_m=st.sampled_from([1.0, 10.0, 1000.0]),
    low_percentile=st.sampled_from([0.0, 1.0, 30.0]),
    high_percentile=st.sampled_from([31.0, 99.0, 100.0]),
    near_is_bright=st.booleans(),
    fill=st.sampled_from(["nearest", "far"]),
)


def is_valid(depth_m: NDArray[np.float32], config: DepthConfig) -> NDArray[np.bool_]:
    """Pixel by pixel: a positive number of metres within the limits."""
    inside = [
        bool(np.isfinite(z)) and z > 0 and config.min_m <= z <= config.max_m for z in depth_m.flat
    ]
    return np.array(inside).reshape(depth_m.shape)


# --- depth


@given(depth_m=ANY_DEPTH, config=CONFIGS)
def test_any_floats_become_a_depth_picture_without_complaint(
    depth_m: NDArray[np.float32], config: DepthConfig
) -> None:
    before = depth_m.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = encode_depth(depth_m, config)
    assert (encoded.shape, encoded.dtype) == (depth_m.shape, np.uint8)
    np.testing.assert_array_equal(depth_m, before)


@given(depth_m=HOLED_DEPTH, config=CONFIGS)
def test_nearer_is_never_darker(depth_m: NDArray[np.float32], config: DepthConfig) -> None:
    valid = is_valid(depth_m, config)
    order = np.argsort(depth_m[valid], kind="stable")
    values = encode_depth(depth_m, config)[valid][order].astype(int)
    steps = np.diff(values)
    assert (steps <= 0).all() if config.near_is_bright else (steps >= 0).all()


@given(depth_m=HOLED_DEPTH, config=CONFIGS)
def test_holes_take_a_measured_value_or_the_far_end(
    depth_m: NDArray[np.float32], config: DepthConfig
) -> None:
    valid = is_valid(depth_m, config)
    encoded = encode_depth(depth_m, config)
    far = 0 if config.near_is_bright else 255
    allowed = set(encoded[valid].tolist()) if config.fill == "nearest" and valid.any() else {far}
    assert set(encoded[~valid].tolist()) <= allowed


@given(depth_m=HOLED_DEPTH)
def test_a_hole_takes_the_value_of_the_nearest_measured_pixel(
    depth_m: NDArray[np.float32],
) -> None:
    valid = is_valid(depth_m, WHOLE)
    assume(valid.any())
    encoded = encode_depth(depth_m, WHOLE)
    rows, columns = np.nonzero(valid)
    for row, column in zip(*np.nonzero(~valid), strict=True):
        distances = np.hypot(rows - row, columns - column)
        # The distance transform is exact to a few per cent; ties are open.
        near = distances <= 1.05 * distances.min()
        assert encoded[row, column] in encoded[rows[near], columns[near]]


def test_holes_are_filled_across_a_large_image() -> None:
    depth_m = np.full((200, 300), np.nan, np.float32)
    depth_m[10, 20], depth_m[180, 280] = 1.0, 5.0
    encoded = encode_depth(depth_m, WHOLE)
    assert (encoded[:100, :100] == 255).all()
    assert (encoded[150:, 200:] == 0).all()


@given(depth_m=HOLED_DEPTH, config=CONFIGS)
def test_turning_the_direction_round_mirrors_the_picture(
    depth_m: NDArray[np.float32], config: DepthConfig
) -> None:
    fields = vars(config) | {"near_is_bright": not config.near_is_bright}
    one, other = encode_depth(depth_m, config), encode_depth(depth_m, DepthConfig(**fields))
    # Halves may round either way.
    assert np.abs(one.astype(int) + other - 255).max() <= 1


@given(depth_m=GOOD_DEPTH, seed=st.integers(0, 2**31))
def test_where_pixels_are_does_not_matter_while_all_are_measured(
    depth_m: NDArray[np.float32], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(depth_m.size)
    shuffled = depth_m.ravel()[order].reshape(depth_m.shape)
    np.testing.assert_array_equal(
        encode_depth(shuffled, DepthConfig()),
        encode_depth(depth_m, DepthConfig()).ravel()[order].reshape(depth_m.shape),
    )


@given(depth_m=GOOD_DEPTH, factor=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_the_unit_does_not_matter_as_long_as_limits_and_scene_allow(
    depth_m: NDArray[np.float32], factor: float
) -> None:
    assume(np.ptp(depth_m) > 0.2)
    wide = DepthConfig(min_m=0.01, max_m=1000.0)
    one, other = encode_depth(depth_m, wide), encode_depth(depth_m * np.float32(factor), wide)
    assert np.abs(one.astype(int) - other).max() <= 1


def test_16_bit_millimetres_use_the_whole_range() -> None:
    # As 8-bit pictures such readings would saturate at 255 and hold nothing.
    millimetres = np.linspace(500, 9500, 256, dtype=np.uint16).reshape(16, 16)
    encoded = encode_depth(millimetres.astype(np.float32) / 1000.0, WHOLE)
    expected = 255 * (9500 - millimetres.astype(np.float64)) / 9000
    assert np.abs(encoded - expected).max() <= 0.5 + 1e-3
    assert len(np.unique(encoded)) == 256


def test_a_ramp_is_encoded_as_worked_by_hand() -> None:
    depth_m = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)
    assert encode_depth(depth_m, WHOLE).tolist() == [[255, 191, 128, 64, 0]]
    far_is_bright = DepthConfig(low_percentile=0.0, high_percentile=100.0, near_is_bright=False)
    assert encode_depth(depth_m, far_is_bright).tolist() == [[0, 64, 128, 191, 255]]


def test_what_lies_beyond_the_percentiles_saturates() -> None:
    # The quartiles of 1, 2, 3, 4, 5 are 2 and 4.
    config = DepthConfig(low_percentile=25.0, high_percentile=75.0)
    depth_m = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)
    assert encode_depth(depth_m, config).tolist() == [[255, 255, 128, 0, 0]]


def test_readings_outside_the_limits_count_as_holes() -> None:
    config = DepthConfig(
        min_m=1.0, max_m=3.0, low_percentile=0.0, high_percentile=100.0, fill="far"
    )
    depth_m = np.array([[0.99, 1.0, 2.0, 3.0, 3.01]], np.float32)
    assert encode_depth(depth_m, config).tolist() == [[0, 255, 128, 0, 0]]


@pytest.mark.parametrize("nothing", [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf])
def test_no_reading_is_never_taken_for_the_nearest_surface(nothing: float) -> None:
    config = DepthConfig(min_m=0.0, low_percentile=0.0, high_percentile=100.0, fill="far")
    depth_m = np.array([[nothing, 1.0, 2.0, 3.0]], np.float32)
    assert encode_depth(depth_m, config).tolist() == [[0, 255, 128, 0]]


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan, np.inf, -np.inf, 1e9])
@pytest.mark.parametrize(("near_is_bright", "far"), [(True, 0), (False, 255)])
@pytest.mark.parametrize("fill", ["nearest", "far"])
def test_an_image_without_a_reading_is_far_everywhere(
    nothing: float, near_is_bright: bool, far: int, fill: Any
) -> None:
    config = DepthConfig(near_is_bright=near_is_bright, fill=fill)
    encoded = encode_depth(np.full((3, 4), nothing, np.float32), config)
    assert encoded.tolist() == [[far] * 4] * 3


def test_a_single_reading_is_enough() -> None:
    depth_m = np.full((3, 4), np.nan, np.float32)
    depth_m[1, 2] = 2.0
    assert len(np.unique(encode_depth(depth_m, DepthConfig()))) == 1


def test_noise_on_a_flat_wall_is_not_stretched_to_relief() -> None:
    noise = np.random.default_rng(0).uniform(-0.001, 0.001, (20, 30))
    encoded = encode_depth((2.0 + noise).astype(np.float32), WHOLE)
    assert np.ptp(encoded) <= 255 * 0.002 / 0.05 + 1


# --- size


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (320, 427)),
        ((427, 640), (320, 480)),
        ((1080, 1920), (270, 480)),
        ((100, 100), (320, 320)),
        ((640, 480), (427, 320)),
        ((320, 480), (320, 480)),
        ((1, 10000), (1, 480)),
        ((10000, 1), (480, 1)),
        ((1, 1), (320, 320)),
    ],
)
def test_sizes_follow_the_published_rule(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert resized_size(size, InputConfig()) == resized


def test_halves_round_up() -> None:
    # Half of 101 is 50.5.
    assert resized_size((64, 101), InputConfig(shortest_edge=32, longest_edge=64)) == (32, 51)
    assert resized_size((101, 64), InputConfig(shortest_edge=32, longest_edge=64)) == (51, 32)


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    shortest=st.integers(32, 512),
    extra=st.integers(0, 512),
)
def test_a_side_meets_its_limit_and_the_aspect_is_kept(
    height: int, width: int, shortest: int, extra: int
) -> None:
    config = InputConfig(shortest_edge=shortest, longest_edge=shortest + extra)
    resized = resized_size((height, width), config)
    assert min(resized) <= shortest
    assert max(resized) <= shortest + extra
    assert min(resized) == shortest or max(resized) == shortest + extra
    assert resized == resized_size((width, height), config)[::-1]
    scale = max(resized) / max(height, width)
    assert abs(resized[0] - max(1, height * scale)) <= 1
    assert abs(resized[1] - max(1, width * scale)) <= 1


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert resize(image, (5, 7)) is image


@pytest.mark.parametrize("channels", [(), (3,)])
def test_halving_averages_with_a_triangle_of_twice_the_width(channels: tuple[int, ...]) -> None:
    # Antialiased: new pixel 1 weighs the old ones 1 to 4 by 1/8, 3/8, 3/8, 1/8.
    image = np.zeros((1, 8, *channels), np.uint8)
    image[:, 2] = 80
    resized = resize(image, (1, 4))
    assert resized.shape == (1, 4, *channels)
    expected = np.zeros((1, 4, *channels), int)
    expected[:, 1] = 80 * 3 / 8
    # At the border the triangle is cut off, and what is left of it weighs 1.
    expected[:, 0] = round(80 * (1 / 8) / (7 / 8))
    np.testing.assert_array_equal(resized, expected)


# --- normalisation and padding


def test_pixels_are_normalised_and_padded_with_zeros_right_and_below() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 40, 3), np.uint8)
    tensor = normalise(image)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 64, 64), torch.float32)
    for channel in range(3):
        expected = (image[..., channel].astype(np.float64) - PIXEL_MEAN[channel]) / PIXEL_STD[
            channel
        ]
        np.testing.assert_allclose(tensor[0, channel, :33, :40].numpy(), expected, atol=1e-6)
    assert not tensor[:, :, 33:].any()
    assert not tensor[:, :, :, 40:].any()


def test_the_statistics_are_those_of_imagenet_in_rgb_order() -> None:
    np.testing.assert_allclose(PIXEL_MEAN, 255 * np.array([0.485, 0.456, 0.406]))
    np.testing.assert_allclose(PIXEL_STD, 255 * np.array([0.229, 0.224, 0.225]))


@pytest.mark.parametrize(
    ("size", "padded"), [((32, 64), (32, 64)), ((1, 1), (32, 32)), ((33, 95), (64, 96))]
)
def test_padding_reaches_the_next_multiple_of_32(
    size: tuple[int, int], padded: tuple[int, int]
) -> None:
    assert normalise(np.zeros((*size, 3), np.uint8)).shape == (1, 3, *padded)


def test_read_only_and_strided_images_are_fine() -> None:
    # Message buffers are read-only, and BGR images come as reversed views.
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    expected = normalise(image)
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(normalise(image), expected)
    torch.testing.assert_close(normalise(image[:, ::-1]), normalise(image[:, ::-1].copy()))


# --- whole frames


def frame(seed: int = 0, size: tuple[int, int] = (48, 80), **depth: Any) -> RgbdFrame:
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return RgbdFrame(rgb=rgb, **depth)


SMALL = PipelineConfig(input=InputConfig(shortest_edge=48, longest_edge=80))


def test_an_8_bit_depth_picture_reaches_the_network_unchanged() -> None:
    depth_map = np.random.default_rng(1).integers(0, 256, (48, 80), np.uint8)
    for config in (
        SMALL,
        PipelineConfig(input=SMALL.input, depth=DepthConfig(near_is_bright=False)),
    ):
        prepared = prepare(frame(depth_map=depth_map), config)
        pixels = prepared.depth[0, :, :48, :80].double().numpy()
        for channel in range(3):
            values = pixels[channel] * PIXEL_STD[channel] + PIXEL_MEAN[channel]
            np.testing.assert_allclose(values, depth_map, atol=1e-4)


def test_measured_depth_is_encoded_before_it_is_resized() -> None:
    # Resizing first would mix holes into readings.
    depth_m = np.random.default_rng(1).uniform(0.0, 5.0, (96, 160)).astype(np.float32)
    depth_m[depth_m < 1.0] = np.nan
    measured = prepare(frame(size=(96, 160), depth_m=depth_m), SMALL)
    encoded = encode_depth(depth_m, SMALL.depth)
    pictured = prepare(frame(size=(96, 160), depth_map=encoded), SMALL)
    torch.testing.assert_close(measured.depth, pictured.depth, rtol=0, atol=0)
    assert measured.depth.isfinite().all()


def test_colour_and_depth_share_size_and_padding() -> None:
    prepared = prepare(frame(size=(100, 150), depth_m=np.ones((100, 150), np.float32)), SMALL)
    assert prepared.size == (48, 72)
    assert prepared.rgb.shape == prepared.depth.shape == (1, 3, 64, 96)
    for tensor in (prepared.rgb, prepared.depth):
        assert not tensor[:, :, 48:].any()
        assert not tensor[:, :, :, 72:].any()


def test_a_frame_without_any_depth_reading_is_prepared() -> None:
    depth_m = np.full((48, 80), np.nan, np.float32)
    prepared = prepare(frame(depth_m=depth_m), SMALL)
    far = torch.tensor([-mean / std for mean, std in zip(PIXEL_MEAN, PIXEL_STD, strict=True)])
    torch.testing.assert_close(prepared.depth[0, :, 0, 0], far)
