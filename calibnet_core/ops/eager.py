"""The operators in plain torch: what runs where no compiled kernel is, on every device.

All bilinear reading becomes one `embedding_bag` over a table of all tokens and heads. A bag is one
(image, query, head) and holds 4 corners x K readings, K = levels * P. All index arithmetic runs on
(bags, K) arrays whose last axis is contiguous; it would otherwise cost several times the gathering
itself.

Arguments are those of the functions in `ms_deform_attn.py`, already checked, with the level shapes
as one flat list. No kernel here writes with atomics where torch's deterministic mode is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BAGS_AT_A_TIME = 1024
"""Of the backward pass: a corner of that many is 1.5 MB at 12 points of 32 channels."""


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
    # float32 counts to 2**24; what it holds exactly is faster than integers.
    counting = x.index[0].dtype if tokens * heads < 2**24 else torch.float64
    width = x.index[0].new_tensor(widths, dtype=counting).repeat_interleave(points)
    start = x.index[0].new_tensor(starts, dtype=counting).repeat_interleave(points)
    first = torch.arange(batch, device=value.device, dtype=integer).view(-1, 1, 1) * (
        tokens * heads
    )
    first = (first + torch.arange(heads, device=value.device, dtype=integer)).expand(
        -1, bags // (batch * heads), -1
    )
    columns = [
        (index.to(counting) * heads).to(integer).add_(first.reshape(bags, 1)) for index in x.index
    ]
    rows = torch.empty(bags, 4, per_bag, device=value.device, dtype=integer)
    for line, index in enumerate(y.index):
        line_start = (index.to(counting) * width).add_(start).to(integer).mul_(heads)
        for side, column in enumerate(columns):
            torch.add(line_start, column, out=rows[:, 2 * line + side])
    return rows


def _axes(level_shapes: Sequence[int], locations: Tensor) -> tuple[_Axis, _Axis]:
    return _neighbours(locations[..., 0], level_shapes[1::2]), _neighbours(
        locations[..., 1], level_shapes[0::2]
    )


def forward(
    value: Tensor, level_shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    """Kernel of `calibnet::ms_deform_attn`."""
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


def backward(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel of `calibnet::ms_deform_attn_backward`: gradients of value, locations and weights."""
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
    # Gradient times the value at corner [line][side], (bags, K).
    dots = [[torch.empty_like(weight) for _ in range(2)] for _ in range(2)]
    # Corner by corner, and a CPU few bags at a time, so that what is gathered stays in its cache.
    step = BAGS_AT_A_TIME if value.device.type == "cpu" else bags
    for first in range(0, bags, step):
        part = slice(first, first + step)
        for line, side in ((0, 0), (0, 1), (1, 0), (1, 1)):
            index = rows[part, 2 * line + side].reshape(-1)
            mixing = (y.share[line][part] * x.share[side][part] * weight[part]).unsqueeze(-1)
            grad_table.index_add_(0, index, (mixing * grad_bags[part]).view(-1, channels))
            corner = table.index_select(0, index).view(-1, per_bag, channels)
            dots[line][side][part] = torch.bmm(corner, grad_bags[part].mT).squeeze(-1)

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


# --- the fused operator ---------------------------------------------------------------------------


def fused_forward(
    value: Tensor, level_shapes: Sequence[int], reference_points: Tensor | None, packed: Tensor
) -> Tensor:
    """Kernel of `calibnet::ms_deform_attn_fused`."""
    return forward(value, level_shapes, *unpack(value, level_shapes, reference_points, packed))


def fused_backward(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: Sequence[int],
    reference_points: Tensor | None,
    packed: Tensor,
) -> tuple[Tensor, Tensor]:
    """Kernel of `calibnet::ms_deform_attn_fused_backward`: gradients of value and packed."""
    locations, weights = unpack(value, level_shapes, reference_points, packed)
    grad_value, grad_locations, grad_weights = backward(
        grad_output, value, level_shapes, locations, weights
    )
    grad_offsets = grad_locations / cell_counts(level_shapes, locations)
    mean = (weights * grad_weights).sum((-2, -1), keepdim=True)
    grad_logits = weights * (grad_weights - mean)
    grad_packed = torch.cat((grad_offsets.flatten(2), grad_logits.flatten(2)), dim=-1)
    return grad_value, grad_packed.to(packed.dtype)


def unpack(
    value: Tensor, level_shapes: Sequence[int], reference_points: Tensor | None, packed: Tensor
) -> tuple[Tensor, Tensor]:
    """Locations (B, Q, M, levels, P, 2) and weights (B, Q, M, levels, P) of the fused operator."""
    batch, queries, width = packed.shape
    heads, levels = value.shape[2], len(level_shapes) // 2
    points = width // max(3 * heads * levels, 1)
    packed = packed.to(compute_type(value))
    offsets, logits = packed.split((2 * width // 3, width // 3), dim=-1)
    if reference_points is None:
        reference_points = grid_centres(level_shapes, packed).unsqueeze(0)
    places = reference_points[:, :, None, None, None]  # (B or 1, Q, 1, 1, 1, 2)
    offsets = offsets.reshape(batch, queries, heads, levels, points, 2)
    weights = logits.reshape(batch, queries, heads, levels * points).softmax(-1)
    locations = places + offsets / cell_counts(level_shapes, packed)
    return locations, weights.view(batch, queries, heads, levels, points)


def compute_type(value: Tensor) -> torch.dtype:
    """The type that coordinates, attention weights and sums have.

    Half types resolve a coordinate to no better than a pixel on large maps.
    """
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def cell_counts(level_shapes: Sequence[int], like: Tensor) -> Tensor:
    """Width and height of every level, (levels, 1, 2), typed and placed as `like`."""
    return like.new_tensor(list(level_shapes)).view(-1, 1, 2).flip(-1)


def grid_centres(level_shapes: Sequence[int], like: Tensor) -> Tensor:
    """Centre of every cell of every level, (L, 2) x, y in 0..1, typed and placed as `like`."""
    centres = []
    for height, width in zip(level_shapes[0::2], level_shapes[1::2], strict=True):
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
        centres.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).view(-1, 2))
    return torch.cat(centres)
