"""`calibnet evaluate`: figures of predictions on a labelled data set, and a report to look at."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from calibnet_core.commands._arguments import add_data_arguments
from calibnet_core.config import (
    MODELS,
    ConfigError,
    InferenceConfig,
    PipelineConfig,
    load_config,
)
from calibnet_core.shipped_weights import default_weights

if TYPE_CHECKING:
    from rich.console import Console

    from calibnet_core.data.datasets import RgbdDataset
    from calibnet_core.evaluation import Evaluation, StoredResults
    from calibnet_core.evaluation.evaluator import EvaluationSettings, Predictor
    from calibnet_core.evaluation.report import Provenance

SUMMARY = "Measure how good predicted instances are, and write a report."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "Average precision needs nearly every candidate, so a model runs with the setting of the "
        "published evaluation unless --config says otherwise."
    )
    add_data_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report"),
        metavar="DIR",
        help="folder for metrics.json, report.md and report.html; must not exist yet (default: "
        "report)",
    )
    predictions = parser.add_argument_group("predictions, at most one of the two")
    choice = predictions.add_mutually_exclusive_group()
    choice.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of the model that predicts; left out: those of this package",
    )
    choice.add_argument(
        "--results", type=Path, metavar="FILE", help="COCO results, as `calibnet predict` writes"
    )
    model = parser.add_argument_group("model")
    kind = model.add_mutually_exclusive_group()
    kind.add_argument(
        "--model",
        choices=sorted(MODELS),
        metavar="NAME",
        help=f"left out: as the weights file says. One of {', '.join(sorted(MODELS))}",
    )
    kind.add_argument(
        "--config", type=Path, metavar="FILE", help="pipeline settings in YAML, all of them used"
    )
    model.add_argument(
        "--published",
        action="store_true",
        help="with --config: instances by the published setting, which keeps nearly every "
        "candidate; without --config it is always used",
    )
    model.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    figures = parser.add_argument_group("figures")
    figures.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        metavar="X",
        help="overlap and boundary figures and pictures use instances above X (default: 0.5)",
    )
    figures.add_argument(
        "--boundary-tolerance",
        type=float,
        default=0.003,
        metavar="X",
        help="boundaries agree within X of the image diagonal (default: 0.003)",
    )
    figures.add_argument(
        "--bins", type=int, default=10, metavar="N", help="of the reliability table (default: 10)"
    )
    figures.add_argument(
        "--gallery",
        type=int,
        default=8,
        metavar="K",
        help="pictures of the K worst and K best images (default: 8)",
    )
    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--workers", type=_count, default=2, metavar="N", help="that read images (default: 2)"
    )
    reading.add_argument("--limit", type=_count, metavar="N", help="only the first N images")


def run(args: argparse.Namespace) -> int:
    """Evaluate every image; report those that fail."""
    from rich.console import Console

    from calibnet_core.data.datasets import open_dataset
    from calibnet_core.evaluation import EvaluationSettings
    from calibnet_core.evaluation.report import write_report

    # What would fail after hours fails now.
    if args.output.exists():
        raise FileExistsError(f"{args.output} exists already; choose another name or remove it")
    settings = EvaluationSettings(
        score_threshold=args.score_threshold,
        boundary_tolerance=args.boundary_tolerance,
        num_bins=args.bins,
        gallery_size=args.gallery,
    )
    config = load_config(args.config) if args.config is not None else None
    dataset = open_dataset(args.data, root=args.root)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    predictor, provenance = _predictor(args, config, dataset, console)
    evaluation = _evaluate(args, dataset, predictor, settings, console)
    write_report(args.output, evaluation, settings, provenance)
    _summarise(evaluation, args.output)
    return 1 if evaluation.failures else 0


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is no count; give a whole number from 0")
    return int(text)


def _predictor(
    args: argparse.Namespace, config: PipelineConfig | None, dataset: RgbdDataset, console: Console
) -> tuple[Predictor | StoredResults, Provenance]:
    from calibnet_core.evaluation.report import Provenance

    if args.results is not None:
        from calibnet_core.evaluation import StoredResults

        stored = StoredResults.read(args.results, image_ids=dataset.image_ids)
        digest = hashlib.sha256(args.results.read_bytes()).hexdigest()
        name = Path(args.results).name
        return stored, Provenance(dataset=dataset.name, predictions=name, sha256=digest)

    if args.weights is None and default_weights(args.model) is None:
        raise ConfigError(
            f"no weights of {args.model} come with this package, and random ones are not worth "
            "evaluating; give --weights FILE"
        )
    # This loads torch, which takes seconds: what is wrong with the data has been said by now.
    from calibnet_core.pipeline import Pipeline

    inference = InferenceConfig.published()
    if config is not None and not args.published:
        inference = config.inference
    pipeline = Pipeline.from_weights(
        args.weights, model=args.model, device=args.device, config=args.config, inference=inference
    )
    info = pipeline.model_info
    console.print(f"model {info.model_id} on {info.device}", markup=False)
    least = inference.score_threshold
    if least > InferenceConfig.published().score_threshold:
        note = f"candidates scoring up to {least:g} are dropped, which lowers AP; see --published"
        console.print(f"note: {note}", style="yellow", markup=False)
    provenance = Provenance(
        dataset=dataset.name,
        predictions=info.model_id,
        sha256=info.weights_sha256,
        inference=dataclasses.asdict(inference),
    )
    return pipeline.predict, provenance


def _evaluate(
    args: argparse.Namespace,
    dataset: RgbdDataset,
    predictor: Predictor | StoredResults,
    settings: EvaluationSettings,
    console: Console,
) -> Evaluation:
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from calibnet_core.evaluation import evaluate_dataset
    from calibnet_core.evaluation.loading import Failure

    count = len(dataset) if args.limit is None else min(args.limit, len(dataset))
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # A progress bar in a file or a pipe is a mess.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("evaluate", total=count)

        def tell(failure: Failure | None) -> None:
            if failure is not None:
                console.print(f"failed: {failure.reason}", style="red", markup=False)
            progress.advance(task)

        return evaluate_dataset(
            dataset,
            predictor,
            settings=settings,
            num_workers=args.workers,
            limit=args.limit,
            on_image=tell,
        )


def _summarise(evaluation: Evaluation, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from calibnet_core.evaluation.report.tables import headline

    table = Table("figure", "%", "")
    for row in headline(evaluation):
        table.add_row(*row)
    # The table goes to standard output, so that it can be kept apart from progress and errors.
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(evaluation.rows)} images evaluated, {len(evaluation.failures)} failed")
    console.print(f"report in {output / 'report.html'}", markup=False, soft_wrap=True)
