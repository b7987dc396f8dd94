"""What the operator's benchmark feeds to every contender, and how far their answers may be off."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from calibnet_core.ops import ms_deform_attn_reference

HEADS, CHANNELS, POINTS = 8, 32, 4
STRIDES = (32, 16, 8)
"""Of the levels, in the order in which the model concatenates them."""

SAMPLINGS = ("encoder-like", "uniform", "one-corner", "30-percent-outside")
LIMITS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Largest relative error that a contender may have, by the type of the value."""

NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

SAMPLING_FORM, FUSED_FORM = "sampling", "fused"
"""Which arguments a contender takes: locations and weights, or a linear layer's output."""


@dataclass(frozen=True)
class Case:
    """One problem: image size in pixels, images in the batch, where the queries look."""

    height: int
    width: int
    batch: int
    sampling: str

    @property
    def size(self) -> str:
        """Height x width, as on the command line."""
        return f"{self.height}x{self.width}"

    @property
    def level_shapes(self) -> list[tuple[int, int]]:
        """(height, width) of the feature levels."""
        return [(math.ceil(self.height / s), math.ceil(self.width / s)) for s in STRIDES]


@dataclass(frozen=True)
class Operands:
    """Arguments of one call, in both forms; they sample the same places with the same weights.

    Attributes:
        level_shapes: (height, width) of each level.
        value: (B, L, M, D).
        packed: (B, L, 3 * M * levels * P), offsets in cells and then logits.
        grad_output: (B, L, M * D); of the same type as value and packed.
        locations: (B, L, M, levels, P, 2), float32.
        weights: (B, L, M, levels, P), float32.
        reference_points: (L, 2), float32, the centre of each token's cell.
        cells: (levels, 1, 2), float32, width and height of each level.
    """

    level_shapes: list[tuple[int, int]]
    value: Tensor
    packed: Tensor
    grad_output: Tensor
    locations: Tensor
    weights: Tensor
    reference_points: Tensor
    cells: Tensor

    @property
    def flat_shapes(self) -> list[int]:
        """As the registered operators take them."""
        return [side for shape in self.level_shapes for side in shape]

    def cloned(self) -> Operands:
        """The same numbers in other memory."""
        return dataclasses.replace(
            self,
            value=self.value.clone(),
            packed=self.packed.clone(),
            grad_output=self.grad_output.clone(),
            locations=self.locations.clone(),
            weights=self.weights.clone(),
        )


@dataclass(frozen=True)
class Truth:
    """What float64 arithmetic makes of some images of the operands.

    Attributes:
        images: numbers of those images.
        output: (n, L, M * D).
        gradients: of value, locations, weights and packed, by name.
        smooth: (n, L, M, levels, P), False where a location lies so close to a line between cell
            centres, where the gradient jumps, that rounding decides on which side it is.
    """

    images: list[int]
    output: Tensor
    gradients: dict[str, Tensor]
    smooth: Tensor


def make_operands(case: Case, device: torch.device, seed: int = 0) -> Operands:
    """Draw the float32 operands of a case; the same seed draws the same ones on every device."""
    generator = torch.Generator().manual_seed(seed)
    shapes = case.level_shapes
    cells = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float32)
    cells = cells.view(-1, 1, 2)
    reference_points = torch.cat([_centres(*shape) for shape in shapes])
    places = reference_points.view(-1, 1, 1, 1, 2)
    queries, levels = len(reference_points), len(shapes)
    per_query = (case.batch, queries, HEADS, levels, POINTS)

    near = torch.randn(*per_query, 2, generator=generator) * 2.5
    if case.sampling == "encoder-like":
        offsets = near
    elif case.sampling == "uniform":
        offsets = (torch.rand(near.shape, generator=generator) - places) * cells
    elif case.sampling == "one-corner":  # between the centres of the four cells at the origin
        offsets = torch.rand(near.shape, generator=generator) + 0.5 - places * cells
    elif case.sampling == "30-percent-outside":
        outside = torch.rand(per_query, generator=generator).unsqueeze(-1) < 0.3
        beyond = 1.2 + 0.8 * torch.rand(near.shape, generator=generator)
        offsets = torch.where(outside, (beyond - places) * cells, near)
    else:
        raise ValueError(f"sampling '{case.sampling}' is unknown; use one of {SAMPLINGS}")

    logits = torch.randn(per_query, generator=generator)
    value = _smooth_features(case.batch, shapes, generator)
    grad_output = torch.randn(case.batch, queries, HEADS * CHANNELS, generator=generator)
    return _operands(
        shapes,
        value=value.to(device),
        packed=torch.cat((offsets.flatten(2), logits.flatten(2)), dim=-1).to(device),
        grad_output=grad_output.to(device),
        reference_points=reference_points.to(device),
        cells=cells.to(device),
    )


