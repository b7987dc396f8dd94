"""Multi-scale deformable attention as the operator `calibnet::ms_deform_attn`.

Every query looks at a few points of every feature level, reads the value map there bilinearly (zero
outside) and adds the readings with its attention weights (Zhu et al., Deformable DETR, equation 3).

Three things live here: the operator's schema with its fake kernel and gradient formula, the eager
kernel behind it that needs no compiler, and `ms_deform_attn_reference`, the plain definition that
tests trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LevelShapes = Sequence[tuple[int, int]]
"""(height, width) of every level, in the order in which their tokens are concatenated."""

_SCHEMA = "(Tensor value, SymInt[] level_shapes, Tensor locations, Tensor weights) -> Tensor"
_BACKWARD_SCHEMA = (
    "(Tensor grad_output, Tensor value, SymInt[] level_shapes, Tensor locations, Tensor weights)"
    " -> (Tensor, Tensor, Tensor)"
)


def ms_deform_attn(
    value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample `value` at `locations` on every level and add the samples with `weights`.

    Args:
        value: (B, L, M, D), the tokens of all levels, M heads of D channels; L is the sum of all
            height * width.
        level_shapes: (height, width) of each level.
        locations: (B, Q, M, levels, P, 2), x then y; 0 and 1 are the outer edges of the level.
            Readings outside are 0.
        weights: (B, Q, M, levels, P), usually a softmax over levels * P.

    Returns:
        (B, Q, M * D).

    Raises:
        ValueError: the shapes do not belong together, or devices or types are mixed.
    """
    _check(value, level_shapes, locations, weights)
    flat_shapes = [side for shape in level_shapes for side in shape]
    output: Tensor = torch.ops.calibnet.ms_deform_attn(value, flat_shapes, locations, weights)
    return output


def ms_deform_attn_reference(
    value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """The definition, level by level with `grid_sample`; called like `ms_deform_attn`.

    Slow and memory hungry, differentiable, exact in float64: the oracle for every other
    implementation.
    """
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    samples = []
    levels = value.split([height * width for height, width in level_shapes], dim=1)
    for index, ((height, width), level) in enumerate(zip(level_shapes, levels, strict=True)):
        maps = level.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = (
            2.0
            * locations[:, :, :, index].transpose(1, 2).reshape(batch * heads, queries, points, 2)
            - 1.0
        )
        samples.append(
            F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        )
    sampled = torch.stack(samples, dim=-2).flatten(-2)  # (B*M, D, Q, levels*P)
    mixing = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(level_shapes) * points)
    return (
        (sampled * mixing)
        .sum(-1)
        .view(batch, heads * channels, queries)
        .transpose(1, 2)
        .contiguous()
    )


def _check(value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor) -> None:
    shapes = (
        f"value {tuple(value.shape)}, locations {tuple(locations.shape)}, weights "
        f"{tuple(weights.shape)}"
    )
    if value.dim() != 4 or locations.dim() != 6 or weights.dim() != 5:
        raise ValueError(
            f"ms_deform_attn: {shapes}; expected value (B, L, M, D), locations "
            "(B, Q, M, levels, P, 2), weights (B, Q, M, levels, P)"
        )
    batch, tokens, heads, _ = value.shape
    expected = (batch, locations.shape[1], heads, len(level_shapes), locations.shape[4])
    if tuple(locations.shape) != (*expected, 2) or tuple(weights.shape) != expected:
        raise ValueError(
            f"ms_deform_attn: {shapes} do not belong together on {len(level_shapes)} levels; "
            f"expected locations {(*expected, 2)} and weights {expected}"
        )
    if any(side < 1 for shape in level_shapes for side in shape):
        raise ValueError(
            f"ms_deform_attn: level_shapes are {list(level_shapes)}; every height and width must "
            "be 1 or more"
        )
    if (total := sum(height * width for height, width in level_shapes)) != tokens:
        raise ValueError(
            f"ms_deform_attn: level_shapes {list(level_shapes)} hold {total} tokens, value "
            f"has {tokens}"
        )
    if not value.device == locations.device == weights.device:
        raise ValueError(
            f"ms_deform_attn: value is on {value.device}, locations on {locations.device}, "
            f"weights on {weights.device}; move them to one device"
        )
    if not value.dtype == locations.dtype == weights.dtype or not value.is_floating_point():
        raise ValueError(
            f"ms_deform_attn: value is {value.dtype}, locations {locations.dtype}, weights "
            f"{weights.dtype}; use one floating type"
        )


