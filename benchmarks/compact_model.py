"""What the weights of this package find, and how fast: the figures of their model card.

    python benchmarks/compact_model.py [--real FOLDER] [--held-out FOLDER] [--weights FILE]
                                       [--record]

Real images come from the set that lies beside the repository; held-out scenes are rendered where no
folder of them is given. Every candidate counts for average precision and calibration; overlap,
boundaries and their means are those of instances above a score of 0.5. With `--record` the figures
go to docs/performance/compact_model.json, and the model card gets its tables anew.

In the frames of YCB-Video few things are labelled, and other things lie there as well; a second
column leaves out what is found with less than a twentieth of its pixels on any label.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import Summary, alternate, provenance, repeat, summarise, write_record
from benchmarks.tables import with_tables
from calibnet_core.config import InferenceConfig, ModelConfig
from calibnet_core.data.datasets import RgbdDataset, open_dataset
from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, evaluate_dataset
from calibnet_core.files import atomic_write
from calibnet_core.models.build import build_model
from calibnet_core.models.inference_form import inference_form
from calibnet_core.pipeline import Pipeline
from calibnet_core.shipped_weights import SHIPPED_MODEL
from calibnet_core.structures import Instances, RgbdFrame

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data" / "rgbd_instances"
RECORD = ROOT / "docs" / "performance" / "compact_model.json"
CARD = ROOT / "calibnet_core" / "weights" / "README.md"
HELD_OUT_SCENES, HELD_OUT_SEED = 500, 2
SOURCES = {"OSD": "osd_", "YCB-Video": "ycbv_"}
"""Parts of the real set by how the names of their files begin."""
PARTLY_LABELLED = "YCB-Video"
_LEAST_SHARE = 0.05
Predict = Callable[[RgbdFrame], Instances]
REFERENCE = "calibnet_r50"
INPUTS = {"320x240": (256, 320), "427x320": (320, 448)}
"""Images by their size, with (height, width) once padded to multiples of 32."""
ROWS = (
    ("AP", lambda e: e.mask_ap["AP"]),
    ("AP50", lambda e: e.mask_ap["AP50"]),
    ("AP75", lambda e: e.mask_ap["AP75"]),
    ("overlap P", lambda e: e.overlap.per_image.overlap_precision),
    ("overlap R", lambda e: e.overlap.per_image.overlap_recall),
    ("overlap F", lambda e: e.overlap.per_image.overlap_f),
    ("boundary P", lambda e: e.overlap.per_image.boundary_precision),
    ("boundary R", lambda e: e.overlap.per_image.boundary_recall),
    ("boundary F", lambda e: e.overlap.per_image.boundary_f),
    ("found above 75 %", lambda e: e.overlap.per_image.found_above_75),
    ("calibration error", lambda e: e.calibration.expected_error),
)
AS_IN_THE_NODE = InferenceConfig(
    score_threshold=0.005, nms_iou=0.5, min_area=0, rescore_before_threshold=False
)
"""Masks are cut and chosen as in the node; but every candidate counts, which AP asks for."""
FIGURE_NAMES = ("images", "objects", *(name for name, _ in ROWS))


def main() -> None:
    """Evaluate and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, default=REAL, metavar="FOLDER")
    parser.add_argument("--held-out", type=Path, metavar="FOLDER", help="rendered scenes")
    parser.add_argument("--weights", type=Path, help="others than those of this package")
    parser.add_argument("--rounds", type=int, default=9, help="alternating measurements")
    parser.add_argument("--record", action="store_true", help="write to docs/performance")
    arguments = parser.parse_args()
    pipeline = Pipeline.from_weights(arguments.weights, inference=AS_IN_THE_NODE)
    console = Console()
    with tempfile.TemporaryDirectory() as workshop:
        sets = real_sets(arguments.real)
        sets["rendered, held out"] = held_out(arguments.held_out, Path(workshop))
        figures = {}
        for name, dataset in sets.items():
            with console.status(f"evaluating {len(dataset)} images of {name}"):
                figures[name] = figures_of(evaluate(pipeline.predict, dataset), dataset)
                if name == PARTLY_LABELLED:
                    judged = on_labels(pipeline.predict, dataset)
                    figures[f"{name}, on labels"] = figures_of(evaluate(judged, dataset), dataset)
    compared = {name: name for name in (REFERENCE, SHIPPED_MODEL)}
    speeds = {
        name: latencies(compared, size, baseline=REFERENCE, rounds=arguments.rounds)
        for name, size in INPUTS.items()
    }
    console.print(accuracy_table(figures))
    console.print(speed_table(speeds))
    if arguments.record:
        record = {
            **provenance("torch", "torchvision", "opencv-python-headless"),
            "weights_sha256": pipeline.model_info.weights_sha256,
            "figures": figures,
            "speed": {
                name: {each: asdict(summary) for each, summary in summaries.items()}
                for name, summaries in speeds.items()
            },
        }
        write_record(RECORD, record)
        with atomic_write(CARD, "w") as file:
            file.write(with_record(CARD.read_text(), record))


