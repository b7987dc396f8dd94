"""Figures of the newest results of one camera, for diagnostics."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping

import numpy as np

from calibnet_core.perception.accounting import LatencyWindow
from calibnet_core.perception.geometry import GeometryStatus
from calibnet_core.perception.perceiver import Perception

STAGES = ("queue", "preprocess", "inference", "postprocess", "publish", "total")
_WINDOW = 512
_VALIDITY_WINDOW = 15  # half a second of a usual camera: a fault is to be told while it lasts


class StreamFigures:
    """Latencies by stage, offsets, and what was found, over the newest results. Thread-safe."""

    def __init__(self) -> None:
        self._latencies = {stage: LatencyWindow(_WINDOW) for stage in STAGES}
        self._lock = threading.Lock()
        self._offsets_ms: deque[float] = deque(maxlen=_WINDOW)
        self._counts: deque[int] = deque(maxlen=_WINDOW)
        self._validity: deque[float] = deque(maxlen=_VALIDITY_WINDOW)  # NaN: nothing to tell by

    def add(
        self, perception: Perception, stages_ms: Mapping[str, float], offset_ns: int | None
    ) -> None:
        """Add one result.

        Args:
            perception: what was found.
            stages_ms: time spent, by the names of `STAGES`, in milliseconds.
            offset_ns: depth stamp minus colour stamp; None without depth.
        """
        for stage, elapsed_ms in stages_ms.items():
            self._latencies[stage].add(max(0.0, elapsed_ms) / 1e3)
        ratios = [
            geometry.depth_valid_ratio
            for geometry in perception.geometry
            if perception.has_depth and geometry.status != GeometryStatus.DISABLED
        ]
        with self._lock:
            self._counts.append(len(perception))
            if offset_ns is not None:
                self._offsets_ms.append(offset_ns / 1e6)
            self._validity.append(float(np.mean(ratios)) if ratios else math.nan)

    def restart(self) -> None:
        """Forget everything, after time jumped back."""
        for window in self._latencies.values():
            window.clear()
        with self._lock:
            for values in (self._offsets_ms, self._counts, self._validity):
                values.clear()

    def p95_ms(self) -> float:
        """95th percentile of the whole latency, NaN while there is none."""
        return self._latencies["total"].percentiles().p95_ms

    def depth_validity(self) -> float:
        """Mean share of mask pixels with a usable depth of late; NaN where none was measured."""
        with self._lock:
            known = [ratio for ratio in self._validity if not math.isnan(ratio)]
        return float(np.mean(known)) if known else math.nan

    def values(self) -> dict[str, str]:
        """The figures by the keys of diagnostics; times in milliseconds."""
        found = {}
        for stage in STAGES:
            summary = self._latencies[stage].percentiles()
            for name in ("p50", "p95", "p99"):
                key = f"latency_{name}_ms" if stage == "total" else f"{stage}_{name}_ms"
                found[key] = f"{getattr(summary, f'{name}_ms'):.1f}"
        with self._lock:
            offsets, counts = list(self._offsets_ms), list(self._counts)
        found["pair_offset_mean_ms"] = f"{np.mean(offsets) if offsets else math.nan:.2f}"
        found["pair_offset_max_ms"] = f"{np.abs(offsets).max() if offsets else math.nan:.2f}"
        found["instances_mean"] = f"{np.mean(counts) if counts else math.nan:.2f}"
        found["depth_valid_ratio_mean"] = f"{self.depth_validity():.3f}"
        return found
