"""Evaluate recordings with the node's own core: figures, pictures, and a verdict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from calibnet_core.config import ConfigError
from calibnet_core.evaluation import EvaluationError
from calibnet_core.evaluation.recording import RecordingTruth
from calibnet_core.evaluation.recording.limits import Limit, judge, read_limits
from calibnet_core.structures import WeightsError
from calibnet_ros.arguments import split_arguments
from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.evaluate_bag.evaluation import Job, Outcome, blank_document
from calibnet_ros.evaluate_bag.inputs import Topics
from calibnet_ros.evaluate_bag.parameters_file import node_values, parse_assignment, read_yaml
from calibnet_ros.evaluate_bag.running import ClusterError, MakePredictor, run_jobs, run_on_ray
from calibnet_ros.evaluate_bag.summary import print_outcomes, print_verdicts, write_summary
from calibnet_ros.loading import load_pipeline
from calibnet_ros.parameter_schema import Value, Values


def main(
    argv: Sequence[str] | None = None, *, make_predictor: MakePredictor = load_pipeline
) -> int:
    """Evaluate recordings.

    Args:
        argv: arguments after the program's name; None takes those of the process.
        make_predictor: builds the pipeline; tests hand in a stub.

    Returns:
        0 when all went well, 1 when a limit fails or a recording is damaged, 2 for wrong arguments
        or labels that do not fit.
    """
    arguments = _parser().parse_args(split_arguments(argv)[0])
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        values = _values(arguments)
        jobs = _jobs(arguments, values)
        limits = _limits(arguments)
        if arguments.truth is not None:
            RecordingTruth.read(arguments.truth)  # what is wrong is said before the work begins
        outcomes = list(_run(arguments, jobs, make_predictor, errors))
    except (ConfigError, ClusterError, EvaluationError, WeightsError, OSError) as error:
        errors.print(f"evaluate_bag: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130
    return _conclude(arguments, outcomes, limits, errors)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate_bag", description=__doc__)
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="rosbag2 folder or file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("recording_report"),
        metavar="DIR",
        help="folder for the report, one folder a recording below it where there are several; must "
        "not exist yet (default: recording_report)",
    )
    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "--camera",
        default="",
        choices=("", *PRESETS),
        metavar="NAME",
        help=f"whose topics to read where they are recorded: {', '.join(PRESETS)}",
    )
    inputs.add_argument("--color-topic", default="", help="when the recording has several")
    inputs.add_argument("--depth-topic", default="", help="depth registered to these images")
    inputs.add_argument("--info-topic", default="", help="CameraInfo of the colour images")
    inputs.add_argument(
        "--truth", type=Path, metavar="FILE", help="COCO file of labels of one recording's images"
    )
    model = parser.add_argument_group("model and parameters")
    model.add_argument("--weights", type=Path, metavar="FILE", help="wins over model.weights")
    model.add_argument("--device", metavar="NAME", help="wins over model.device")
    model.add_argument(
        "--params-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="ROS parameter file, as the node takes it; may come several times",
    )
    model.add_argument(
        "-p",
        "--param",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="one parameter of the node; wins over files",
    )
    results = parser.add_argument_group("results")
    results.add_argument(
        "--result-bag", action="store_true", help="also record every output topic, below results/"
    )
    results.add_argument(
        "--overlays", action="store_true", help="also save a picture of every frame, in overlays/"
    )
    results.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="YAML of limits on figures of report.json, such as `ap50: {min: 0.6}`",
    )
    running = parser.add_argument_group("running")
    running.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="recordings at once (default: 1)"
    )
    running.add_argument(
        "--threads",
        type=_count,
        default=1,
        metavar="N",
        help="of torch in each worker; the same number gives the same bytes (default: 1)",
    )
    running.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="run the workers on a Ray cluster; without an address on one started here",
    )
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"'{text}' is no count; give a whole number from 1")
    return int(text)


def _assignment(text: str) -> tuple[str, Value]:
    try:
        return parse_assignment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _values(arguments: argparse.Namespace) -> Values:
    changes: dict[str, Value] = dict(arguments.param)
    if arguments.weights is not None:
        changes["model.weights"] = str(arguments.weights)
    if arguments.device is not None:
        changes["model.device"] = arguments.device
    values = node_values(arguments.params_file, changes)
    if values["sync.mode"] == "approximate":
        raise ConfigError(
            "sync.mode is approximate, which message_filters decides while messages arrive; choose "
            "nearest, exact or latest to evaluate recordings"
        )
    if values["geometry.box_up_axis"] == "gravity":
        raise ConfigError(
            "geometry.box_up_axis is gravity, which needs the robot's transforms; choose none or "
            "camera to evaluate recordings"
        )
    return values


def _jobs(arguments: argparse.Namespace, values: Values) -> list[Job]:
    for bag in arguments.bags:
        if not bag.exists():
            raise FileNotFoundError(f"{bag}: there is no such file or folder; check the path")
    if arguments.output.exists():
        raise FileExistsError(f"{arguments.output} exists already; choose another name")
    if arguments.truth is not None and len(arguments.bags) > 1:
        raise ConfigError("--truth labels one recording; give just that one")
    topics = Topics(
        camera=arguments.camera,
        color=arguments.color_topic,
        depth=arguments.depth_topic,
        info=arguments.info_topic,
    )
    return [
        Job(
            bag=bag.resolve(),
            output=output,
            values=dict(values),
            topics=topics,
            truth=arguments.truth,
            with_result_bag=arguments.result_bag,
            with_overlays=arguments.overlays,
        )
        for bag, output in zip(arguments.bags, _outputs(arguments), strict=True)
    ]


def _outputs(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder itself for one recording, else one below it for each, by name."""
    output = arguments.output.resolve()
    if len(arguments.bags) == 1:
        yield output
        return
    taken: set[str] = set()
    for bag in arguments.bags:
        stem, number = bag.resolve().stem, 1
        name = stem
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        yield output / name


def _limits(arguments: argparse.Namespace) -> tuple[Limit, ...]:
    if arguments.thresholds is None:
        return ()
    limits = read_limits(read_yaml(arguments.thresholds), str(arguments.thresholds))
    judge(limits, blank_document())  # a name that does not exist is said before the work begins
    return limits


def _run(
    arguments: argparse.Namespace,
    jobs: Sequence[Job],
    make_predictor: MakePredictor,
    console: Console,
) -> Iterator[Outcome]:
    counts = {"workers": arguments.workers, "threads": arguments.threads}
    if arguments.ray is not None:
        outcomes = run_on_ray(jobs, make_predictor, address=arguments.ray or None, **counts)
    else:
        outcomes = run_jobs(jobs, make_predictor, **counts)
    for outcome in outcomes:
        state = f"not as it should be: {outcome.error}" if outcome.error else "evaluated"
        console.print(f"{outcome.name}: {state}", markup=False)
        yield outcome


def _conclude(
    arguments: argparse.Namespace,
    outcomes: Sequence[Outcome],
    limits: tuple[Limit, ...],
    errors: Console,
) -> int:
    if len(outcomes) > 1:
        arguments.output.mkdir(parents=True, exist_ok=True)  # where nothing could be evaluated
        write_summary(arguments.output, outcomes)
    console = Console(highlight=False)
    print_outcomes(console, outcomes)
    all_pass = not limits or print_verdicts(console, outcomes, limits)
    report = "report.html" if len(outcomes) == 1 else "summary.md"
    if (arguments.output / report).exists():
        console.print(f"report in {arguments.output / report}", markup=False, soft_wrap=True)
    return 0 if all_pass and not any(outcome.error for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
