"""From the model.* parameters to a pipeline."""

from __future__ import annotations

from typing import Protocol

import torch

from calibnet_core.checkpoint import WeightsError, sha256_of
from calibnet_core.config import PipelineConfig
from calibnet_core.pipeline import ModelInfo, Pipeline
from calibnet_core.structures import Instances, RgbdFrame, StageTimings
from calibnet_ros.parameters import Values, pipeline_config


class SegmentationPipeline(Protocol):
    """What the node needs of a pipeline; tests hand in a stub."""

    config: PipelineConfig
    model_info: ModelInfo

    def predict_timed(self, frame: RgbdFrame) -> tuple[Instances, StageTimings]:
        """Segment one frame."""


def load_pipeline(values: Values) -> SegmentationPipeline:
    """Build the pipeline that the model.* parameters describe.

    Raises:
        ConfigError: a setting, or the device, cannot be used.
        WeightsError: the weights are unreadable, of another model, or have another hash.
    """
    path, wanted = str(values["model.weights"]), str(values["model.sha256"]).lower()
    if wanted and not path:
        raise WeightsError("model.sha256 is set but model.weights is not; name the weights file")
    if wanted and (found := sha256_of(path)) != wanted:
        raise WeightsError(
            f"{path}: has SHA-256 {found}, model.sha256 asks for {wanted}; get the right file"
        )
    device = str(values["model.device"])
    if device == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    wants_gpu = device.partition(":")[0] == "cuda"
    if wants_gpu and values["model.allow_cpu_fallback"] and not torch.cuda.is_available():
        device = "cpu"
    return Pipeline.from_weights(
        path or None,
        model=str(values["model.name"]),
        device=device,
        config=pipeline_config(values),
    )
