"""From the model.* parameters to a pipeline; what is refused before much is loaded."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import torch
from safetensors.torch import save_file

from calibnet_core import pipeline
from calibnet_core.checkpoint import sha256_of
from calibnet_core.config import MODELS, ConfigError
from calibnet_core.shipped_weights import SHIPPED_WEIGHTS
from calibnet_core.structures import ModelInfo, WeightsError
from calibnet_ros.loading import device_memory_mb, load_pipeline
from calibnet_ros.parameter_schema import DEFAULTS

pytestmark = pytest.mark.ros


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

    monkeypatch.setattr(pipeline.Pipeline, "from_weights", from_weights)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return calls


def test_the_parameters_reach_the_pipeline(asked, weights):
    values = {
        **DEFAULTS,
        "model.name": "calibnet_swin_t",
        "model.weights": str(weights),
        "model.sha256": sha256_of(weights).upper(),
        "model.device": "cpu",
        "model.precision": "bf16",
        "depth.max": 4.0,
    }
    assert load_pipeline(values) == "pipeline"
    (call,) = asked
    assert (call["path"], call["model"]) == (weights, "calibnet_swin_t")
    assert (call["device"], call["precision"]) == ("cpu", "bf16")
    assert call["config"].depth.max_m == 4.0


def test_without_weights_those_of_the_package_are_taken_with_their_settings(asked):
    load_pipeline(DEFAULTS)
    assert (asked[0]["path"], asked[0]["model"]) == (SHIPPED_WEIGHTS, None)
    assert asked[0]["config"].model == MODELS["calibnet_compact"]
    load_pipeline({**DEFAULTS, "model.sha256": sha256_of(SHIPPED_WEIGHTS)})
    with pytest.raises(WeightsError, match=r"model\.sha256 asks for 00000000"):
        load_pipeline({**DEFAULTS, "model.sha256": "0" * 64})


def test_another_network_without_weights_has_random_ones(asked):
    load_pipeline({**DEFAULTS, "model.name": "calibnet_r50"})
    assert (asked[0]["path"], asked[0]["model"]) == (None, "calibnet_r50")


@pytest.mark.parametrize(("has_gpu", "device"), [(False, "cpu"), (True, "cuda:0")])
def test_an_automatic_device_is_the_gpu_where_there_is_one(asked, monkeypatch, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    load_pipeline(DEFAULTS)
    assert asked[0]["device"] == device


def test_the_size_and_depth_picture_that_the_weights_were_trained_with_reach_the_pipeline(
    asked, tmp_path
):
    path = tmp_path / "trained.safetensors"
    settings = {
        "input": {"shortest_edge": 96, "longest_edge": 128},
        "depth": {"near_is_bright": False, "min_m": 0.9},
    }
    save_file({"weight": torch.ones(3)}, path, metadata={"settings": json.dumps(settings)})
    load_pipeline({**DEFAULTS, "model.weights": str(path)})
    config = asked[0]["config"]
    assert (config.input.shortest_edge, config.input.longest_edge) == (96, 128)
    assert not config.depth.near_is_bright
    assert config.depth.min_m == DEFAULTS["depth.min"]  # the parameter wins


@pytest.mark.parametrize(
    ("device", "num_gpus", "is_allowed", "used"),
    [
        ("cuda:0", 0, False, ("cuda:0", "fp16")),
        ("cuda:0", 0, True, ("cpu", "fp32")),
        ("cuda", 0, True, ("cpu", "fp32")),
        ("cuda:1", 1, False, ("cuda:1", "fp16")),
        ("cuda:1", 1, True, ("cpu", "fp32")),
        ("cuda:1", 2, True, ("cuda:1", "fp16")),
        ("cuda:one", 0, True, ("cuda:one", "fp16")),  # refused further on
    ],
)
def test_the_cpu_stands_in_for_a_missing_gpu_only_where_that_is_allowed(
    asked, monkeypatch, device, num_gpus, is_allowed, used
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    load_pipeline(
        {
            **DEFAULTS,
            "model.device": device,
            "model.allow_cpu_fallback": is_allowed,
            "model.precision": "fp16",
        }
    )
    assert (asked[0]["device"], asked[0]["precision"]) == used


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
        load_pipeline({**DEFAULTS, "model.name": "calibnet_r50", "model.sha256": "ab" * 32})


def test_the_memory_of_a_gpu_is_told_in_megabytes_and_that_of_the_cpu_is_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 812_400_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1_024_600_000)
    on_gpu = ModelInfo(name="m", weights_sha256="", device="cuda:0")
    assert device_memory_mb(on_gpu) == (812.4, 1024.6)
    assert device_memory_mb(ModelInfo(name="m", weights_sha256="", device="cpu")) is None
    assert device_memory_mb(None) is None
