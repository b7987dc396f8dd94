"""A consumer in a process of its own, and the rest of the robot around it.

Import this only where rclpy and the messages are installed.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
from calibnet_ros.msg import InstanceMaskArray
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from tests.support.ros import RELIABLE, NodeProcess, node_command, wait_for

_namespaces = itertools.count(1)


class Bench:
    """One consumer and this process around it, which publishes `instances`."""

    def __init__(self, log: Path, module: str, name: str, parameters: dict[str, Any]) -> None:
        # Another name than the robots have: both count from 1.
        self.namespace = f"/bench{next(_namespaces)}"
        self.name = f"{self.namespace}/{name}"
        self.process = NodeProcess(node_command(module, self.namespace, parameters, {}), log)
        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("around", namespace=self.namespace, context=self.context)
        self.instances = self.node.create_publisher(InstanceMaskArray, "instances", RELIABLE)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def listen(self, msg_type: type, name: str, profile: Any) -> list[Any]:
        """Collect what comes on one of the consumer's topics."""
        received: list[Any] = []
        topic = f"{self.name}/{name}"
        self.node.create_subscription(msg_type, topic, received.append, profile)
        return received

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        def checked() -> Any:
            assert self.process.is_alive, f"the node ended:\n{self.process.log}"
            return condition()

        return wait_for(checked, what)

    def set_parameter(self, name: str, value: Any) -> Any:
        """The answer to one changed parameter."""
        client = self.node.create_client(SetParameters, f"{self.name}/set_parameters")
        self.wait_for(client.service_is_ready, "the parameter service")
        msg = Parameter(name, value=value).to_parameter_msg()
        future = client.call_async(SetParameters.Request(parameters=[msg]))
        self.wait_for(future.done, "the answer about a parameter")
        return future.result().results[0]

    def close(self) -> None:
        self.process.end()
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin()
