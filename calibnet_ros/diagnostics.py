"""Diagnostics in words and numbers: one status for each camera and one for the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

from calibnet_core.perception.accounting import DropReason, LedgerSnapshot
from calibnet_core.structures import ModelInfo
from calibnet_ros.frame_input import DEPTH, INFO
from calibnet_ros.parameter_schema import Values

CAMERA_STATUS = "camera"
MODEL_STATUS = "model"
_LEAST_VALID_DEPTH = 0.01
# How latency and load stay bounded, and what was asked for: no faults.
_ON_PURPOSE = (DropReason.SUPERSEDED, DropReason.PAUSED, DropReason.OVER_RATE)

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


@dataclass(frozen=True, kw_only=True)
class CameraHealth:
    """What one round of a camera's diagnostics is made from.

    Attributes:
        name: of the camera, empty for one without a name.
        counts: None while inactive.
        counts_before: of the round before, to tell what changed.
        elapsed_s: time since that round.
        silent: for each silent input, by role, what is known about its publishers.
        figures: of the newest results, by the keys of diagnostics.
        depth_validity: mean share of mask pixels with depth, NaN while unknown.
        p95_ms: 95th percentile of latency, NaN while unknown.
        calibration_fault: why there is no geometry although a CameraInfo is there.
        is_enabled: False while paused.
        last_error: the newest fault, empty if none.
        last_error_age_s: how long ago that was.
    """

    name: str = ""
    counts: LedgerSnapshot | None = None
    counts_before: LedgerSnapshot | None = None
    elapsed_s: float = math.nan
    silent: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    depth_validity: float = math.nan
    p95_ms: float = math.nan
    calibration_fault: str = ""
    is_enabled: bool = True
    last_error: str = ""
    last_error_age_s: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ModelHealth:
    """What one round of the model's diagnostics is made from.

    Attributes:
        info: None before configuring.
        memory_mb: memory of the device in use and at its highest; None on the CPU.
    """

    info: ModelInfo | None
    memory_mb: tuple[float, float] | None = None


def diagnostics_msg(
    node_name: str,
    lifecycle_state: str,
    cameras: Sequence[CameraHealth],
    model: ModelHealth,
    values: Values,
    clock: Clock,
) -> DiagnosticArray:
    """One status for each camera and one for the model.

    Args:
        node_name: fully qualified.
        lifecycle_state: label of the present state.
        cameras: one or more.
        model: its health.
        values: parameters.
        clock: of the node.
    """
    is_simulated = clock.clock_type == ClockType.ROS_TIME and clock.ros_time_is_active
    clock_type = "simulated" if is_simulated else "system"
    msg = DiagnosticArray()
    msg.header.stamp = clock.now().to_msg()
    for camera in cameras:
        label = f"{CAMERA_STATUS} {camera.name}".strip()
        status = DiagnosticStatus(name=f"{node_name}: {label}", hardware_id=node_name)
        _fill_camera(status, camera, lifecycle_state, values, clock_type)
        msg.status.append(status)
    status = DiagnosticStatus(name=f"{node_name}: {MODEL_STATUS}", hardware_id=node_name)
    _fill_model(status, model, lifecycle_state)
    msg.status.append(status)
    return msg


def _fill_camera(
    status: DiagnosticStatus,
    camera: CameraHealth,
    lifecycle_state: str,
    values: Values,
    clock_type: str,
) -> None:
    counts = camera.counts
    if counts is None:
        status.level = STALE
        status.message = f"{lifecycle_state}: no input is read; activate the node"
        if lifecycle_state == "unconfigured" and camera.last_error:
            status.level = ERROR
            status.message = f"unconfigured: {camera.last_error}"
        return
    status.level, status.message = _verdict(camera, counts, values)
    entries: dict[str, object] = {
        "received_color": counts.received_color,
        "received_depth": counts.received_depth,
        "received_info": counts.received_info,
        "paired": counts.paired,
        "paired_without_depth": counts.paired_without_depth,
        "published": counts.published,
        "waiting_color": counts.waiting_color,
        "in_flight": counts.in_flight,
        "backward_jumps": counts.backward_jumps,
        **_rates(camera, counts),
        **camera.figures,
        "last_error": camera.last_error,
        "last_error_age_s": f"{camera.last_error_age_s:.1f}" if camera.last_error else "",
        "clock_type": clock_type,
        **{f"silent.{role}": text for role, text in camera.silent.items()},
    }
    for group in ("color", "depth", "pairs"):
        for reason, number in getattr(counts, f"dropped_{group}").items():
            entries[f"dropped_{group}.{reason.value}"] = number
    status.values = [KeyValue(key=key, value=str(value)) for key, value in entries.items()]


def _rates(camera: CameraHealth, counts: LedgerSnapshot) -> dict[str, str]:
    before, elapsed_s = camera.counts_before, camera.elapsed_s
    if before is None or not elapsed_s > 0:
        return {}
    return {
        f"rate_{name}_hz": f"{(getattr(counts, field_) - getattr(before, field_)) / elapsed_s:.1f}"
        for name, field_ in (
            ("color", "received_color"),
            ("depth", "received_depth"),
            ("published", "published"),
        )
    }


def _verdict(camera: CameraHealth, counts: LedgerSnapshot, values: Values) -> tuple[bytes, str]:
    silent = dict(camera.silent)
    info = silent.pop(INFO, "")
    if silent:
        is_fatal = bool(values["input.require_depth"]) or set(silent) != {DEPTH}
        return (ERROR if is_fatal else WARN), "; ".join(silent.values())
    if not camera.is_enabled:
        return OK, "paused: call ~/set_enabled with true to go on"
    if camera.counts_before is None:
        return OK, "waiting for the first round of counting"
    if warnings := list(_warnings(camera, counts, camera.counts_before, info, values)):
        detail = f"; latest: {camera.last_error}" if camera.last_error else ""
        return WARN, "; ".join(warnings) + detail
    published = counts.published - camera.counts_before.published
    return OK, f"published {published} results since the last report"


def _warnings(
    camera: CameraHealth,
    counts: LedgerSnapshot,
    before: LedgerSnapshot,
    silent_info: str,
    values: Values,
) -> Iterator[str]:
    for group, word in (("color", "colour images"), ("depth", "depth images"), ("pairs", "pairs")):
        earlier, now = getattr(before, f"dropped_{group}"), getattr(counts, f"dropped_{group}")
        for reason, number in now.items():
            new = number - earlier.get(reason, 0)
            if new and reason not in _ON_PURPOSE:
                yield f"dropped {new} {word} ({reason.value})"
    if camera.calibration_fault:
        yield f"no geometry: {camera.calibration_fault}"
    if silent_info and values["geometry.enable"]:
        yield f"no geometry without calibration: {silent_info}"
    if camera.depth_validity < _LEAST_VALID_DEPTH:
        yield (
            "hardly any object has depth; check range (depth.min, depth.max), lighting and the "
            "projector of the camera"
        )
    rates, least = _rates(camera, counts), float(values["diagnostics.min_rate"])
    if rates and float(rates["rate_published_hz"]) < least:
        yield (
            f"{rates['rate_published_hz']} results a second, below diagnostics.min_rate {least:g}; "
            f"colour comes at {rates['rate_color_hz']} a second, depth at {rates['rate_depth_hz']}"
        )
    most_ms = float(values["diagnostics.max_latency_ms"])
    if 0 < most_ms < camera.p95_ms:
        yield (
            f"latency p95 is {camera.p95_ms:.0f} ms, above diagnostics.max_latency_ms {most_ms:g}"
        )


def _fill_model(status: DiagnosticStatus, model: ModelHealth, lifecycle_state: str) -> None:
    info = model.info
    if info is None:
        status.level = STALE
        status.message = f"{lifecycle_state}: no model is loaded; configure the node"
        return
    status.level = WARN if info.has_random_weights else OK
    status.message = (
        "the weights are random, so the masks mean nothing; set model.weights"
        if info.has_random_weights
        else f"{info.model_id} on {info.device_label}"
    )
    entries = {
        "state": lifecycle_state,
        "model_id": info.model_id,
        "weights_sha256": info.weights_sha256,
        "backend": "torch",
        "device": info.device_label,
        "precision": info.precision,
    }
    if model.memory_mb is not None:
        used_mb, peak_mb = model.memory_mb
        entries |= {"gpu_memory_mb": f"{used_mb:.0f}", "gpu_memory_peak_mb": f"{peak_mb:.0f}"}
    status.values = [KeyValue(key=key, value=value) for key, value in entries.items()]
