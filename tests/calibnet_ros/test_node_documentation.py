"""The page on the node names what there is, and nothing that is not."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from rclpy.clock import Clock

from calibnet_core.perception.accounting import DropReason, FrameLedger
from calibnet_core.perception.figures import StreamFigures
from calibnet_core.structures import ModelInfo
from calibnet_ros.diagnostics import CameraHealth, ModelHealth, diagnostics_msg
from calibnet_ros.messages.table import build_outputs
from calibnet_ros.parameter_schema import DEFAULTS
from calibnet_ros.perception_node import PerceptionNode
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.ros

PAGE = (REPOSITORY / "docs/node.md").read_text()
# The node's own words in code font; a table's first cell may list several.
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))


@pytest.fixture(scope="module")
def node():
    """One with the parameters that switch further topics on, configured without a network."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = PerceptionNode(lambda values: None, context=context)
    yield node
    node.stop()
    rclpy.shutdown(context=context)


def test_every_output_and_no_other_topic_is_listed():
    outputs, latched, _ = build_outputs(lambda name: name)
    known = {f"~/{output.name}" for output in (*outputs, *latched)}
    assert known <= QUOTED
    section = PAGE.partition("## Outputs")[2].partition("## ")[0]
    listed = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    assert listed - known == {
        "~/instances",
        "~/transformed/instances",
        "/diagnostics",
        "/tf",
    }
    for output in (*outputs, *latched):
        assert re.search(rf"^\| `~/{output.name}` \| `{output.msg_type}`", section, re.MULTILINE)


def test_every_service_and_the_action_is_listed(node):
    own = f"{node.get_fully_qualified_name()}/"
    of_every_node = re.compile(r"parameter|_state|_transition|type_description|_action/")
    names = {
        name.removeprefix(own)
        for name, _ in node.get_service_names_and_types_by_node(
            node.get_name(), node.get_namespace()
        )
        if name.startswith(own)
    }
    assert {name for name in names if name.startswith("segment/")}  # the action's
    own_names = {name for name in names if not of_every_node.search(name)} | {"segment"}
    section = PAGE.partition("## Services and action")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `~/([^`]+)`", section, re.MULTILINE)) == own_names


def test_every_reason_for_a_drop_is_explained():
    explained = re.findall(r"^\| `([a-z_]+)` \| .+ \|$", PAGE, re.MULTILINE)
    assert [reason.value for reason in DropReason if reason.value not in explained] == []


def test_every_key_of_diagnostics_is_explained():
    counts = FrameLedger().snapshot(waiting_color=0, in_flight=0)
    camera = CameraHealth(
        counts=counts, counts_before=counts, elapsed_s=1.0, figures=StreamFigures().values()
    )
    model = ModelHealth(
        info=ModelInfo(name="m", weights_sha256="", device="cuda:0"), memory_mb=(1.0, 2.0)
    )
    msg = diagnostics_msg("/calibnet", "active", [camera], model, DEFAULTS, Clock())
    keys = {entry.key for status in msg.status for entry in status.values}
    assert len(keys) > 30
    percentiles = re.compile(r"_p(50|95|99)_ms$")
    stages = {percentiles.sub("", key) for key in keys if percentiles.search(key)}
    named = {text.removesuffix("_...").removesuffix("_p50_ms") for text in QUOTED}
    assert stages <= named
    assert {key for key in keys if not percentiles.search(key)} <= QUOTED


def test_every_parameter_that_is_named_exists():
    groups = {name.partition(".")[0] for name in DEFAULTS if "." in name}
    named = set(re.findall(rf"`((?:{'|'.join(groups)})\.[a-z_]+)", PAGE))
    assert len(named) > 10
    assert named <= set(DEFAULTS)
