"""A node in a process of its own, and the rest of the robot: camera, planner and operator.

Import this only where rclpy and the messages are installed.
"""

from __future__ import annotations

import array
import itertools
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from calibnet_ros.msg import InstanceMaskArray, ModelInfo
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from calibnet_ros.messages import OUTPUTS
from tests.support.shared import REPOSITORY

STUB = "tests.support.stub_perception_node"
REAL = "calibnet_ros.perception_node"
TIMEOUT_S = 20.0
SIZE = (48, 64)
FRAME_ID = "camera_color_optical_frame"
NS_PER_MS = 1_000_000
PERIOD_NS = 100 * NS_PER_MS
FIRST_STAMP_NS = 1_700_000_000_000_000_000
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

RED_BOX = (slice(10, 26), slice(8, 28))
GREEN_BOX = (slice(30, 44), slice(36, 60))
RED_DEPTH_M, GREEN_DEPTH_M, FAR_M = 1.5, 2.5, 3.0

Found = TypeVar("Found")
_namespaces = itertools.count(1)


def wait_for(condition: Callable[[], Found], what: str, timeout_s: float = TIMEOUT_S) -> Found:
    """Wait until `condition()` is true and return what it returned."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.005)
    return found


# --- images -----------------------------------------------------------------------------------


def scene_rgb(order: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """A red and a green box before grey; `order` is one to the stub, in the top-left pixel."""
    rgb = np.full((*SIZE, 3), 90, np.uint8)
    rgb[RED_BOX], rgb[GREEN_BOX] = (255, 0, 0), (0, 255, 0)
    if order is not None:
        rgb[0, 0] = order
    return rgb


def scene_depth_m() -> NDArray[np.float32]:
    """Metres of the same scene."""
    depth_m = np.full(SIZE, FAR_M, np.float32)
    depth_m[RED_BOX], depth_m[GREEN_BOX] = RED_DEPTH_M, GREEN_DEPTH_M
    return depth_m


def image_msg(
    pixels: NDArray[Any], encoding: str, stamp_ns: int, frame_id: str = FRAME_ID, padding: int = 0
) -> Image:
    """An image message; `padding` bytes of noise end each row; the dtype gives the byte order."""
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1).view(np.uint8)
    noise = np.full((rows.shape[0], padding), 0xAB, np.uint8)
    padded = np.hstack([rows, noise])
    msg = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    msg.header.stamp, msg.header.frame_id = time_msg(stamp_ns), frame_id
    msg.is_bigendian = int(pixels.dtype.byteorder == ">")
    msg.step = padded.shape[1]
    msg.data = array.array("B", padded.tobytes())
    return msg


def color_msg(stamp_ns: int, order: tuple[int, int, int] | None = None) -> Image:
    return image_msg(scene_rgb(order), "rgb8", stamp_ns)


def depth_msg(stamp_ns: int) -> Image:
    return image_msg((scene_depth_m() * 1000).astype("<u2"), "16UC1", stamp_ns)


def camera_info_msg(stamp_ns: int = 0, **changes: Any) -> CameraInfo:
    """Calibration of the scene's camera: no distortion, a focal length of 60 pixels."""
    height, width = SIZE
    f, cx, cy = 60.0, width / 2 - 0.5, height / 2 - 0.5
    msg = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    msg.header.stamp, msg.header.frame_id = time_msg(stamp_ns), FRAME_ID
    msg.k = [f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0]
    msg.p = [f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def time_msg(stamp_ns: int) -> Time:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)


def stamp_ns_of(msg: Any) -> int:
    return msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec


# --- the node's process -----------------------------------------------------------------------


