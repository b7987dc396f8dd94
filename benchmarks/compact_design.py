"""Why `calibnet_compact` is as it is: each choice undone, at the fixed small budget.

    python benchmarks/compact_design.py OUTPUT [--mobilenet FILE] [--record]

Trains the model and its variants as `train_compact.py --small` does: same scenes, same order, same
seed. Beside average precision on the validation scenes stand parameters, multiply-adds and latency.
The model is trained a second time from another seed: differences below that between the two say
nothing. Interrupted, the same command goes on. With `--record` the figures go to
docs/performance/compact_design.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.compact_model import latencies
from benchmarks.measure import provenance, write_record
from benchmarks.train_compact import MOBILENET, fit_part, last_figure, prepare, small_config
from calibnet_core.ablation.cost import measure_cost
from calibnet_core.config import MODELS, ModelConfig
from calibnet_core.shipped_weights import SHIPPED_MODEL

RECORD = Path(__file__).resolve().parents[1] / "docs" / "performance" / "compact_design.json"
SIZE = (256, 320)
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "depth as published": {"depth_picture": "closeness"},
    "a backbone for each modality": {"shares_backbone": False},
    "96 channels at 1/4, too": {"mask_width": 96},
    "kernels without places": {"kernel_places": False},
    "kernels from joined features": {"kernel_fusion": "early"},
    "64 channels": {"width": 64},
    "depth without a transformer": {"num_depth_transformer_layers": 0},
    "plain sums in place of weight sharing": {"mask_fusion": "plain"},
    "colour alone": {
        "modalities": "rgb",
        "shares_backbone": False,
        "kernel_fusion": "plain",
        "mask_fusion": "plain",
        "depth_similarity": "none",
    },
}
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
    show(figures)
    if arguments.record:
        write_record(RECORD, {**provenance("torch", "torchvision"), "variants": figures})


def model_of(changes: dict[str, Any]) -> ModelConfig:
    """The model with some settings changed."""
    return dataclasses.replace(MODELS[SHIPPED_MODEL], **changes)


def cost_of(changes: dict[str, Any]) -> Any:
    """Parameters and multiply-adds of a variant."""
    return measure_cost(model_of(changes), SIZE)


def show(figures: dict[str, dict[str, Any]]) -> None:
    """Print one row a variant."""
    table = Table(title="500 iterations of 8 pictures, 1000 scenes; latency at 320x240, 2 threads")
    for column in ("variant", "AP", "parameters, M", "multiply-adds, G", "ms"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, row in figures.items():
        table.add_row(
            name,
            f"{row['AP']:.1f}",
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['multiply_adds'] / 1e9:.2f}",
            f"{row['median_ms']:.1f}" if "median_ms" in row else "",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
