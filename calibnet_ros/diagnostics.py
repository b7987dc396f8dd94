"""Diagnostics in words and numbers, from the counters of one camera and its model."""

from __future__ import annotations

import time
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from calibnet_core.perception.accounting import LatencySummary, LedgerSnapshot
from calibnet_core.pipeline import ModelInfo

CAMERA_STATUS = "camera"
MODEL_STATUS = "model"


@dataclass(frozen=True, kw_only=True)
class Health:
    """What one round of diagnostics is made from.

    Attributes:
        node_name: fully qualified.
        lifecycle_state: label of the present state.
        model: None before configuring.
        counts: None while inactive.
        counts_before: of the round before, to tell what changed.
        silent: for each silent input, what is known about its publishers.
        latency: from pairing to publication.
        last_error: the newest fault, empty if none.
        last_error_age_s: how long ago that was.
    """

    node_name: str
    lifecycle_state: str
    model: ModelInfo | None
    counts: LedgerSnapshot | None
    counts_before: LedgerSnapshot | None
    silent: dict[str, str]
    latency: LatencySummary
    last_error: str
    last_error_age_s: float


class SilenceWatch:
    """Notices inputs from which nothing comes, and says what is known of their publishers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._heard: dict[str, tuple[int, float]] = {}

    def check(self, counts: LedgerSnapshot, timeout_s: float) -> dict[str, str]:
        """A sentence for each input that has been silent for longer than `timeout_s`."""
        now, silent = time.monotonic(), {}
        for name, count in (
            ("color/image", counts.received_color),
            ("depth/image", counts.received_depth),
        ):
            known, since = self._heard.setdefault(name, (count, now))
            if count != known:
                self._heard[name] = (count, now)
            elif now - since > timeout_s:
                silent[name] = self._describe(name, now - since)
        return silent

    def _describe(self, name: str, silence_s: float) -> str:
        topic = self._node.resolve_topic_name(name)
        publishers = self._node.get_publishers_info_by_topic(topic)
        known = f"nobody publishes it; start the camera driver, or remap '{name}'"
        if publishers:
            described = ", ".join(
                f"{entry.node_name} ({entry.topic_type}, {entry.qos_profile.reliability.name})"
                for entry in publishers
            )
            known = f"it has {len(publishers)} publishers: {described}"
        return f"nothing on {topic} for {silence_s:.0f} s: {known}"


def diagnostics_msg(health: Health, stamp: Time) -> DiagnosticArray:
    """One status for the camera and one for the model."""
    msg = DiagnosticArray()
    msg.header.stamp = stamp
    msg.status = [_camera_status(health), _model_status(health)]
    return msg


def _camera_status(health: Health) -> DiagnosticStatus:
    status = DiagnosticStatus(
        name=f"{health.node_name}: {CAMERA_STATUS}", hardware_id=health.node_name
    )
    counts = health.counts
    if counts is None:
        status.level = DiagnosticStatus.STALE
        status.message = f"{health.lifecycle_state}: no input is read; activate the node"
        if health.lifecycle_state == "unconfigured" and health.last_error:
            status.level = DiagnosticStatus.ERROR
            status.message = f"unconfigured: {health.last_error}"
        return status
    status.level, status.message = _verdict(health, counts)
    values = {
        "received_color": counts.received_color,
        "received_depth": counts.received_depth,
        "received_info": counts.received_info,
        "paired": counts.paired,
        "published": counts.published,
        "waiting_color": counts.waiting_color,
        "in_flight": counts.in_flight,
        "backward_jumps": counts.backward_jumps,
        "latency_p50_ms": f"{health.latency.p50_ms:.1f}",
        "latency_p95_ms": f"{health.latency.p95_ms:.1f}",
        "latency_p99_ms": f"{health.latency.p99_ms:.1f}",
        "last_error": health.last_error,
        "last_error_age_s": f"{health.last_error_age_s:.1f}" if health.last_error else "",
    }
    for group in ("color", "depth", "pairs"):
        for reason, number in getattr(counts, f"dropped_{group}").items():
            values[f"dropped_{group}.{reason.value}"] = number
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return status


def _verdict(health: Health, counts: LedgerSnapshot) -> tuple[bytes, str]:
    if health.silent:
        return DiagnosticStatus.ERROR, "; ".join(health.silent.values())
    before = health.counts_before
    if before is None or counts.received_color < before.received_color:
        return DiagnosticStatus.OK, "waiting for the first round of counting"
    published = counts.published - before.published
    faults = []
    for group, word in (("color", "colour images"), ("depth", "depth images"), ("pairs", "pairs")):
        earlier, now = getattr(before, f"dropped_{group}"), getattr(counts, f"dropped_{group}")
        for reason, number in now.items():
            # A superseded pair is how latency stays bounded, not a fault.
            if reason.value != "superseded" and (new := number - earlier.get(reason, 0)):
                faults.append(f"dropped {new} {word} ({reason.value})")
    if faults:
        detail = f"; latest: {health.last_error}" if health.last_error else ""
        return DiagnosticStatus.WARN, "; ".join(faults) + detail
    return DiagnosticStatus.OK, f"published {published} results since the last report"


def _model_status(health: Health) -> DiagnosticStatus:
    status = DiagnosticStatus(
        name=f"{health.node_name}: {MODEL_STATUS}", hardware_id=health.node_name
    )
    model = health.model
    if model is None:
        status.level = DiagnosticStatus.STALE
        status.message = f"{health.lifecycle_state}: no model is loaded; configure the node"
        return status
    status.level = DiagnosticStatus.WARN if model.has_random_weights else DiagnosticStatus.OK
    status.message = (
        "the weights are random, so the masks mean nothing; set model.weights"
        if model.has_random_weights
        else f"{model.model_id} on {model.device}"
    )
    values = {
        "state": health.lifecycle_state,
        "model_id": model.model_id,
        "weights_sha256": model.weights_sha256,
        "device": model.device,
        "precision": model.precision,
    }
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    return status
