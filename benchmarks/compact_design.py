"""Why `calibnet_compact` is as it is: each choice undone, at the fixed small budget.

    python benchmarks/compact_design.py OUTPUT [--mobilenet FILE] [--record]

Trains the model and its variants as `train_compact.py --small` does: same scenes, same order, same
seed. Beside average precision on the validation scenes stand parameters, multiply-adds and latency.
The model is trained a second time from another seed: differences below that between the two say
nothing. Interrupted, the same command goes on. With `--record` the figures go to
docs/performance/compact_design.json, and docs/ablations.md gets its table of them anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.compact_model import latencies
from benchmarks.measure import provenance, write_record
from benchmarks.tables import with_tables
from benchmarks.train_compact import MOBILENET, fit_part, last_figure, prepare, small_config
from calibnet_core.ablation.cost import measure_cost
from calibnet_core.config import MODELS, ModelConfig
from calibnet_core.files import atomic_write
from calibnet_core.shipped_weights import SHIPPED_MODEL

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECORD, NOTES = DOCS / "performance" / "compact_design.json", DOCS / "ablations.md"
SIZE = (256, 320)
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "a backbone for each modality": {"shares_backbone": False},
    "96 channels at 1/4, too": {"mask_width": 96},
    "64 channels": {"width": 64},
    "depth without a transformer": {"num_depth_transformer_layers": 0},
}
TITLE = "500 iterations of 8 pictures, 1000 scenes; latency at 320x240, 2 threads"
SECOND_SEED = "as it is, another seed"


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--mobilenet", type=Path, default=MOBILENET, metavar="FILE")
    parser.add_argument("--record", action="store_true", help="write to docs/performance")
    arguments = parser.parse_args()
    prepare(arguments.output, arguments.mobilenet, is_small=True)
    figures = {}
    for index, (name, changes) in enumerate(VARIANTS.items()):
        folder = arguments.output / f"variant_{index}"
        run = fit_part(small_config(arguments.output, model=changes), folder, "cpu")
        figures[name] = {"AP": round(last_figure(run), 2), **asdict(cost_of(changes))}
    again = small_config(arguments.output, run={"seed": 101})
    run = fit_part(again, arguments.output / "another_seed", "cpu")
    figures[SECOND_SEED] = {**figures["as it is"], "AP": round(last_figure(run), 2)}
    models = {name: model_of(changes) for name, changes in VARIANTS.items()}
    speeds = latencies(models, SIZE, baseline=next(iter(VARIANTS)), rounds=9)
    for name in VARIANTS:
        figures[name]["median_ms"] = round(speeds[name].median_ms, 1)
    head, *rows = rows_of(figures)
    table = Table(*head, title=TITLE)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if arguments.record:
        record = {**provenance("torch", "torchvision"), "variants": figures}
        write_record(RECORD, record)
        with atomic_write(NOTES, "w") as file:
            file.write(with_record(NOTES.read_text(), record))


def with_record(notes: str, record: Mapping[str, Any]) -> str:
    """The design notes with the table of a record."""
    return with_tables(notes, {"compact design": rows_of(record["variants"])})


def model_of(changes: dict[str, Any]) -> ModelConfig:
    """The model with some settings changed."""
    return dataclasses.replace(MODELS[SHIPPED_MODEL], **changes)


def cost_of(changes: dict[str, Any]) -> Any:
    """Parameters and multiply-adds of a variant."""
    return measure_cost(model_of(changes), SIZE)


def rows_of(figures: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """One row a variant, after their head."""
    rows = [["variant", "AP", "parameters, M", "multiply-adds, G", "ms"]]
    for name, row in figures.items():
        millions, billions = row["parameters"] / 1e6, row["multiply_adds"] / 1e9
        speed = f"{row['median_ms']:.1f}" if "median_ms" in row else ""
        rows.append([name, f"{row['AP']:.1f}", f"{millions:.2f}", f"{billions:.2f}", speed])
    return rows


if __name__ == "__main__":
    main()
