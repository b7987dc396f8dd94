"""See the node at work: play a recording through it in another process and look at the pictures."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rclpy
from rich.console import Console
from rich.markup import escape

from calibnet_core.config import MODELS
from calibnet_core.data.bags import BagError, RgbdBag, open_rgbd_bag, raw_name
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.shipped_weights import default_weights
from calibnet_core.structures import FrameError
from calibnet_ros.bag_player import PlayError, PlayReport
from calibnet_ros.play_bag import add_play_arguments, play
from calibnet_ros.share import share_path

_NODE_TIMEOUT_S = 180.0
_FILM_FRAMES = 12
_FILM_RATE_HZ = 5.0
_FILM_SIZE = (480, 640)
_FILM_SEED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    Returns:
        0 when every frame was answered or dropped for a reason, else 1; 2 for wrong arguments.
    """
    parser = argparse.ArgumentParser(prog="calibnet_demo", description=__doc__)
    parser.add_argument("--bag", type=Path, help="a recording; without it a scene is filmed")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="for pictures")
    parser.add_argument("--weights", help="weights file; without it those of this package")
    parser.add_argument(
        "--model",
        choices=tuple(MODELS),
        help="network, where weights do not say; without weights of it they are random",
    )
    parser.add_argument("--frames", type=int, default=_FILM_FRAMES, help="frames to film")
    parser.add_argument("--seed", type=int, default=_FILM_SEED, help="of the filmed scene")
    add_play_arguments(parser)
    arguments = parser.parse_args(argv)
    console = Console()
    set_environment()
    try:
        output = prepare_output(arguments.output)
        with tempfile.TemporaryDirectory() as workshop:
            path = arguments.bag
            if path is None:
                path = Path(workshop) / "film"
                with console.status("filming a rendered scene"):
                    film(path, num_frames=arguments.frames, seed=arguments.seed)
            bag = open_rgbd_bag(
                path,
                color_topic=arguments.color_topic,
                depth_topic=arguments.depth_topic,
                info_topic=arguments.info_topic,
            )
            report = play_through_node(bag, arguments, output, console)
    except (BagError, FrameError, PlayError, SceneError, OSError) as error:
        words = escape(str(error))  # brackets in a path are no markup
        Console(stderr=True).print(f"[red]demo:[/red] {words}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if report.num_unaccounted == 0 else 1


def play_through_node(
    bag: RgbdBag, arguments: argparse.Namespace, output: Path, console: Console
) -> PlayReport:
    """Start a node for the recording, play it, save the pictures and print the table.

    Raises:
        PlayError: the node could not start.
        BagError: the recording is damaged.
    """
    if _has_random_weights(arguments):
        console.print("[yellow]No weights given: they are random, so the masks mean nothing.")
    rclpy.init()
    try:
        with running_node(bag, arguments, output / "node.log") as node:
            return play(
                bag,
                rate=arguments.rate,
                output=output,
                timeout_s=_NODE_TIMEOUT_S,
                is_alive=lambda: node.poll() is None,
                console=console,
            )
    finally:
        rclpy.try_shutdown()


def set_environment() -> None:
    """Keep traffic on this machine and give images enough shared memory, unless set otherwise."""
    profile = str(share_path("config/fastdds_profile.xml"))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # The first name is read up to Jazzy, the second from Kilted on.
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", profile)
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", profile)


def prepare_output(folder: Path) -> Path:
    """Create the folder and remove what an earlier run left in it.

    Raises:
        OSError: the folder cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("overlay_*.png", "label_image_*.png", "contact_sheet.png"):
        for path in folder.glob(pattern):
            path.unlink()
    return folder


def film(path: Path, *, num_frames: int, seed: int) -> None:
    """Film a rendered scene, with its true labels beside the camera's topics.

    Raises:
        BagError: `path` exists.
        SceneError: the number of frames makes no sense, or what renders is not installed.
    """
    from calibnet_core.data.scenes.sampling import SceneSettings
    from calibnet_core.data.scenes.video import render_video, write_video

    settings = SceneSettings(size=_FILM_SIZE)
    write_video(path, render_video(seed, 0, num_frames, settings, rate=_FILM_RATE_HZ))


@contextmanager
def running_node(
    bag: RgbdBag, arguments: argparse.Namespace, log_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the perception node on a recording's topics in a process of its own; end it after.

    Raises:
        PlayError: from the body, with the end of the node's log.
    """
    parameters = {
        "model.name": arguments.model or "auto",
        "model.weights": arguments.weights or "",
        "input.color_transport": bag.color_transport,
        "input.depth_transport": bag.depth_transport,
        "output.overlay_rate": 0.0,
        "diagnostics.period": 0.5,
        # The pictures are what this is for; none may be lost on the way.
        "qos_overrides./calibnet/overlay.publisher.reliability": "reliable",
        "qos_overrides./calibnet/label_image.publisher.reliability": "reliable",
    }
    if _has_random_weights(arguments):
        # Random scores pass no sensible threshold.
        parameters |= {"detection.score_threshold": 0.0, "detection.max_instances": 6}
    remaps = {"color/image": raw_name(bag.color_topic), "depth/image": raw_name(bag.depth_topic)}
    if bag.info_topic is not None:
        remaps["color/camera_info"] = bag.info_topic
    command = [sys.executable, "-m", "calibnet_ros.perception_node"]
    command.append("--ros-args")
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value!r}" if isinstance(value, str) else f"{name}:={value}"]
    for name, topic in remaps.items():
        command += ["-r", f"{name}:={topic}"]
    with log_path.open("wb") as log:
        node = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield node
    except PlayError as error:
        ending = "\n".join(log_path.read_text(errors="replace").splitlines()[-5:])
        raise PlayError(f"{error}; its log {log_path} ends with:\n{ending}") from error
    finally:
        end_process(node)


def _has_random_weights(arguments: argparse.Namespace) -> bool:
    return not arguments.weights and default_weights(arguments.model) is None


def end_process(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, insist if it does not, and return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
