"""A network that cannot learn eight pictures by heart has a fault somewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from calibnet_core import Pipeline
from calibnet_core.config import InferenceConfig
from calibnet_core.data.datasets import open_dataset
from calibnet_core.training.fitting import fit
from calibnet_core.training.run_folder import RunFolder
from tests.support.datasets import write_rendered_set
from tests.support.training import tiny_config

SIZE = (96, 128)


@pytest.mark.slow
@pytest.mark.alone
def test_eight_rendered_frames_are_learnt_by_heart(tmp_path: Path) -> None:
    data = write_rendered_set(tmp_path / "tables", 8, size=SIZE)
    config = tiny_config(
        data,
        model={"trains_backbone_norms": True, "num_kernels": 16},
        input={"shortest_edge": SIZE[0], "longest_edge": SIZE[1]},
        augmentation={"scale_jitter": (), "crop": 0.0, "flip": 0.0, "color_jitter": 0.0},
        optimisation={
            "schedule": "cosine",
            "learning_rate": 2e-3,
            "warmup_iterations": 20,
            "weight_decay": 0.0,
            "ema_decay": 0.0,
        },
        run={"iterations": 170, "batch_size": 8, "log_every": 85, "checkpoint_every": 170},
    )
    fit(config, RunFolder(tmp_path / "run"), accelerator="cpu")

    # Some of the objects are smaller than what the default drops as specks.
    settings = dataclasses.replace(config.pipeline, inference=InferenceConfig(min_area=0))
    pipeline = Pipeline.from_weights(tmp_path / "run" / "weights.safetensors", config=settings)
    dataset, overlaps = open_dataset(data), []
    for index in range(len(dataset)):
        sample = dataset.load(index)
        found = pipeline.predict(sample.frame).masks
        for mask in sample.masks:
            ious = [(mask & other).sum() / (mask | other).sum() for other in found]
            overlaps.append(max(ious, default=0.0))
    assert len(overlaps) > 40
    assert np.mean(overlaps) > 0.95
