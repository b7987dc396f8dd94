from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.models.calibnet.model import assemble_mask_logits
from calibnet_core.models.calibnet.place import distance_from


def test_a_case_worked_by_hand() -> None:
    # Columns at -1, 0, 1 and rows at -1, 1; the place is the last column of the first row.
    place = torch.tensor([[[1.0, -1.0, math.log(2.0), math.log(3.0)]]])
    expected = torch.tensor([[8.0, 2.0, 0.0], [20.0, 14.0, 12.0]])
    torch.testing.assert_close(distance_from(place, 2, 3)[0, 0], expected)


def test_steepness_has_an_end() -> None:
    place = torch.tensor([[[0.0, 0.0, 1000.0, -1000.0], [0.0, 0.0, -1000.0, 1000.0]]])
    distance, turned = distance_from(place, 3, 3)[0]
    torch.testing.assert_close(turned, distance.T)
    assert distance[1].tolist() == pytest.approx([math.exp(8.0), 0.0, math.exp(8.0)])
    torch.testing.assert_close(distance[0], distance[2])


def test_half_precision_does_not_move_a_place_by_cells() -> None:
    place = torch.tensor([[[0.7012, 0.0, 8.0, 0.0]]], dtype=torch.bfloat16)
    distance = distance_from(place, 1, 161)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, distance_from(place.float(), 1, 161))


@given(
    x=st.floats(-1.0, 1.0), y=st.floats(-1.0, 1.0), a=st.floats(-3.0, 7.0), b=st.floats(-3.0, 7.0)
)
def test_it_is_least_at_the_cell_nearest_to_the_place(
    x: float, y: float, a: float, b: float
) -> None:
    distance = distance_from(torch.tensor([[[x, y, a, b]]]), 21, 31)[0, 0]
    assert float(distance.min()) >= 0.0
    row, column = divmod(int(distance.argmin()), 31)
    assert abs(row - 10 * (y + 1)) <= 0.5 + 1e-3
    assert abs(column - 15 * (x + 1)) <= 0.5 + 1e-3


def test_a_kernel_with_a_place_fades_and_one_without_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(2, 3, 8 + 4, generator=generator)
    features = torch.randn(2, 8, 5, 7, generator=generator)
    plain = assemble_mask_logits(kernels[..., :8], features)
    faded = assemble_mask_logits(kernels, features)
    torch.testing.assert_close(plain - faded, distance_from(kernels[..., 8:], 5, 7))
    assert faded.dtype == torch.float32
