"""The node's states through the standard services, over the wire."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import torch
from calibnet_ros.msg import InstanceMaskArray, ModelInfo
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from safetensors.torch import save_file

from tests.support.ros import LATCHED, REAL, color_msg, depth_msg, stamp_ns_of, wait_for
from tests.support.stub_perception_node import FAIL, MODEL_INFO, NOT_FINITE, sleep_order

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def nodes():
    return []


@pytest.fixture
def robot(start_robot, nodes):
    """A node that waits for its operator, in whatever state the last test left it."""
    if not nodes or not nodes[-1].process.is_alive:
        nodes.append(start_robot(parameters={"autostart": False}))
        nodes[-1].wait_for(lambda: nodes[-1].reports, "the first diagnostics")
    return nodes[-1]


@pytest.fixture
def unconfigured(robot):
    """The same node, taken back to its first state."""
    for label in {"active": ["deactivate", "cleanup"], "inactive": ["cleanup"]}.get(
        robot.state(), []
    ):
        assert robot.change_state(label)
    return robot


@pytest.fixture
def active(robot):
    """The same node, brought to work whatever state it was left in."""
    for label in {"unconfigured": ["configure", "activate"], "inactive": ["activate"]}.get(
        robot.state(), []
    ):
        assert robot.change_state(label)
    robot.wait_until_connected()
    return robot


def walk(robot, *labels):
    """Make transitions, each of which must succeed, and return the states passed."""
    states = []
    for label in labels:
        assert robot.change_state(label), label
        states.append(robot.state())
    return states


def test_without_autostart_the_node_waits_unconfigured_and_loads_nothing(robot):
    robot.fresh_report()
    assert robot.state() == "unconfigured"
    assert robot.process.lines("stub: loading") == []
    status = robot.reports[-1][0]
    assert status.level == DiagnosticStatus.STALE
    assert "unconfigured" in status.message


def test_with_autostart_the_node_becomes_active_before_a_simulated_clock_begins(start_robot):
    robot = start_robot(parameters={"use_sim_time": True})
    robot.wait_for_state("active")
    assert robot.state() == "active"
    known = len(robot.reports)
    robot.wait_for(lambda: len(robot.reports) > known + 2, "diagnostics while time stands still")


def test_the_node_walks_its_states_again_and_again(unconfigured):
    assert unconfigured.state() == "unconfigured"
    rounds = ["configure", "activate", "deactivate", "activate", "deactivate", "cleanup"] * 3
    states = walk(unconfigured, *rounds)
    one_round = ["inactive", "active", "inactive", "active", "inactive", "unconfigured"]
    assert states == one_round * 3


def test_configuring_loads_and_warms_up_the_model_once(unconfigured):
    loaded = len(unconfigured.process.lines("stub: loading"))
    inferred = len(unconfigured.process.lines("stub: inferring"))
    walk(unconfigured, "configure")
    assert len(unconfigured.process.lines("stub: loading")) == loaded + 1
    assert len(unconfigured.process.lines("stub: inferring")) == inferred + 3
    walk(unconfigured, "activate", "deactivate", "activate", "deactivate")
    assert len(unconfigured.process.lines("stub: loading")) == loaded + 1
    walk(unconfigured, "cleanup")


def test_the_thread_that_loads_and_warms_up_ends_with_it(unconfigured):
    """OpenMP's threads of one that lives would make every inference sleep between its steps."""
    walk(unconfigured, "configure")
    spoken = unconfigured.process.lines("stub: loading")[-1:]
    spoken += unconfigured.process.lines("stub: inferring")[-3:]
    assert len(spoken) == 4
    assert all(line.endswith("(calibnet-passing)") for line in spoken), spoken
    walk(unconfigured, "cleanup")


def test_a_late_joiner_learns_of_the_model_while_the_node_is_inactive(unconfigured):
    walk(unconfigured, "configure")
    found = []
    subscription = unconfigured.listen(ModelInfo, "model_info", found.append, LATCHED)
    wait_for(lambda: found, "the latched model_info")
    unconfigured.node.destroy_subscription(subscription)
    assert found[-1].name == MODEL_INFO.name
    assert found[-1].model_id == MODEL_INFO.model_id == "stub-57ab57ab"
    assert found[-1].weights_sha256 == MODEL_INFO.weights_sha256
    assert (found[-1].device, found[-1].backend) == ("cpu", "torch")
    walk(unconfigured, "cleanup")


def test_the_diagnostics_of_the_model_follow_the_state(unconfigured):
    def newest(level):
        unconfigured.fresh_report()
        return wait_for(
            lambda: next((s for s in unconfigured.model_reports[-1:] if s.level == level), None),
            "the model's status",
        )

    assert "no model is loaded" in newest(DiagnosticStatus.STALE).message
    walk(unconfigured, "configure")
    values = {entry.key: entry.value for entry in newest(DiagnosticStatus.OK).values}
    assert values["state"] == "inactive"
    assert values["weights_sha256"] == MODEL_INFO.weights_sha256
    walk(unconfigured, "cleanup")


