"""Diagnostics from counters, without a running graph."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from calibnet_core.perception.accounting import DropReason, FrameLedger, LatencySummary
from calibnet_core.pipeline import ModelInfo
from calibnet_ros.diagnostics import Health, diagnostics_msg

pytestmark = pytest.mark.ros

MODEL = ModelInfo(name="calibnet_r50", weights_sha256="ab" * 32, device="cpu")
OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


def counts(num_pairs=0, *, color=None, depth=None, pairs=None):
    """A snapshot after so many results, and drops as {reason: number} for each kind."""
    ledger = FrameLedger()
    for _ in range(num_pairs):
        ledger.color_received()
        ledger.depth_received()
        ledger.paired()
        ledger.published()
    for reason in Counter(color).elements():
        ledger.color_received()
        ledger.color_dropped(reason)
    for reason in Counter(depth).elements():
        ledger.depth_received()
        ledger.depth_dropped(reason)
    for reason in Counter(pairs).elements():
        ledger.color_received()
        ledger.depth_received()
        ledger.paired()
        ledger.pair_dropped(reason)
    return ledger.snapshot(waiting_color=0, in_flight=0)


def health(**changes):
    normal = Health(
        node_name="/robot/calibnet",
        lifecycle_state="active",
        model=MODEL,
        counts=counts(8),
        counts_before=counts(5),
        silent={},
        latency=LatencySummary(count=3, p50_ms=10.04, p95_ms=20.0, p99_ms=math.nan),
        last_error="",
        last_error_age_s=0.0,
    )
    return replace(normal, **changes)


def camera(**changes):
    return diagnostics_msg(health(**changes), Time()).status[0]


def model(**changes):
    return diagnostics_msg(health(**changes), Time()).status[1]


def values(status):
    return {entry.key: entry.value for entry in status.values}


def test_both_statuses_bear_the_nodes_name_and_the_stamp():
    msg = diagnostics_msg(health(), Time(sec=7))
    assert [status.name for status in msg.status] == [
        "/robot/calibnet: camera",
        "/robot/calibnet: model",
    ]
    assert {status.hardware_id for status in msg.status} == {"/robot/calibnet"}
    assert msg.header.stamp.sec == 7


def test_a_camera_at_work_tells_how_much_was_published():
    status = camera()
    assert (status.level, status.message) == (OK, "published 3 results since the last report")
    told = values(status)
    assert told["received_color"] == told["paired"] == told["published"] == "8"
    assert (told["waiting_color"], told["in_flight"], told["backward_jumps"]) == ("0", "0", "0")
    assert (told["latency_p50_ms"], told["latency_p99_ms"]) == ("10.0", "nan")


def test_every_reason_for_a_drop_has_its_counter():
    status = camera(
        counts=counts(
            color={DropReason.BAD_SIZE: 2},
            depth={DropReason.NO_PARTNER: 1},
            pairs={DropReason.INFERENCE_ERROR: 3},
        )
    )
    told = values(status)
    assert told["dropped_color.bad_size"] == "2"
    assert told["dropped_depth.no_partner"] == "1"
    assert told["dropped_pairs.inference_error"] == "3"


def test_new_drops_are_a_warning_with_the_newest_explanation():
    before = counts(color={DropReason.BAD_SIZE: 2})
    now = counts(1, color={DropReason.BAD_SIZE: 5})
    status = camera(counts=now, counts_before=before, last_error="the buffer was cut short")
    assert status.level == WARN
    assert status.message == (
        "dropped 3 colour images (bad_size); latest: the buffer was cut short"
    )


def test_old_drops_and_superseded_pairs_are_no_warning():
    before = counts(color={DropReason.BAD_SIZE: 2})
    now = counts(
        2,
        color={DropReason.BAD_SIZE: 2},
    )
    assert camera(counts=now, counts_before=before).level == OK
    flooded = counts(2)
    superseded = counts(2, pairs={DropReason.SUPERSEDED: 40})
    assert camera(counts=superseded, counts_before=flooded).level == OK


def test_silence_is_an_error_whatever_else_there_is():
    status = camera(silent={"depth/image": "nothing on /d for 3 s: nobody publishes it"})
    assert status.level == ERROR
    assert status.message == "nothing on /d for 3 s: nobody publishes it"


@pytest.mark.parametrize("before", [None, counts(99)])
def test_the_first_round_of_an_activation_compares_nothing(before):
    assert camera(counts_before=before).level == OK


def test_without_counters_the_camera_is_stale_and_the_state_is_named():
    status = camera(counts=None, lifecycle_state="inactive")
    assert status.level == STALE
    assert status.message.startswith("inactive")


def test_a_node_that_could_not_start_says_why():
    status = camera(counts=None, lifecycle_state="unconfigured", last_error="no such file: w.pth")
    assert "no such file: w.pth" in status.message


def test_the_model_is_named_with_its_hash_and_device():
    status = model()
    assert status.level == OK
    assert status.message == "calibnet_r50-abababab on cpu"
    assert values(status) == {
        "state": "active",
        "model_id": "calibnet_r50-abababab",
        "weights_sha256": "ab" * 32,
        "device": "cpu",
        "precision": "fp32",
    }


def test_random_weights_are_a_warning_and_no_model_is_stale():
    assert model(model=replace(MODEL, weights_sha256="")).level == WARN
    status = model(model=None, lifecycle_state="unconfigured")
    assert status.level == STALE
    assert "configure" in status.message


def test_the_age_of_the_newest_error_is_told_only_where_there_is_one():
    assert values(camera())["last_error_age_s"] == ""
    told = values(camera(last_error="x", last_error_age_s=2.5))
    assert (told["last_error"], told["last_error_age_s"]) == ("x", "2.5")
