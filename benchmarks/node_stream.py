"""Whether the node loses frames of a stream with the middleware profile.

    python benchmarks/node_stream.py [--with-network] [--seconds 60] [--json FILE]

The camera runs in this process and the node in another, with default settings; both use
`config/fastdds_profile.xml`, best effort as in the field. A stand-in for the network answers at
once, and 1280x720 noise comes at 30 Hz; `--with-network` takes the network and the weights of this
package, and a rendered table of 640x480 at 10 Hz. Counted are colour and depth images sent and
received, pairs, results published and heard; and what results say of the time they took.
"""

from __future__ import annotations

import argparse
import array
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.instant_node import REPOSITORY, set_environment
from benchmarks.measure import provenance, write_record
from calibnet_core.data.analytic_scene import Camera, demo_scene, render
from calibnet_core.structures import RgbdFrame


@dataclass(frozen=True)
class Stream:
    """What the camera sends.

    Attributes:
        height, width: of the images.
        rate_hz: pairs a second.
    """

    height: int
    width: int
    rate_hz: float


STAGES = ("queue", "preprocess", "inference", "postprocess", "age")
NOISE, TABLE = Stream(720, 1280, 30.0), Stream(480, 640, 10.0)


@dataclass(frozen=True)
class Counts:
    """Messages of one run; what the node did not get, and what it got and did not answer.

    Attributes:
        median_ms: by stage, as the results tell it; `age` is from the stamp to the publication.
    """

    sent: int
    received_color: int
    received_depth: int
    paired: int
    published: int
    superseded: int
    heard: int
    median_ms: dict[str, float]

    @property
    def is_complete(self) -> bool:
        """Whether every image sent was received and paired, and every pair answered."""
        wanted = {self.received_color, self.received_depth, self.paired, self.published, self.heard}
        return wanted == {self.sent}


def main() -> None:
    """Run, print and exit with 1 where anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--with-network", action="store_true", help="no stand-in for it")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the stream")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    set_environment("fastdds_profile.xml")
    if arguments.with_network:
        stream, command = TABLE, [sys.executable, "-m", "calibnet_ros.perception_node"]
        frame = table_frame(stream)
    else:
        stream, frame = NOISE, noise_frame(NOISE)
        node = str(REPOSITORY / "benchmarks/instant_node.py")
        command = [sys.executable, node, f"{stream.height}x{stream.width}"]
    counts = run(command, stream, frame, round(arguments.seconds * stream.rate_hz))
    name = f"{stream.width}x{stream.height} at {stream.rate_hz:g} Hz"
    table = Table(title=f"{name} for {arguments.seconds:g} s")
    table.add_column("messages")
    table.add_column("count", justify="right")
    figures = asdict(counts)
    for stage, median in figures.pop("median_ms").items():
        figures[f"{stage}, median ms"] = f"{median:.1f}"
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
    if arguments.json:
        write_record(arguments.json, {**provenance(), **asdict(counts)})
    sys.exit(0 if counts.is_complete else 1)


def run(command: list[str], stream: Stream, frame: RgbdFrame, num_frames: int) -> Counts:
    """Stream so many frames to the node that `command` starts, and count."""
    import rclpy
    from calibnet_ros.msg import InstanceMaskArray
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import CameraInfo, Image

    from calibnet_ros import qos

    process = subprocess.Popen([*command, "--ros-args", "-p", "diagnostics.period:=0.2"])
    rclpy.init()
    node = rclpy.create_node("camera")
    heard: list[InstanceMaskArray] = []
    counters: dict[str, int] = {}

    def on_diagnostics(msg: Any) -> None:
        for status in msg.status:
            if status.name == "/calibnet: camera":
                counters.update({e.key: int(e.value) for e in status.values if e.value.isdecimal()})

    node.create_subscription(InstanceMaskArray, "/calibnet/instances", heard.append, qos.RESULT)
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    color = node.create_publisher(Image, "color/image", qos.INPUT)
    depth = node.create_publisher(Image, "depth/image", qos.INPUT)
    info = node.create_publisher(CameraInfo, "color/camera_info", qos.INPUT)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    color_msg, depth_msg, info_msg = messages(frame)

    def send() -> None:
        stamp = node.get_clock().now().to_msg()
        for msg in (info_msg, color_msg, depth_msg):
            msg.header.stamp, msg.header.frame_id = stamp, "camera_color_optical_frame"
        info.publish(info_msg)
        color.publish(color_msg)
        depth.publish(depth_msg)

    def wait_until(condition: Any, what: str) -> None:
        deadline = time.monotonic() + 60.0
        while not condition():
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"waited in vain for {what}")
            time.sleep(0.05)

    try:
        wait_until(
            lambda: color.get_subscription_count() and depth.get_subscription_count(), "the node"
        )
        while not heard:  # until both directions are connected
            send()
            time.sleep(0.2)
        time.sleep(1.0)
        before, heard_before = dict(counters), len(heard)
        started = time.monotonic()
        for number in range(num_frames):
            time.sleep(max(0.0, started + number / stream.rate_hz - time.monotonic()))
            send()
        time.sleep(2.0)
        risen = {key: value - before.get(key, 0) for key, value in counters.items()}
    finally:
        process.terminate()
        process.wait()
        executor.shutdown()
        rclpy.try_shutdown()
    return Counts(
        sent=num_frames,
        received_color=risen["received_color"],
        received_depth=risen["received_depth"],
        paired=risen["paired"],
        published=risen["published"],
        superseded=risen.get("dropped_pairs.superseded", 0),
        heard=len(heard) - heard_before,
        median_ms={
            stage: float(np.median([getattr(msg, f"{stage}_ms") for msg in heard[heard_before:]]))
            for stage in STAGES
        },
    )


def noise_frame(stream: Stream) -> RgbdFrame:
    """Noise before a wall."""
    random, size = np.random.default_rng(0), (stream.height, stream.width)
    depth_m = random.integers(1000, 1010, size).astype(np.float32) / 1000
    return RgbdFrame(rgb=random.integers(0, 256, (*size, 3), np.uint8), depth_m=depth_m)


def table_frame(stream: Stream) -> RgbdFrame:
    """Things on a table."""
    size = (stream.height, stream.width)
    camera = Camera.looking_at((0.0, 0.0, 0.76), position=(0.14, -0.56, 1.14), size=size)
    rendered = render(demo_scene(0), camera)
    return RgbdFrame(rgb=rendered.rgb, depth_m=np.nan_to_num(rendered.depth_m).astype(np.float32))


def messages(frame: RgbdFrame) -> tuple[Any, Any, Any]:
    """Colour, depth and calibration."""
    from sensor_msgs.msg import CameraInfo, Image

    height, width = frame.size
    color = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    color.data = array.array("B", frame.rgb.tobytes())
    depth = Image(height=height, width=width, encoding="16UC1", step=2 * width)
    depth_mm = (frame.depth_m * 1000).round().astype("<u2")
    depth.data = array.array("B", depth_mm.tobytes())
    info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    focal, x, y = 0.7 * width, (width - 1) / 2, (height - 1) / 2
    info.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return color, depth, info


if __name__ == "__main__":
    main()