def stored_as(operands: Operands, dtype: torch.dtype) -> Operands:
    """Round what a network would store in `dtype`; the places follow from the rounded offsets."""
    return _operands(
        operands.level_shapes,
        value=operands.value.to(dtype),
        packed=operands.packed.to(dtype),
        grad_output=operands.grad_output.to(dtype),
        reference_points=operands.reference_points,
        cells=operands.cells,
    )


def _operands(
    level_shapes: list[tuple[int, int]],
    *,
    value: Tensor,
    packed: Tensor,
    grad_output: Tensor,
    reference_points: Tensor,
    cells: Tensor,
) -> Operands:
    locations, weights = locate(packed.double(), reference_points.double(), cells.double())
    return Operands(
        level_shapes=level_shapes,
        value=value,
        packed=packed,
        grad_output=grad_output,
        locations=locations.float(),
        weights=weights.float(),
        reference_points=reference_points,
        cells=cells,
    )


def locate(packed: Tensor, reference_points: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """What a network without the fused operator does between its linear layer and the sampling.

    Returns:
        Locations (B, L, M, levels, P, 2) and weights (B, L, M, levels, P).
    """
    batch, queries, width = packed.shape
    levels = cells.shape[0]
    offsets, logits = packed.split((2 * width // 3, width // 3), dim=-1)
    offsets = offsets.reshape(batch, queries, HEADS, levels, POINTS, 2)
    weights = logits.reshape(batch, queries, HEADS, levels * POINTS).softmax(-1)
    locations = reference_points.view(-1, 1, 1, 1, 2) + offsets / cells
    return locations, weights.view(batch, queries, HEADS, levels, POINTS)


def true_answers(operands: Operands) -> Truth:
    """Work out the first and the last image in float64, by the definition of the operator."""
    images = sorted({0, operands.value.shape[0] - 1})
    with torch.enable_grad():
        value = operands.value[images].double().requires_grad_()
        packed = operands.packed[images].double().requires_grad_()
        locations, weights = locate(
            packed, operands.reference_points.double(), operands.cells.double()
        )
        output = ms_deform_attn_reference(value, operands.level_shapes, locations, weights)
        gradients = torch.autograd.grad(
            output, (value, locations, weights, packed), operands.grad_output[images].double()
        )
    pixels = locations.detach() * operands.cells.double() - 0.5
    return Truth(
        images=images,
        output=output.detach(),
        gradients=dict(zip(("value", "locations", "weights", "packed"), gradients, strict=True)),
        smooth=((pixels - pixels.round()).abs() > 1e-3).all(-1),
    )


def forward_error(output: Tensor, truth: Truth) -> float:
    """Largest difference from the truth, through the largest true number."""
    return _relative(output[truth.images], truth.output)


def storage_error(output: Tensor, truth: Truth) -> float:
    """Root mean square of the differences from the truth, through that of the true numbers.

    Beside the truth about unrounded operands, this is the error of storing them in a half type.
    """
    true = truth.output
    return float((output[truth.images].double() - true).norm() / true.norm())


def backward_error(gradients: Sequence[Tensor], truth: Truth) -> float:
    """As `forward_error`, of the gradients; the largest over all of them.

    Args:
        gradients: of value and packed, or of value, locations and weights.
        truth: what they should be.
    """
    smooth = truth.smooth.unsqueeze(-1)
    on_sides = torch.cat(  # for packed: the offsets, then the logits, which have no jumps
        (smooth.expand(*smooth.shape[:-1], 2).flatten(2), torch.ones_like(smooth).flatten(2)), -1
    )
    names = ("value", "packed") if len(gradients) == 2 else ("value", "locations", "weights")
    counted = {"packed": on_sides, "locations": smooth}
    errors = []
    for name, gradient in zip(names, gradients, strict=True):
        true = truth.gradients[name]
        where = counted.get(name, torch.ones((), dtype=torch.bool, device=true.device))
        errors.append(_relative(torch.where(where, gradient[truth.images], 0), true * where))
    return max(errors, key=lambda error: math.inf if math.isnan(error) else error)


def _relative(tensor: Tensor, true: Tensor) -> float:
    return float((tensor.double() - true).abs().max() / true.abs().max())


def _centres(height: int, width: int) -> Tensor:
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).view(-1, 2)


def _smooth_features(
    batch: int, shapes: Sequence[tuple[int, int]], generator: torch.Generator
) -> Tensor:
    """Features that vary over a quarter of the image, as those of a network do, not white noise."""
    coarse = torch.randn(batch, HEADS * CHANNELS, 5, 7, generator=generator)
    levels = [
        F.interpolate(coarse, size=shape, mode="bicubic", align_corners=False).flatten(2)
        for shape in shapes
    ]
    tokens = torch.cat(levels, dim=-1).transpose(1, 2)
    return tokens.reshape(batch, -1, HEADS, CHANNELS).contiguous()
