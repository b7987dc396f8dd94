from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calibnet_core.config import ModelConfig
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet.encoder import DeformableTransformer, cell_centres
from calibnet_core.models.calibnet.finest_transformer import (
    FinestTransformer,
    without_unread_levels,
)
from calibnet_core.models.calibnet.position import SinePosition
from calibnet_core.models.inference_form import inference_form

WIDTH = 32


class CountingPosition(SinePosition):
    """Counts how often it was asked."""

    calls = 0

    def forward(self, height: int, width: int) -> Tensor:
        self.calls += 1
        return super().forward(height, width)


def transformer(num_layers: int = 1) -> DeformableTransformer:
    torch.manual_seed(0)
    module = DeformableTransformer(
        num_layers=num_layers, position=CountingPosition(WIDTH), width=WIDTH
    ).eval()
    for parameter in module.parameters():
        parameter.data.normal_(std=0.3)
    return module


def pyramid(height: int = 8, width: int = 12, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height)
    return [
        torch.randn(batch, WIDTH, height // step, width // step, generator=generator)
        for step in (4, 2, 1)
    ]


@pytest.mark.parametrize("num_layers", [1, 3])
@torch.no_grad()
def test_the_finest_level_comes_out_as_from_the_whole_and_no_other(num_layers: int) -> None:
    whole = transformer(num_layers)
    *coarse, finest = FinestTransformer(whole)(pyramid())
    torch.testing.assert_close(finest, whole(pyramid())[-1], rtol=1e-4, atol=1e-5)
    assert [level.numel() for level in coarse] == [0, 0]


@torch.no_grad()
def test_places_are_computed_once_for_each_size() -> None:
    whole = transformer()
    fast = FinestTransformer(whole)
    for size in ((8, 12), (8, 16), (8, 12), (8, 16)):
        torch.testing.assert_close(
            fast(pyramid(*size))[-1], transformer()(pyramid(*size))[-1], rtol=1e-4, atol=1e-5
        )
    assert whole.position.calls == 2 * 3


@torch.no_grad()
def test_the_sizes_that_are_remembered_are_few() -> None:
    fast = FinestTransformer(transformer())
    for width in range(4, 64, 4):
        fast(pyramid(width=width, batch=1))
    assert len(fast._known) == 4


@torch.no_grad()
def test_a_copy_in_another_precision_forgets_the_places_of_the_first() -> None:
    fast = FinestTransformer(transformer())
    fast(pyramid())
    *_, finest = fast.double()([level.double() for level in pyramid()])
    expected = transformer()(pyramid())[-1].double()
    torch.testing.assert_close(finest, expected, rtol=1e-4, atol=1e-5)


def test_cells_are_looked_from_their_centres() -> None:
    centres = cell_centres(2, 4, torch.zeros(1, dtype=torch.bfloat16))
    expected = [[x, y] for y in (0.25, 0.75) for x in (0.125, 0.375, 0.625, 0.875)]
    torch.testing.assert_close(centres, torch.tensor(expected))


def test_what_has_no_layers_stays() -> None:
    for module in (transformer(0), nn.Identity()):
        assert without_unread_levels(module) is module


@pytest.mark.parametrize(
    ("settings", "leaves_out"),
    [({}, True), ({"mask_levels": "t3_t4_t5"}, False), ({"num_transformer_layers": 0}, False)],
)
@torch.inference_mode()
def test_inference_leaves_out_what_no_branch_reads(
    settings: dict[str, object], leaves_out: bool
) -> None:
    config = ModelConfig(
        **{"backbone": "mobilenet_v2", "width": 64, "num_transformer_layers": 1, **settings}
    )
    fast = inference_form(build_model(config, seed=0))
    for levels in fast.encode(*torch.zeros(2, 1, 3, 64, 64)):
        assert (levels.t4.numel() == 0) == (levels.t5.numel() == 0) == leaves_out
        assert levels.t3.shape == (1, 64, 8, 8)
