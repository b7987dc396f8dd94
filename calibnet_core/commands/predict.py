"""`calibnet predict`: segment images, folders and recordings, and write what was found."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibnet_core.config import MODELS, InferenceConfig, PipelineConfig, load_config

if TYPE_CHECKING:
    from rich.console import Console

    from calibnet_core.data.results import ResultFolder
    from calibnet_core.data.sources import FrameSource
    from calibnet_core.pipeline import Pipeline
    from calibnet_core.structures import RgbdFrame

SUMMARY = "Find the salient objects in RGB-D images and recordings."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a colour image, a folder with rgb and depth folders or a COCO file, or a rosbag2",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where results go"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="left out: those of this package, or for another --model random ones",
    )
    model.add_argument(
        "--model",
        choices=sorted(MODELS),
        metavar="NAME",
        help=f"left out: as the weights file says. One of {', '.join(sorted(MODELS))}",
    )
    model.add_argument("--config", type=Path, metavar="FILE", help="pipeline settings in YAML")
    model.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    depth = parser.add_argument_group("depth")
    depth.add_argument("--depth", type=Path, metavar="FILE", help="depth of a single colour image")
    depth.add_argument(
        "--depth-scale",
        type=float,
        default=0.001,
        metavar="M",
        help="metres in one step of 16-bit depth images (default: 0.001)",
    )
    topics = parser.add_argument_group("topics of recordings, found when left out")
    for kind in ("color", "depth", "info"):
        topics.add_argument(f"--{kind}-topic", metavar="TOPIC")
    choice = parser.add_argument_group("instances")
    choice.add_argument("--score-threshold", type=float, metavar="X", help="keep scores above X")
    choice.add_argument("--max-instances", type=int, metavar="N", help="keep the best N")
    choice.add_argument(
        "--published",
        action="store_true",
        help="the setting of the published evaluation: keep nearly every candidate",
    )


def run(args: argparse.Namespace) -> int:
    """Predict every frame; report and skip those that fail."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from calibnet_core.data.results import ResultFolder
    from calibnet_core.data.sources import ImagePair, find_frames
    from calibnet_core.structures import FrameError

    config = load_config(args.config) if args.config is not None else None
    inference = _inference(args, config or PipelineConfig())
    topics = {f"{kind}_topic": vars(args)[f"{kind}_topic"] for kind in ("color", "depth", "info")}
    sources = find_frames(
        args.inputs, depth=args.depth, depth_scale_m=args.depth_scale, topics=topics
    )
    # These load torch, which takes seconds: what is wrong with the inputs has been said by now.
    from calibnet_core.pipeline import Pipeline
    from calibnet_core.structures import NonFiniteOutputError

    pipeline = Pipeline.from_weights(
        args.weights, model=args.model, device=args.device, config=args.config, inference=inference
    )
    known_ids = [source.image_id for source in sources if isinstance(source, ImagePair)]
    results = ResultFolder(args.output, reserved_ids=[i for i in known_ids if i is not None])

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    _announce(pipeline, console)
    log = _Log(console)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # A progress bar in a file or a pipe is a mess.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predict", total=sum(source.num_frames for source in sources))
        for frame, identity in _read(sources, log):
            started = time.perf_counter()
            try:
                instances = pipeline.predict(frame)
            except (FrameError, NonFiniteOutputError) as error:
                log.fail(f"{frame.name}: {error}")
            else:
                log.seconds += time.perf_counter() - started
                results.add(frame, instances, **identity)
            progress.advance(task)
    results.finish()
    _summarise(results, log)
    return 1 if log.num_failed else 0


@dataclass
class _Log:
    """What happened besides results."""

    console: Console
    num_failed: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, message: str) -> None:
        self.num_failed += 1
        self.console.print(f"failed: {message}", style="red", markup=False)


def _inference(args: argparse.Namespace, config: PipelineConfig) -> InferenceConfig:
    inference = InferenceConfig.published() if args.published else config.inference
    chosen = {
        name: getattr(args, name)
        for name in ("score_threshold", "max_instances")
        if getattr(args, name) is not None
    }
    return dataclasses.replace(inference, **chosen)


def _announce(pipeline: Pipeline, console: Console) -> None:
    info = pipeline.model_info
    console.print(f"model {info.model_id} on {info.device}", markup=False)
    if info.has_random_weights:
        warning = "the weights are random, so the masks mean nothing; give --weights PATH"
        console.print(f"warning: {warning}", style="bold yellow", markup=False)


def _read(sources: Sequence[FrameSource], log: _Log) -> Iterator[tuple[RgbdFrame, dict[str, Any]]]:
    """Yield every frame that can be read, and how its image is numbered and called."""
    from calibnet_core.data.bags import BagError, BagReport
    from calibnet_core.data.sources import BagFrames
    from calibnet_core.structures import FrameError

    for source in sources:
        if isinstance(source, BagFrames):
            report = BagReport()
            try:
                for frame in source.frames(report):
                    yield frame, {}
            except BagError as error:
                log.fail(str(error))
            _tell(source.name, report, log)
        else:
            try:
                frame = source.load()
            except FrameError as error:
                log.fail(str(error))
            else:
                yield frame, {"image_id": source.image_id, "file_name": source.file_name}


def _tell(name: str, report: Any, log: _Log) -> None:
    for image in report.rejected:
        log.fail(f"{name}: {image.topic} at {image.stamp_ns / 1e9:.9f} s: {image.reason}")
    for kind, counts in (("colour", report.unpaired_color), ("depth", report.unpaired_depth)):
        for reason, count in counts.items():
            log.notes.append(f"{name}: {count} {kind} images not used ({reason})")
    if report.num_backward_jumps:
        log.notes.append(f"{name}: time jumped back {report.num_backward_jumps} times")


def _summarise(results: ResultFolder, log: _Log) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("frames", "instances", "failed", "ms per frame", "results in")
    pace = f"{1000 * log.seconds / results.num_frames:.0f}" if results.num_frames else "-"
    counts = (results.num_frames, results.num_instances, log.num_failed)
    table.add_row(*(str(count) for count in counts), pace, str(results.path))
    # The table goes to standard output, so that it can be kept apart from progress and errors.
    console = Console(highlight=False)
    console.print(table)
    for note in log.notes:
        console.print(note, markup=False, soft_wrap=True)
