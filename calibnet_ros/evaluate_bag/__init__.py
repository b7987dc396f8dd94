"""Evaluation of recordings: the node's answers without the node, and what they are worth."""

from __future__ import annotations

from calibnet_ros.evaluate_bag.replay import OfflineAnswer, Replay, evaluate_recording

__all__ = ["OfflineAnswer", "Replay", "evaluate_recording"]
