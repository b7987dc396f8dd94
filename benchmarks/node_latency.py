"""How long the node takes for a frame, from the callback of its images to the published result.

    python benchmarks/node_latency.py [--rounds 6] [--frames 100] [--json FILE]

The node runs in this process on one core, with a stand-in for the network that answers at once with
five objects of about 100x100 pixels. A camera in a process of its own sends 640x480 colour and
depth over DDS at 30 Hz and hears the results. Rounds with and without geometry and tracking
alternate. Measured is the wall time from entering the callback of the later of the two images, so
with the conversion of depth, the hand-over to the worker and the making of the message, until the
publisher returns.

After each result a fixed loop of plain Python is timed on the same core. Virtual machines share
their cores with others, so that the loop takes up to four times as long at one moment as at
another, and all else with it: compare figures only where the loop took as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.instant_node import NUM_OBJECTS, SIDE, FiveObjects, object_corners, set_environment
from benchmarks.measure import provenance, write_record
from calibnet_core.threads import use_one_blas_thread

HEIGHT, WIDTH, RATE_HZ = 480, 640, 30.0
CASES = {
    "geometry and tracking off": False,
    "geometry and tracking on": True,
}
LIMITS_MS = {"geometry and tracking off": 2.0, "geometry and tracking on": 6.0}
"""What the median has to stay within; the 99th percentile within 1.5 times the median and 2 ms."""


@dataclass(frozen=True)
class Latency:
    """Wall time from callback to publication, in milliseconds."""

    case: str
    frames: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    highest_ms: float
    round_medians_ms: list[float]
    round_loops_ms: list[float]
    """Medians of the fixed loop, by round."""

    @property
    def is_within_limits(self) -> bool:
        """Whether both limits are kept."""
        return self.p50_ms <= LIMITS_MS[self.case] and self.p99_ms <= 1.5 * self.p50_ms + 2.0


def main() -> None:
    """Measure and print; exit with 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each case")
    parser.add_argument("--frames", type=int, default=100, help="frames of a round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    set_environment()
    latencies = measure(arguments.rounds, arguments.frames)
    table = Table(
        title=f"Callback to publication, {WIDTH}x{HEIGHT}, {NUM_OBJECTS} objects, one core"
    )
    for name in ("case", "p50 ms", "p95 ms", "p99 ms", "highest", "medians by round", "fixed loop"):
        table.add_column(name)
    for entry in latencies:
        figures = (entry.p50_ms, entry.p95_ms, entry.p99_ms, entry.highest_ms)
        spreads = (
            f"{min(values):.2f} to {max(values):.2f}"
            for values in (entry.round_medians_ms, entry.round_loops_ms)
        )
        table.add_row(entry.case, *(f"{value:.2f}" for value in figures), *spreads)
    Console().print(table)
    if arguments.json:
        record = {
            **provenance("numpy", "opencv-python-headless", "scipy"),
            "latencies": [asdict(entry) for entry in latencies],
        }
        write_record(arguments.json, record)
    sys.exit(0 if all(entry.is_within_limits for entry in latencies) else 1)


def measure(rounds: int, frames: int) -> list[Latency]:
    """Run the node and its camera; one figure a case."""
    camera = multiprocessing.get_context("spawn").Process(target=run_camera, daemon=True)
    camera.start()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from calibnet_ros.perception_node import PerceptionNode

    use_one_blas_thread()  # as the node's own main does
    rclpy.init()
    node = PerceptionNode(lambda values: FiveObjects(HEIGHT, WIDTH))
    watch = Stopwatch()
    watch.attach()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    taken: dict[str, list[list[Sample]]] = {case: [] for case in CASES}
    try:
        watch.take(30)  # discovery and first calls
        for _ in range(rounds):
            for case, is_on in CASES.items():
                switches = [
                    Parameter(name, value=is_on) for name in ("geometry.enable", "tracking.enable")
                ]
                assert all(result.successful for result in node.set_parameters(switches))
                watch.take(5)
                taken[case].append(watch.take(frames))
    finally:
        camera.kill()
        executor.shutdown()
        node.stop()
        rclpy.try_shutdown()
    return [summarise(case, taken[case]) for case in CASES]


def summarise(case: str, rounds: list[list[Sample]]) -> Latency:
    """Percentiles over all rounds."""
    every = [sample.taken_ms for samples in rounds for sample in samples]
    p50_ms, p95_ms, p99_ms = np.percentile(every, (50, 95, 99))
    return Latency(
        case=case,
        frames=len(every),
        p50_ms=float(p50_ms),
        p95_ms=float(p95_ms),
        p99_ms=float(p99_ms),
        highest_ms=max(every),
        round_medians_ms=[statistics.median(s.taken_ms for s in samples) for samples in rounds],
        round_loops_ms=[statistics.median(s.loop_ms for s in samples) for samples in rounds],
    )


class Sample(NamedTuple):
    """One frame's latency, and how long the fixed loop took after it."""

    taken_ms: float
    loop_ms: float


def time_fixed_loop() -> float:
    """Milliseconds for 5000 steps of plain Python; a quarter of one where nothing disturbs it."""
    began, total = time.perf_counter(), 0
    for number in range(5000):
        total += number * number
    return (time.perf_counter() - began) * 1e3


class Stopwatch:
    """Notes when callbacks begin and when the publisher returns."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._samples: list[Sample] = []
        self._changed = threading.Condition()

    def attach(self) -> None:
        """Put itself around the node's callbacks and publisher."""
        from calibnet_core.perception.received_image import header_stamp_ns
        from calibnet_ros.frame_input import FrameInput
        from calibnet_ros.outputs import Outputs

        publish = Outputs.publish
        for name in ("_on_color", "_on_depth"):
            callback = getattr(FrameInput, name)

            def began(this: Any, msg: Any, callback: Any = callback) -> None:
                self._began[header_stamp_ns(msg.header)] = time.perf_counter()
                callback(this, msg)

            setattr(FrameInput, name, began)

        def published(this: Any, perception: Any, *arguments: Any, **options: Any) -> Any:
            result = publish(this, perception, *arguments, **options)
            ended = time.perf_counter()
            loop_ms = time_fixed_loop()
            with self._changed:
                began = self._began.pop(perception.frame.stamp_ns)
                self._samples.append(Sample((ended - began) * 1e3, loop_ms))
                self._changed.notify_all()
            return result

        Outputs.publish = published

    def take(self, count: int) -> list[Sample]:
        """Wait for so many results from now on and return their latencies."""
        with self._changed:
            self._samples.clear()
            if not self._changed.wait_for(lambda: len(self._samples) >= count, 120.0):
                raise RuntimeError(f"only {len(self._samples)} of {count} results came in 120 s")
            return self._samples[:count]


def run_camera() -> None:
    """Send images at the camera's rate, and hear the results."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import array

    import rclpy
    from calibnet_ros.msg import InstanceMaskArray
    from sensor_msgs.msg import CameraInfo, Image

    from calibnet_ros import qos

    rclpy.init()
    node = rclpy.create_node("camera")
    heard: list[Any] = []
    node.create_subscription(
        InstanceMaskArray, "/calibnet/instances", lambda msg: heard.append(msg.sequence), qos.RESULT
    )
    color = node.create_publisher(Image, "color/image", qos.RESULT)
    depth = node.create_publisher(Image, "depth/image", qos.RESULT)
    info = node.create_publisher(CameraInfo, "color/camera_info", qos.RESULT)
    depth_mm = np.full((HEIGHT, WIDTH), 2000, np.uint16)
    for index, (top, left) in enumerate(object_corners()):
        ramp = np.arange(SIDE, dtype=np.uint16)
        depth_mm[top : top + SIDE, left : left + SIDE] = 900 + 100 * index + ramp
    noise = np.random.default_rng(0).integers(-3, 4, depth_mm.shape)
    depth_mm = (depth_mm + noise).astype(np.uint16)
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    color_msg = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
    depth_msg = Image(height=HEIGHT, width=WIDTH, encoding="16UC1", step=2 * WIDTH)
    info_msg = CameraInfo(height=HEIGHT, width=WIDTH, distortion_model="plumb_bob")
    info_msg.d = [0.05, -0.1, 0.001, 0.001, 0.0]
    info_msg.k = [600.0, 0.0, 319.5, 0.0, 600.0, 239.5, 0.0, 0.0, 1.0]
    color_msg.data = array.array("B", rgb.tobytes())
    depth_msg.data = array.array("B", depth_mm.tobytes())

    def send() -> None:
        stamp = node.get_clock().now().to_msg()
        for msg in (info_msg, color_msg, depth_msg):
            msg.header.stamp, msg.header.frame_id = stamp, "camera_color_optical_frame"
        info.publish(info_msg)
        color.publish(color_msg)
        depth.publish(depth_msg)

    node.create_timer(1.0 / RATE_HZ, send)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
