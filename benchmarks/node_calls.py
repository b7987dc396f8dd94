"""How long parameter and service calls take while the network runs.

    python benchmarks/node_calls.py [--calls 100] [--json FILE]

The real node with the real network (random weights, on the CPU) is kept inferring by a stream of
640x480 images; meanwhile another process calls it, one call after the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.instant_node import REPOSITORY, set_environment
from benchmarks.measure import provenance, write_record

LIMIT_MS = 50.0
"""What each call has to stay within."""


@dataclass(frozen=True)
class Calls:
    """Wall time of one kind of call, in milliseconds."""

    service: str
    calls: int
    p50_ms: float
    p99_ms: float
    highest_ms: float


def main() -> None:
    """Measure and print; exit with 1 where a call took longer than the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100, help="of each service")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    set_environment()
    figures = measure(arguments.calls)
    table = Table(title="Calls while the network runs")
    for name in ("service", "calls", "p50 ms", "p99 ms", "highest ms"):
        table.add_column(name)
    for entry in figures:
        values = (f"{value:.1f}" for value in (entry.p50_ms, entry.p99_ms, entry.highest_ms))
        table.add_row(entry.service, str(entry.calls), *values)
    Console().print(table)
    if arguments.json:
        write_record(
            arguments.json, {**provenance(), "calls": [asdict(entry) for entry in figures]}
        )
    sys.exit(0 if all(entry.highest_ms <= LIMIT_MS for entry in figures) else 1)


def measure(num_calls: int) -> list[Calls]:
    """Call every service so many times, in turn."""
    import rclpy
    from calibnet_ros.msg import InstanceMaskArray
    from lifecycle_msgs.srv import GetState
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import GetParameters, SetParameters
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image
    from std_srvs.srv import SetBool, Trigger

    from calibnet_ros import qos

    command = [sys.executable, "-m", "calibnet_ros.perception_node", "--ros-args"]
    process = subprocess.Popen([*command, "-p", "model.device:=cpu"], cwd=REPOSITORY)
    rclpy.init()
    node = rclpy.create_node("operator")
    heard: list[Any] = []
    node.create_subscription(InstanceMaskArray, "/calibnet/instances", heard.append, qos.RESULT)
    color = node.create_publisher(Image, "color/image", qos.RESULT)
    depth = node.create_publisher(Image, "depth/image", qos.RESULT)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.5)
    threshold = Parameter(name="detection.score_threshold", value=value)
    requests = {
        "get_parameters": (GetParameters, GetParameters.Request(names=["detection.nms_iou"])),
        "set_parameters": (SetParameters, SetParameters.Request(parameters=[threshold])),
        "get_state": (GetState, GetState.Request()),
        "set_enabled": (SetBool, SetBool.Request(data=True)),
        "reset_tracks": (Trigger, Trigger.Request()),
    }
    clients = {
        name: node.create_client(kind, f"/calibnet/{name}") for name, (kind, _) in requests.items()
    }
    messages = images()
    stop = threading.Event()

    def stream() -> None:
        while not stop.wait(0.1):
            stamp = node.get_clock().now().to_msg()
            for publisher, msg in zip((color, depth), messages, strict=True):
                msg.header.stamp = stamp
                publisher.publish(msg)

    try:
        for client in clients.values():
            if not client.wait_for_service(120.0):
                raise RuntimeError("the node did not start within 120 s")
        threading.Thread(target=stream, daemon=True).start()
        deadline = time.monotonic() + 120.0
        while not heard:
            if time.monotonic() > deadline:
                raise RuntimeError("no result within 120 s")
            time.sleep(0.1)
        taken_ms: dict[str, list[float]] = {name: [] for name in requests}
        for _ in range(num_calls):
            for name, (_, request) in requests.items():
                taken_ms[name].append(timed(clients[name], request))
    finally:
        stop.set()
        process.terminate()
        process.wait()
        executor.shutdown()
        rclpy.try_shutdown()
    return [
        Calls(
            service=name,
            calls=len(values),
            p50_ms=float(np.percentile(values, 50)),
            p99_ms=float(np.percentile(values, 99)),
            highest_ms=max(values),
        )
        for name, values in taken_ms.items()
    ]


def timed(client: Any, request: Any) -> float:
    """Milliseconds until the answer."""
    done = threading.Event()
    started = time.perf_counter()
    on_done: Callable[[Any], None] = lambda future: done.set()  # noqa: E731
    client.call_async(request).add_done_callback(on_done)
    if not done.wait(60.0):
        raise RuntimeError("no answer within 60 s")
    return (time.perf_counter() - started) * 1e3


def images() -> tuple[Any, Any]:
    """A colour and a depth image of 640x480 pixels."""
    import array

    from sensor_msgs.msg import Image

    color = Image(height=480, width=640, encoding="rgb8", step=3 * 640)
    color.data = array.array("B", np.random.default_rng(0).bytes(3 * 640 * 480))
    depth = Image(height=480, width=640, encoding="16UC1", step=2 * 640)
    depth.data = array.array("B", np.full((480, 640), 1500, "<u2").tobytes())
    return color, depth


if __name__ == "__main__":
    main()
