"""Latency of a network beside that of the published one, in alternating runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from calibnet_core.ablation.cost import INPUT_SIZE
from calibnet_core.config import ConfigError, ModelConfig
from calibnet_core.models.build import build_model
from calibnet_core.models.inference_form import inference_form

PUBLISHED = ModelConfig()


@dataclass(frozen=True)
class Latency:
    """Time of one image through the network, in milliseconds.

    Attributes:
        median_ms: of all rounds.
        lowest_ms: of all rounds.
        highest_ms: of all rounds.
        ratio: median over the rounds of this network's time through the published one's.
        rounds: how many.
    """

    median_ms: float
    lowest_ms: float
    highest_ms: float
    ratio: float
    rounds: int


def measure_latency(
    config: ModelConfig,
    *,
    baseline: ModelConfig = PUBLISHED,
    device: str = "cpu",
    rounds: int = 7,
    size: tuple[int, int] = INPUT_SIZE,
) -> Latency:
    """Time the form of the network that `Pipeline` runs, with random weights.

    Every round runs both networks, one right after the other: a machine is never as quiet at one
    minute as at the next, and only what lies close together compares.

    Args:
        config: the network.
        baseline: what the ratio is to.
        device: cpu, cuda or cuda:N.
        rounds: measurements of each, after one that does not count.
        size: (height, width) of the input, multiples of 32.

    Raises:
        ConfigError: the device cannot be used, or there are no rounds.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; choose 1 or more")
    runs = [_runner(each, device, size) for each in (config, baseline)]
    for run in runs:
        run()
    own, base = zip(*[[run() for run in runs] for _ in range(rounds)], strict=True)
    return Latency(
        median_ms=statistics.median(own) * 1e3,
        lowest_ms=min(own) * 1e3,
        highest_ms=max(own) * 1e3,
        ratio=statistics.median(a / b for a, b in zip(own, base, strict=True)),
        rounds=rounds,
    )


def _runner(config: ModelConfig, device: str, size: tuple[int, int]) -> Callable[[], float]:
    """What runs the network once and returns the seconds that took."""
    try:
        place = torch.device(device)
        image = torch.zeros(1, 3, *size, device=place)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ConfigError(f"device '{device}' cannot be used ({error}); use cpu") from error
    image = image.contiguous(memory_format=torch.channels_last)
    on_gpu = place.type == "cuda"
    network = inference_form(build_model(config, seed=0), one_batch=on_gpu).to(place)

    @torch.inference_mode()
    def run() -> float:
        started = time.perf_counter()
        network(image, image)
        if on_gpu:
            torch.cuda.synchronize(place)
        return time.perf_counter() - started

    return run
