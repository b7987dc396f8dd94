"""What a round of diagnostics is made from, read off a running camera."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from calibnet_core.perception.accounting import LedgerSnapshot
from calibnet_ros.diagnostics import CameraHealth
from calibnet_ros.parameter_schema import Values
from calibnet_ros.reports import Reporter
from calibnet_ros.stream import Camera


@dataclass(eq=False)
class Round:
    """What one round of diagnostics saw, for the next to compare.

    Attributes:
        at: its monotonic time.
        counts: of the active cameras, by name.
    """

    at: float = field(default_factory=time.monotonic)
    counts: dict[str, LedgerSnapshot] = field(default_factory=dict)


def camera_health(
    name: str,
    camera: Camera | None,
    reporter: Reporter,
    values: Values,
    *,
    is_enabled: bool,
    this: Round,
    last: Round,
) -> CameraHealth:
    """Take a camera's figures for this round, and note them there.

    Args:
        name: of the camera.
        camera: None before configuring.
        reporter: of a camera that is not there.
        values: parameters.
        is_enabled: False while paused.
        this: the round to note the counters in.
        last: the round before.
    """
    reporter = reporter if camera is None else camera.reporter
    last_error, last_error_age_s = reporter.last_error, this.at - reporter.last_error_at
    if camera is None or camera.stream is None:
        return CameraHealth(name=name, last_error=last_error, last_error_age_s=last_error_age_s)
    stream = camera.stream
    counts = this.counts[name] = stream.snapshot()
    return CameraHealth(
        name=name,
        counts=counts,
        counts_before=last.counts.get(name),
        elapsed_s=this.at - last.at,
        silent=stream.silence.check(counts, float(values["input.timeout"])),
        figures={**stream.figures.values(), "withheld_transformed": str(stream.withheld)},
        depth_validity=stream.figures.depth_validity(),
        p95_ms=stream.figures.p95_ms(),
        calibration_fault=stream.calibration_fault,
        is_enabled=is_enabled,
        last_error=last_error,
        last_error_age_s=last_error_age_s,
    )
