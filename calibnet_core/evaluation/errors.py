"""What is wrong with the material of an evaluation."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Ground truth or predictions cannot be evaluated; the message names the entry and the cure."""
