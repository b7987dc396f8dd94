from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from calibnet_core.config import ConfigError, load_config
from calibnet_core.training.config import (
    DataConfig,
    OptimisationConfig,
    RunConfig,
    TrainConfig,
    differences,
    plain,
    to_yaml,
)
from tests.support.shared import REPOSITORY

FILES = sorted((REPOSITORY / "config" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_written_reads_back_equal(path: Path, tmp_path: Path) -> None:
    config = load_config(path, TrainConfig)
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert load_config(copy, TrainConfig) == config


@pytest.mark.parametrize("path", [p for p in FILES if p.stem.startswith("published")])
def test_published_runs_keep_every_published_value(path: Path) -> None:
    config = load_config(path, TrainConfig)
    plain = TrainConfig()
    for section in ("input", "depth", "augmentation", "loss", "optimisation"):
        assert getattr(config, section) == getattr(plain, section)
    assert dataclasses.replace(config.model, backbone="resnet50") == plain.model
    assert (config.run.iterations, config.run.batch_size) == (100_000, 4)
    assert config.run.precision == "32-true"


def test_every_published_run_has_an_improved_one() -> None:
    names = {path.stem for path in FILES}
    for name in names:
        if name.startswith("published_"):
            assert name.replace("published_", "improved_") in names


def test_the_published_values_are_those_of_the_specification() -> None:
    optimisation, run = TrainConfig().optimisation, TrainConfig().run
    assert optimisation.learning_rate == 2.5e-5
    assert optimisation.weight_decay == 1e-4
    assert optimisation.warmup_iterations == 1000
    assert optimisation.steps == (70_000, 90_000)
    assert (optimisation.clip_norm, optimisation.ema_decay) == (0.0, 0.0)
    assert (run.batch_size, run.iterations) == (4, 100_000)


def test_a_typo_speaks_up(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("optimisation: {learnig_rate: 0.1}")
    with pytest.raises(ConfigError, match=r"learnig_rate.*'optimisation'.*learning_rate"):
        load_config(path, TrainConfig)


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [
        (DataConfig, "hold_out", 1.0),
        (DataConfig, "workers", -1),
        (OptimisationConfig, "learning_rate", 0.0),
        (OptimisationConfig, "learning_rate", float("nan")),
        (OptimisationConfig, "weight_decay", -1.0),
        (OptimisationConfig, "ema_decay", 1.0),
        (OptimisationConfig, "warmup_iterations", -1),
        (OptimisationConfig, "steps", (90, 70)),
        (OptimisationConfig, "schedule", "linear"),
        (OptimisationConfig, "no_decay", "none"),
        (RunConfig, "iterations", 0),
        (RunConfig, "batch_size", 0),
        (RunConfig, "precision", "64-true"),
        (RunConfig, "seed", -1),
        (RunConfig, "num_sample_pictures", 100),
    ],
)
def test_values_out_of_range_are_named(section: Any, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        section(**{setting: value})


def test_two_sources_of_the_same_thing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.hold_out"):
        DataConfig(validation="set", hold_out=0.2)
    with pytest.raises(ConfigError, match=r"run\.backbone_weights"):
        RunConfig(initial_weights="a", backbone_weights="b")


def test_configurations_differ_by_name() -> None:
    config = TrainConfig()
    other = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=3))
    assert differences(plain(config), plain(config)) == []
    assert differences(plain(other), plain(config)) == ["run.seed: 3, not 0"]
    older = plain(config)
    del older["run"]["seed"]
    assert differences(plain(config), older) == ["run.seed: 0, not None"]


def test_a_schedule_that_never_gets_going_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"warmup_iterations is 1000.*run\.iterations \(500\)"):
        TrainConfig(run=RunConfig(iterations=500))
    with pytest.raises(ConfigError, match=r"optimisation\.steps"):
        TrainConfig(run=RunConfig(iterations=80_000))
    TrainConfig(run=RunConfig(iterations=80_000), optimisation=OptimisationConfig(steps=()))
    TrainConfig(
        run=RunConfig(iterations=80_000), optimisation=OptimisationConfig(schedule="cosine")
    )
