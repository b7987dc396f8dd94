from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch

from calibnet_core.ablation import latency
from calibnet_core.ablation.latency import measure_latency
from calibnet_core.config import ConfigError, ModelConfig

SMALL = ModelConfig(backbone="mobilenet_v2", width=64, num_kernels=3, num_transformer_layers=0)
WIDER = ModelConfig(backbone="mobilenet_v2", width=128, num_kernels=3, num_transformer_layers=0)


def test_median_spread_and_ratio_come_from_alternating_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    seconds = {"own": iter([9.0, 0.2, 0.1, 0.6]), "base": iter([9.0, 0.1, 0.1, 0.2])}

    def runner(config: ModelConfig, *_: Any) -> Any:
        name = "own" if config is SMALL else "base"

        def run() -> float:
            order.append(name)
            return next(seconds[name])

        return run

    monkeypatch.setattr(latency, "_runner", runner)
    measured = measure_latency(SMALL, baseline=WIDER, rounds=3)
    assert order == ["own", "base"] * 4
    assert measured.median_ms == pytest.approx(200.0)  # the first run of each does not count
    assert (measured.lowest_ms, measured.highest_ms) == pytest.approx((100.0, 600.0))
    assert measured.ratio == pytest.approx(2.0)
    assert measured.rounds == 3


def test_real_networks_can_be_timed() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine, threads wait for each other
    try:
        measured = measure_latency(SMALL, baseline=WIDER, rounds=2, size=(32, 64))
    finally:
        torch.set_num_threads(threads)
    times = (measured.lowest_ms, measured.median_ms, measured.highest_ms)
    assert all(a <= b for a, b in itertools.pairwise((0.0, *times)))
    assert measured.ratio > 0.0


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="rounds is 0; choose 1 or more"):
        measure_latency(SMALL, rounds=0)


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"device '{device}' cannot be used")):
        measure_latency(SMALL, device=device)
