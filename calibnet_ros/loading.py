"""From the model.* parameters to a pipeline."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

from calibnet_core.processor import Predictor
from calibnet_core.shipped_weights import default_weights
from calibnet_core.structures import ModelInfo, WeightsError
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import pipeline_config


def load_pipeline(values: Values) -> Predictor:
    """Build the pipeline that the model.* parameters describe.

    Raises:
        ConfigError: a setting, or the device, cannot be used.
        WeightsError: the weights are unreadable, of another model, or have another hash.
    """
    # Only here, so that a node with another predictor starts without a network library.
    import torch

    from calibnet_core.checkpoint import read_settings, sha256_of
    from calibnet_core.pipeline import Pipeline

    name = None if values["model.name"] == "auto" else str(values["model.name"])
    given, wanted = str(values["model.weights"]), str(values["model.sha256"]).lower()
    path = Path(given).expanduser() if given else default_weights(name)
    if wanted and path is None:
        raise WeightsError("model.sha256 is set but model.weights is not; name the weights file")
    if wanted and path is not None and (found := sha256_of(path)) != wanted:
        raise WeightsError(
            f"{path}: has SHA-256 {found}, model.sha256 asks for {wanted}; get the right file"
        )
    device = str(values["model.device"])
    if device == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    precision = str(values["model.precision"])
    if values["model.allow_cpu_fallback"] and _is_missing_gpu(device):
        device = "cpu"
        precision = "fp32" if precision == "fp16" else precision  # the CPU has no fast fp16
    return Pipeline.from_weights(
        path,
        model=name,
        device=device,
        config=pipeline_config(values, read_settings(path) if path is not None else None),
        precision=precision,  # type: ignore[arg-type]
    )


def _is_missing_gpu(device: str) -> bool:
    """Whether this names a GPU that is not there; a misspelt name is none."""
    import torch

    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        return False
    return not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()


def device_memory_mb(info: ModelInfo | None) -> tuple[float, float] | None:
    """Memory in use and at its highest on the model's GPU, in megabytes; None on the CPU."""
    if info is None or not info.device.startswith("cuda"):
        return None
    import torch

    device = torch.device(info.device)
    used, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    return used / 1e6, peak / 1e6


def settle_memory() -> None:
    """Have the garbage collector pass over what stays.

    Otherwise it looks at every object of a network library again and again, tens of milliseconds at
    a time, in the middle of a frame.
    """
    gc.collect()
    gc.freeze()


def free_memory() -> None:
    """Give back what a dropped model held."""
    gc.unfreeze()
    gc.collect()  # a model may hang in a cycle
    torch = sys.modules.get("torch")
    if torch is not None:
        # After some faults every call to the device raises; the node comes to rest all the same.
        with suppress(RuntimeError):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    # Else the allocator may keep the pages of a network, one time in three, until the next one.
    with suppress(OSError, AttributeError):  # other C libraries have nothing like it
        ctypes.CDLL(None).malloc_trim(0)
