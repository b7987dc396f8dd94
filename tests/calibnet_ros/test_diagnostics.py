"""Diagnostics from counters, without a running graph."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType, ROSClock

from calibnet_core.perception.accounting import DropReason, FrameLedger
from calibnet_core.structures import ModelInfo
from calibnet_ros.diagnostics import CameraHealth, ModelHealth, diagnostics_msg
from calibnet_ros.parameter_schema import DEFAULTS

pytestmark = pytest.mark.ros

MODEL = ModelInfo(name="calibnet_r50", weights_sha256="ab" * 32, device="cpu")
OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
COLOR, DEPTH, INFO = "color/image", "depth/image", "color/camera_info"


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


AT_WORK = CameraHealth(counts=counts(8), counts_before=counts(5), elapsed_s=0.5)


def message(cameras, *, state="active", model=None, clock=None, **values):
    return diagnostics_msg(
        "/robot/calibnet",
        state,
        cameras,
        ModelHealth(info=MODEL) if model is None else model,
        {**DEFAULTS, **{name.replace("__", "."): value for name, value in values.items()}},
        Clock() if clock is None else clock,
    )


def camera(*, state="active", clock=None, health=AT_WORK, **changes):
    """The status of a camera at work, but for `changes`; those with `__` are parameters."""
    values = {name: changes.pop(name) for name in list(changes) if "__" in name}
    return message([replace(health, **changes)], state=state, clock=clock, **values).status[0]


def model(state="active", **fields):
    return message([AT_WORK], state=state, model=ModelHealth(**fields)).status[-1]


def values(status):
    return {entry.key: entry.value for entry in status.values}


def test_every_camera_and_the_model_has_a_status_under_the_nodes_name_with_the_present_time():
    before = Clock().now()
    msg = message([AT_WORK, replace(AT_WORK, name="left")])
    assert [status.name for status in msg.status] == [
        "/robot/calibnet: camera",
        "/robot/calibnet: camera left",
        "/robot/calibnet: model",
    ]
    assert {status.hardware_id for status in msg.status} == {"/robot/calibnet"}
    stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
    assert before.nanoseconds <= stamp_ns <= Clock().now().nanoseconds


def test_a_camera_at_work_tells_how_much_was_published_and_how_fast():
    status = camera(figures={"latency_p50_ms": "10.0"})
    assert (status.level, status.message) == (OK, "published 3 results since the last report")
    told = values(status)
    assert told["received_color"] == told["paired"] == told["published"] == "8"
    assert (told["waiting_color"], told["in_flight"], told["backward_jumps"]) == ("0", "0", "0")
    assert told["rate_color_hz"] == told["rate_depth_hz"] == told["rate_published_hz"] == "6.0"
    assert told["latency_p50_ms"] == "10.0"


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
    status = camera(
        counts=counts(1, color={DropReason.BAD_SIZE: 5}),
        counts_before=counts(color={DropReason.BAD_SIZE: 2}),
        last_error="the buffer was cut short",
    )
    assert status.level == WARN
    assert status.message == (
        "dropped 3 colour images (bad_size); latest: the buffer was cut short"
    )


@pytest.mark.parametrize("reason", list(DropReason))
def test_what_bounds_latency_or_was_asked_for_is_no_fault_and_all_else_is(reason):
    on_purpose = {DropReason.SUPERSEDED, DropReason.PAUSED, DropReason.OVER_RATE}
    now = counts(2, pairs={reason: 40})
    assert camera(counts=now, counts_before=counts(2)).level == (
        OK if reason in on_purpose else WARN
    )
    assert camera(counts=now, counts_before=now).level == OK  # it is over


@pytest.mark.parametrize(
    ("silent", "parameters", "level"),
    [
        ({COLOR: "no colour"}, {}, ERROR),
        ({DEPTH: "no depth"}, {}, ERROR),
        ({DEPTH: "no depth"}, {"input__require_depth": False}, WARN),
        ({COLOR: "no colour", DEPTH: "no depth"}, {"input__require_depth": False}, ERROR),
        ({INFO: "no info"}, {}, WARN),
        ({INFO: "no info"}, {"geometry__enable": False}, OK),
    ],
)
def test_a_silent_input_is_as_bad_as_what_it_prevents(silent, parameters, level):
    status = camera(silent=silent, **parameters)
    assert status.level == level
    for role, text in silent.items():
        assert values(status)[f"silent.{role}"] == text
        assert level == OK or role == INFO or text in status.message


def test_a_pause_is_told_with_the_way_out_and_hides_no_silence():
    status = camera(is_enabled=False, counts=counts(8), counts_before=counts(8))
    assert (status.level, "~/set_enabled" in status.message) == (OK, True)
    assert camera(is_enabled=False, silent={COLOR: "no colour"}).level == ERROR


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"diagnostics__min_rate": 6.5, "counts": counts(8, pairs={DropReason.SUPERSEDED: 2})},
            "6.0 results a second, below diagnostics.min_rate 6.5; colour comes at 10.0 a second, "
            "depth at 10.0",
        ),
        (
            {"diagnostics__max_latency_ms": 80.0, "p95_ms": 81.0},
            "latency p95 is 81 ms, above diagnostics.max_latency_ms 80",
        ),
        ({"depth_validity": 0.009}, "hardly any object has depth"),
    ],
)
def test_what_misses_its_limit_is_a_warning(changes, words):
    status = camera(**changes)
    assert status.level == WARN
    assert words in status.message


@pytest.mark.parametrize(
    "changes",
    [
        {"diagnostics__min_rate": 5.5},
        {"diagnostics__max_latency_ms": 80.0, "p95_ms": 79.0},
        {"diagnostics__max_latency_ms": 80.0, "p95_ms": math.nan},
        {"p95_ms": 1e6},
        {"depth_validity": 0.02},
    ],
)
def test_within_limits_and_without_any_there_is_no_warning(changes):
    assert camera(**changes).level == OK


def test_the_first_round_of_an_activation_compares_nothing():
    status = camera(counts_before=None, counts=counts(1, color={DropReason.BAD_SIZE: 5}))
    assert status.level == OK
    assert not [key for key in values(status) if key.startswith("rate_")]


def test_two_rounds_at_one_time_have_no_rates():
    status = camera(elapsed_s=0.0, diagnostics__min_rate=5.0)
    assert status.level == OK
    assert not [key for key in values(status) if key.startswith("rate_")]


def test_without_counters_the_camera_is_stale_and_the_state_is_named():
    status = camera(counts=None, state="inactive", last_error="an old fault")
    assert status.level == STALE
    assert status.message.startswith("inactive")
    assert camera(counts=None, state="unconfigured").level == STALE


def test_a_node_that_could_not_start_says_why():
    status = camera(counts=None, state="unconfigured", last_error="no such file: w.pth")
    assert status.level == ERROR
    assert "no such file: w.pth" in status.message


def test_the_model_is_named_with_its_hash_and_device():
    status = model(info=MODEL)
    assert status.level == OK
    assert status.message == "calibnet_r50-abababab on cpu"
    assert values(status) == {
        "state": "active",
        "model_id": "calibnet_r50-abababab",
        "weights_sha256": "ab" * 32,
        "backend": "torch",
        "device": "cpu",
        "precision": "fp32",
    }
    on_gpu = values(model(info=MODEL, memory_mb=(812.4, 1024.6)))
    assert (on_gpu["gpu_memory_mb"], on_gpu["gpu_memory_peak_mb"]) == ("812", "1025")


def test_random_weights_are_a_warning_and_no_model_is_stale():
    assert model(info=replace(MODEL, weights_sha256="")).level == WARN
    status = model(info=None, state="unconfigured")
    assert status.level == STALE
    assert "configure" in status.message


def test_the_age_of_the_newest_error_is_told_only_where_there_is_one():
    assert values(camera())["last_error_age_s"] == ""
    told = values(camera(last_error="x", last_error_age_s=2.5))
    assert (told["last_error"], told["last_error_age_s"]) == ("x", "2.5")


def test_the_kind_of_clock_is_told():
    clock = ROSClock()
    assert values(camera(clock=clock))["clock_type"] == "system"
    clock._set_ros_time_is_active(True)
    assert values(camera(clock=clock))["clock_type"] == "simulated"
    assert values(camera(clock=Clock(clock_type=ClockType.SYSTEM_TIME)))["clock_type"] == "system"
