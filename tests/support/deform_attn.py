"""Arguments, definitions and yardsticks for tests of deformable attention.

Arguments are tuples in the order in which the public functions take them: (value, level shapes,
locations, weights) or (value, level shapes, packed, reference points or None).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, floor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calibnet_core.ops import ms_deform_attn, ms_deform_attn_fused, ms_deform_attn_reference

Shapes = list[tuple[int, int]]
Inputs = tuple[Tensor, Shapes, Tensor, Tensor]
FusedInputs = tuple[Tensor, Shapes, Tensor, Tensor | None]

PICTURES: dict[str, Shapes] = {
    "320x480": [(10, 15), (20, 30), (40, 60)],
    "480x640": [(15, 20), (30, 40), (60, 80)],
}
"""The levels that the model's transformer sees of a picture, coarsest first."""


# --- arguments ----------------------------------------------------------------------------------


def random_inputs(
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
    """Arguments of the drop-in operator whose locations reach `spread` beyond the maps."""
    generator = torch.Generator().manual_seed(seed)
    value = 2.0 * _uniform(generator, batch, count_tokens(shapes), heads, channels) - 1.0
    weights = _uniform(generator, batch, queries, heads, len(shapes), points)
    locations = _uniform(generator, *weights.shape, 2) * (1.0 + 2.0 * spread) - spread
    return value.to(dtype), shapes, locations.to(dtype), weights.to(dtype)


def random_fused_inputs(
    shapes: Shapes,
    *,
    batch: int = 2,
    queries: int = 3,
    heads: int = 2,
    channels: int = 3,
    points: int = 2,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    spread: float = 2.5,
    on_grid: bool = False,
) -> FusedInputs:
    """Arguments of the fused operator whose offsets scatter by `spread` cells.

    `on_grid` makes every token a query, whatever `queries` is, and leaves out reference points.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = count_tokens(shapes)
    value = 2.0 * _uniform(generator, batch, tokens, heads, channels) - 1.0
    samples = heads * len(shapes) * points
    rows = tokens if on_grid else queries
    packed = torch.randn(batch, rows, 3 * samples, generator=generator, dtype=torch.float64)
    packed[:, :, : 2 * samples] *= spread
    reference_points = None if on_grid else _uniform(generator, batch, queries, 2).to(dtype)
    return value.to(dtype), shapes, packed.to(dtype), reference_points


def random_grid_inputs(shapes: Shapes, **sizes: Any) -> FusedInputs:
    return random_fused_inputs(shapes, **sizes, on_grid=True)


def smooth_features(shapes: Shapes, *, batch: int, heads: int, channels: int, seed: int) -> Tensor:
    """Value maps (B, L, M, D) of low frequency: one coarse picture, enlarged to every level."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch * heads * channels, 1, 4, 5, generator=generator).double()
    levels = [
        F.interpolate(coarse, size=shape, mode="bicubic", align_corners=False).flatten(2)
        for shape in shapes
    ]
    tokens = torch.cat(levels, dim=2).view(batch, heads, channels, -1)
    return tokens.permute(0, 3, 1, 2).contiguous()


def away_from_kinks(arguments: Inputs) -> Inputs:
    """Move locations off the cell centres, where bilinear reading has no derivative."""
    value, shapes, locations, weights = arguments
    cells = widths_and_heights(shapes)
    return value, shapes, (_off_whole_numbers(locations * cells - 0.5) + 0.5) / cells, weights


def fused_away_from_kinks(arguments: FusedInputs) -> FusedInputs:
    """Change offsets so that no point looks at a cell centre."""
    value, shapes, packed, reference_points = arguments
    offsets, logits = split_packed(arguments)
    centres = centres_by_loops(shapes) if reference_points is None else reference_points
    origin = centres[..., :, None, None, None, :] * widths_and_heights(shapes) - 0.5
    offsets = _off_whole_numbers(origin + offsets) - origin
    packed = torch.cat((offsets.flatten(2), logits.flatten(2)), dim=2).to(packed.dtype)
    return value, shapes, packed, reference_points


def fresh_leaves(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies that collect gradients of all tensors among `arguments`."""
    return tuple(
        argument.detach().clone().requires_grad_() if isinstance(argument, Tensor) else argument
        for argument in arguments
    )


def cast(arguments: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Convert all tensors among `arguments`."""
    return tuple(
        argument.to(dtype) if isinstance(argument, Tensor) else argument for argument in arguments
    )


def tensors_of(arguments: tuple[Any, ...]) -> list[Tensor]:
    return [argument for argument in arguments if isinstance(argument, Tensor)]


def with_tensors(arguments: tuple[Any, ...], tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """`arguments` with other tensors in the same places."""
    remaining = iter(tensors)
    return tuple(
        next(remaining) if isinstance(argument, Tensor) else argument for argument in arguments
    )


def flat(level_shapes: Shapes) -> list[int]:
    """Level shapes as the raw operators take them."""
    return [side for shape in level_shapes for side in shape]


def count_tokens(shapes: Shapes) -> int:
    return sum(height * width for height, width in shapes)


def widths_and_heights(shapes: Shapes) -> Tensor:
    """(levels, 1, 2), to go with (..., levels, P, 2)."""
    return torch.tensor([(width, height) for height, width in shapes]).double().view(-1, 1, 2)


def split_packed(arguments: FusedInputs) -> tuple[Tensor, Tensor]:
    """Offsets (B, Q, M, levels, P, 2) and logits (B, Q, M, levels, P)."""
    value, shapes, packed, _ = arguments
    offsets, logits = packed.tensor_split([2 * packed.shape[2] // 3], dim=2)
    layout = (value.shape[2], len(shapes), -1)
    return offsets.unflatten(2, (*layout, 2)), logits.unflatten(2, layout)


def _uniform(generator: torch.Generator, *size: int) -> Tensor:
    return torch.rand(size, generator=generator, dtype=torch.float64)


def _off_whole_numbers(pixels: Tensor) -> Tensor:
    lower = pixels.floor()
    return lower + 0.2 + 0.6 * (pixels - lower)


# --- definitions --------------------------------------------------------------------------------


def attention_by_loops(
    value: Tensor, level_shapes: Shapes, locations: Tensor, weights: Tensor
) -> NDArray[np.float64]:
    """The drop-in operator, reading by reading."""
    tokens, places, shares = (_doubles(tensor) for tensor in (value, locations, weights))
    batch, queries, heads, _, points, _ = places.shape
    channels = tokens.shape[3]
    output = np.zeros((batch, queries, heads, channels))
    for index in np.ndindex(batch, queries, heads, len(level_shapes), points):
        image, query, head, level, _ = index
        height, width = level_shapes[level]
        column, row = places[index] * (width, height) - 0.5
        for token, share in _readings(level_shapes, level, column, row):
            output[image, query, head] += shares[index] * share * tokens[image, token, head]
    return output.reshape(batch, queries, heads * channels)


def fused_by_loops(
    value: Tensor, level_shapes: Shapes, packed: Tensor, reference_points: Tensor | None = None
) -> NDArray[np.float64]:
    """The fused operator, number by number from one query's row of `packed`."""
    tokens, rows = _doubles(value), _doubles(packed)
    batch, _, heads, channels = tokens.shape
    queries, levels = rows.shape[1], len(level_shapes)
    points = rows.shape[2] // (3 * heads * levels)
    looks_from = centres_by_loops(level_shapes) if reference_points is None else reference_points
    places = np.broadcast_to(_doubles(looks_from), (batch, queries, 2))
    output = np.zeros((batch, queries, heads, channels))
    for image, query, head in np.ndindex(batch, queries, heads):
        row, (x, y) = rows[image, query], places[image, query]
        first = head * levels * points
        logits = row[2 * heads * levels * points + first :][: levels * points]
        exponentials = [exp(logit - max(logits)) for logit in logits]
        for sample in range(levels * points):
            height, width = level_shapes[sample // points]
            column = x * width + row[2 * (first + sample)] - 0.5
            line = y * height + row[2 * (first + sample) + 1] - 0.5
            weight = exponentials[sample] / sum(exponentials)
            for token, share in _readings(level_shapes, sample // points, column, line):
                output[image, query, head] += weight * share * tokens[image, token, head]
    return output.reshape(batch, queries, heads * channels)


def _readings(
    level_shapes: Shapes, level: int, column: float, row: float
) -> Iterator[tuple[int, float]]:
    """Tokens around a pixel of a level and their shares: bilinear, zero outside the map."""
    height, width = level_shapes[level]
    if not (-1 < column < width and -1 < row < height):
        return  # farther than one cell from every centre; also where it is no number
    start = count_tokens(level_shapes[:level])
    for r in (floor(row), floor(row) + 1):
        for c in (floor(column), floor(column) + 1):
            if 0 <= r < height and 0 <= c < width:
                yield start + r * width + c, (1 - abs(row - r)) * (1 - abs(column - c))


def centres_by_loops(level_shapes: Shapes) -> Tensor:
    """Where every token lies on its own level, (L, 2) x, y in 0..1."""
    return torch.tensor(
        [
            ((column + 0.5) / width, (row + 0.5) / height)
            for height, width in level_shapes
            for row in range(height)
            for column in range(width)
        ],
        dtype=torch.float64,
    )


def unfused(
    value: Tensor, level_shapes: Shapes, packed: Tensor, reference_points: Tensor | None = None
) -> Inputs:
    """What the drop-in operator must be given to compute the same as the fused one; in float64."""
    offsets, logits = split_packed((value, level_shapes, packed.double(), None))
    if reference_points is None:
        reference_points = centres_by_loops(level_shapes)
    origin = reference_points.double()[..., :, None, None, None, :]
    weights = logits.flatten(3).softmax(-1).view(logits.shape)
    return value, level_shapes, origin + offsets / widths_and_heights(level_shapes), weights


def fused_reference(
    value: Tensor, level_shapes: Shapes, packed: Tensor, reference_points: Tensor | None = None
) -> Tensor:
    """The fused operator by `ms_deform_attn_reference`, in float64."""
    return ms_deform_attn_reference(
        *unfused(value.double(), level_shapes, packed, reference_points)
    )


def _doubles(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().double().numpy())


# --- yardsticks ---------------------------------------------------------------------------------


def upstream_of(output: Tensor) -> Tensor:
    """A gradient for `output` that is not constant, as a plain sum's would be."""
    ramp = torch.linspace(-1.0, 2.0, output.numel(), dtype=torch.float64)
    return ramp.to(output.dtype).view_as(output)


def value_and_gradients(
    function: Callable[..., Tensor], arguments: tuple[Any, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Output, and the gradients of all tensors among `arguments`, in their order."""
    leaves = fresh_leaves(arguments)
    output = function(*leaves)
    return output.detach(), list(
        torch.autograd.grad(output, tensors_of(leaves), upstream_of(output))
    )


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of `expected`; NaN where either is not finite."""
    return float((actual.double() - expected).norm() / expected.norm())


# --- both operators -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Operator:
    """One way to call deformable attention, for tests of what all ways have in common."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    by_loops: Callable[..., NDArray[np.float64]]
    random: Callable[..., Any]
    away_from_kinks: Callable[[Any], Any]
    fused: bool
    spreads: tuple[float, float, float]
    """What `random` takes for few, some and most readings outside the maps."""

    def stored(self, arguments: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
        """Round `arguments` as a caller has them beside a value of `dtype`.

        What a linear layer puts out has value's type, places are float32 or float64.
        """
        computing = torch.float64 if dtype == torch.float64 else torch.float32
        value, shapes, third, fourth = arguments
        third = third.to(dtype if self.fused else computing)
        return value.to(dtype), shapes, third, None if fourth is None else fourth.to(computing)

    def places(self, arguments: tuple[Any, ...]) -> Tensor:
        """The locations or offsets among `arguments`, (B, Q, M, levels, P, 2), to write to."""
        return split_packed(arguments)[0] if self.fused else arguments[2]

    def look_at(self, arguments: FusedInputs | Inputs, pixels: Tensor) -> None:
        """Make all points look at `pixels`, (..., 2) x, y, of their levels, in float64."""
        _, shapes, _, reference_points = arguments
        cells, places = widths_and_heights(shapes), self.places(arguments)
        if not self.fused:
            places[:] = (pixels + 0.5) / cells
            return
        centres = centres_by_loops(shapes) if reference_points is None else reference_points
        places[:] = pixels + 0.5 - centres[..., :, None, None, None, :] * cells

    def shares(self, arguments: tuple[Any, ...]) -> Tensor:
        """The weights or logits among `arguments`, (B, Q, M, levels, P), to write to."""
        return split_packed(arguments)[1] if self.fused else arguments[3]

    def raw(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """`arguments` by the names that the raw operators give them."""
        value, shapes, third, fourth = arguments
        operands = {"value": value, "level_shapes": flat(shapes)}
        if self.fused:
            return operands | {"reference_points": fourth, "packed": third}
        return operands | {"locations": third, "weights": fourth}


DROP_IN = Operator(
    name="drop-in",
    function=ms_deform_attn,
    reference=ms_deform_attn_reference,
    by_loops=attention_by_loops,
    random=random_inputs,
    away_from_kinks=away_from_kinks,
    fused=False,
    spreads=(0.0, 0.3, 3.0),
)
FUSED_AT_POINTS = Operator(
    name="fused-at-points",
    function=ms_deform_attn_fused,
    reference=fused_reference,
    by_loops=fused_by_loops,
    random=random_fused_inputs,
    away_from_kinks=fused_away_from_kinks,
    fused=True,
    spreads=(0.3, 2.5, 30.0),
)
FUSED_ON_GRID = Operator(
    name="fused-on-grid",
    function=ms_deform_attn_fused,
    reference=fused_reference,
    by_loops=fused_by_loops,
    random=random_grid_inputs,
    away_from_kinks=fused_away_from_kinks,
    fused=True,
    spreads=(0.3, 2.5, 30.0),
)
OPERATORS = (DROP_IN, FUSED_AT_POINTS, FUSED_ON_GRID)
