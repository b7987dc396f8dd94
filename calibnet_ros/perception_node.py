"""The perception node: pairs colour and depth, infers, and publishes instance masks.

A lifecycle node. Configuring loads and warms up the model, activating subscribes; by default it
does both by itself. Callbacks only look at headers and pair; one worker thread infers the newest
pair, so a result is never older than two inferences, whatever the camera's rate.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from calibnet_core.checkpoint import WeightsError
from calibnet_core.config import ConfigError
from calibnet_core.perception.accounting import (
    DropReason,
    FrameLedger,
    LatencyWindow,
    LedgerSnapshot,
)
from calibnet_core.perception.frame_assembly import frame_from_images
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.mailbox import LatestSlot
from calibnet_core.postprocess import NonFiniteOutputError
from calibnet_core.structures import RgbdFrame
from calibnet_ros.arguments import split_arguments
from calibnet_ros.camera_presets import PRESETS, remappings
from calibnet_ros.diagnostics import Health, SilenceWatch, diagnostics_msg
from calibnet_ros.frame_input import FrameInput, FramePair, InputError
from calibnet_ros.lifecycle import SturdyLifecycleNode
from calibnet_ros.loading import SegmentationPipeline, load_pipeline
from calibnet_ros.outputs import Outputs
from calibnet_ros.parameters import (
    Values,
    check_values,
    declare_parameters,
    dynamic_values,
    markdown_table,
    mask_encoding,
    read_parameters,
    with_dynamic_values,
)
from calibnet_ros.reports import Reporter
from calibnet_ros.worker import Worker

NODE_NAME = "calibnet"
_WARMUP_SIZE = (480, 640)
_FAILURES_UNTIL_ERROR = 3
_JOIN_TIMEOUT_S = 1.5
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(eq=False, kw_only=True)
class Activation:
    """What lives from one activation to the next deactivation.

    A worker that outlives its activation keeps counting into it, never into the next one.
    """

    ledger: FrameLedger
    mailbox: LatestSlot[FramePair]
    source: FrameInput
    silence: SilenceWatch
    latency: LatencyWindow = field(default_factory=LatencyWindow)
    failures: int = 0
    """Inferences in a row that failed."""


class PerceptionNode(SturdyLifecycleNode):
    """Adapter between ROS and the pipeline; holds no numerics.

    Args:
        make_pipeline: builds the pipeline from the parameters, in configure.
        options: for `rclpy.node.Node`.
    """

    def __init__(
        self,
        make_pipeline: Callable[[Values], SegmentationPipeline] = load_pipeline,
        **options: Any,
    ) -> None:
        super().__init__(options.pop("node_name", NODE_NAME), **options)
        declare_parameters(self)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self._make_pipeline = make_pipeline
        self._pipeline: SegmentationPipeline | None = None
        self._outputs: Outputs | None = None
        self._activation: Activation | None = None
        self._worker: Worker[FramePair] | None = None
        self._reporter = Reporter(self.get_logger())
        self._values = read_parameters(self)
        self._must_stop = False
        self._inference = threading.Lock()
        self._counts_before: LedgerSnapshot | None = None
        self._state_label = "unconfigured"
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        period_s = float(self._values["diagnostics.period"])
        self._diagnostics_timer = self.create_timer(period_s, self._publish_diagnostics)
        # Wakes the executor when the worker gives up: transitions belong to the executor's thread.
        self._give_up = self.create_guard_condition(self._stop_after_failures)
        if self._values["autostart"]:
            self._autostart_timer = self.create_timer(0.0, self._autostart)

    # --- lifecycle ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, and create the publishers."""
        self._values = read_parameters(self)
        if refusal := check_values(self._values):
            return self._cannot_configure(refusal)
        started = time.monotonic()
        try:
            self._pipeline = self._make_pipeline(self._values)
            self._warm_up(self._pipeline)
        except (ConfigError, WeightsError, OSError) as error:
            return self._cannot_configure(str(error))
        except Exception as error:  # whatever a device or a file does must not end the process
            return self._cannot_configure(f"{type(error).__name__}: {error}")
        self._outputs = Outputs(self, self._reporter)
        self._outputs.publish_model_info(self._pipeline.model_info, self._pipeline.config)
        info = self._pipeline.model_info
        self.get_logger().info(
            f"{info.model_id} on {info.device} is ready after {time.monotonic() - started:.1f} s"
        )
        if info.has_random_weights:
            self.get_logger().warning(
                "the weights are random, so the masks mean nothing; set model.weights"
            )
        self._reporter.forget()
        self._state_label = "inactive"
        return _SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        assert self._outputs is not None
        self._outputs.restart()
        self._must_stop = False
        self._counts_before = None
        super().on_activate(state)  # switches the publishers on, before anything is published
        ledger, mailbox = FrameLedger(), LatestSlot[FramePair]()
        try:
            source = FrameInput(
                self, self._values, ledger=ledger, mailbox=mailbox, reporter=self._reporter
            )
        except InputError as error:
            self.get_logger().error(f"cannot activate: {error}")
            super().on_deactivate(state)
            return _FAILURE
        activation = Activation(
            ledger=ledger, mailbox=mailbox, source=source, silence=SilenceWatch(self)
        )
        self._activation = activation
        self._worker = Worker(mailbox, lambda pair: self._handle(activation, pair))
        self._state_label = "active"
        return _SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and let the running inference end; the model stays."""
        self._stop_input()
        super().on_deactivate(state)
        self._state_label = "inactive"
        return TransitionCallbackReturn.ERROR if self._must_stop else _SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the model and the publishers."""
        self._free()
        self._reporter.forget()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop from any state."""
        self._stop_input()
        self._free()
        self._state_label = "finalized"
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node can then be configured again."""
        self._stop_input()
        self._free()
        self.get_logger().error("stopped after an error; configure the node to start it again")
        return _SUCCESS

    def stop(self) -> bool:
        """End for good; False if an inference is still running in the worker's thread."""
        worker = self._worker
        self._stop_input()
        self._free()
        self.destroy_node()
        return worker is None or worker.join(0.0)

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    def _cannot_configure(self, reason: str) -> TransitionCallbackReturn:
        self.get_logger().error(f"cannot configure: {reason}")
        self._reporter.last_error, self._reporter.last_error_at = reason, time.monotonic()
        self._free()
        return _FAILURE

    def _warm_up(self, pipeline: SegmentationPipeline) -> None:
        blank = RgbdFrame(
            rgb=np.zeros((*_WARMUP_SIZE, 3), np.uint8), depth_m=np.ones(_WARMUP_SIZE, np.float32)
        )
        for _ in range(int(self._values["model.warmup_runs"])):
            pipeline.predict_timed(blank)

    def _stop_input(self) -> None:
        if self._activation is not None:
            self._activation.source.close()
        if self._worker is not None and not self._worker.join(_JOIN_TIMEOUT_S):
            self.get_logger().warning("the running inference is slow to end; leaving it behind")
        self._activation = self._worker = None

    def _free(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        if self._pipeline is not None and self._pipeline.model_info.device.startswith("cuda"):
            import torch

            self._pipeline = None
            torch.cuda.empty_cache()
        self._pipeline = self._outputs = None
        self._state_label = "unconfigured"

    # --- the worker's thread --------------------------------------------------------------------

    def _handle(self, activation: Activation, pair: FramePair) -> None:
        """Process one pair: it ends published, or dropped for a reason."""
        queue_s = time.monotonic() - pair.paired_at
        reason: DropReason | None
        try:
            reason = self._process(activation, pair, queue_s)
            activation.failures = 0
        except ImageFormatError as error:
            reason = error.reason
            self._reporter.dropped("pair", reason, str(error))
        except NonFiniteOutputError as error:
            reason = DropReason.NOT_FINITE
            self._count_failure(activation, f"dropped a pair ({reason.value}): {error}")
        except Exception as error:  # one bad frame must not end the worker
            reason = DropReason.INFERENCE_ERROR
            if self.context.ok():
                self._count_failure(
                    activation, f"inference failed: {type(error).__name__}: {error}"
                )
            else:  # interrupted: there is nobody left to publish to
                reason = DropReason.SHUTDOWN
        with activation.ledger.atomically():
            if reason is None:
                activation.ledger.published()
            else:
                activation.ledger.pair_dropped(reason)
            activation.mailbox.done()

    def _process(
        self, activation: Activation, pair: FramePair, queue_s: float
    ) -> DropReason | None:
        values, pipeline, outputs = self._values, self._pipeline, self._outputs
        if pipeline is None or outputs is None:
            return DropReason.SHUTDOWN
        max_age_s = float(values["input.max_age"])
        if max_age_s > 0:
            age_s = (self.get_clock().now().nanoseconds - pair.color.stamp_ns) / 1e9
            if age_s > max_age_s:
                return DropReason.TOO_OLD
        frame = frame_from_images(
            pair.color,
            pair.depth,
            unit=values["depth.unit"],  # type: ignore[arg-type]
            camera_info=pair.camera_info,
        )
        with self._inference:  # a worker that an earlier activation left behind may be at it
            instances, timings = pipeline.predict_timed(frame)
        if self._activation is not activation:  # deactivated meanwhile
            return DropReason.SHUTDOWN
        outputs.publish(
            pair,
            frame,
            instances,
            timings,
            model_id=pipeline.model_info.model_id,
            encoding=mask_encoding(values),
            overlay_rate=float(values["output.overlay_rate"]),
            queue_s=queue_s,
            skipped=activation.source.take_skipped(),
        )
        activation.latency.add(time.monotonic() - pair.paired_at)
        return None

    def _count_failure(self, activation: Activation, message: str) -> None:
        activation.failures += 1
        self._reporter.failed(message)
        is_current = self._activation is activation
        if is_current and activation.failures >= _FAILURES_UNTIL_ERROR and not self._must_stop:
            self._must_stop = True
            self._give_up.trigger()

    def _stop_after_failures(self) -> None:
        if self._must_stop and self._activation is not None:
            failures = self._activation.failures
            self.get_logger().error(f"{failures} inferences in a row failed; stopping")
            self.trigger_deactivate()

    # --- parameters and diagnostics -------------------------------------------------------------

    def _on_parameters_set(self, parameters: Sequence[Parameter]) -> None:
        changed = dynamic_values(self, [entry.name for entry in parameters])
        if not changed:
            return
        self._values = {**self._values, **changed}
        if self._pipeline is not None:
            before = self._pipeline.config
            self._pipeline.config = with_dynamic_values(before, self._values)
            if self._outputs is not None and self._pipeline.config != before:
                self._outputs.publish_model_info(self._pipeline.model_info, self._pipeline.config)
        if self._activation is not None:
            self._activation.source.reconfigure(self._values)

    def _publish_diagnostics(self) -> None:
        activation = self._activation
        counts = None if activation is None else activation.source.snapshot()
        timeout_s = float(self._values["input.timeout"])
        health = Health(
            node_name=self.get_fully_qualified_name(),
            lifecycle_state=self._state_label,
            model=None if self._pipeline is None else self._pipeline.model_info,
            counts=counts,
            counts_before=self._counts_before,
            silent=activation.silence.check(counts, timeout_s) if activation and counts else {},
            latency=(activation.latency if activation else LatencyWindow()).percentiles(),
            last_error=self._reporter.last_error,
            last_error_age_s=time.monotonic() - self._reporter.last_error_at,
        )
        self._counts_before = counts
        self._diagnostics.publish(diagnostics_msg(health, self.get_clock().now().to_msg()))


def main(
    argv: Sequence[str] | None = None,
    make_pipeline: Callable[[Values], SegmentationPipeline] = load_pipeline,
) -> int:
    """Run the node until it is interrupted.

    Args:
        argv: arguments after the program's name; `--camera NAME` stands for the remappings of a
            preset, `--parameters` prints the parameters, everything else is for ROS.
        make_pipeline: see `PerceptionNode`.

    Returns:
        The exit code: 0 after an interruption, 2 for wrong arguments.
    """
    parser = argparse.ArgumentParser(prog="perception_node", description=__doc__.splitlines()[0])
    parser.add_argument("--camera", choices=tuple(PRESETS), help="topics of a camera driver")
    parser.add_argument("--camera-namespace", default="", help="put in front of these topics")
    parser.add_argument("--parameters", action="store_true", help="print the parameters and end")
    own_arguments, ros_arguments = split_arguments(argv)
    arguments = parser.parse_args(own_arguments)
    if arguments.parameters:
        print(markdown_table())
        return 0
    if arguments.camera:
        rules = remappings(arguments.camera, camera_namespace=arguments.camera_namespace)
        pairs = [part for name, topic in rules for part in ("-r", f"{name}:={topic}")]
        ros_arguments = [*ros_arguments, "--ros-args", *pairs]
    rclpy.init(args=[sys.argv[0], *ros_arguments])
    try:
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
            # A second signal, from a launch file that passes on what the terminal already sent,
            # must not break the clean-up.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ended = node.stop()
    finally:
        rclpy.try_shutdown()
    if not ended:
        # Leaving by the front door would wait for a thread that sits in a device call.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
