"""The operators as torch knows them: contracts, tracing, compiling, exporting, autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused
from tests.support.deform_attn import (
    FUSED_ON_GRID,
    Operator,
    fresh_leaves,
    random_inputs,
    relative_error,
    tensors_of,
    upstream_of,
    value_and_gradients,
)
from tests.support.deform_attn_marks import (
    ROUNDING,
    assert_all_same_bits,
    assert_same_bits,
    each_operator,
    each_raw,
    each_type,
    once,
    raw_operands,
    raw_operator,
)


@once
@each_operator
@each_type
@pytest.mark.parametrize("suffix", ["", "_backward", "_backward_deterministic"])
def test_an_operator_keeps_the_contract_of_custom_operators(
    operator: Operator, dtype: torch.dtype, suffix: str
) -> None:
    operands = raw_operands(operator, backward=suffix != "", dtype=dtype)
    if not suffix:
        operands = {
            name: operand.requires_grad_() if isinstance(operand, Tensor) else operand
            for name, operand in operands.items()
        }
    torch.library.opcheck(raw_operator(operator, suffix).default, tuple(operands.values()))


@once
@each_operator
@each_type
def test_the_deterministic_backward_operators_compute_the_same(
    operator: Operator, dtype: torch.dtype
) -> None:
    operands = raw_operands(operator, backward=True, dtype=dtype)
    usual, deterministic = (
        raw_operator(operator, f"_backward{suffix}")(**operands)
        for suffix in ("", "_deterministic")
    )
    for one, other in zip(usual, deterministic, strict=True):
        assert one.dtype == other.dtype
        assert relative_error(one, other.double()) <= ROUNDING[dtype]


@once
@each_raw
@each_type
def test_fake_tensors_carry_shape_and_type_without_memory(
    operator: Operator, backward: bool, dtype: torch.dtype
) -> None:
    operands = raw_operands(operator, backward=backward, dtype=dtype)
    on_meta = {
        name: operand.to("meta") if isinstance(operand, Tensor) else operand
        for name, operand in operands.items()
    }
    call = raw_operator(operator, "_backward" * backward)
    results, fakes = call(**operands), call(**on_meta)
    if not backward:
        results, fakes = (results,), (fakes,)
    for result, fake in zip(results, fakes, strict=True):
        assert fake.is_meta
        assert (fake.shape, fake.dtype, fake.stride()) == (
            result.shape,
            result.dtype,
            result.stride(),
        )


@once
@each_operator
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_graph_holds_an_operator_whole(operator: Operator, dynamic: bool) -> None:
    torch._dynamo.reset()

    def doubled(*arguments: Any) -> Tensor:
        return 2.0 * operator.function(*arguments)

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for queries in (3, 5):
        arguments = operator.random([(3, 4), (2, 2)], queries=queries)
        expected, expected_gradients = value_and_gradients(doubled, arguments)
        output, gradients = value_and_gradients(compiled, arguments)
        torch.testing.assert_close(output, expected)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient)


class _Attention(nn.Module):
    """A layer as models have it: level shapes come from the maps."""

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value, self.packed = nn.Linear(16, 16), nn.Linear(16, 3 * 4 * levels * 2)

    def forward(self, maps: list[Tensor]) -> Tensor:
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        value = self.value(tokens).unflatten(-1, (4, 4))
        return ms_deform_attn_fused(value, shapes, self.packed(tokens))


def _maps(batch: int, *shapes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 16, *shape, generator=generator) for shape in shapes]


@once
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_layer_trains_at_several_sizes(backend: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    layer = _Attention()
    compiled = torch.compile(layer, fullgraph=True, backend=backend, dynamic=dynamic)
    for maps in (_maps(2, (3, 4), (6, 8)), _maps(3, (5, 3), (9, 6))):
        expected = layer(maps)
        expected_gradients = torch.autograd.grad(
            expected, list(layer.parameters()), upstream_of(expected)
        )
        output = compiled(maps)
        gradients = torch.autograd.grad(output, list(layer.parameters()), upstream_of(output))
        torch.testing.assert_close(output, expected)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@once
def test_exported_programs_hold_the_operators_and_give_the_same() -> None:
    class Both(nn.Module):
        def forward(
            self, value: Tensor, locations: Tensor, weights: Tensor, packed: Tensor
        ) -> Tensor:
            shapes = [(3, 4), (2, 2)]
            dropped_in = ms_deform_attn(value, shapes, locations, weights)
            return dropped_in + ms_deform_attn_fused(value, shapes, packed)

    shapes = [(3, 4), (2, 2)]
    value, _, locations, weights = random_inputs(shapes, queries=16, dtype=torch.float32)
    packed = FUSED_ON_GRID.random(shapes, dtype=torch.float32)[2]
    arguments = (value, locations, weights, packed)
    exported = torch.export.export(Both(), arguments)
    targets = {node.target for node in exported.graph.nodes}
    assert torch.ops.calibnet.ms_deform_attn.default in targets
    assert torch.ops.calibnet.ms_deform_attn_fused.default in targets
    assert_same_bits(exported.module()(*arguments), Both()(*arguments))


@once
def test_autocast_trains_a_layer_in_bfloat16() -> None:
    layer, maps = _Attention(), _maps(2, (3, 4), (6, 8))
    expected = layer(maps)
    expected_gradients = torch.autograd.grad(
        expected, list(layer.parameters()), upstream_of(expected)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(maps)
    assert output.dtype == torch.bfloat16
    assert relative_error(output.detach(), expected.detach().double()) < 0.05
    gradients = torch.autograd.grad(output, list(layer.parameters()), upstream_of(output))
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert relative_error(gradient, expected_gradient.double()) < 0.2


@once
@each_operator
def test_gradients_may_be_part_of_a_larger_graph(operator: Operator) -> None:
    # Of which only other parts are differentiated again.
    leaves = tensors_of(arguments := fresh_leaves(operator.random([(3, 4)])))
    output = operator.function(*arguments)
    gradients = torch.autograd.grad(output, leaves, upstream_of(output), create_graph=True)
    _, expected = value_and_gradients(operator.function, arguments)
    assert_all_same_bits([gradient.detach() for gradient in gradients], expected)


@once
@each_operator
def test_a_second_derivative_is_refused(operator: Operator) -> None:
    leaves = tensors_of(arguments := fresh_leaves(operator.random([(3, 4)])))
    output = operator.function(*arguments).square().sum()

    def differentiate_twice() -> None:
        gradients = torch.autograd.grad(output, leaves, create_graph=True)
        sum(gradient.square().sum() for gradient in gradients).backward()

    with pytest.raises(RuntimeError):
        differentiate_twice()
    assert all(leaf.grad is None for leaf in leaves)
