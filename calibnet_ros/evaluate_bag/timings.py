"""How fast a recording was answered; kept apart from the figures, which must not change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from calibnet_core.perception.accounting import LatencyWindow
from calibnet_core.structures import ModelInfo
from calibnet_ros.evaluate_bag.replay import OfflineAnswer

_WINDOW = 100_000
_BYTES_PER_MB = 1e6
_STAGES = ("preprocess", "inference", "postprocess")


class Stopwatch:
    """Collects latencies while answers go by.

    Args:
        info: of the model, whose device is watched.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._windows = {name: LatencyWindow(_WINDOW) for name in (*_STAGES, "total")}
        self._num_frames, self._busy_s = 0, 0.0
        self._watches_gpu = info.device.startswith("cuda") and torch.cuda.is_available()
        if self._watches_gpu:
            torch.cuda.reset_peak_memory_stats(info.device)

    def timed(self, answers: Iterator[OfflineAnswer]) -> Iterator[OfflineAnswer]:
        """Pass answers on. What is done with them in between is not counted."""
        while True:
            started = time.perf_counter()
            answer = next(answers, None)
            elapsed_s = time.perf_counter() - started
            if answer is None:
                return
            self._num_frames += 1
            self._busy_s += elapsed_s
            self._windows["total"].add(elapsed_s)
            for name in _STAGES:
                self._windows[name].add(getattr(answer.timings, f"{name}_ms") / 1e3)
            yield answer

    def document(self) -> dict[str, Any]:
        """Percentiles in milliseconds, frames a second, and the GPU's memory where one is used.

        `total` is from one answer to the next: reading, pairing, network and what follows it.
        """
        memory = None
        if self._watches_gpu:
            peak = torch.cuda.max_memory_allocated(self._info.device)
            reserved = torch.cuda.max_memory_reserved(self._info.device)
            memory = {"peak": peak / _BYTES_PER_MB, "peak_reserved": reserved / _BYTES_PER_MB}
        return {
            "format": "calibnet recording timings 1",
            "device": self._info.device_label,
            "torch_threads": torch.get_num_threads(),
            "frames": self._num_frames,
            "frames_per_s": self._num_frames / self._busy_s if self._busy_s else None,
            "latency_ms": {name: _percentiles(self._windows[name]) for name in self._windows},
            "gpu_memory_mb": memory,
        }


def _percentiles(window: LatencyWindow) -> dict[str, float] | None:
    found = window.percentiles()
    if not found.count:
        return None
    return {"p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms}
