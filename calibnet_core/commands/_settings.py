"""Settings of a pipeline from what the command line names."""

from __future__ import annotations

from pathlib import Path

from calibnet_core.config import PipelineConfig, load_config


def base_config(config: Path | None, weights: Path | None) -> PipelineConfig:
    """The settings file where one is given, else what the weights say of themselves, else defaults.

    Raises:
        ConfigError: the settings file is not there or wrong.
        WeightsError: the weights cannot be read.
    """
    if config is not None:
        return load_config(config)
    if weights is not None and weights.suffix == ".safetensors":
        from calibnet_core.checkpoint import read_settings

        return read_settings(weights) or PipelineConfig()
    return PipelineConfig()
