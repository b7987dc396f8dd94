"""Figures of a recording: what became of its images, how steady and, with truth, how right."""

from __future__ import annotations

from calibnet_core.evaluation.recording.evaluator import (
    FrameRow,
    RecordingEvaluation,
    RecordingEvaluator,
    RecordingSettings,
)
from calibnet_core.evaluation.recording.truth import RecordingTruth

__all__ = [
    "FrameRow",
    "RecordingEvaluation",
    "RecordingEvaluator",
    "RecordingSettings",
    "RecordingTruth",
]