def test_nothing_is_published_while_inactive(unconfigured):
    walk(unconfigured, "configure")
    known = len(unconfigured.results)
    assert unconfigured.color.get_subscription_count() == 0
    stamp_ns = unconfigured.send_pair(unconfigured.next_stamp())
    walk(unconfigured, "activate")
    unconfigured.wait_until_connected()
    walk(unconfigured, "deactivate")
    wait_for(lambda: unconfigured.color.get_subscription_count() == 0, "the node to unsubscribe")
    unconfigured.send_pair(late_ns := unconfigured.next_stamp())
    # Whatever is still on its way comes before the answer to a later pair.
    walk(unconfigured, "activate")
    unconfigured.wait_until_connected()
    stamps = [stamp_ns_of(msg) for msg in unconfigured.results[known:]]
    assert stamp_ns not in stamps
    assert late_ns not in stamps
    walk(unconfigured, "deactivate", "cleanup")


def test_activation_counts_anew(active):
    active.ask()
    walk(active, "deactivate", "activate")
    known = len(active.results)
    active.wait_until_connected()
    msg = active.ask()
    counters = active.counters()
    assert msg.sequence == counters["published"] == counters["received_color"]
    assert [m.sequence for m in active.results[known:]][-1] == msg.sequence
    active.assert_balanced()


def test_deactivating_lets_the_running_inference_end_and_publishes_it(active):
    slow_ns = active.send_pair(active.next_stamp(), order=sleep_order(0.5))
    active.process.wait_for_line(f"inferring {slow_ns}")
    walk(active, "deactivate")
    assert len(active.answer(slow_ns).instances) == 2


def test_an_inference_that_outlasts_the_deactivation_disturbs_no_later_one(active):
    # Longer than the node waits for it: it goes on while the node is active again.
    slow_ns = active.send_pair(active.next_stamp(), order=sleep_order(2.0))
    active.process.wait_for_line(f"inferring {slow_ns}")
    walk(active, "deactivate", "activate")
    for publisher in (active.color, active.depth):
        wait_for(publisher.get_subscription_count, "the node to subscribe")
    # The last of these is under work when the left-behind inference ends.
    for _ in range(25):
        last_ns = active.send_pair(active.next_stamp(), order=sleep_order(0.1))
        wait_for(
            lambda ns=last_ns: active.results_for(ns) or active.process.lines(f"inferring {ns}"),
            "the pair to be taken up",
        )
    active.answer(last_ns)
    active.ask()
    active.counters()
    active.assert_balanced()
    assert active.process.lines("two inferences at once") == []
    assert active.process.lines("Traceback") == []


def test_a_transition_that_is_not_allowed_is_refused_and_does_no_harm(unconfigured):
    for label in ("activate", "deactivate", "cleanup"):
        assert not unconfigured.change_state(label)
        assert unconfigured.state() == "unconfigured"
    walk(unconfigured, "configure", "activate")
    assert not unconfigured.change_state("configure")
    assert unconfigured.state() == "active"


@pytest.mark.parametrize("order", [FAIL, NOT_FINITE])
def test_three_failures_in_a_row_end_unconfigured_and_the_node_can_be_configured_again(
    active, order
):
    known = len(active.process.lines("ERROR"))
    for count in range(3):
        stamp_ns = active.send_pair(active.next_stamp(), order=order)
        active.process.wait_for_line(f"inferring {stamp_ns}")
        if count < 2:
            counter = "inference_error" if order == FAIL else "not_finite"
            wanted = count + 1
            active.counters_after(lambda c, key=f"dropped_pairs.{counter}", n=wanted: c[key] >= n)
    active.wait_for_state("unconfigured")
    assert active.process.lines("ERROR", "in a row failed")
    assert active.process.lines("ERROR", "configure the node")
    assert len(active.process.lines("ERROR")) > known
    walk(active, "configure", "activate")
    active.wait_until_connected()
    assert len(active.ask().instances) == 2


def test_after_three_failures_the_diagnostics_say_why_the_node_stopped(active):
    for _ in range(3):
        stamp_ns = active.send_pair(active.next_stamp(), order=FAIL)
        active.process.wait_for_line(f"inferring {stamp_ns}")
    active.wait_for_state("unconfigured")
    status = active.fresh_report()[0]
    assert status.level == DiagnosticStatus.ERROR
    assert "told to fail" in status.message


def test_an_old_fault_does_not_make_an_error_of_a_deliberate_clean_up(active):
    active.send_pair(0)  # no stamp: dropped and remembered
    active.counters_after(lambda now: now["dropped_color.bad_stamp"] > 0)
    walk(active, "deactivate", "cleanup")
    status = active.fresh_report()[0]
    assert status.level == DiagnosticStatus.STALE
    assert "stamp" not in status.message


