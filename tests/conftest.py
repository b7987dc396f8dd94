"""Fixtures for all tests. What needs torch is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from calibnet_core import Pipeline
    from calibnet_core.models.calibnet import CalibNet

# A busy machine is no failure.
settings.register_profile("calibnet", deadline=None, print_blob=True)
settings.load_profile("calibnet")


@pytest.fixture(scope="session")
def published_r50() -> CalibNet:
    """CalibNet with ResNet-50, weights by the published recipe, evaluation mode. Do not change."""
    from calibnet_core import build_model, load_weights
    from tests.support.parity import published_entries, recipe_weights

    weights = recipe_weights(published_entries("r50"))
    model = build_model("calibnet_r50")
    load_weights(model, weights)
    return model


@pytest.fixture(scope="session")
def random_pipeline() -> Pipeline:
    """ResNet-50 with random weights on small images that keeps every candidate. Do not change."""
    from calibnet_core import Pipeline, PipelineConfig
    from calibnet_core.config import InferenceConfig, InputConfig

    return Pipeline.from_weights(
        model="calibnet_r50",
        config=PipelineConfig(
            input=InputConfig(shortest_edge=64, longest_edge=96),
            inference=InferenceConfig.published(),
        ),
    )