# --- the eager kernel ---------------------------------------------------------------------------
# One embedding_bag over a table of all tokens and heads. A bag is one (batch, query, head) and
# holds 4 corners x K readings, K = levels * P. All index arithmetic runs on (bags, K) arrays whose
# last axis is contiguous; it would otherwise cost several times the gathering itself.


@dataclass
class _Axis:
    """The two grid lines around each sampling coordinate along one axis; every tensor is (bags, K).

    `index` is in range and whole but of floating type, `share` is the bilinear factor, 0 for a line
    outside the map.
    """

    index: tuple[Tensor, Tensor]
    share: tuple[Tensor, Tensor]
    inside: tuple[Tensor, Tensor]


def _neighbours(coordinate: Tensor, sizes: Sequence[int]) -> _Axis:
    """Find the grid lines around `coordinate`, (B, Q, M, levels, P), on levels of `sizes` lines."""
    points = coordinate.shape[-1]
    size = coordinate.new_tensor(list(sizes)).repeat_interleave(points)
    flat = coordinate.reshape(-1, size.numel())
    # NaN and far-away locations read nothing: they land beyond the outermost lines, where every
    # share is 0. Clamping comes before the integer conversion, which overflow would make undefined.
    pixel = (flat * size).sub_(0.5).nan_to_num_(nan=-2.0).clamp_min_(-2.0)
    pixel = torch.minimum(pixel, size + 1.0, out=pixel)
    lower = pixel.floor()
    fraction = pixel.sub_(lower)
    upper = lower + 1.0
    lower_inside = (lower >= 0.0) & (lower < size)
    upper_inside = (upper >= 0.0) & (upper < size)
    last = size - 1.0
    return _Axis(
        index=(
            torch.minimum(lower.clamp_min_(0.0), last),
            torch.minimum(upper.clamp_min_(0.0), last),
        ),
        share=((1.0 - fraction).mul_(lower_inside), fraction.mul_(upper_inside)),
        inside=(lower_inside, upper_inside),
    )


def _table_rows(
    value: Tensor, level_shapes: Sequence[int], x: _Axis, y: _Axis, points: int
) -> Tensor:
    """Row of each corner in `value.view(B * L * M, D)`.

    Returns:
        (bags, 4, K) integers: upper-left, upper-right, lower-left, lower-right.
    """
    batch, tokens, heads, _ = value.shape
    bags, per_bag = x.index[0].shape
    integer = torch.int32 if batch * tokens * heads < 2**31 else torch.int64
    widths = list(level_shapes[1::2])
    areas = [height * width for height, width in zip(level_shapes[0::2], widths, strict=True)]
    starts = [sum(areas[:level]) for level in range(len(areas))]
    # Token numbers stay exact in float32: below 2**24 of them a level stack is larger than any
    # image allowed.
    width = x.index[0].new_tensor(widths).repeat_interleave(points)
    start = x.index[0].new_tensor(starts).repeat_interleave(points)
    first = torch.arange(batch, device=value.device, dtype=integer).view(-1, 1, 1) * (
        tokens * heads
    )
    first = (first + torch.arange(heads, device=value.device, dtype=integer)).expand(
        -1, bags // (batch * heads), -1
    )
    columns = [(index * heads).to(integer).add_(first.reshape(bags, 1)) for index in x.index]
    rows = torch.empty(bags, 4, per_bag, device=value.device, dtype=integer)
    for line, index in enumerate(y.index):
        line_start = (index * width).add_(start).to(integer).mul_(heads)
        for side, column in enumerate(columns):
            torch.add(line_start, column, out=rows[:, 2 * line + side])
    return rows


def _axes(level_shapes: Sequence[int], locations: Tensor) -> tuple[_Axis, _Axis]:
    # Half types resolve a coordinate to no better than a pixel on large maps, so coordinates are at
    # least float32.
    locations = locations if locations.dtype == torch.float64 else locations.float()
    return _neighbours(locations[..., 0], level_shapes[1::2]), _neighbours(
        locations[..., 1], level_shapes[0::2]
    )


