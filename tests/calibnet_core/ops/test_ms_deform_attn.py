from __future__ import annotations

import re
from collections.abc import Callable
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from calibnet_core.ops import ms_deform_attn, ms_deform_attn_reference
from calibnet_core.ops.ms_deform_attn import _Axis, _table_rows

Shapes = list[tuple[int, int]]
Inputs = tuple[Tensor, Shapes, Tensor, Tensor]


def inputs(
    shapes: Shapes,
    *,
    batch: int = 2,
    queries: int = 3,
    heads: int = 2,
    channels: int = 3,
    points: int = 2,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    spread: float = 0.3,
) -> Inputs:
    """Random arguments whose locations reach `spread` beyond the maps."""
    generator = torch.Generator().manual_seed(seed)
    tokens, per_query = sum(height * width for height, width in shapes), (len(shapes), points)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    value = 2.0 * uniform(batch, tokens, heads, channels) - 1.0
    locations = (1.0 + 2.0 * spread) * uniform(batch, queries, heads, *per_query, 2) - spread
    weights = uniform(batch, queries, heads, *per_query)
    return value.to(dtype), shapes, locations.to(dtype), weights.to(dtype)


def attention_by_loops(
    value: Tensor, level_shapes: Shapes, locations: Tensor, weights: Tensor
) -> NDArray[np.float64]:
    """The definition, reading by reading: bilinear between cell centres, zero outside the map."""
    tokens, places, shares = (
        tensor.detach().double().numpy() for tensor in (value, locations, weights)
    )
    batch, queries, heads, _, points, _ = places.shape
    channels = tokens.shape[3]
    output = np.zeros((batch, queries, heads, channels))
    for index in np.ndindex(batch, queries, heads, len(level_shapes), points):
        image, query, head, level, _ = index
        height, width = level_shapes[level]
        start = sum(rows * columns for rows, columns in level_shapes[:level])
        column, row = places[index] * (width, height) - 0.5
        if not (-1 < column < width and -1 < row < height):
            continue  # farther than one cell from every centre; also where it is no number
        for r in (floor(row), floor(row) + 1):
            for c in (floor(column), floor(column) + 1):
                if 0 <= r < height and 0 <= c < width:
                    share = (1 - abs(row - r)) * (1 - abs(column - c)) * shares[index]
                    output[image, query, head] += share * tokens[image, start + r * width + c, head]
    return output.reshape(batch, queries, heads * channels)


SHAPES: list[Shapes] = [
    [(1, 1)],
    [(3, 5)],
    [(7, 1), (1, 6)],
    [(2, 3), (4, 6), (8, 12)],
    [(5, 3), (2, 2), (1, 7), (3, 3)],
    [(9, 7), (5, 4), (3, 2), (2, 1), (1, 1)],
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_values_equal_the_definition_by_loops(shapes: Shapes) -> None:
    arguments = inputs(shapes)
    expected = torch.from_numpy(attention_by_loops(*arguments))
    torch.testing.assert_close(ms_deform_attn(*arguments), expected)
    torch.testing.assert_close(ms_deform_attn_reference(*arguments), expected)


@settings(max_examples=60)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
    batch=st.integers(1, 3),
    queries=st.integers(1, 5),
    heads=st.integers(1, 3),
    channels=st.integers(1, 5),
    points=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.0, 0.2, 3.0]),
)
def test_values_and_gradients_equal_the_reference(
    shapes: Shapes,
    batch: int,
    queries: int,
    heads: int,
    channels: int,
    points: int,
    seed: int,
    spread: float,
) -> None:
    arguments = inputs(
        shapes,
        batch=batch,
        queries=queries,
        heads=heads,
        channels=channels,
        points=points,
        seed=seed,
        spread=spread,
    )
    ours, our_gradients = value_and_gradients(ms_deform_attn, arguments)
    theirs, their_gradients = value_and_gradients(ms_deform_attn_reference, arguments)
    torch.testing.assert_close(ours, theirs)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient)


def value_and_gradients(
    function: Callable[..., Tensor], arguments: Inputs
) -> tuple[Tensor, tuple[Tensor, ...]]:
    value, shapes, locations, weights = arguments
    leaves = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
    output = function(leaves[0], shapes, *leaves[1:])
    # An upstream gradient that is not constant, as a plain sum's would be.
    upstream = torch.linspace(-1.0, 2.0, output.numel(), dtype=output.dtype).view_as(output)
    return output.detach(), torch.autograd.grad(output, leaves, upstream)


def test_a_location_at_a_cell_centre_reads_that_cell() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)
    centre = torch.tensor([(1 + 0.5) / 3, (1 + 0.5) / 2]).view(1, 1, 1, 1, 1, 2)
    weight = torch.ones(1, 1, 1, 1, 1)
    assert ms_deform_attn(value, [(2, 3)], centre, weight).item() == pytest.approx(4.0)


