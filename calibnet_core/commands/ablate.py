"""`calibnet ablate`: the rows of the paper's ablation tables, measured beside its columns."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from calibnet_core.ablation.rows import TABLES, select_rows
from calibnet_core.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibnet_core.ablation.report import MeasuredRow
    from calibnet_core.ablation.rows import AblationRow

SUMMARY = "Measure the rows of the paper's ablation tables beside what the paper reports."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--table",
        nargs="+",
        choices=TABLES,
        metavar="NUMBER",
        help=f"tables by their Roman numbers, {TABLES[0]} to {TABLES[-1]}; left out: all",
    )
    parser.add_argument(
        "--row", nargs="+", metavar="NAME", help="rows, such as c2_t3 or VI:c2_t3; left out: all"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="also write the figures, to .json or .md"
    )
    latency = parser.add_argument_group("latency")
    latency.add_argument(
        "--latency", action="store_true", help="time every row against the published network"
    )
    latency.add_argument(
        "--rounds", type=int, default=7, metavar="N", help="measurements a row (default: 7)"
    )
    latency.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--train",
        type=Path,
        metavar="FILE",
        help="train every selected row with these settings, see config/train; needs a "
        "validation set",
    )
    training.add_argument(
        "--runs", type=Path, metavar="DIR", help="where the runs go; what is there is resumed"
    )
    training.add_argument(
        "--accelerator", default="auto", choices=("auto", "cpu", "cuda"), help="where to train"
    )


def run(args: argparse.Namespace) -> int:
    """Measure the rows and print them."""
    output: Path | None = args.output
    if output is not None and output.suffix not in (".json", ".md"):
        raise ConfigError(f"{output}: the file to write must end in .json or .md")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"{output}: the folder {output.parent} does not exist; create it first")
    rows = select_rows(args.table, args.row)
    if (args.train is None) != (args.runs is None):
        raise ConfigError("training needs both the settings, --train, and a folder, --runs")

    from rich.console import Console

    from calibnet_core.ablation.report import as_table

    _check_training(rows, args)
    measured = _trained(_measure(rows, args), args)
    Console(highlight=False).print(as_table(measured))
    if output is not None:
        _write(output, measured, _setting(args))
        print(f"figures in {output}")
    return 0


def _measure(rows: Sequence[AblationRow], args: argparse.Namespace) -> list[MeasuredRow]:
    """Cost and, if asked for, latency of every row; rows of one network are measured once."""
    from rich.console import Console
    from rich.progress import track

    from calibnet_core.ablation.cost import measure_cost
    from calibnet_core.ablation.latency import measure_latency
    from calibnet_core.ablation.report import MeasuredRow

    console = Console(stderr=True)
    known = {}
    models = list(dict.fromkeys(row.model for row in rows))
    for model in track(models, "measure", console=console, disable=not console.is_terminal):
        latency = None
        if args.latency:
            latency = measure_latency(model, device=args.device, rounds=args.rounds)
        known[model] = measure_cost(model), latency
    return [MeasuredRow(row, *known[row.model]) for row in rows]


def _check_training(rows: Sequence[AblationRow], args: argparse.Namespace) -> None:
    """Refuse now what would fail after the first rows have been trained."""
    if args.train is not None:
        from calibnet_core.ablation.training import row_config
        from calibnet_core.config import load_config
        from calibnet_core.training.config import TrainConfig

        base = load_config(args.train, TrainConfig)
        for row in rows:
            row_config(row, base)


def _trained(measured: Sequence[MeasuredRow], args: argparse.Namespace) -> list[MeasuredRow]:
    """The rows with the figures of a run of each, where training was asked for."""
    if args.train is None:
        return list(measured)
    from calibnet_core.ablation.training import train_row
    from calibnet_core.config import load_config
    from calibnet_core.training.config import TrainConfig

    base = load_config(args.train, TrainConfig)
    return [
        dataclasses.replace(
            entry, trained=train_row(entry.row, base, args.runs, accelerator=args.accelerator)
        )
        for entry in measured
    ]


def _setting(args: argparse.Namespace) -> str:
    import torch

    from calibnet_core.ablation.cost import INPUT_SIZE

    size = f"{INPUT_SIZE[0]}x{INPUT_SIZE[1]}"
    if not args.latency:
        return f"Costs of one {size} image."
    threads = f", {torch.get_num_threads()} threads" if args.device == "cpu" else ""
    return f"Costs of one {size} image; {args.rounds} rounds, fp32, {args.device}{threads}."


def _write(path: Path, measured: Sequence[MeasuredRow], setting: str) -> None:
    from calibnet_core.ablation.report import as_document, as_markdown
    from calibnet_core.files import atomic_write

    if path.suffix == ".json":
        text = json.dumps(as_document(measured, setting), indent=2) + "\n"
    else:
        text = as_markdown(measured, setting)
    with atomic_write(path, "w") as file:
        file.write(text)
