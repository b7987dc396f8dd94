"""Figures and pictures of the model as it stands, through the pipeline that users run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibnet_core.config import InferenceConfig, PipelineConfig, model_name
from calibnet_core.data.datasets import RgbdDataset
from calibnet_core.evaluation.evaluator import EvaluationSettings, evaluate_dataset
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.pipeline import Pipeline
from calibnet_core.structures import FrameError, Instances, ModelInfo, NonFiniteOutputError
from calibnet_core.training.config import TrainConfig
from calibnet_core.visualization import contact_sheet, draw_instances

_MANY = 500
"""Images from which worker processes are worth their start."""


class Validation:
    """Runs a model over the validation set.

    Args:
        dataset: the set.
        config: of the run.
    """

    def __init__(self, dataset: RgbdDataset, config: TrainConfig) -> None:
        self._dataset, self._config = dataset, config

    def evaluate(self, model: CalibNet, device: str) -> dict[str, float]:
        """Average precision and recall in per cent, by name.

        Raises:
            FrameError: an image cannot be read, or the model predicts NaN on it.
        """
        evaluation = evaluate_dataset(
            self._dataset,
            self._pipeline(model, device, InferenceConfig.published()).predict,
            settings=EvaluationSettings(gallery_size=0),
            # Starting processes takes longer than reading a small set.
            num_workers=self._config.data.workers if len(self._dataset) > _MANY else 0,
        )
        if evaluation.failures:
            raise FrameError(f"validation failed: {evaluation.failures[0].reason}")
        figures = {
            name: evaluation.mask_ap[name] for name in ("AP", "AP50", "AP70", "AP75", "AR100")
        }
        # Without a single object of a kind a figure is undefined; it must not look like the best.
        return {name: 0.0 if np.isnan(value) else value for name, value in figures.items()}

    def pictures(self, model: CalibNet, device: str, number: int) -> NDArray[np.uint8] | None:
        """Labels and predictions of the first images side by side, or None for none."""
        pipeline = self._pipeline(model, device, InferenceConfig())
        rows, captions = [], []
        for index in range(min(number, len(self._dataset))):
            sample = self._dataset.load(index)
            labels = Instances.from_masks(sample.masks, np.ones(len(sample.masks), np.float32))
            try:
                found = pipeline.predict(sample.frame)
            except NonFiniteOutputError:
                found = Instances.empty(sample.frame.size)
            rows.append(
                [draw_instances(sample.frame.rgb, labels), draw_instances(sample.frame.rgb, found)]
            )
            captions.append(sample.file_name)
        if not rows:
            return None
        return contact_sheet(rows, column_titles=("labels", "found"), row_captions=captions)

    def _pipeline(self, model: CalibNet, device: str, inference: InferenceConfig) -> Pipeline:
        info = ModelInfo(name=model_name(self._config.model), weights_sha256="", device=device)
        pipeline = self._config.pipeline
        return Pipeline(
            model,
            info,
            PipelineConfig(
                model=pipeline.model,
                input=pipeline.input,
                depth=pipeline.depth,
                inference=inference,
            ),
        )
