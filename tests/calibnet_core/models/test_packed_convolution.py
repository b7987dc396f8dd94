"""A packed convolution computes what the plain one does, wherever it runs, in one pass on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from calibnet_core.models.packed_convolution import PackedConv2d, pack_convolutions
from tests.support.random_weights import randomised


def image_of(channels: int, *size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def packings() -> Any:
    """A watch on the one place where filters are laid out."""
    packing = torch.ops.aten.mkldnn_reorder_conv2d_weight
    return mock.patch.object(torch.ops.aten, "mkldnn_reorder_conv2d_weight", wraps=packing)


@pytest.fixture
def block() -> nn.Sequential:
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    return randomised(nn.Sequential(conv, nn.Identity(), nn.ReLU6())).requires_grad_(False)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_convolution_packed_gives_what_it_gave(data: st.DataObject) -> None:
    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups = number(1, 4)
    conv = nn.Conv2d(
        groups * number(1, 9),
        groups * number(1, 9),
        (number(1, 4), number(1, 4)),
        stride=(number(1, 3), number(1, 3)),
        padding=(number(0, 2), number(0, 2)),
        dilation=(number(1, 2), number(1, 2)),
        groups=groups,
        bias=data.draw(st.booleans()),
    )
    activation = data.draw(st.sampled_from([None, nn.ReLU(), nn.ReLU6()]))
    plain = randomised(nn.Sequential(conv, activation or nn.Identity()))
    packed = PackedConv2d(conv, activation)
    with torch.inference_mode():
        for _ in range(3):  # of several sizes, one after the other
            image = image_of(conv.in_channels, number(7, 20), number(7, 20), batch=number(1, 3))
            if data.draw(st.booleans()):
                image = image.contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(packed(image), plain(image), rtol=1e-4, atol=1e-4)


def test_filters_are_laid_out_once_for_a_size_and_anew_for_another(block: nn.Sequential) -> None:
    pack_convolutions(block)
    with packings() as packing, torch.inference_mode():
        for size, count in (((9, 8), 1), ((9, 8), 1), ((8, 9), 2), ((8, 9), 2), ((9, 8), 3)):
            block(image_of(4, *size))
            assert packing.call_count == count


def test_weights_that_change_are_laid_out_anew(block: nn.Sequential) -> None:
    packed, image = PackedConv2d(block[0]), image_of(4, 9, 8)
    with torch.no_grad():
        before = packed(image)
        packed.weight.mul_(2.0)
        packed.bias.mul_(2.0)
        torch.testing.assert_close(packed(image), 2.0 * before)
        packed.load_state_dict({k: v / 4.0 for k, v in packed.state_dict().items()})
        torch.testing.assert_close(packed(image), before / 2.0)


@pytest.mark.parametrize(
    "unfit",
    {
        "float64": lambda block, image: block.double()(image.double()),
        "bfloat16": lambda block, image: block.bfloat16()(image.bfloat16()),
        "gradient of the image": lambda block, image: block(image.requires_grad_()),
        "gradient of the weights": lambda block, image: block.requires_grad_()(image),
        "compiled": lambda block, image: compiled(block)(image),
        "meta": lambda block, image: block.to("meta")(image.to("meta")),
        "no image": lambda block, image: block(image[:0]),
        "switched off": lambda block, image: without_onednn(block, image),
        "absent": lambda block, image: without_its_operators(block, image),
    }.items(),
    ids=lambda case: case[0],
)
def test_what_onednn_is_not_for_is_computed_as_ever(
    unfit: tuple[str, Callable[[nn.Module, Tensor], Tensor]], block: nn.Sequential
) -> None:
    plain = copy.deepcopy(block)
    pack_convolutions(block)
    with packings() as packing:
        result = unfit[1](block, image_of(4, 9, 8))
    assert packing.call_count == 0
    expected = plain(image_of(4, 9, 8))[: len(result)]
    assert result.shape == expected.shape
    if not result.is_meta:
        is_half = result.dtype == torch.bfloat16
        limit = 0.05 if is_half else 1e-5
        torch.testing.assert_close(result.float(), expected, rtol=limit, atol=limit)


def compiled(block: nn.Module) -> Callable[[Tensor], Tensor]:
    function: Callable[[Tensor], Tensor] = torch.compile(block, backend="eager", fullgraph=True)
    return function


def without_onednn(block: nn.Module, image: Tensor) -> Tensor:
    torch.backends.mkldnn.enabled = False
    try:
        with torch.inference_mode():
            result: Tensor = block(image)
    finally:
        torch.backends.mkldnn.enabled = True
    return result


def without_its_operators(block: nn.Module, image: Tensor) -> Tensor:
    with mock.patch.object(torch.ops, "mkldnn", object()), torch.inference_mode():
        result: Tensor = block(image)
    return result


def test_a_copy_packs_for_itself(block: nn.Sequential) -> None:
    pack_convolutions(block)
    image = image_of(4, 9, 8)
    with torch.inference_mode():
        expected = block(image)
        twin = copy.deepcopy(block)
        with packings() as packing:
            assert torch.equal(twin(image), expected)
        assert packing.call_count == 1


def test_names_in_the_state_dictionary_stay(block: nn.Sequential) -> None:
    names = list(block.state_dict())
    pack_convolutions(block)
    assert list(block.state_dict()) == names


def test_an_activation_is_taken_where_it_follows_and_nowhere_else() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Identity(), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Softplus(), nn.ReLU6()
    )
    plain = copy.deepcopy(network)
    pack_convolutions(network)
    kinds = [type(module) for module in network]
    assert kinds == [PackedConv2d, nn.Identity, nn.Identity, PackedConv2d, nn.Softplus, nn.ReLU6]
    with torch.inference_mode():
        torch.testing.assert_close(network(image_of(3, 5, 5)), plain(image_of(3, 5, 5)))


def test_convolutions_padded_otherwise_stay() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
    )
    pack_convolutions(network)
    assert [type(module) for module in network] == [nn.Conv2d, nn.Conv2d, nn.ReLU]
