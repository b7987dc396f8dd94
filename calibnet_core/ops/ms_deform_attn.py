"""Multi-scale deformable attention: two operators, what they compute and how they differentiate.

Every query looks at a few points of every feature level, reads the value map there bilinearly (zero
outside) and adds the readings with its attention weights (Zhu et al., Deformable DETR, equation 3).

`ms_deform_attn` is given locations and weights; `ms_deform_attn_fused` is given what a linear layer
puts out, and does the softmax, the division and the addition itself. Both have one schema and
several kernels behind it: the compiled ones (`csrc/`, loaded by `library.py`) and one in plain
torch (`eager.py`). `ms_deform_attn_reference` is the definition that tests trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from calibnet_core.ops import eager, library

LevelShapes = Sequence[tuple[int, int]]
"""(height, width) of every level, in the order in which their tokens are concatenated."""

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def ms_deform_attn(
    value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample `value` at `locations` on every level and add the samples with `weights`.

    Coordinates, weights and sums are float32 (float64 beside a float64 value), whatever type the
    value has. Locations in half precision are accepted, but have lost up to a pixel already.

    Args:
        value: (B, L, M, D), the tokens of all levels, M heads of D channels; L is the sum of all
            height * width. Must be finite: also a reading outside the map multiplies one by 0.
        level_shapes: (height, width) of each level.
        locations: (B, Q, M, levels, P, 2), x then y; 0 and 1 are the outer edges of the level.
            Readings outside are 0, as are those at NaN and infinity.
        weights: (B, Q, M, levels, P), usually a softmax over levels * P.

    Returns:
        (B, Q, M * D) of value's type.

    Raises:
        ValueError: the shapes do not belong together, or devices or types are mixed.
        RuntimeError: an argument carries a forward-mode tangent; only gradients are implemented.
    """
    _check_value(
        "ms_deform_attn", value, level_shapes, {"locations": locations, "weights": weights}
    )
    _check_sampling(value, level_shapes, locations, weights)
    _refuse_tangents("ms_deform_attn", value, locations, weights)
    computing = eager.compute_type(value)
    output: Tensor = torch.ops.calibnet.ms_deform_attn(
        value.contiguous(),
        _flat(level_shapes),
        locations.to(computing).contiguous(),
        weights.to(computing).contiguous(),
    )
    return output


def ms_deform_attn_fused(
    value: Tensor,
    level_shapes: LevelShapes,
    packed: Tensor,
    reference_points: Tensor | None = None,
) -> Tensor:
    """Deformable attention straight from one linear layer's output.

    Equals `ms_deform_attn` at `reference_points + offsets / (width, height)` with the softmax of
    the logits over levels * P, in one pass. Offsets are in cells of the level they look at, which
    keeps half precision accurate: the point they are added to is float32.

    Args:
        value: (B, L, M, D), as in `ms_deform_attn`.
        level_shapes: (height, width) of each level.
        packed: (B, Q, 3 * M * levels * P): first all offsets, laid out (M, levels, P, 2), x then y,
            then all logits, laid out (M, levels, P). Of value's type or float32.
        reference_points: (Q, 2) or (B, Q, 2), x then y in 0..1, where each query looks from. None
            makes every token a query (Q = L) that looks from the centre of its own cell.

    Returns:
        (B, Q, M * D) of value's type.

    Raises:
        ValueError: the shapes do not belong together, or devices or types are mixed.
        RuntimeError: an argument carries a forward-mode tangent; only gradients are implemented.
    """
    others = {"packed": packed}
    if reference_points is not None:
        others["reference_points"] = reference_points
    _check_value("ms_deform_attn_fused", value, level_shapes, others)
    _check_fused(value, level_shapes, packed, reference_points)
    _refuse_tangents("ms_deform_attn_fused", value, packed, reference_points)
    if reference_points is not None:
        reference_points = reference_points.to(eager.compute_type(value))
        reference_points = reference_points.expand(value.shape[0], -1, -1).contiguous()
    output: Tensor = torch.ops.calibnet.ms_deform_attn_fused(
        value.contiguous(), _flat(level_shapes), reference_points, packed.contiguous()
    )
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


def _flat(level_shapes: LevelShapes) -> list[int]:
    return [side for shape in level_shapes for side in shape]


# --- what is refused ----------------------------------------------------------------------------


