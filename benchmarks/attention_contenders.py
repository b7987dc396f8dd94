"""The ways of computing deformable attention that the operator's benchmark compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.attention_cases import (
    FUSED_FORM,
    NAMES,
    SAMPLING_FORM,
    Operands,
    locate,
)
from calibnet_core import ops
from calibnet_core.ops import eager, ms_deform_attn_reference

UNMEASURED = "unmeasured"

GRID_SAMPLE, CHAIN_GRID_SAMPLE = "grid_sample", "softmax + grid_sample"
BY_CHANNEL, CHAIN_BY_CHANNEL = "by channel", "softmax + by channel"
"""The reference algorithm, `csrc/channel_per_thread.cu`; on CUDA only."""

YARDSTICKS = {
    GRID_SAMPLE: {SAMPLING_FORM: GRID_SAMPLE, FUSED_FORM: CHAIN_GRID_SAMPLE},
    BY_CHANNEL: {SAMPLING_FORM: BY_CHANNEL, FUSED_FORM: CHAIN_BY_CHANNEL},
}
"""What the others are compared with: by its name the baseline of each form."""

Gradients = Sequence[Tensor]


@dataclass(frozen=True)
class Contender:
    """One way of computing the operator, given its operands.

    Attributes:
        name: unique among the contenders.
        form: `SAMPLING_FORM` or `FUSED_FORM`.
        dtype: type of the value.
        forward: computes the output.
        prepare_backward: makes what the gradients need but is not part of computing them, and
            returns the function that computes those of value, locations and weights, or of value
            and packed.
        keeps_graph: the backward keeps what autograd saved in a forward.
        capturable: a CUDA graph can hold its calls.
    """

    name: str
    form: str
    dtype: torch.dtype
    forward: Callable[[], Tensor]
    prepare_backward: Callable[[], Callable[[], Gradients]]
    keeps_graph: bool = False
    capturable: bool = True


def has_compiled(device: torch.device) -> bool:
    """Whether the library's compiled kernels run on this kind of device."""
    info = ops.info()
    return {"cpu": info.cpu, "cuda": info.cuda}[device.type].startswith("compiled")


def contenders(operands: dict[torch.dtype, Operands], *, by_channel: bool) -> list[Contender]:
    """All contenders that can run here; the baseline of each form is its first.

    Args:
        operands: by the type in which a network would store them; float32 always.
        by_channel: whether the reference algorithm was compiled and loaded.
    """
    single = operands[torch.float32]
    compiled = has_compiled(single.value.device)
    found = [_grid_sample(single), _eager(single)]
    if by_channel:
        found.append(_by_channel(single))
    if compiled:
        found += [_compiled(stored) for stored in operands.values()]
    found.append(_chain_grid_sample(single))
    if by_channel:
        found.append(_chain_by_channel(single))
    if compiled:
        found.append(_chain_compiled(single))
        found += [_fused(stored) for stored in operands.values()]
    return found


def names(dtypes: Sequence[torch.dtype], *, cuda: bool) -> list[tuple[str, str]]:
    """Name and form of all contenders there could be, for saying which are not measured."""
    kinds = [_with_dtype("compiled", dtype) for dtype in dtypes]
    fused = [_with_dtype("fused", dtype) for dtype in dtypes]
    sampling = [GRID_SAMPLE, "eager", *([BY_CHANNEL] if cuda else []), *kinds]
    chains = [CHAIN_GRID_SAMPLE, *([CHAIN_BY_CHANNEL] if cuda else []), "softmax + compiled"]
    return [
        *((name, SAMPLING_FORM) for name in sampling),
        *((name, FUSED_FORM) for name in (*chains, *fused)),
    ]


def _with_dtype(name: str, dtype: torch.dtype) -> str:
    return name if dtype == torch.float32 else f"{name} {NAMES[dtype]}"