class NodeProcess:
    """A process with its log; `command` follows the interpreter."""

    def __init__(
        self, command: Iterable[str], log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def lines(self, *parts: str) -> list[str]:
        """Lines of the log that hold all of `parts`."""
        return [line for line in self.log.splitlines() if all(part in line for part in parts)]

    def wait_for_line(self, *parts: str, count: int = 1) -> list[str]:
        def found() -> list[str]:
            assert self.is_alive, f"the node ended with {self.process.poll()}:\n{self.log}"
            lines = self.lines(*parts)
            return lines if len(lines) >= count else []

        return wait_for(found, f"{count} lines with {parts} in the log")

    def send(self, signal_number: int) -> None:
        self.process.send_signal(signal_number)

    def exit_code(self, timeout_s: float = TIMEOUT_S) -> int:
        return self.process.wait(timeout_s)

    def end(self) -> None:
        if self.is_alive:
            self.process.terminate()
            try:
                self.process.wait(5.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def node_command(
    module: str,
    namespace: str,
    parameters: Mapping[str, Any],
    remaps: Mapping[str, str],
    arguments: Iterable[str] = (),
) -> list[str]:
    """Arguments after the interpreter that run a perception node in a namespace."""
    command = ["-m", module, *arguments, "--ros-args", "-r", f"__ns:={namespace}"]
    for name, topic in remaps.items():
        command += ["-r", f"{name}:={topic}"]
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else repr(value)
        command += ["-p", f"{name}:={text}"]
    return command


# --- the rest of the robot --------------------------------------------------------------------


class Robot:
    """A perception node in its own process, and all that has to do with it in this one.

    Attributes:
        process: the perception node.
        results: `~/instances` in order of arrival; `arrived_ns` holds the wall time of each.
        model_infos: what came on `~/model_info`.
        reports: the camera's status of each round of diagnostics, as (status, counters).
        model_reports: the model's status of each round.
        all_statuses: of the newest round, of this and other nodes.

    Each pair comes with a CameraInfo unless `sends_info` is False. With `loses_nothing` the node's
    image subscriptions are reliable and deep, for exact counts; it is the pair of their topics
    where they are remapped. With `publishes_reliably` so are the publishers of its pictures.
    """

    def __init__(
        self,
        log_path: Path,
        *,
        module: str = STUB,
        arguments: Iterable[str] = (),
        parameters: Mapping[str, Any] | None = None,
        remaps: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        loses_nothing: bool | tuple[str, str] = False,
        publishes_reliably: bool = False,
    ) -> None:
        # A namespace each: what one process leaves behind in discovery reaches no other.
        self.namespace = f"/robot{next(_namespaces)}"
        self.node_name = f"{self.namespace}/calibnet"
        given = {"diagnostics.period": 0.1, **(parameters or {})}
        if loses_nothing:
            own = tuple(f"{self.namespace}/{name}/image" for name in ("color", "depth"))
            for topic in own if loses_nothing is True else loses_nothing:
                prefix = f"qos_overrides.{topic}.subscription"
                given |= {f"{prefix}.reliability": "reliable", f"{prefix}.depth": 100}
        if publishes_reliably:
            for output in OUTPUTS:
                prefix = f"qos_overrides.{self.node_name}/{output.name}.publisher"
                given |= {f"{prefix}.reliability": "reliable", f"{prefix}.depth": 100}
        command = node_command(module, self.namespace, given, remaps or {}, arguments)
        self.process = NodeProcess(command, log_path, environment)
        self.results: list[InstanceMaskArray] = []
        self.arrived_ns: list[int] = []
        self.model_infos: list[ModelInfo] = []
        self.reports: list[tuple[Any, defaultdict[str, int]]] = []
        self.model_reports: list[Any] = []
        self.all_statuses: list[Any] = []
        self.sends_info = True
        self._report_stamps_ns: list[int] = []
        self._stamp_ns = FIRST_STAMP_NS

        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("rest", namespace=self.namespace, context=self.context)
        make = self.node.create_publisher
        self.color = make(Image, "color/image", RELIABLE)
        self.depth = make(Image, "depth/image", RELIABLE)
        self.info = make(CameraInfo, "color/camera_info", RELIABLE)
        self.listen(InstanceMaskArray, "instances", self._on_result, RELIABLE)
        self.listen(ModelInfo, "model_info", self.model_infos.append, LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._clients: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.process.end()
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def listen(
        self, msg_type: type, name: str, callback: Callable[[Any], None], profile: Any
    ) -> Any:
        """Subscribe to a private topic of the perception node."""
        topic = f"{self.node_name}/{name}"
        return self.node.create_subscription(msg_type, topic, callback, profile)

    def wait_for(self, condition: Callable[[], Found], what: str) -> Found:
        """Wait for something that the node must do; fail at once if it ends instead."""

        def checked() -> Found:
            assert self.process.is_alive, f"the node ended:\n{self.process.log}"
            return condition()

        return wait_for(checked, what)

    def memory_bytes(self) -> int:
        """Resident memory of the perception node."""
        statm = Path(f"/proc/{self.process.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # camera

    def wait_until_connected(self) -> None:
        """Wait until the node is active and hears the camera."""
        publishers = self.color, self.depth, self.info
        self.wait_for(
            lambda: all(publisher.get_subscription_count() for publisher in publishers),
            "the node to subscribe",
        )
        # Its publisher must know our subscription as well, or the first answer would be lost.
        self.wait_for(self.is_heard, "the node to hear the planner")

    def is_heard(self) -> bool:
        stamp_ns = self.send_pair(self.next_stamp())
        deadline = time.monotonic() + 1.0
        while not self.results_for(stamp_ns) and time.monotonic() < deadline:
            time.sleep(0.005)
        return bool(self.results_for(stamp_ns))

    def next_stamp(self, periods: int = 1) -> int:
        """A stamp so many periods after the last."""
        self._stamp_ns += periods * PERIOD_NS
        return self._stamp_ns

    def send_pair(
        self,
        stamp_ns: int,
        *,
        order: tuple[int, int, int] | None = None,
        color: Image | None = None,
        depth: Image | None = None,
    ) -> int:
        """Publish a pair of the scene, or what is given in place of either image."""
        if self.sends_info:
            self.info.publish(camera_info_msg(stamp_ns))
        self.color.publish(color_msg(stamp_ns, order) if color is None else color)
        self.depth.publish(depth_msg(stamp_ns) if depth is None else depth)
        return stamp_ns

    # planner

    def results_for(self, stamp_ns: int) -> list[InstanceMaskArray]:
        return [msg for msg in list(self.results) if stamp_ns_of(msg) == stamp_ns]

    def answer(self, stamp_ns: int, count: int = 1) -> InstanceMaskArray:
        """Wait for the answer to a colour stamp; with `count`, for the last of so many."""

        def found() -> list[InstanceMaskArray]:
            results = self.results_for(stamp_ns)
            return results if len(results) >= count else []

        return self.wait_for(found, f"answer {count} to {stamp_ns}")[count - 1]

    def ask(self, **images: Any) -> InstanceMaskArray:
        """Publish a pair and wait for its answer."""
        return self.answer(self.send_pair(self.next_stamp(), **images))

    # operator

    def fresh_report(self) -> tuple[Any, defaultdict[str, int]]:
        """The camera's status of a round of diagnostics that began after this call."""
        asked_ns = time.time_ns()

        def later() -> list[tuple[Any, defaultdict[str, int]]]:
            rounds = zip(list(self._report_stamps_ns), list(self.reports), strict=False)
            return [report for at_ns, report in rounds if at_ns >= asked_ns]

        # The stamp is taken at the end of a round: the first may have begun before.
        return self.wait_for(lambda: later()[1:], "two rounds of diagnostics")[0]

    def counters(self) -> defaultdict[str, int]:
        """The counters once nothing is in flight."""
        return self.counters_after(lambda counters: counters["in_flight"] == 0)

    def counters_after(
        self, condition: Callable[[defaultdict[str, int]], bool]
    ) -> defaultdict[str, int]:
        """The counters once they fulfil a condition."""

        def found() -> defaultdict[str, int] | None:
            counters = self.fresh_report()[1]
            return counters if condition(counters) else None

        return self.wait_for(found, "the counters")

    def assert_balanced(self) -> None:
        """Every round of diagnostics so far obeyed both conservation laws."""
        rounds = [counters for _, counters in list(self.reports) if counters]
        assert rounds
        for counters in rounds:
            color = sum(n for key, n in counters.items() if key.startswith("dropped_color."))
            pairs = sum(n for key, n in counters.items() if key.startswith("dropped_pairs."))
            waiting, in_flight = counters["waiting_color"], counters["in_flight"]
            assert counters["received_color"] == counters["paired"] + color + waiting, counters
            assert counters["paired"] == counters["published"] + pairs + in_flight, counters

    def call(
        self, service_type: type, name: str, request: Any, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """Call a service of the perception node."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(service_type, f"{self.node_name}/{name}")
        client = self._clients[name]
        self.wait_for(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self.wait_for(future.done, f"an answer of the service {name}")
        return future.result()

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def wait_for_state(self, label: str) -> None:
        self.wait_for(lambda: self.state() == label, f"state {label}")

    def change_state(self, label: str) -> bool:
        """Ask for a transition by its name; whether it succeeded."""
        ids = {
            "configure": Transition.TRANSITION_CONFIGURE,
            "activate": Transition.TRANSITION_ACTIVATE,
            "deactivate": Transition.TRANSITION_DEACTIVATE,
            "cleanup": Transition.TRANSITION_CLEANUP,
            "unconfigured_shutdown": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
            "inactive_shutdown": Transition.TRANSITION_INACTIVE_SHUTDOWN,
            "active_shutdown": Transition.TRANSITION_ACTIVE_SHUTDOWN,
        }
        request = ChangeState.Request(transition=Transition(id=ids[label]))
        return bool(self.call(ChangeState, "change_state", request).success)

    def set_parameters(self, **values: Any) -> list[SetParametersResult]:
        """Set parameters one by one; `__` in a name stands for the dot."""
        request = SetParameters.Request(parameters=_parameter_msgs(values))
        return list(self.call(SetParameters, "set_parameters", request).results)

    def set_parameters_together(self, **values: Any) -> SetParametersResult:
        """Set all of them or none."""
        request = SetParametersAtomically.Request(parameters=_parameter_msgs(values))
        return self.call(SetParametersAtomically, "set_parameters_atomically", request).result

    def get_parameter(self, name: str) -> Any:
        request = GetParameters.Request(names=[name])
        return parameter_value_to_python(
            self.call(GetParameters, "get_parameters", request).values[0]
        )

    # callbacks

    def _on_result(self, msg: InstanceMaskArray) -> None:
        self.arrived_ns.append(time.time_ns())
        self.results.append(msg)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.all_statuses = list(msg.status)
        for status in msg.status:
            if status.name == f"{self.node_name}: camera":
                counters: defaultdict[str, int] = defaultdict(int)
                counters |= {e.key: int(e.value) for e in status.values if e.value.isdecimal()}
                self.reports.append((status, counters))
                self._report_stamps_ns.append(stamp_ns_of(msg))
            elif status.name == f"{self.node_name}: model":
                self.model_reports.append(status)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin()


def value_of(status: Any, key: str) -> str:
    """A value of a diagnostic status."""
    return next(entry.value for entry in status.values if entry.key == key)


def _parameter_msgs(values: Mapping[str, Any]) -> list[Any]:
    return [
        Parameter(name.replace("__", "."), value=value).to_parameter_msg()
        for name, value in values.items()
    ]
