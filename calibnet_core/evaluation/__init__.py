"""How good predicted instances are: average precision, overlap, boundaries, calibration.

`evaluate_instances` takes COCO dictionaries; `evaluate_dataset` takes a data set and whatever
predicts, and gives all figures.
"""

from __future__ import annotations

from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.evaluator import (
    Evaluation,
    EvaluationSettings,
    InstanceEvaluator,
    evaluate_dataset,
)
from calibnet_core.evaluation.mask_ap import evaluate_instances
from calibnet_core.evaluation.stored_results import StoredResults

__all__ = [
    "Evaluation",
    "EvaluationError",
    "EvaluationSettings",
    "InstanceEvaluator",
    "StoredResults",
    "evaluate_dataset",
    "evaluate_instances",
]
