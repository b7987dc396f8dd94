"""What every consumer is: a node whose settings are a dataclass, from command line to clean end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, field, fields, replace
from typing import Any, Generic, TypeVar

import rclpy
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

_PERIOD_S = 0.1

Settings = TypeVar("Settings")


def setting(default: Any, text: str) -> Any:
    """A field of a settings class: its default and what it means."""
    return field(default=default, metadata={"help": text})


def help_of(entry: Field[Any]) -> str:
    """What a field made by `setting` means."""
    return str(entry.metadata["help"])


class Consumer(Node, Generic[Settings]):
    """A node with one parameter for each field of its settings; all may change at any time.

    Args:
        name: of the node.
        settings: the defaults; a frozen dataclass of `setting`s that raises ValueError where values
            make no sense, which refuses the parameters in its words.

    Attributes:
        settings: those in force.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name)
        self.settings = settings
        # Declaring runs it too, with the value from the command line.
        self.add_on_set_parameters_callback(self._take)
        for entry in fields(settings):  # type: ignore[arg-type]
            description = ParameterDescriptor(description=help_of(entry))
            self.declare_parameter(entry.name, getattr(settings, entry.name), description)

    def close(self) -> None:
        """Publish last words; the context is still valid."""

    def _take(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        own = {entry.name for entry in fields(self.settings)}  # type: ignore[arg-type]
        changed = {entry.name: entry.value for entry in parameters if entry.name in own}
        try:
            self.settings = replace(self.settings, **changed)  # type: ignore[type-var]
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def run(
    name: str, make_node: Callable[[], Consumer[Any]], argv: Sequence[str] | None = None
) -> int:
    """Run a consumer until an interruption or termination.

    Args:
        name: what to call the program in messages.
        make_node: called once ROS is up.
        argv: arguments after the program's name, all of them for ROS; None takes the process's.

    Returns:
        The exit code: 0 after a signal, 2 for a parameter that cannot be used.
    """
    is_ending = False

    def end(*_: Any) -> None:
        nonlocal is_ending
        is_ending = True

    # Not ROS's own handlers: they end the context, and then nothing can be published any more.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    given = sys.argv[1:] if argv is None else argv
    rclpy.init(args=[name, *given], signal_handler_options=SignalHandlerOptions.NO)
    try:
        try:
            node = make_node()
        except ParameterException as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Python handles a signal only between two calls, so no call may wait for ever.
        while not is_ending:
            executor.spin_once(timeout_sec=_PERIOD_S)
        node.close()
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return 0
