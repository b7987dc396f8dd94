"""The perception node: pairs colour and depth, infers, and publishes instance masks.

A lifecycle node. Configuring loads and warms up the model, activating subscribes; by default it
does both by itself. Callbacks only look at headers and pair; one worker thread infers the newest
pair of each camera, so a result is never older than two inferences, whatever the camera's rate.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from calibnet_core.config import ConfigError
from calibnet_core.perception.intake import FramePair
from calibnet_core.processor import Predictor, Processor
from calibnet_core.structures import RgbdFrame, WeightsError
from calibnet_core.threads import in_passing_thread
from calibnet_ros.bond import Heartbeat
from calibnet_ros.diagnostics import ModelHealth, diagnostics_msg
from calibnet_ros.graph_events import GraphEventGroup
from calibnet_ros.health import Round, camera_health
from calibnet_ros.inference import Inference
from calibnet_ros.lifecycle import SturdyLifecycleNode
from calibnet_ros.loading import device_memory_mb, free_memory, load_pipeline, settle_memory
from calibnet_ros.messages import LEFT_OUT, describe_left_out
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import (
    camera_names,
    check_values,
    declare_parameters,
    dynamic_values,
    processor_settings,
    read_parameters,
    with_dynamic_values,
)
from calibnet_ros.reports import Reporter
from calibnet_ros.requests import Code, Reply
from calibnet_ros.services import CameraServices
from calibnet_ros.stream import Camera, Stream
from calibnet_ros.transforms import TransformError, Transforms
from calibnet_ros.worker import Worker

NODE_NAME = "calibnet"
_WARMUP_SIZE = (480, 640)
_JOIN_TIMEOUT_S = 1.5
# Of the two seconds in which the node ends; a busy machine needs most of the other one.
_LAST_JOIN_TIMEOUT_S = 1.0
# A callback that completed a pair would prepare its thread's next wait, most of a millisecond, just
# when the worker could be at the pair. Meanwhile the worker comes as far as the network, which
# leaves the interpreter to others, and with a small network even to the result.
_GIVE_WAY_S = 5e-3
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_DEACTIVATED = Reply(Code.NOT_ACTIVE, "the node was deactivated while the request waited")


@dataclass(eq=False, kw_only=True)
class Activation:
    """What lives from one activation to the next deactivation."""

    streams: list[Stream]
    inference: Inference
    worker: Worker[FramePair]


class PerceptionNode(SturdyLifecycleNode):
    """Adapter between ROS and the library; holds no numerics.

    Args:
        make_pipeline: builds the pipeline from the parameters, in configure.
        options: for `rclpy.node.Node`.
    """

    def __init__(
        self, make_pipeline: Callable[[Values], Predictor] = load_pipeline, **options: Any
    ) -> None:
        super().__init__(options.pop("node_name", NODE_NAME), **options)
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._refuse_what_needs_configuring)
        self.call_after_parameters_are_set(self._on_parameters_set)
        self._make_pipeline = make_pipeline
        self._values = read_parameters(self)
        self._processor: Processor | None = None
        self._transforms: Transforms | None = None
        self._cameras: list[Camera] = []
        self._activation: Activation | None = None
        self._is_enabled = True
        self._must_stop = ""
        self._processing = threading.Lock()
        self._reporter = Reporter(self.get_logger())
        self._camera_services: dict[str, CameraServices] = {}
        try:
            names = camera_names(self._values)
        except ValueError:  # told when configuring; a node that cannot be made tells nobody
            names = ("",)
        self._set_up_services(names)
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        self._state_label = "unconfigured"
        self._last_round = Round()
        self._events = GraphEventGroup()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        period_s = float(self._values["diagnostics.period"])
        # On a steady clock: simulated time may stand still, which is what has to be told then.
        self._diagnostics_timer = self.create_timer(
            period_s, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        # Wakes the executor when the worker gives up: transitions belong to the executor's thread.
        self._give_up = self.create_guard_condition(self._stop_after_failures)
        self._heartbeat = Heartbeat(self)
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
            pipeline = in_passing_thread(self._load)
            self._processor = Processor(pipeline, processor_settings(self._values))
            if self._values["output.frame"] or self._values["output.tf"]:
                self._transforms = Transforms(self, self._values)
            self._set_up_cameras(camera_names(self._values))
        except (ConfigError, WeightsError, TransformError, OSError) as error:
            return self._cannot_configure(str(error))
        except Exception as error:  # whatever a device or a file does must not end the process
            return self._cannot_configure(f"{type(error).__name__}: {error}")
        self._publish_model_info()
        if without := describe_left_out(LEFT_OUT):
            self.get_logger().info(without)
        info = pipeline.model_info
        self.get_logger().info(
            f"{info.model_id} on {info.device_label} is ready after "
            f"{time.monotonic() - started:.1f} s"
        )
        if info.has_random_weights:
            self.get_logger().warning(
                "the weights are random, so the masks mean nothing; set model.weights"
            )
        self._reporter.forget()
        settle_memory()
        self._state_label = "inactive"
        return _SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        assert self._processor is not None
        self._must_stop, self._is_enabled = "", True
        self._last_round = Round()
        super().on_activate(state)  # switches the publishers on, before anything is published
        changed = threading.Condition()
        streams: list[Stream] = []
        try:
            for camera in self._cameras:
                camera.outputs.restart()
                streams.append(
                    Stream.open(
                        self,
                        camera,
                        self._values,
                        changed=changed,
                        is_wanted=lambda ns, asked=camera.requests: (
                            self._is_enabled or asked.wants(ns)
                        ),
                        after_pair=self._give_way,
                    )
                )
        except Exception as error:  # no subscription may outlive an activation that failed
            self.get_logger().error(f"cannot activate: {error}")
            for stream in streams:
                stream.close()
            super().on_deactivate(state)
            return _FAILURE
        inference = Inference(
            self,
            self._processor,
            streams,
            self._values,
            transforms=self._transforms,
            lock=self._processing,
            give_up=self._on_give_up,
        )
        worker = Worker([stream.mailbox for stream in streams], inference.handle)
        self._activation = Activation(streams=streams, inference=inference, worker=worker)
        if self._values["bond"]:
            self._heartbeat.start()
        self._events.take_over(self)
        self._state_label = "active"
        return _SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and let the running inference end; model and tracks stay."""
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

    def stop(self) -> None:
        """End for good; an inference that is slow to end is left running in the worker's thread."""
        self._stop_input(_LAST_JOIN_TIMEOUT_S)
        self._drop()
        for services in self._camera_services.values():
            services.destroy()
        self.destroy_node()

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    def _cannot_configure(self, reason: str) -> TransitionCallbackReturn:
        if self.context.ok():  # else it was interrupted, which is no fault
            self.get_logger().error(f"cannot configure: {reason}")
        self._reporter.remember(reason)
        self._free()
        return _FAILURE

    def _publish_model_info(self) -> None:
        assert self._processor is not None
        pipeline = self._processor.predictor
        for camera in self._cameras:
            camera.outputs.publish_latched(pipeline.model_info, pipeline.config)

    def _load(self) -> Predictor:
        """Make the pipeline and warm it up."""
        pipeline = self._make_pipeline(self._values)
        self._warm_up(pipeline)
        return pipeline

    def _warm_up(self, pipeline: Predictor) -> None:
        blank = RgbdFrame(
            rgb=np.zeros((*_WARMUP_SIZE, 3), np.uint8), depth_m=np.ones(_WARMUP_SIZE, np.float32)
        )
        batch = [blank] * len(camera_names(self._values))
        for _ in range(int(self._values["model.warmup_runs"])):
            pipeline.predict_batch(batch)

    def _set_up_services(self, names: Sequence[str]) -> None:
        if tuple(self._camera_services) == tuple(names):
            return
        for services in self._camera_services.values():
            services.destroy()
        self._camera_services = {
            name: CameraServices(
                self,
                name,
                read_values=lambda: self._values,
                read_model_id=lambda: (
                    self._processor.predictor.model_info.model_id if self._processor else ""
                ),
            )
            for name in names
        }

    def _set_up_cameras(self, names: Sequence[str]) -> None:
        self._set_up_services(names)
        for name in names:
            services = self._camera_services[name]
            camera = Camera(
                self,
                name,
                self._values,
                reporter=Reporter(self.get_logger(), name) if name else self._reporter,
                requests=services.requests,
            )
            services.camera = camera
            self._cameras.append(camera)

    def _give_way(self) -> None:
        if self._activation is not None:
            self._activation.worker.let_go_first(_GIVE_WAY_S)

    def _stop_input(self, timeout_s: float = _JOIN_TIMEOUT_S) -> None:
        activation, self._activation = self._activation, None
        if activation is None:
            return
        self._heartbeat.stop()
        for stream in activation.streams:
            stream.close()
        if not activation.worker.join(timeout_s):
            self.get_logger().warning("the running inference is slow to end; leaving it behind")
        activation.inference.is_current = False
        for stream in activation.streams:
            stream.camera.requests.answer_all(_DEACTIVATED)

    def _free(self) -> None:
        self._drop()
        free_memory()

    def _drop(self) -> None:
        for camera in self._cameras:
            camera.destroy()
        for services in self._camera_services.values():
            services.camera = None
        if self._transforms is not None:
            self._transforms.destroy()
        self._cameras, self._processor, self._transforms = [], None, None
        self._state_label = "unconfigured"

    # --- failures, pausing, parameters ----------------------------------------------------------

    def _on_give_up(self, reason: str) -> None:
        """The worker calls this."""
        if not self._must_stop:
            self._must_stop = reason
            self._give_up.trigger()

    def _stop_after_failures(self) -> None:
        if self._must_stop and self._activation is not None:
            self.get_logger().error(f"{self._must_stop}; stopping")
            self._reporter.remember(self._must_stop)
            self.trigger_deactivate()

    def _on_set_enabled(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        activation = self._activation
        response.success = activation is not None
        if activation is None:
            response.message = "the node is not active; configure and activate it"
            return response
        self._is_enabled = activation.inference.is_enabled = bool(request.data)
        response.message = "enabled" if request.data else "paused; the model stays loaded"
        return response

    def _refuse_what_needs_configuring(
        self, parameters: Sequence[Parameter]
    ) -> SetParametersResult:
        wants_gravity = any(
            entry.name == "geometry.box_up_axis" and entry.value == "gravity"
            for entry in parameters
        )
        if wants_gravity and self._processor is not None and not self._values["output.frame"]:
            reason = (
                "geometry.box_up_axis 'gravity' needs output.frame, which takes effect at "
                "configure; set both and configure the node again"
            )
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _on_parameters_set(self, parameters: Sequence[Parameter]) -> None:
        changed = dynamic_values(self, [entry.name for entry in parameters])
        if not changed:
            return
        self._values = {**self._values, **changed}
        if self._processor is not None:
            self._processor.settings = processor_settings(self._values)
            pipeline = self._processor.predictor
            before, pipeline.config = (
                pipeline.config,
                with_dynamic_values(pipeline.config, self._values),
            )
            if pipeline.config != before:
                self._publish_model_info()
        for camera in self._cameras:
            camera.perceiver.settings = processor_settings(self._values).perception
        if self._activation is not None:
            self._activation.inference.values = self._values
            for stream in self._activation.streams:
                stream.input.reconfigure(self._values)

    # --- diagnostics ----------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        self._events.look()
        this, last = Round(), self._last_round
        info = None if self._processor is None else self._processor.predictor.model_info
        self._diagnostics.publish(
            diagnostics_msg(
                self.get_fully_qualified_name(),
                self._state_label,
                [
                    camera_health(
                        name,
                        entry.camera,
                        self._reporter,
                        self._values,
                        is_enabled=self._is_enabled,
                        this=this,
                        last=last,
                    )
                    for name, entry in self._camera_services.items()
                ],
                ModelHealth(info=info, memory_mb=device_memory_mb(info)),
                self._values,
                self.get_clock(),
            )
        )
        self._last_round = this


if __name__ == "__main__":
    from calibnet_ros.command import main

    sys.exit(main())
