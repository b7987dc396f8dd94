from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calibnet_core.models.calibnet.position import (
    ConstantPosition,
    SinePosition,
    published_position_vector,
)


def test_the_coordinate_is_what_dividing_by_an_empty_area_gives() -> None:
    from calibnet_core.models.calibnet import position

    coordinate = np.float32(-0.5) / np.float32(1e-6) * np.float32(2.0 * math.pi)
    assert coordinate.dtype == np.float32
    assert np.float32(position._COORDINATE) == coordinate


def test_every_entry_equals_the_published_formula_to_the_bit() -> None:
    vector = published_position_vector()
    for k in range(64):
        angle = float(np.float32(-3141592.75) / np.float32(10000.0 ** (k / 64)))
        for half in (0, 128):
            assert vector[half + 2 * k].item() == np.float32(math.sin(angle))
            assert vector[half + 2 * k + 1].item() == np.float32(math.cos(angle))


def test_it_has_one_float32_for_each_of_the_256_channels() -> None:
    vector = published_position_vector()
    assert (vector.shape, vector.dtype) == ((256,), torch.float32)


def test_it_is_not_what_exact_arithmetic_gives() -> None:
    # A reminder that rounding is part of the published vector: tidying it up breaks the weights.
    angles = -3141592.75 / 10000.0 ** (np.arange(64) / 64)
    exact = np.stack((np.sin(angles), np.cos(angles)), axis=1).ravel()
    assert np.abs(published_position_vector()[:128].numpy() - exact).max() > 0.05


def test_a_narrower_network_has_fewer_wavelengths_of_the_same_range() -> None:
    vector = published_position_vector(64)
    for k in range(16):
        angle = float(np.float32(-3141592.75) / np.float32(10000.0 ** (k / 16)))
        assert vector[2 * k].item() == vector[32 + 2 * k].item() == np.float32(math.sin(angle))


@pytest.mark.parametrize("channels", [64, 256])
def test_sines_tell_row_and_column_of_every_cell(channels: int) -> None:
    height, width, count = 3, 5, channels // 4
    encoding = SinePosition(channels)(height, width)
    assert encoding.shape == (height * width, channels)
    for i in range(height):
        for j in range(width):
            for k in range(count):
                down, across = (
                    2 * math.pi * place / 10000.0 ** (k / count)
                    for place in ((i + 0.5) / height, (j + 0.5) / width)
                )
                expected = [math.sin(down), math.cos(down), math.sin(across), math.cos(across)]
                first = [2 * k, 2 * k + 1, 2 * (count + k), 2 * (count + k) + 1]
                found = encoding[i * width + j, first].tolist()
                assert found == pytest.approx(expected, abs=1e-5)


def test_sines_differ_from_cell_to_cell_and_a_constant_does_not() -> None:
    sines = SinePosition(64)(10, 15)
    assert torch.cdist(sines, sines).fill_diagonal_(1.0).min() > 1e-2
    assert ConstantPosition(torch.arange(64.0))(10, 15).tolist() == [list(range(64))]
    # ... on a level of one cell a sine encoding has nothing to tell either
    assert SinePosition(64)(1, 1).shape == (1, 64)


def test_sines_are_no_weights_and_move_with_the_module() -> None:
    module = SinePosition(64)
    assert module.state_dict() == {}
    assert module.double()(2, 3).dtype == torch.float64