def test_the_corner_of_a_map_reads_a_quarter_of_its_cell() -> None:
    value, weight = torch.full((1, 4, 1, 1), 8.0), torch.ones(1, 1, 1, 1, 1)
    for corner in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        location = torch.tensor(corner).view(1, 1, 1, 1, 1, 2)
        assert ms_deform_attn(value, [(2, 2)], location, weight).item() == 2.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0, -1.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_location_that_is_no_number_or_outside_reads_nothing(bad: float, axis: int) -> None:
    value, shapes, locations, weights = inputs([(3, 5), (2, 2)], dtype=torch.float32, spread=0.0)
    locations[0, 1, 0, 1, 0, axis] = bad
    output, (grad_value, grad_locations, grad_weights) = value_and_gradients(
        ms_deform_attn, (value, shapes, locations, weights)
    )

    expected = torch.from_numpy(attention_by_loops(value, shapes, locations, weights)).float()
    torch.testing.assert_close(output, expected)
    assert grad_locations[0, 1, 0, 1, 0].tolist() == [0.0, 0.0]
    assert grad_weights[0, 1, 0, 1, 0].item() == 0.0
    assert all(bool(gradient.isfinite().all()) for gradient in (grad_value, grad_locations))


@pytest.mark.parametrize(
    "changes",
    [{"batch": 0}, {"queries": 0}, {"points": 0}, {"channels": 0}, {"heads": 0}],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_to_do_gives_an_empty_or_zero_answer(changes: dict[str, int]) -> None:
    arguments = inputs([(2, 3), (1, 2)], **changes)
    sizes = {"batch": 2, "queries": 3, "heads": 2, "channels": 3} | changes
    output, gradients = value_and_gradients(ms_deform_attn, arguments)
    assert output.shape == (sizes["batch"], sizes["queries"], sizes["heads"] * sizes["channels"])
    assert not output.any()
    for gradient, argument in zip(gradients, (arguments[0], *arguments[2:]), strict=True):
        assert gradient.shape == argument.shape
        assert not gradient.any()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_types_stay_in_their_type_and_compute_in_float32(
    dtype: torch.dtype, limit: float
) -> None:
    value, shapes, locations, weights = inputs([(40, 60), (20, 30)], dtype=dtype)
    output = ms_deform_attn(value, shapes, locations, weights)
    assert output.dtype == dtype
    # The inputs are rounded once; from there on only the answer is.
    exact = torch.from_numpy(attention_by_loops(value, shapes, locations, weights))
    torch.testing.assert_close(output.double(), exact, rtol=limit, atol=limit)
    _, gradients = value_and_gradients(ms_deform_attn, (value, shapes, locations, weights))
    assert {gradient.dtype for gradient in gradients} == {dtype}


def test_weights_enter_linearly() -> None:
    value, shapes, locations, weights = inputs([(4, 4), (2, 2)])
    once = ms_deform_attn(value, shapes, locations, weights)
    torch.testing.assert_close(ms_deform_attn(value, shapes, locations, 2 * weights), 2 * once)
    torch.testing.assert_close(ms_deform_attn(-value, shapes, locations, weights), -once)


def test_arguments_need_not_be_contiguous() -> None:
    value, shapes, locations, weights = inputs([(4, 5), (2, 2)])
    expected, expected_gradients = value_and_gradients(
        ms_deform_attn, (value, shapes, locations, weights)
    )
    strided = value.transpose(1, 2).contiguous().transpose(1, 2)
    moved = locations.movedim(-1, 0).contiguous().movedim(0, -1)
    assert not strided.is_contiguous()
    assert not moved.is_contiguous()
    output, gradients = value_and_gradients(ms_deform_attn, (strided, shapes, moved, weights))
    torch.testing.assert_close(output, expected)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


def smooth_inputs(shapes: Shapes) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves whose locations keep off the cell centres, where bilinear reading has a kink."""
    value, _, locations, weights = inputs(shapes, spread=0.4)
    sizes = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float64)
    cells = locations * sizes.view(-1, 1, 2) - 0.5
    lower = cells.floor()
    cells = lower + 0.2 + 0.6 * (cells - lower)
    locations = (cells + 0.5) / sizes.view(-1, 1, 2)
    return value.requires_grad_(), locations.requires_grad_(), weights.requires_grad_()


@pytest.mark.parametrize("shapes", [[(3, 4)], [(2, 3), (4, 1)]], ids=str)
def test_gradients_equal_finite_differences(shapes: Shapes) -> None:
    value, locations, weights = smooth_inputs(shapes)
    assert torch.autograd.gradcheck(
        lambda v, x, w: ms_deform_attn(v, shapes, x, w), (value, locations, weights)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_operator_keeps_the_contract_of_custom_operators(dtype: torch.dtype) -> None:
    value, shapes, locations, weights = inputs([(3, 4), (2, 2)], dtype=dtype)
    flat = [side for shape in shapes for side in shape]
    leaves = [tensor.requires_grad_() for tensor in (value, locations, weights)]
    torch.library.opcheck(
        torch.ops.calibnet.ms_deform_attn.default, (leaves[0], flat, leaves[1], leaves[2])
    )
    gradient = torch.randn(2, 3, 6, dtype=dtype)
    torch.library.opcheck(
        torch.ops.calibnet.ms_deform_attn_backward.default,
        (gradient, value.detach(), flat, locations.detach(), weights.detach()),
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_graph_holds_it_whole(dynamic: bool) -> None:
    shapes = [(3, 4), (2, 2)]

    def doubled(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return 2.0 * ms_deform_attn(value, shapes, locations, weights)

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for queries in (3, 5):
        value, _, locations, weights = inputs(shapes, queries=queries)
        arguments = (value, shapes, locations, weights)
        expected, expected_gradients = value_and_gradients(
            lambda v, _, x, w: doubled(v, x, w), arguments
        )
        output, gradients = value_and_gradients(lambda v, _, x, w: compiled(v, x, w), arguments)
        torch.testing.assert_close(output, expected)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, expected_gradient)


def test_fake_tensors_carry_the_shape_without_memory() -> None:
    value, shapes, locations, weights = (
        argument.to("meta") if isinstance(argument, Tensor) else argument
        for argument in inputs([(3, 4), (2, 2)], dtype=torch.float16)
    )
    output = ms_deform_attn(value, shapes, locations, weights)
    assert (output.shape, output.dtype, output.is_meta) == ((2, 3, 6), torch.float16, True)


@pytest.mark.parametrize(
    ("tokens", "integer"), [(2**21 - 1, torch.int32), (2**21, torch.int64)], ids=["int32", "int64"]
)
def test_table_rows_take_as_many_bits_as_the_table_needs(tokens: int, integer: torch.dtype) -> None:
    heads, height = 1024, 1
    # Expanded, so that the huge table takes no memory.
    value = torch.zeros(1).expand(1, tokens, heads, 1)
    last = torch.full((heads, 1), float(tokens - 1))
    first = torch.zeros(heads, 1)
    inside = torch.ones(heads, 1, dtype=torch.bool)
    x = _Axis(index=(first, last), share=(first, first), inside=(inside, inside))
    y = _Axis(index=(first, first), share=(first, first), inside=(inside, inside))

    rows = _table_rows(value, (height, tokens), x, y, points=1)

    head = torch.arange(heads)
    assert rows.dtype == integer
    for corner, token in enumerate((0, tokens - 1, 0, tokens - 1)):
        torch.testing.assert_close(rows[:, corner, 0].long(), token * heads + head)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"value": torch.zeros(2, 6, 3)},
            "value (2, 6, 3), locations (2, 3, 2, 1, 2, 2), weights (2, 3, 2, 1, 2); "
            "expected value (B, L, M, D)",
        ),
        (
            {"weights": torch.zeros(2, 3, 2, 1, 4)},
            "do not belong together on 1 levels; "
            "expected locations (2, 3, 2, 1, 2, 2) and weights (2, 3, 2, 1, 2)",
        ),
        ({"locations": torch.zeros(2, 3, 2, 1, 2, 3)}, "expected locations (2, 3, 2, 1, 2, 2)"),
        ({"shapes": [(2, 3), (1, 1)]}, "do not belong together on 2 levels"),
        ({"shapes": [(2, 4)]}, "level_shapes [(2, 4)] hold 8 tokens, value has 6"),
        (
            {"weights": torch.zeros(2, 3, 2, 1, 2, device="meta")},
            "value is on cpu, locations on cpu, weights on meta; move them to one device",
        ),
        (
            {"value": torch.zeros(2, 6, 2, 3, dtype=torch.float64)},
            "value is torch.float64, locations torch.float32, weights torch.float32; "
            "use one floating type",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_their_shapes(
    changes: dict[str, object], message: str
) -> None:
    value, shapes, locations, weights = inputs([(2, 3)], dtype=torch.float32)
    fitting = {"value": value, "shapes": shapes, "locations": locations, "weights": weights}
    with pytest.raises(ValueError, match=re.escape(message)):
        ms_deform_attn(*(fitting | changes).values())  # type: ignore[arg-type]


@pytest.mark.parametrize("shapes", [[(0, 3), (2, 3)], [(2, 3), (3, 0)], [(-2, -3)]], ids=str)
def test_levels_without_cells_are_refused(shapes: Shapes) -> None:
    _, _, locations, weights = inputs([(1, 1)] * len(shapes), dtype=torch.float32)
    with pytest.raises(ValueError, match="level_shapes"):
        ms_deform_attn(torch.zeros(2, 6, 2, 3), shapes, locations, weights)


def test_integers_are_refused() -> None:
    value, shapes, locations, weights = (
        argument.long() if isinstance(argument, Tensor) else argument
        for argument in inputs([(2, 3)])
    )
    with pytest.raises(ValueError, match=r"torch\.int64.*use one floating type"):
        ms_deform_attn(value, shapes, locations, weights)
