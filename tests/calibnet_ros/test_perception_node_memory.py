"""Configuring and cleaning up again and again leaves nothing behind, with a real network."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.checkpoint import save_weights
from calibnet_core.config import InputConfig, ModelConfig, PipelineConfig
from calibnet_core.models.build import build_model
from tests.support.ros import REAL

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ROUNDS, WARM_UP_ROUNDS = 50, 5
MOST_BYTES_KEPT = 8_000_000
"""Allocators keep some pages; the network alone has 12 MB of weights, fifty would be 600 MB."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network with random weights, in a file that says what it is."""
    config = ModelConfig(
        backbone="mobilenet_v2", width=64, num_kernels=10, num_transformer_layers=1
    )
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    settings = PipelineConfig(model=config, input=InputConfig(shortest_edge=64, longest_edge=96))
    save_weights(build_model(config, seed=0), path, model_name="small", settings=settings)
    return path


@pytest.mark.timeout(400)
def test_fifty_configurations_return_memory_to_its_baseline(start_robot, weights):
    robot = start_robot(
        module=REAL,
        parameters={
            "autostart": False,
            "model.weights": str(weights),
            "model.device": "cpu",
            "model.warmup_runs": 1,
        },
    )
    memory = []
    for _ in range(ROUNDS):
        assert robot.change_state("configure"), robot.process.log
        assert robot.change_state("activate")
        assert robot.change_state("deactivate")
        assert robot.change_state("cleanup")
        memory.append(robot.memory_bytes())
    assert robot.state() == "unconfigured"
    kept = memory[-1] - memory[WARM_UP_ROUNDS]
    print(f"{kept / 1e6:.1f} MB kept; {memory[WARM_UP_ROUNDS] / 1e6:.0f} MB after the first rounds")
    assert kept < MOST_BYTES_KEPT, [round(value / 1e6) for value in memory]
