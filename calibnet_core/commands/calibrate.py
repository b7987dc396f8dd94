"""`calibnet calibrate`: make a model's scores say how often it is right, from a labelled set."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibnet_core.commands._arguments import add_data_arguments
from calibnet_core.config import ConfigError, InferenceConfig, load_config

if TYPE_CHECKING:
    from rich.console import Console

    from calibnet_core.data.datasets import RgbdDataset
    from calibnet_core.pipeline import Pipeline
    from calibnet_core.score_calibration import ScoreMap

SUMMARY = "Calibrate a model's scores on a labelled set that it was not trained on."

Outcomes = list[tuple[NDArray[np.float64], NDArray[np.bool_]]]
"""For each image the raw scores of its instances, and which of them are right."""

_LEAST_SCORE = 0.005
_NUM_PARTS = 5
"""For the error on images left out of the fit: one part is left out at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "A model is surer of images that it was trained on: use others, from the cameras and "
        "scenes that it will see. Order, and with it average precision, stays as it is."
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE.safetensors", help="of the model"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE.safetensors",
        help="the file to write: the same weights and the calibration",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="pipeline settings in YAML; left out: as the weights file says, and masks that "
        "overlap with a better one by more than 0.5 dropped, as the node does",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--workers", type=_count, default=2, metavar="N", help="that read images (default: 2)"
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="only the first N images")


def run(args: argparse.Namespace) -> int:
    """Predict, match to the labels, fit, and write; report images that fail."""
    from rich.console import Console

    from calibnet_core.data.datasets import open_dataset

    # What would fail after hours fails now.
    for path in (args.weights, args.output):
        if path.suffix != ".safetensors":
            raise ConfigError(f"{path}: must end in .safetensors; see `calibnet convert-weights`")
    if not args.output.absolute().parent.is_dir():
        raise ConfigError(f"{args.output}: its folder does not exist; create it first")
    config = load_config(args.config) if args.config is not None else None
    inference = config.inference if config is not None else InferenceConfig(nms_iou=0.5)
    # All but the least scores count. Looking at raw scores, this holds for calibrated weights too.
    inference = dataclasses.replace(
        inference, score_threshold=_LEAST_SCORE, rescore_before_threshold=False
    )
    dataset = open_dataset(args.data, root=args.root)
    # This loads torch, which takes seconds: what is wrong with the data has been said by now.
    from calibnet_core.checkpoint import save_calibrated, sha256_of
    from calibnet_core.pipeline import Pipeline

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    pipeline = Pipeline.from_weights(
        args.weights, device=args.device, config=args.config, inference=inference
    )
    info = pipeline.model_info
    console.print(f"model {info.model_id} on {info.device_label}", markup=False)
    outcomes, num_failed = _outcomes(args, dataset, pipeline, console)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    score_map = _fitted(outcomes, dataset.name, today)
    _summarise(outcomes, score_map)
    save_calibrated(args.weights, args.output, score_map)
    print(f"{args.output}: calibrated on {dataset.name}, sha256 {sha256_of(args.output)}")
    return 1 if num_failed else 0


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is no count; give a whole number from 0")
    return int(text)


def _outcomes(
    args: argparse.Namespace, dataset: RgbdDataset, pipeline: Pipeline, console: Console
) -> tuple[Outcomes, int]:
    """Match what the model finds to the labels; returns also how many images failed."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from calibnet_core.evaluation.coco_masks import encode_masks
    from calibnet_core.evaluation.image_outcomes import match_image
    from calibnet_core.evaluation.loading import Failure, load_samples
    from calibnet_core.structures import FrameError, NonFiniteOutputError

    found: Outcomes = []
    num_failed = 0
    count = len(dataset) if args.limit is None else min(args.limit, len(dataset))
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # A progress bar in a file or a pipe is a mess.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("calibrate", total=count)
        for sample in load_samples(dataset, num_workers=args.workers, limit=args.limit):
            progress.advance(task)
            if isinstance(sample, Failure):
                num_failed += 1
                console.print(f"failed: {sample.reason}", style="red", markup=False)
                continue
            try:
                instances = pipeline.predict(sample.frame)
            except (FrameError, NonFiniteOutputError) as error:
                num_failed += 1
                console.print(f"failed: {sample.file_name}: {error}", style="red", markup=False)
                continue
            outcome = match_image(
                sample.image_id,
                objects=encode_masks(sample.masks),
                is_crowd=sample.is_crowd.tolist(),
                detections=encode_masks(instances.masks),
                scores=instances.raw_scores,
            )
            is_matched, is_ignored = outcome.unpacked()[:, 0, 0]  # any area, overlap 0.5
            found.append((outcome.scores[~is_ignored], is_matched[~is_ignored]))
    return found, num_failed


def _fitted(outcomes: Outcomes, dataset: str, date: str) -> ScoreMap:
    from calibnet_core.score_calibration import fit_score_map

    return fit_score_map(*_joined(outcomes), dataset=dataset, date=date)


def _joined(outcomes: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores = [np.zeros(0), *(scores for scores, _ in outcomes)]
    is_right = [np.zeros(0, np.bool_), *(is_right for _, is_right in outcomes)]
    return np.concatenate(scores), np.concatenate(is_right)


def _error_left_out(outcomes: Outcomes, score_map: ScoreMap) -> float:
    """Calibration error in per cent when each image is left out of the fit that it is tried on.

    NaN if the rest would be too small to fit.
    """
    from calibnet_core.evaluation.calibration import ScoreCalibration

    table = ScoreCalibration()
    # Neighbours in a set often show one scene: they are left out together.
    bounds = [len(outcomes) * part // _NUM_PARTS for part in range(_NUM_PARTS + 1)]
    for start, stop in itertools.pairwise(bounds):
        try:
            fitted = _fitted(
                [*outcomes[:start], *outcomes[stop:]], score_map.dataset, score_map.date
            )
        except ConfigError:
            return float("nan")
        scores, is_right = _joined(outcomes[start:stop])
        table.update(fitted(scores), is_right)
    return table.compute().expected_error


def _summarise(outcomes: Outcomes, score_map: ScoreMap) -> None:
    from rich.console import Console
    from rich.table import Table

    from calibnet_core.evaluation.calibration import ScoreCalibration

    scores, is_right = _joined(outcomes)
    before, after = ScoreCalibration(), ScoreCalibration()
    before.update(scores, is_right)
    after.update(score_map(scores), is_right)
    errors = (
        before.compute().expected_error,
        after.compute().expected_error,
        _error_left_out(outcomes, score_map),
    )
    table = Table("calibration error (ECE)", "%")
    for name, error in zip(("before", "after", "after, on images left out"), errors, strict=True):
        table.add_row(name, "-" if np.isnan(error) else f"{error:.1f}")
    # The tables go to standard output, so that they can be kept apart from progress and errors.
    console = Console(highlight=False)
    console.print(f"{len(scores)} instances, {int(is_right.sum())} right, {len(outcomes)} images")
    console.print(table)
    examples = np.arange(0.1, 1.0, 0.2)
    meaning = Table("score of the network", *(f"{score:.1f}" for score in examples))
    meaning.add_row("probability of being right", *(f"{p:.2f}" for p in score_map(examples)))
    console.print(meaning)
    if not errors[2] < errors[0]:
        console.print("note: this set is too small to show that calibration helps", style="yellow")
