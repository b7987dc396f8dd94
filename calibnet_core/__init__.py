"""CalibNet as a library: the salient objects of an RGB-D frame as instance masks, without ROS.

    pipeline = calibnet_core.Pipeline.from_weights("weights.safetensors")
    instances = pipeline.predict(calibnet_core.RgbdFrame(rgb=rgb, depth_m=depth_m))

What needs torch is imported on first use, so tools that only read frames or print help start at
once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from calibnet_core._version import __version__
from calibnet_core.config import PipelineConfig, load_config
from calibnet_core.structures import CameraIntrinsics, Instances, RgbdFrame

if TYPE_CHECKING:
    from calibnet_core.checkpoint import LoadReport as LoadReport
    from calibnet_core.checkpoint import load_weights as load_weights
    from calibnet_core.checkpoint import save_weights as save_weights
    from calibnet_core.models.build import build_model as build_model
    from calibnet_core.pipeline import Pipeline as Pipeline

_LAZY = {
    "LoadReport": "calibnet_core.checkpoint",
    "Pipeline": "calibnet_core.pipeline",
    "build_model": "calibnet_core.models.build",
    "load_weights": "calibnet_core.checkpoint",
    "save_weights": "calibnet_core.checkpoint",
}

__all__ = [
    "CameraIntrinsics",
    "Instances",
    "LoadReport",
    "Pipeline",
    "PipelineConfig",
    "RgbdFrame",
    "__version__",
    "build_model",
    "load_config",
    "load_weights",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'calibnet_core' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)
