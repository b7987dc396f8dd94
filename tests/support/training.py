"""Runs small enough for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from calibnet_core.config import InputConfig, ModelConfig
from calibnet_core.data.transforms import AugmentationConfig
from calibnet_core.training.config import (
    DataConfig,
    LossConfig,
    OptimisationConfig,
    RunConfig,
    TrainConfig,
)

TINY_MODEL = ModelConfig(
    backbone="mobilenet_v2", width=64, num_kernels=6, num_transformer_layers=1, position="sine"
)


def tiny_config(folder: Path, **changes: dict[str, Any]) -> TrainConfig:
    """Six iterations on 64x64 pixels; `changes` replaces entries of a section by their names."""
    iterations = changes.get("run", {}).get("iterations", 6)
    sections = {
        "model": TINY_MODEL,
        "input": InputConfig(shortest_edge=48, longest_edge=64),
        "data": DataConfig(train=(str(folder),), workers=0),
        "augmentation": AugmentationConfig(scale_jitter=(0.8, 1.5), color_jitter=0.3),
        "loss": LossConfig(),
        "optimisation": OptimisationConfig(
            learning_rate=1e-3,
            warmup_iterations=min(2, iterations - 1),
            steps=(5,) if iterations > 5 else (),
            clip_norm=5.0,
            ema_decay=0.9,
        ),
        "run": RunConfig(
            iterations=6, batch_size=2, log_every=1, checkpoint_every=2, evaluate_every=100
        ),
    }
    return TrainConfig(
        **{
            name: dataclasses.replace(section, **changes.get(name, {}))
            for name, section in sections.items()
        }
    )
