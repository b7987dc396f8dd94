"""What must make no difference: runs, threads, batches, layouts; and tensors without elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.deform_attn import (
    FUSED_ON_GRID,
    Operator,
    count_tokens,
    fresh_leaves,
    tensors_of,
    upstream_of,
    value_and_gradients,
    with_tensors,
)
from tests.support.deform_attn_marks import (
    COMPILED,
    assert_all_same_bits,
    assert_same_bits,
    each_operator,
    each_type,
    once,
    swap_axes_in_memory,
)

# --- order, threads, memory ---------------------------------------------------------------------


def _many(operator: Operator, dtype: torch.dtype) -> tuple[Any, ...]:
    """Enough queries, images and heads for two threads."""
    sizes = {"batch": 3, "queries": 203, "heads": 3, "channels": 24}
    return operator.stored(operator.random([(10, 15), (7, 9)], **sizes), dtype)


@each_operator
@each_type
def test_results_depend_neither_on_the_run_nor_on_the_number_of_threads(
    operator: Operator, dtype: torch.dtype
) -> None:
    arguments = _many(operator, dtype)
    output, gradients = value_and_gradients(operator.function, arguments)
    for threads in (1, 2, 2, 2, 3):
        torch.set_num_threads(threads)
        again, gradients_again = value_and_gradients(operator.function, arguments)
        assert_same_bits(again, output)
        assert_all_same_bits(gradients_again, gradients)


@each_operator
@each_type
def test_an_image_comes_out_the_same_alone_and_in_a_batch(
    operator: Operator, dtype: torch.dtype
) -> None:
    arguments = _many(operator, dtype)
    output, gradients = _with_flat_upstream(operator, arguments)
    for image in range(3):
        alone = tuple(
            argument[image : image + 1] if isinstance(argument, Tensor) else argument
            for argument in arguments
        )
        output_alone, gradients_alone = _with_flat_upstream(operator, alone)
        results = [output_alone[0], *(gradient[0] for gradient in gradients_alone)]
        expected = [output[image], *(gradient[image] for gradient in gradients)]
        if COMPILED:
            assert_all_same_bits(results, expected)
        else:  # torch's matrix products add in another order
            torch.testing.assert_close(results, expected)


def _with_flat_upstream(
    operator: Operator, arguments: tuple[Any, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = fresh_leaves(arguments)
    output = operator.function(*leaves)
    return output.detach(), torch.autograd.grad(output.sum(), tensors_of(leaves))


@each_operator
@each_type
def test_nothing_of_uninitialised_memory_comes_out(operator: Operator, dtype: torch.dtype) -> None:
    arguments = _many(operator, dtype)
    output, gradients = value_and_gradients(operator.function, arguments)
    assert output.isfinite().all()
    torch.use_deterministic_algorithms(True)  # then torch fills new memory with NaN
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        again, gradients_again = value_and_gradients(operator.function, arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_bits(again, output)
    assert_all_same_bits(gradients_again, gradients)


def _every_other_number(tensor: Tensor) -> Tensor:
    return torch.stack((tensor, torch.full_like(tensor, np.nan)), dim=-1).flatten(-2)[..., ::2]


def _amid_nan(tensor: Tensor) -> Tensor:
    nan = tensor.new_full((13,), np.nan)
    return torch.cat((nan, tensor.flatten(), nan))[13:-13].view_as(tensor)


@each_operator
@each_type
@pytest.mark.parametrize(
    "lay_out",
    [swap_axes_in_memory, _every_other_number, _amid_nan],
    ids=lambda function: function.__name__[1:],
)
def test_how_arguments_lie_in_memory_makes_no_difference(
    operator: Operator, dtype: torch.dtype, lay_out: Callable[[Tensor], Tensor]
) -> None:
    arguments = operator.stored(operator.random([(4, 5), (3, 2)], channels=21), dtype)
    laid_out = [lay_out(tensor) for tensor in tensors_of(arguments)]
    contiguous = [tensor.is_contiguous() for tensor in laid_out]
    aligned = [tensor.data_ptr() % 64 == 0 for tensor in laid_out]
    assert not any(aligned if lay_out is _amid_nan else contiguous)
    expected, expected_gradients = value_and_gradients(operator.function, arguments)

    def through_layout(*leaves: Any) -> Tensor:
        return operator.function(*with_tensors(leaves, tuple(map(lay_out, tensors_of(leaves)))))

    output, gradients = value_and_gradients(through_layout, arguments)
    assert_same_bits(output, expected)
    assert_all_same_bits(gradients, expected_gradients)


@each_operator
def test_expanded_arguments_count_as_copies(operator: Operator) -> None:
    arguments = operator.random([(4, 5), (3, 2)], batch=1)

    def expanded(*leaves: Any) -> Tensor:
        views = (leaf.expand(3, *leaf.shape[1:]) for leaf in tensors_of(leaves))
        return operator.function(*with_tensors(leaves, tuple(views)))

    def repeated(*leaves: Any) -> Tensor:
        copies = (torch.cat([leaf] * 3) for leaf in tensors_of(leaves))
        return operator.function(*with_tensors(leaves, tuple(copies)))

    output, gradients = value_and_gradients(expanded, arguments)
    expected, expected_gradients = value_and_gradients(repeated, arguments)
    assert_same_bits(output, expected)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


@each_operator
def test_upstream_gradients_need_not_be_contiguous(operator: Operator) -> None:
    leaves = fresh_leaves(operator.random([(4, 5), (3, 2)]))
    output = operator.function(*leaves)
    ramp, scalar = upstream_of(output), torch.tensor(1.5, dtype=output.dtype)
    for strided in (swap_axes_in_memory(ramp), _amid_nan(ramp), scalar.expand(output.shape)):
        gradients, expected = (
            list(torch.autograd.grad(output, tensors_of(leaves), upstream, retain_graph=True))
            for upstream in (strided, strided.clone(memory_format=torch.contiguous_format))
        )
        assert_all_same_bits(gradients, expected)


# --- nothing to do ------------------------------------------------------------------------------


@once
@each_operator
@each_type
@pytest.mark.parametrize("missing", ["batch", "queries", "heads", "channels", "points"])
def test_nothing_to_do_gives_an_empty_or_zero_answer(
    operator: Operator, dtype: torch.dtype, missing: str
) -> None:
    if operator is FUSED_ON_GRID and missing == "queries":
        pytest.skip("every level has a cell, and every cell is a query")
    sizes = {"batch": 2, "queries": 3, "heads": 2, "channels": 3, "points": 2} | {missing: 0}
    shapes = [(2, 3), (1, 2)]
    arguments = operator.stored(operator.random(shapes, **sizes), dtype)
    queries = count_tokens(shapes) if operator is FUSED_ON_GRID else sizes["queries"]
    output, gradients = value_and_gradients(operator.function, arguments)
    assert output.shape == (sizes["batch"], queries, sizes["heads"] * sizes["channels"])
    assert output.dtype == dtype
    assert not output.any()
    for gradient, argument in zip(gradients, tensors_of(arguments), strict=True):
        assert (gradient.shape, gradient.dtype) == (argument.shape, argument.dtype)
        assert not gradient.any()