def _check_value(
    operator: str, value: Tensor, level_shapes: LevelShapes, others: dict[str, Tensor]
) -> None:
    """Refuse levels that are not value's, and types and devices that cannot be used together."""
    if value.dim() != 4:
        raise ValueError(f"{operator}: value is {tuple(value.shape)}; expected (B, L, M, D)")
    if not (
        isinstance(level_shapes, (tuple, list))
        and level_shapes
        and all(isinstance(shape, (tuple, list)) and len(shape) == 2 for shape in level_shapes)
        and all(isinstance(side, (int, torch.SymInt)) for shape in level_shapes for side in shape)
    ):
        raise ValueError(
            f"{operator}: level_shapes are {level_shapes}; expected a list with (height, width) of "
            "each level, in whole numbers"
        )
    if any(side < 1 for shape in level_shapes for side in shape):
        raise ValueError(
            f"{operator}: level_shapes are {list(level_shapes)}; every height and width must be 1 "
            "or more"
        )
    total = sum(height * width for height, width in level_shapes)
    if total != value.shape[1]:
        raise ValueError(
            f"{operator}: level_shapes {list(level_shapes)} hold {total} tokens, value has "
            f"{value.shape[1]}"
        )
    for name, other in others.items():
        if other.device != value.device:
            raise ValueError(
                f"{operator}: value is on {value.device}, {name} on {other.device}; move them to "
                "one device"
            )
        # Beside float64 everything is: a float32 operand would silently spoil what it was chosen
        # for. Beside half types float32 is welcome.
        usable = {value.dtype, eager.compute_type(value)}
        if value.dtype not in FLOATING or other.dtype not in usable:
            raise ValueError(
                f"{operator}: value is {value.dtype}, {name} {other.dtype}; use one floating type, "
                "or float32 beside a half-precision value"
            )


def _refuse_tangents(operator: str, *tensors: Tensor | None) -> None:
    """Torch would take the derivative along a tangent for 0."""
    if not torch.compiler.is_compiling() and any(
        forward_ad.unpack_dual(tensor).tangent is not None
        for tensor in tensors
        if tensor is not None
    ):
        raise RuntimeError(
            f"{operator} has no forward-mode derivative; use reverse mode, or "
            "ms_deform_attn_reference"
        )


def _check_sampling(
    value: Tensor, level_shapes: LevelShapes, locations: Tensor, weights: Tensor
) -> None:
    shapes = (
        f"value {tuple(value.shape)}, locations {tuple(locations.shape)}, weights "
        f"{tuple(weights.shape)}"
    )
    if locations.dim() != 6 or weights.dim() != 5:
        raise ValueError(
            f"ms_deform_attn: {shapes}; expected locations (B, Q, M, levels, P, 2) and weights "
            "(B, Q, M, levels, P)"
        )
    batch, _, heads, _ = value.shape
    expected = (batch, locations.shape[1], heads, len(level_shapes), locations.shape[4])
    if tuple(locations.shape) != (*expected, 2) or tuple(weights.shape) != expected:
        raise ValueError(
            f"ms_deform_attn: {shapes} do not belong together on {len(level_shapes)} levels; "
            f"expected locations {(*expected, 2)} and weights {expected}"
        )


def _check_fused(
    value: Tensor, level_shapes: LevelShapes, packed: Tensor, reference_points: Tensor | None
) -> None:
    batch, tokens, heads, _ = value.shape
    per_point = 3 * heads * len(level_shapes)
    if (
        packed.dim() != 3
        or packed.shape[0] != batch
        or (packed.shape[2] % per_point if heads else packed.shape[2])
    ):
        raise ValueError(
            f"ms_deform_attn_fused: packed is {tuple(packed.shape)}; expected ({batch}, Q, "
            f"{per_point} * P) beside value {tuple(value.shape)} on {len(level_shapes)} levels"
        )
    queries = packed.shape[1]
    if reference_points is None:
        if queries != tokens:
            raise ValueError(
                f"ms_deform_attn_fused: packed has {queries} queries and value {tokens} tokens; "
                "give reference_points where the queries are not the tokens"
            )
    elif tuple(reference_points.shape) not in ((queries, 2), (batch, queries, 2)):
        raise ValueError(
            f"ms_deform_attn_fused: reference_points are {tuple(reference_points.shape)}; expected "
            f"({queries}, 2) or ({batch}, {queries}, 2)"
        )


# --- shapes for tracing -------------------------------------------------------------------------


def _refuse_several_devices(*tensors: Tensor | None) -> None:
    """What the kernels refuse, tracing must refuse too."""
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        raise ValueError(
            f"ms_deform_attn: tensors are on the devices {sorted(map(str, devices))}; move them to "
            "one device"
        )


