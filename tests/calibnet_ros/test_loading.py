"""From the model.* parameters to a pipeline; what is refused before much is loaded."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import torch
from safetensors.torch import save_file

from calibnet_core.checkpoint import WeightsError, sha256_of
from calibnet_core.config import ConfigError
from calibnet_ros import loading
from calibnet_ros.loading import load_pipeline
from calibnet_ros.parameters import SCHEMA

pytestmark = pytest.mark.ros

DEFAULTS = {row.name: row.default for row in SCHEMA}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"some.other.network": torch.ones(3)}, path)
    return path


@pytest.fixture
def asked(monkeypatch):
    """What the loader asks of `Pipeline.from_weights`, in place of building a network."""
    calls = []

    def from_weights(path, **options):
        calls.append({"path": path, **options})
        return "pipeline"

    monkeypatch.setattr(loading.Pipeline, "from_weights", from_weights)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return calls


def test_the_parameters_reach_the_pipeline(asked, weights):
    values = {
        **DEFAULTS,
        "model.name": "calibnet_swin_t",
        "model.weights": str(weights),
        "model.sha256": sha256_of(weights).upper(),
        "model.device": "cpu",
        "depth.max": 4.0,
    }
    assert load_pipeline(values) == "pipeline"
    (call,) = asked
    assert (call["path"], call["model"]) == (str(weights), "calibnet_swin_t")
    assert call["device"] == "cpu"
    assert call["config"].depth.max_m == 4.0


def test_without_weights_they_are_random(asked):
    load_pipeline(DEFAULTS)
    assert asked[0]["path"] is None


@pytest.mark.parametrize(("has_gpu", "device"), [(False, "cpu"), (True, "cuda:0")])
def test_an_automatic_device_is_the_gpu_where_there_is_one(asked, monkeypatch, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    load_pipeline(DEFAULTS)
    assert asked[0]["device"] == device


def test_the_cpu_stands_in_only_where_that_is_allowed(asked):
    load_pipeline({**DEFAULTS, "model.device": "cuda:0"})
    load_pipeline({**DEFAULTS, "model.device": "cuda:0", "model.allow_cpu_fallback": True})
    assert [call["device"] for call in asked] == ["cuda:0", "cpu"]


def test_a_misspelt_device_is_refused_even_where_the_cpu_may_stand_in(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    values = {**DEFAULTS, "model.device": "abacus:0", "model.allow_cpu_fallback": True}
    with pytest.raises(ConfigError, match="abacus:0"):
        load_pipeline(values)


def test_another_hash_is_refused_with_both_hashes(weights):
    values = {**DEFAULTS, "model.weights": str(weights), "model.sha256": "ab" * 32}
    with pytest.raises(WeightsError) as refusal:
        load_pipeline(values)
    assert sha256_of(weights) in str(refusal.value)
    assert "ab" * 32 in str(refusal.value)


def test_a_hash_without_weights_is_refused():
    with pytest.raises(WeightsError, match=r"model\.weights"):
        load_pipeline({**DEFAULTS, "model.sha256": "ab" * 32})
