"""The heartbeat for a lifecycle manager, with a stand-in for bondpy."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import ClassVar

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from rclpy.node import Node
from std_msgs.msg import String

from calibnet_ros.bond import Heartbeat

pytestmark = pytest.mark.ros


class Bond:
    """A bond that can be started once and ended once; it holds a publisher and a subscription."""

    made: ClassVar[list[Bond]] = []

    def __init__(self, *, node, topic, id, on_broken=None, on_formed=None):
        self.node, self.topic, self.id = node, topic, id
        self.history = []
        self.pub = node.create_publisher(String, topic, 1)
        self.made.append(self)

    def start(self):
        assert self.history == []
        self.history.append("start")
        self.sub = self.node.create_subscription(String, self.topic, print, 1)

    def shutdown(self):
        assert self.history == ["start"]
        self.history.append("shutdown")
        self.sub.destroy()
        self.pub.destroy()


@pytest.fixture
def bonds(monkeypatch):
    package, module = ModuleType("bondpy"), ModuleType("bondpy.bondpy")
    module.Bond = Bond
    monkeypatch.setitem(sys.modules, "bondpy", package)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    monkeypatch.setattr(Bond, "made", [])
    return Bond.made


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("beating", namespace="robot", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def num_entities(node):
    return len(list(node.publishers)) + len(list(node.subscriptions))


def test_every_start_begins_a_bond_of_its_own_and_stopping_ends_it(bonds, node):
    before = num_entities(node)
    heartbeat = Heartbeat(node)
    assert bonds == []
    for _ in range(2):
        heartbeat.start()
        heartbeat.stop()
        heartbeat.stop()
    assert [bond.history for bond in bonds] == [["start", "shutdown"]] * 2
    assert num_entities(node) == before


def test_the_bond_bears_the_nodes_name_on_the_topic_of_its_namespace(bonds, node):
    Heartbeat(node).start()
    (bond,) = bonds
    assert bond.id == "beating"
    assert node.resolve_topic_name(bond.topic) == "/robot/bond"


def test_a_bond_that_cannot_be_ended_does_not_stop_the_node_from_stopping(bonds, node, monkeypatch):
    def fail(self):
        raise RuntimeError("the context is gone")

    monkeypatch.setattr(Bond, "shutdown", fail)
    before = num_entities(node)
    heartbeat = Heartbeat(node)
    heartbeat.start()
    heartbeat.stop()
    assert num_entities(node) == before


def test_without_bondpy_there_is_no_heartbeat_and_no_fault(node, monkeypatch):
    monkeypatch.setitem(sys.modules, "bondpy", None)
    before = num_entities(node)
    heartbeat = Heartbeat(node)
    heartbeat.start()
    assert num_entities(node) == before
    heartbeat.stop()
