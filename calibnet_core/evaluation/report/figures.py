"""The figures of an evaluation as one JSON document, the same on every run."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from calibnet_core import __version__
from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings
from calibnet_core.evaluation.image_outcomes import iou_thresholds, recall_thresholds

_LIBRARIES = ("numpy", "opencv-python-headless", "pycocotools", "scipy", "torch")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What was evaluated.

    Attributes:
        dataset: name of the data set.
        predictions: id of the model, or name of the results file.
        sha256: of the weights or the results file, empty when the weights are random.
        inference: settings of the pipeline, empty for a results file.
    """

    dataset: str
    predictions: str
    sha256: str = ""
    inference: Mapping[str, Any] = field(default_factory=dict)


def figures_document(
    evaluation: Evaluation, settings: EvaluationSettings, provenance: Provenance
) -> dict[str, Any]:
    """Everything but the pictures, as plain values that JSON can hold; undefined is None.

    There is no time, no path and no trace of the number of workers in it.
    """
    curves = {
        f"{overlap:.2f}": evaluation.curves.curve(overlap).tolist()
        for overlap in iou_thresholds().tolist()
    }
    document: dict[str, Any] = {
        "format": "calibnet evaluation 1",
        "dataset": {
            "name": provenance.dataset,
            "num_images": len(evaluation.rows),
            "num_objects": evaluation.overlap.num_objects,
            "num_failures": len(evaluation.failures),
        },
        "predictions": {
            "name": provenance.predictions,
            "sha256": provenance.sha256,
            "inference": dict(provenance.inference),
        },
        "settings": dataclasses.asdict(settings),
        "versions": _versions(),
        "mask_ap": evaluation.mask_ap,
        "overlap": dataclasses.asdict(evaluation.overlap),
        "calibration": {
            **dataclasses.asdict(evaluation.calibration),
            "num_detections": evaluation.calibration.num_detections,
        },
        "precision_recall": {"recall": recall_thresholds().tolist(), "precision": curves},
        "images": [dataclasses.asdict(row) for row in evaluation.rows],
        "failures": [dataclasses.asdict(failure) for failure in evaluation.failures],
    }
    plain: dict[str, Any] = _plain(document)
    return plain


def _versions() -> dict[str, str]:
    versions = {"calibnet_core": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # OpenCV comes under several names; it is no less there.
            versions[name] = "unknown"
    return versions


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