def _forward(
    value: Tensor, level_shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    if value.numel() == 0 or weights.numel() == 0:
        return value.new_zeros(batch, queries, heads * channels)
    x, y = _axes(level_shapes, locations)
    rows = _table_rows(value, level_shapes, x, y, points)
    bags, _, per_bag = rows.shape
    mixing = torch.empty(rows.shape, device=value.device, dtype=x.share[0].dtype)
    for line, line_share in enumerate(y.share):
        weighted = line_share * weights.reshape(bags, per_bag)
        for side, side_share in enumerate(x.share):
            torch.mul(weighted, side_share, out=mixing[:, 2 * line + side])
    table = value.reshape(-1, channels).to(mixing.dtype)
    output = F.embedding_bag(
        rows.view(bags, -1), table, per_sample_weights=mixing.view(bags, -1), mode="sum"
    )
    return output.view(batch, queries, heads * channels).to(value.dtype)


def _backward(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `_forward` with respect to value, locations and weights."""
    channels, points = value.shape[3], locations.shape[4]
    if value.numel() == 0 or weights.numel() == 0:
        return torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    x, y = _axes(level_shapes, locations)
    rows = _table_rows(value, level_shapes, x, y, points)
    bags, _, per_bag = rows.shape
    real = x.share[0].dtype
    weight = weights.reshape(bags, per_bag).to(real)
    grad_bags = grad_output.reshape(bags, 1, channels).to(real)
    table = value.reshape(-1, channels).to(real)

    grad_table = torch.zeros_like(table)
    dots: list[list[Tensor]] = [
        [],
        [],
    ]  # gradient times the value at corner [line][side], (bags, K)
    for line in (0, 1):  # one corner at a time bounds the memory to a quarter
        for side in (0, 1):
            index = rows[:, 2 * line + side].reshape(-1)
            mixing = (y.share[line] * x.share[side] * weight).unsqueeze(-1)
            grad_table.index_add_(0, index, (mixing * grad_bags).view(-1, channels))
            corner = table.index_select(0, index).view(bags, per_bag, channels)
            dots[line].append(torch.bmm(corner, grad_bags.transpose(1, 2)).squeeze(-1))

    lines = [dot[0] * x.share[0] + dot[1] * x.share[1] for dot in dots]
    grad_weights = lines[0] * y.share[0] + lines[1] * y.share[1]
    # A share falls by 1 per pixel at the lower line and rises by 1 at the upper one, where that
    # line exists.
    slopes = [dot[1] * x.inside[1] - dot[0] * x.inside[0] for dot in dots]
    grad_x = slopes[0] * y.share[0] + slopes[1] * y.share[1]
    grad_y = lines[1] * y.inside[1] - lines[0] * y.inside[0]
    width, height = (
        weight.new_tensor(list(level_shapes[k::2])).repeat_interleave(points) for k in (1, 0)
    )
    grad_locations = torch.stack((grad_x * width, grad_y * height), dim=-1) * weight.unsqueeze(-1)
    return (
        grad_table.view(value.shape).to(value.dtype),
        grad_locations.view(locations.shape).to(locations.dtype),
        grad_weights.view(weights.shape).to(weights.dtype),
    )


# --- registration -------------------------------------------------------------------------------


def _fake(value: Tensor, level_shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


def _backward_fake(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        value.new_empty(value.shape),
        locations.new_empty(locations.shape),
        weights.new_empty(weights.shape),
    )


def _save_inputs(
    ctx: Any, inputs: tuple[Tensor, Sequence[int], Tensor, Tensor], output: Tensor
) -> None:
    value, level_shapes, locations, weights = inputs
    ctx.level_shapes = level_shapes
    ctx.save_for_backward(value, locations, weights)


def _autograd(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = ctx.saved_tensors
    grad_value, grad_locations, grad_weights = torch.ops.calibnet.ms_deform_attn_backward(
        grad_output, value, ctx.level_shapes, locations, weights
    )
    return grad_value, None, grad_locations, grad_weights


torch.library.define("calibnet::ms_deform_attn", _SCHEMA)
torch.library.define("calibnet::ms_deform_attn_backward", _BACKWARD_SCHEMA)
# The eager kernel serves every device; a compiled kernel registered for one device key takes its
# place there.
torch.library.impl("calibnet::ms_deform_attn", "CompositeExplicitAutograd")(_forward)
torch.library.impl("calibnet::ms_deform_attn_backward", "CompositeExplicitAutograd")(_backward)
torch.library.register_fake("calibnet::ms_deform_attn")(_fake)
torch.library.register_fake("calibnet::ms_deform_attn_backward")(_backward_fake)
torch.library.register_autograd("calibnet::ms_deform_attn", _autograd, setup_context=_save_inputs)
