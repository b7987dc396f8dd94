"""Look at the camera's topics or a recording, and say what to mend and how to start the node."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from calibnet_core.config import MODELS
from calibnet_core.files import atomic_write
from calibnet_core.shipped_weights import default_weights
from calibnet_ros.arguments import split_arguments
from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.diagnosis import diagnose
from calibnet_ros.doctor.environment import gather_machine, gather_weights
from calibnet_ros.doctor.facts import Facts, InputFacts, Request
from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.presenting import show, to_json

_LIVE_S = 5.0
_RECORDING_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Examine the inputs and this machine.

    Returns:
        0 when the node will work, 1 when something must be mended, 2 for wrong arguments.
    """
    parser = _parser()
    own_arguments, ros_arguments = split_arguments(argv)
    arguments = parser.parse_args(own_arguments)
    if arguments.bag is not None and not arguments.bag.exists():
        parser.error(f"--bag {arguments.bag}: there is no such file or folder")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        parser.error(f"--json {arguments.json}: its folder does not exist")
    console = Console()
    try:
        with Console(stderr=True).status("looking"):
            facts = _gather(arguments, ros_arguments)
        diagnosis = diagnose(facts)
        show(diagnosis, console)
        if arguments.json is not None:
            with atomic_write(arguments.json) as file:
                file.write(to_json(diagnosis, facts).encode())
    except OSError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if diagnosis.verdict is Verdict.MEND else 0


def _gather(arguments: argparse.Namespace, ros_arguments: Sequence[str]) -> Facts:
    request = Request(
        camera=arguments.camera or "",
        camera_namespace=arguments.camera_namespace,
        color_topic=arguments.color_topic,
        depth_topic=arguments.depth_topic,
        info_topic=arguments.info_topic,
    )
    path = arguments.weights or default_weights(arguments.model)
    weights = None if path is None else gather_weights(str(path), arguments.model or "")
    return Facts(
        inputs=_gather_inputs(arguments, request, ros_arguments),
        machine=gather_machine(),
        weights=weights,
    )


def _gather_inputs(
    arguments: argparse.Namespace, request: Request, ros_arguments: Sequence[str]
) -> InputFacts:
    from calibnet_ros.frame_input import cv_bridge_decoder

    if arguments.bag is not None:
        from calibnet_ros.doctor.recording import gather_recording

        return gather_recording(
            arguments.bag,
            request,
            limit_s=arguments.duration or _RECORDING_S,
            decoder=cv_bridge_decoder(),
        )
    from calibnet_ros.doctor.live import gather_live

    return gather_live(
        request,
        duration_s=arguments.duration or _LIVE_S,
        ros_arguments=ros_arguments,
        decoder=cv_bridge_decoder(),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="doctor", description=__doc__)
    parser.add_argument("--camera", choices=tuple(PRESETS), help="topics of a camera driver")
    parser.add_argument("--camera-namespace", default="", help="put in front of these topics")
    parser.add_argument("--color-topic", type=_topic, default="", help="colour images")
    parser.add_argument("--depth-topic", type=_topic, default="", help="registered depth images")
    parser.add_argument("--info-topic", type=_topic, default="", help="CameraInfo of colour")
    parser.add_argument("--bag", type=Path, help="look at this recording, not at the live graph")
    parser.add_argument(
        "--duration",
        type=_seconds,
        help=f"seconds to listen ({_LIVE_S:g}), or to read of a recording ({_RECORDING_S:g})",
    )
    parser.add_argument(
        "--weights", help="weights file to look at; without it those of this package"
    )
    parser.add_argument(
        "--model",
        choices=tuple(MODELS),
        help="network of these weights, where the file does not say",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings there too")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 86400.0:
        raise argparse.ArgumentTypeError(f"{text} is not 0.1 to 86400 seconds")
    return value


def _topic(text: str) -> str:
    return text if text.startswith("/") or not text else f"/{text}"


if __name__ == "__main__":
    sys.exit(main())