def _grid_sample(operands: Operands) -> Contender:
    tensors = (operands.value, operands.locations, operands.weights)

    def call(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn_reference(value, operands.level_shapes, locations, weights)

    return Contender(
        GRID_SAMPLE,
        SAMPLING_FORM,
        operands.value.dtype,
        forward=lambda: call(*tensors),
        prepare_backward=lambda: _by_autograd(call, tensors, operands.grad_output),
        keeps_graph=True,
    )


def _eager(operands: Operands) -> Contender:
    arguments = (operands.value, operands.flat_shapes, operands.locations, operands.weights)
    return Contender(
        "eager",
        SAMPLING_FORM,
        operands.value.dtype,
        forward=lambda: eager.forward(*arguments),
        prepare_backward=lambda: lambda: eager.backward(operands.grad_output, *arguments),
        capturable=False,  # copies level sizes to the device
    )


def _compiled(operands: Operands) -> Contender:
    arguments = (operands.value, operands.flat_shapes, operands.locations, operands.weights)
    operators = torch.ops.calibnet
    return Contender(
        _with_dtype("compiled", operands.value.dtype),
        SAMPLING_FORM,
        operands.value.dtype,
        forward=lambda: operators.ms_deform_attn(*arguments),
        prepare_backward=lambda: (
            lambda: operators.ms_deform_attn_backward(operands.grad_output, *arguments)
        ),
    )


def _fused(operands: Operands) -> Contender:
    arguments = (operands.value, operands.flat_shapes, None, operands.packed)
    operators = torch.ops.calibnet
    return Contender(
        _with_dtype("fused", operands.value.dtype),
        FUSED_FORM,
        operands.value.dtype,
        forward=lambda: operators.ms_deform_attn_fused(*arguments),
        prepare_backward=lambda: (
            lambda: operators.ms_deform_attn_fused_backward(operands.grad_output, *arguments)
        ),
    )


def _chain_grid_sample(operands: Operands) -> Contender:
    def call(value: Tensor, packed: Tensor) -> Tensor:
        locations, weights = locate(packed, operands.reference_points, operands.cells)
        return ms_deform_attn_reference(value, operands.level_shapes, locations, weights)

    return _chain(CHAIN_GRID_SAMPLE, operands, call)


def _chain_compiled(operands: Operands) -> Contender:
    def call(value: Tensor, packed: Tensor) -> Tensor:
        places = locate(packed, operands.reference_points, operands.cells)
        output: Tensor = torch.ops.calibnet.ms_deform_attn(value, operands.flat_shapes, *places)
        return output

    return _chain("softmax + compiled", operands, call)


def _chain(name: str, operands: Operands, call: Callable[[Tensor, Tensor], Tensor]) -> Contender:
    tensors = (operands.value, operands.packed)
    return Contender(
        name,
        FUSED_FORM,
        operands.value.dtype,
        forward=lambda: call(*tensors),
        prepare_backward=lambda: _by_autograd(call, tensors, operands.grad_output),
        keeps_graph=True,
    )


def _by_autograd(
    call: Callable[..., Tensor], tensors: Sequence[Tensor], grad_output: Tensor
) -> Callable[[], Gradients]:
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        output = call(*leaves)
    return lambda: torch.autograd.grad(output, leaves, grad_output, retain_graph=True)


# --- the reference algorithm, on CUDA only ------------------------------------------------------


def _level_tensors(operands: Operands) -> tuple[Tensor, Tensor]:
    shapes = torch.tensor(operands.level_shapes, device=operands.value.device)
    areas = shapes.prod(1)
    return shapes, areas.cumsum(0) - areas


def _by_channel(operands: Operands) -> Contender:
    operators = torch.ops.calibnet_bench
    arguments = (
        operands.value,
        *_level_tensors(operands),
        operands.locations,
        operands.weights,
    )
    return Contender(
        BY_CHANNEL,
        SAMPLING_FORM,
        operands.value.dtype,
        forward=lambda: operators.ms_deform_attn_by_channel(*arguments),
        prepare_backward=lambda: (
            lambda: operators.ms_deform_attn_by_channel_backward(operands.grad_output, *arguments)
        ),
    )


def _chain_by_channel(operands: Operands) -> Contender:
    operators = torch.ops.calibnet_bench
    levels = _level_tensors(operands)
    constants = (operands.reference_points, operands.cells)

    def forward() -> Tensor:
        places = locate(operands.packed, *constants)
        output: Tensor = operators.ms_deform_attn_by_channel(operands.value, *levels, *places)
        return output

    def prepare_backward() -> Callable[[], Gradients]:
        with torch.enable_grad():
            packed = operands.packed.detach().requires_grad_()
            places = locate(packed, *constants)

        def backward() -> Gradients:
            grad_value, *grad_places = operators.ms_deform_attn_by_channel_backward(
                operands.grad_output, operands.value, *levels, *(place.detach() for place in places)
            )
            (grad_packed,) = torch.autograd.grad(places, packed, grad_places, retain_graph=True)
            return grad_value, grad_packed

        return backward

    return Contender(
        CHAIN_BY_CHANNEL,
        FUSED_FORM,
        operands.value.dtype,
        forward=forward,
        prepare_backward=prepare_backward,
        keeps_graph=True,
    )
