"""The command `perception_node`: its arguments, and how it ends."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from calibnet_core.processor import Predictor
from calibnet_core.threads import use_one_blas_thread
from calibnet_ros.arguments import split_arguments
from calibnet_ros.camera_presets import PRESETS, remappings
from calibnet_ros.loading import free_memory, load_pipeline
from calibnet_ros.parameter_schema import Values, documentation
from calibnet_ros.perception_node import PerceptionNode


def main(
    argv: Sequence[str] | None = None,
    make_pipeline: Callable[[Values], Predictor] = load_pipeline,
) -> int:
    """Run the node until it is interrupted, which ends the process.

    Args:
        argv: arguments after the program's name; `--camera NAME` stands for the remappings of a
            preset, `--parameters` prints the parameters, everything else is for ROS.
        make_pipeline: see `PerceptionNode`.

    Returns:
        The exit code, where it did not come to run: 2 for wrong arguments, else 0.
    """
    parser = argparse.ArgumentParser(
        prog="perception_node",
        description="Pairs colour and depth, infers, and publishes instance masks.",
    )
    parser.add_argument("--camera", choices=tuple(PRESETS), help="topics of a camera driver")
    parser.add_argument("--camera-namespace", default="", help="put in front of these topics")
    parser.add_argument("--parameters", action="store_true", help="print the parameters and end")
    own_arguments, ros_arguments = split_arguments(argv)
    arguments = parser.parse_args(own_arguments)
    if arguments.parameters:
        print(documentation(), end="")
        return 0
    if arguments.camera:
        rules = remappings(arguments.camera, camera_namespace=arguments.camera_namespace)
        pairs = [part for name, topic in rules for part in ("-r", f"{name}:={topic}")]
        ros_arguments = [*ros_arguments, "--ros-args", *pairs]
    use_one_blas_thread()
    # Before rclpy's own handler, which passes on to the one that it finds.
    usual = signal.signal(signal.SIGINT, _FirstInterruption())
    rclpy.init(args=[sys.argv[0], *ros_arguments])
    try:
        code = _run(make_pipeline)
    finally:
        rclpy.try_shutdown()
    if code == 0:
        _leave()
    signal.signal(signal.SIGINT, usual)
    return code


class _FirstInterruption:
    """Raises KeyboardInterrupt once.

    A second one, from a launch file that passes on what the terminal already sent, would break the
    clean-up wherever it has got to.
    """

    def __init__(self) -> None:
        self._has_come = False

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        if not self._has_come:
            self._has_come = True
            raise KeyboardInterrupt


def _run(make_pipeline: Callable[[Values], Predictor]) -> int:
    """Run the node until it is interrupted; the exit code."""
    try:
        node = PerceptionNode(make_pipeline)
    except ParameterException as error:
        print(f"perception_node: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except rclpy_implementation.RCLError:
        # An interruption in the middle of a callback that uses the graph ends here too.
        if rclpy.ok():
            raise
    finally:
        # Without rclpy, which is shut down by now, a signal would end the process at once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        node.stop()
    return 0


def _leave() -> NoReturn:
    """End the process with exit code 0, without taking the interpreter apart.

    That would free torch object by object, for half of the time in which the node promises to end,
    and it would wait for an inference that sits in a device call.
    """
    free_memory()  # the middleware's shared memory goes with the last object that uses it
    rclpy_implementation.rclpy_logging_fini()  # writes the log file
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