def _fake(value: Tensor, level_shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    _refuse_several_devices(value, locations, weights)
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


def _backward_fake(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    _refuse_several_devices(grad_output, value, locations, weights)
    return (
        value.new_empty(value.shape),
        locations.new_empty(locations.shape),
        weights.new_empty(weights.shape),
    )


def _fused_fake(
    value: Tensor, level_shapes: Sequence[int], reference_points: Tensor | None, packed: Tensor
) -> Tensor:
    _refuse_several_devices(value, reference_points, packed)
    return value.new_empty(value.shape[0], packed.shape[1], value.shape[2] * value.shape[3])


def _fused_backward_fake(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: Sequence[int],
    reference_points: Tensor | None,
    packed: Tensor,
) -> tuple[Tensor, Tensor]:
    _refuse_several_devices(grad_output, value, reference_points, packed)
    return value.new_empty(value.shape), packed.new_empty(packed.shape)


# --- gradients ----------------------------------------------------------------------------------


def _backward_operator(name: str, device: torch.device) -> Any:
    """The operator that differentiates `name` on `device`.

    The compiled CUDA kernels add with atomics, in an order that varies; the eager ones sort first
    when torch is told to be deterministic. The compiled CPU kernels are deterministic anyway.
    """
    if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return getattr(torch.ops.calibnet, f"{name}_backward_deterministic")
    return getattr(torch.ops.calibnet, f"{name}_backward")


def _save_inputs(
    ctx: Any, inputs: tuple[Tensor, Sequence[int], Tensor, Tensor], output: Tensor
) -> None:
    value, level_shapes, locations, weights = inputs
    ctx.level_shapes = level_shapes
    ctx.save_for_backward(value, locations, weights)


def _autograd(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = ctx.saved_tensors
    differentiate = _backward_operator("ms_deform_attn", value.device)
    grad_value, grad_locations, grad_weights = differentiate(
        grad_output.contiguous(), value, ctx.level_shapes, locations, weights
    )
    return grad_value, None, grad_locations, grad_weights


def _fused_save_inputs(
    ctx: Any, inputs: tuple[Tensor, Sequence[int], Tensor | None, Tensor], output: Tensor
) -> None:
    value, level_shapes, reference_points, packed = inputs
    ctx.level_shapes = level_shapes
    ctx.save_for_backward(value, reference_points, packed)


def _fused_autograd(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor | None, Tensor]:
    value, reference_points, packed = ctx.saved_tensors
    moves_points = reference_points is not None and ctx.needs_input_grad[2]
    wide = packed
    if moves_points:
        # The points' gradient is a sum of those of offsets, which may cancel: their rounding to a
        # half type would stay.
        wide = packed.to(reference_points.dtype)
    differentiate = _backward_operator("ms_deform_attn_fused", value.device)
    grad_value, grad_packed = differentiate(
        grad_output.contiguous(), value, ctx.level_shapes, reference_points, wide
    )
    grad_points = None
    if moves_points:
        # Moving the point by 1 moves every sample of a level by its width or height in cells.
        heads, levels, width = value.shape[2], len(ctx.level_shapes) // 2, grad_packed.shape[-1]
        points = width // max(3 * heads * levels, 1)
        offsets = grad_packed[..., : 2 * width // 3]
        by_level = offsets.unflatten(-1, (heads, levels, points, 2)).sum((2, 4))
        cells = eager.cell_counts(ctx.level_shapes, reference_points).view(levels, 2)
        grad_points = (by_level * cells).sum(2)
    return grad_value, None, grad_points, grad_packed.to(packed.dtype)


def _no_second_derivative(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError(
        "ms_deform_attn has no second derivative; take the first without create_graph, or use "
        "ms_deform_attn_reference"
    )


# --- registration -------------------------------------------------------------------------------

_OPERANDS = "Tensor value, SymInt[] level_shapes, Tensor locations, Tensor weights"
_FUSED_OPERANDS = "Tensor value, SymInt[] level_shapes, Tensor? reference_points, Tensor packed"

# Name, schema, kernel of every device for which no compiled one is registered, fake kernel.
_OPERATORS = (
    ("ms_deform_attn", f"({_OPERANDS}) -> Tensor", eager.forward, _fake),
    ("ms_deform_attn_fused", f"({_FUSED_OPERANDS}) -> Tensor", eager.fused_forward, _fused_fake),
    *(
        operator
        for suffix in ("backward", "backward_deterministic")  # the latter is never compiled
        for operator in (
            (
                f"ms_deform_attn_{suffix}",
                f"(Tensor grad_output, {_OPERANDS}) -> (Tensor, Tensor, Tensor)",
                eager.backward,
                _backward_fake,
            ),
            (
                f"ms_deform_attn_fused_{suffix}",
                f"(Tensor grad_output, {_FUSED_OPERANDS}) -> (Tensor, Tensor)",
                eager.fused_backward,
                _fused_backward_fake,
            ),
        )
    ),
)
for _name, _schema, _kernel, _shapes in _OPERATORS:
    torch.library.define(f"calibnet::{_name}", _schema)
    torch.library.impl(f"calibnet::{_name}", "CompositeExplicitAutograd")(_kernel)
    torch.library.register_fake(f"calibnet::{_name}")(_shapes)
    if "backward" in _name:
        # Without a formula torch would warn and leave the second derivative out.
        torch.library.register_autograd(f"calibnet::{_name}", _no_second_derivative)
torch.library.register_autograd("calibnet::ms_deform_attn", _autograd, setup_context=_save_inputs)
torch.library.register_autograd(
    "calibnet::ms_deform_attn_fused", _fused_autograd, setup_context=_fused_save_inputs
)
library.load()
