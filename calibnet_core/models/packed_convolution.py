"""Convolutions for inference on a CPU whose filters are laid out once, not in every pass."""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn

Activation = tuple[str, tuple[float, ...]]
_NONE: Activation = ("none", ())
_Key = tuple[torch.Size, int, int]


class PackedConv2d(nn.Conv2d):
    """A convolution, and the activation after it, in one pass of oneDNN over packed filters.

    torch keeps filters as they are saved, and oneDNN, which computes convolutions on a CPU, brings
    them into the layout of its kernels every time; at a batch of one that is a tenth of a small
    network's time. Here they are laid out for the size of image that came last, and kept beside
    the plain ones. What oneDNN is not for (GPUs, half precision, gradients, a torch without its
    operators) is computed as any convolution is.

    Args:
        conv: with zero padding of given width; its parameters are taken, not copied.
        activation: ReLU or ReLU6 that follows, or None.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            cast("tuple[int, int]", conv.kernel_size),
            cast("tuple[int, int]", conv.stride),
            cast("tuple[int, int]", conv.padding),
            cast("tuple[int, int]", conv.dilation),
            conv.groups,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.activation = activation
        self._packed: tuple[_Key, Tensor] | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Filter (B, C, H, W), and activate."""
        if not _is_for_onednn(image, self.weight):
            filtered = super().forward(image)
            return filtered if self.activation is None else self.activation(filtered)
        name, bounds = _fused(self.activation)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            image, self._packed_for(image), self.bias, *self._geometry(), name, bounds, ""
        )
        return result

    def _packed_for(self, image: Tensor) -> Tensor:
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (image.shape, self.weight.data_ptr(), version)
        packed = self._packed  # read once: another thread may bring another size
        if packed is None or packed[0] != key:
            filters: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                self.weight.detach().to_mkldnn(), *self._geometry(), list(image.shape)
            )
            packed = self._packed = key, filters
        return packed[1]

    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        assert not isinstance(self.padding, str)
        return list(self.padding), list(self.stride), list(self.dilation), self.groups

    def __getstate__(self) -> dict[str, Any]:
        """Without packed filters: they cannot be copied, and are soon made anew."""
        return {**self.__dict__, "_packed": None}


def pack_convolutions(network: nn.Module) -> None:
    """Pack all convolutions of `network`, with the activations that follow in a sequence."""
    for parent in network.modules():
        if isinstance(parent, nn.Sequential):
            _take_activations(parent)
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and _can_pack(child):
                parent.add_module(name, PackedConv2d(child))


def _take_activations(sequence: nn.Sequential) -> None:
    computing = [
        (name, child)
        for name, child in sequence.named_children()
        if not isinstance(child, nn.Identity)
    ]
    for (name, conv), (next_name, following) in itertools.pairwise(computing):
        if type(conv) is nn.Conv2d and _can_pack(conv) and type(following) in (nn.ReLU, nn.ReLU6):
            sequence.add_module(name, PackedConv2d(conv, following))
            sequence.add_module(next_name, nn.Identity())


def _can_pack(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _fused(activation: nn.Module | None) -> Activation:
    if activation is None:
        return _NONE
    return ("hardtanh", (0.0, 6.0)) if isinstance(activation, nn.ReLU6) else ("relu", ())


def _is_for_onednn(image: Tensor, weight: Tensor) -> bool:
    return (
        image.numel() > 0
        and image.dtype == weight.dtype == torch.float32
        and image.device.type == weight.device.type == "cpu"
        and not (torch.is_grad_enabled() and (image.requires_grad or weight.requires_grad))
        and not torch.compiler.is_compiling()
        and bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.aten, "mkldnn_reorder_conv2d_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )
