from __future__ import annotations

import math

import numpy as np
import torch

from calibnet_core.models.calibnet.position import published_position_vector


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