def with_record(card: str, record: Mapping[str, Any]) -> str:
    """The model card with the tables of a record between their marks."""
    figures = record["figures"]
    rows = [["", *figures]]
    rows += [[row, *(text_of(cells[row]) for cells in figures.values())] for row in FIGURE_NAMES]
    speeds = [["input", "ms", "a second", "calibnet_r50, ms", "times as fast"]]
    for size, summaries in record["speed"].items():
        ours, theirs = summaries[SHIPPED_MODEL], summaries[REFERENCE]
        spread = f"{ours['ratio_lowest']:.1f} to {ours['ratio_highest']:.1f}"
        speeds.append(
            [
                size,
                f"{ours['median_ms']:.0f}",
                f"{1e3 / ours['median_ms']:.1f}",
                f"{theirs['median_ms']:.0f}",
                f"{ours['ratio']:.1f} ({spread})",
            ]
        )
    return with_tables(card, {"figures": rows, "speed": speeds})


def text_of(cell: float) -> str:
    """A count as it is, a figure with one digit."""
    return f"{cell:d}" if isinstance(cell, int) else f"{cell:.1f}"


def real_sets(folder: Path) -> dict[str, RgbdDataset]:
    """The sources of the real set, each by itself; none where the folder is absent."""
    if not folder.exists():
        return {}
    whole = open_dataset(folder)
    return {
        name: whole.where(lambda record, begin=begin: record.scene.startswith(begin), name=name)
        for name, begin in SOURCES.items()
    }


def held_out(folder: Path | None, workshop: Path) -> RgbdDataset:
    """The held-out scenes, rendered unless a folder has them."""
    if folder is None:
        from calibnet_core.data.scenes.rendered_set import render_set

        folder = workshop / "held_out"
        render_set(folder, HELD_OUT_SCENES, seed=HELD_OUT_SEED, workers=2)
    return open_dataset(folder)


def on_labels(predict: Predict, dataset: RgbdDataset) -> Predict:
    """What is found where labels are, for a set of which not everything is labelled."""
    samples = (dataset.load(index) for index in range(len(dataset)))
    labelled = {sample.frame.name: np.any(sample.masks, axis=0) for sample in samples}

    def predict_there(frame: RgbdFrame) -> Instances:
        found, there = predict(frame), labelled[frame.name]
        met = [mask[there].sum() >= _LEAST_SHARE * mask.sum() for mask in found.masks]
        return Instances.from_masks(found.masks[met], found.scores[met])

    return predict_there


def evaluate(predict: Predict, dataset: RgbdDataset) -> Evaluation:
    """Judge predictions on a set as `calibnet evaluate` does."""
    evaluation = evaluate_dataset(
        dataset, predict, settings=EvaluationSettings(gallery_size=0), num_workers=1
    )
    if evaluation.failures:
        raise SystemExit(evaluation.failures[0].reason)
    return evaluation


def figures_of(evaluation: Evaluation, dataset: RgbdDataset) -> dict[str, float]:
    """What the card says of a set."""
    counts = {"images": len(dataset), "objects": evaluation.overlap.num_objects}
    return {**counts, **{name: round(float(figure(evaluation)), 2) for name, figure in ROWS}}


def latencies(
    models: Mapping[str, str | ModelConfig], size: tuple[int, int], *, baseline: str, rounds: int
) -> dict[str, Summary]:
    """Networks alone, in turn, two threads, wall time.

    Args:
        models: what to build, by a name for it.
        size: (height, width) of the input.
        baseline: name of the one that the others are compared with.
        rounds: alternating measurements.
    """
    torch.set_num_threads(2)
    images = [
        image.contiguous(memory_format=torch.channels_last)
        for image in torch.randn(2, 1, 3, *size, generator=torch.Generator().manual_seed(0))
    ]
    with torch.inference_mode():
        runs = {}
        for name, model in models.items():
            network = inference_form(build_model(model, seed=0))
            network(*images)  # warm
            runs[name] = repeat(partial(network, *images), shortest_s=0.5)
        seconds = alternate(runs, repeated=[baseline], rounds=rounds)
    return summarise(seconds["wall"], baseline)


def accuracy_table(figures: Mapping[str, Mapping[str, float]]) -> Table:
    """One column a set."""
    table = Table(title="per cent, class-agnostic; overlap and boundaries at a score above 0.5")
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for row in FIGURE_NAMES:
        table.add_row(row, *(text_of(figures[name][row]) for name in figures))
    return table


def speed_table(speeds: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a size and network."""
    table = Table(title="network alone, fp32, 2 threads, wall time")
    for column in ("input", "network", "median ms", "a second", "times R50", "lowest", "highest"):
        table.add_column(column, justify="left" if column in ("input", "network") else "right")
    for size, summaries in speeds.items():
        for name, summary in summaries.items():
            ratios = (summary.ratio, summary.ratio_lowest, summary.ratio_highest)
            table.add_row(
                size,
                name,
                f"{summary.median_ms:.1f}",
                f"{1e3 / summary.median_ms:.1f}",
                *(f"{ratio:.1f}" for ratio in ratios),
            )
    return table


if __name__ == "__main__":
    main()
