"""The heartbeat that Nav2's lifecycle manager may ask for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rclpy.node import Node

# Relative, as the manager has it: both share a namespace.
_TOPIC = "bond"


class Heartbeat:
    """A bond with the lifecycle manager, under the node's name, from `start` to `stop`.

    The manager forms a new bond after each activation and ends it with the deactivation, so a bond
    lasts no longer than that. Where bondpy is not installed this does nothing.

    Args:
        node: beats.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bond: Any = None

    def start(self) -> None:
        """Begin a new bond."""
        try:
            from bondpy.bondpy import Bond
        except ImportError:
            return
        self.stop()
        # By name: the order of the arguments changed between releases.
        self._bond = Bond(node=self._node, topic=_TOPIC, id=self._node.get_name())
        self._bond.start()

    def stop(self) -> None:
        """End the bond; the manager is told, so that it takes this for no crash."""
        bond, self._bond = self._bond, None
        if bond is None:
            return
        with suppress(Exception):  # the context may be gone, and a heartbeat must not stop a stop
            bond.shutdown()
        self._node.destroy_subscription(bond.sub)
        self._node.destroy_publisher(bond.pub)