def test_two_failures_between_successes_do_not_stop_the_node(active):
    before = active.counters()
    failures = itertools.count(before["dropped_pairs.inference_error"] + 1)
    for _ in range(3):
        for _ in range(2):
            active.send_pair(active.next_stamp(), order=FAIL)
            wanted = next(failures)
            active.counters_after(lambda c, n=wanted: c["dropped_pairs.inference_error"] >= n)
        active.ask()
    assert active.state() == "active"


@pytest.mark.parametrize("state", ["unconfigured", "active"])
def test_the_node_can_be_shut_down_from_any_state(start_robot, state):
    robot = start_robot(parameters={"autostart": False})
    wait_for(lambda: robot.reports, "the first diagnostics")
    if state == "active":
        walk(robot, "configure", "activate")
    assert walk(robot, f"{state}_shutdown") == ["finalized"]
    assert robot.process.is_alive
    robot.color.publish(color_msg(robot.next_stamp()))
    robot.depth.publish(depth_msg(robot.next_stamp()))
    assert robot.fresh_report()[0].level == DiagnosticStatus.STALE
    assert robot.results == []


# --- what keeps the real loader from configuring ------------------------------------------------


@pytest.fixture(scope="module")
def real(start_robot):
    """A node with the real loader that waits for its operator."""
    robot = start_robot(module=REAL, parameters={"autostart": False})
    wait_for(lambda: robot.reports, "the first diagnostics")
    return robot


@pytest.fixture(scope="module")
def foreign_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "foreign.safetensors"
    save_file({"some.other.network": torch.ones(3)}, path)
    return path


REFUSALS = {
    "a missing weights file": (
        lambda path: {"model__weights": str(path.with_name("gone.safetensors"))},
        ["gone.safetensors", "no such file"],
    ),
    "a missing weights file whose hash is asked for": (
        lambda path: {
            "model__weights": str(path.with_name("gone.safetensors")),
            "model__sha256": "ab" * 32,
        },
        ["gone.safetensors", "o such file"],
    ),
    "another hash": (
        lambda path: {"model__weights": str(path), "model__sha256": "ab" * 32},
        ["foreign.safetensors", "ab" * 32, "SHA-256"],
    ),
    "a hash without a file": (
        lambda path: {"model__name": "calibnet_r50", "model__sha256": "ab" * 32},
        ["model.sha256", "model.weights"],
    ),
    "weights of another model": (
        lambda path: {"model__weights": str(path)},
        ["foreign.safetensors", "another model", "some.other.network"],
    ),
    "an unknown device": (lambda path: {"model__device": "abacus:0"}, ["abacus:0", "cpu"]),
    "a device that is not there": (lambda path: {"model__device": "cuda:99"}, ["cuda:99"]),
    "a missing configuration": (
        lambda path: {"model__config": "/nowhere/pipeline.yaml"},
        ["/nowhere/pipeline.yaml"],
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_configuring_fails_in_one_clear_line_and_the_node_lives_on(real, foreign_weights, reason):
    values, words = REFUSALS[reason]
    plain = {
        "model__weights": "",
        "model__sha256": "",
        "model__device": "cpu",
        "model__config": "",
    }
    assert all(r.successful for r in real.set_parameters(**{**plain, **values(foreign_weights)}))
    known = len(real.process.log.splitlines())
    assert not real.change_state("configure")
    assert real.state() == "unconfigured"
    new = real.process.log.splitlines()[known:]
    errors = [line for line in new if "ERROR" in line]
    assert len(errors) == 1
    assert "cannot configure: " in errors[0]
    assert "Error:" not in errors[0]  # a sentence for the user, not the name of an exception
    assert [word for word in words if word not in errors[0]] == []
    assert new == errors  # no traceback, and nothing that runs over several lines


def test_the_diagnostics_say_why_the_node_could_not_be_configured(real):
    gone = {"model__weights": "/nowhere/gone.safetensors", "model__config": ""}
    real.set_parameters(**gone, model__sha256="", model__device="cpu")
    assert not real.change_state("configure")
    status = real.fresh_report()[0]
    assert "gone.safetensors" in status.message


def test_a_late_answer_cannot_reach_a_listener_of_the_next_configuration(active):
    """Publishers go with the model: after clean-up nobody offers results."""
    topic = f"{active.node_name}/instances"
    walk(active, "deactivate", "cleanup")
    wait_for(lambda: active.node.count_publishers(topic) == 0, "the publishers to go")
    found = []
    subscription = active.listen(InstanceMaskArray, "instances", found.append, QoSProfile(depth=5))
    walk(active, "configure", "activate")
    active.wait_until_connected()
    wait_for(lambda: found, "a result")
    assert active.node.count_publishers(topic) == 1
    active.node.destroy_subscription(subscription)
