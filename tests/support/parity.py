"""Weights that anyone can regenerate from their published names, and what they must produce."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibnet_core.models.backbones import Backbone
from calibnet_core.models.calibnet.published_keys import own_key
from tests.support.shared import shared_file

GAINS = {
    "kernel_conv.weight": 8.0,
    "kernel_conv_depth.weight": 24.0,
    "inst_branch.squeeze.weight": 3.0,
    "score_linear.weight": 12.0,
    "objectness.weight": 2.0,
}
"""Weights of two or more dimensions that the recipe scales, by the end of their published name."""


def recipe_value(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The recipe's value for a floating entry of a published checkpoint; the first rule wins."""
    seed = zlib.crc32(key.encode("utf-8"))
    noise = np.asarray(np.random.RandomState(seed).standard_normal(shape))
    if key.endswith("running_mean"):
        value = 0.1 * noise
    elif key.endswith("running_var"):
        value = 1.0 + 0.1 * np.abs(noise)
    elif key.endswith((".g1", ".g2")):
        value = 8.0 + noise
    elif "weight_mlp" in key and key.endswith(".weight"):
        value = 0.5 + 0.1 * noise
    elif key.endswith("sampling_offsets.bias"):
        value = 2.0 * noise
    elif key.endswith(("kernel_conv.bias", "kernel_conv_depth.bias")):
        value = -4.0 + 0.1 * noise
    elif key.endswith("score_linear.bias"):
        value = -3.0 + 0.1 * noise
    elif key.endswith("squeeze.bias"):
        value = 0.5 + 0.1 * noise
    elif len(shape) == 1:
        value = (1.0 if key.endswith(".weight") else 0.0) + 0.1 * noise
    elif key.endswith(".weight"):
        gain = next((gain for end, gain in GAINS.items() if key.endswith(end)), 1.0)
        value = noise * gain / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.5 * noise
    return value.astype(np.float32)


def recipe_weights(entries: Iterable[dict[str, Any]]) -> dict[str, Tensor]:
    """A whole state dictionary under its published names; integers, which models derive, are 0."""
    return {
        entry["key"]: torch.from_numpy(recipe_value(entry["key"], tuple(entry["shape"])))
        if entry["dtype"] == "float32"
        else torch.zeros(entry["shape"], dtype=torch.int64)
        for entry in entries
    }


def published_entries(backbone: str) -> list[dict[str, Any]]:
    """Names, shapes and types of a published checkpoint: r50, r101, swint, pvt or p2t."""
    return read_json(f"calibnet_{backbone}_keys.json")


def read_json(name: str) -> Any:
    return json.loads(shared_file(f"parity/{name}").read_text())


def read_arrays(name: str) -> dict[str, NDArray[Any]]:
    with np.load(shared_file(f"parity/{name}")) as archive:
        return dict(archive)


def unpack_masks(packed: NDArray[np.uint8], shape: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Boolean array from its bits, which are padded to whole bytes."""
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)


@dataclass
class PublishedWeights:
    """Weights of one backbone that come into being when a reference network asks for them.

    What was asked for is remembered, so that it can be loaded into the network under test: both
    then compute with the same numbers, and a name that only one of them knows comes to light.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, key: str, *shape: int) -> Tensor:
        if key not in self.tensors:
            self.tensors[key] = torch.from_numpy(recipe_value(key, shape))
        assert self.tensors[key].shape == shape
        return self.tensors[key]

    def load_into(self, backbone: Backbone) -> None:
        prefix = "rgb_encoder.backbone."
        renamed = {
            str(own_key(f"backbone.{key}", backbone.published_keys)).removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
        }
        missing, unexpected = backbone.load_state_dict(renamed, strict=False)
        assert unexpected == []
        # The index table follows from the window size; a classifier is not part of the features.
        ignored = ("relative_position_index", "unused_head.weight", "unused_head.bias")
        assert [key for key in missing if not key.endswith(ignored)] == []


def image_gradient(levels: Sequence[Tensor], image: Tensor) -> Tensor:
    """Gradient that arrives at the image when a different one enters at every output."""
    upstream = [torch.linspace(-1.0, 1.0, level.numel()).view_as(level) for level in levels]
    gradient: Tensor = torch.autograd.grad(levels, image, upstream)[0]
    return gradient
