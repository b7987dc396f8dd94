"""What the operator's benchmark prints, writes and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import measure
from benchmarks.attention_contenders import GRID_SAMPLE, UNMEASURED
from calibnet_core import ops

METHOD = {
    "ratio": "median over the rounds of baseline time / contender time, taken within a round",
    "yardstick": "the baseline is that algorithm, preceded by softmax and location arithmetic in "
    "the fused form",
    "by channel": "the reference algorithm: one CUDA thread for every output channel",
    "... again": "the baseline, measured a second time in every round",
    "error": "largest difference from float64 on the stored operands / largest number; gradients "
    "of locations count where they do not jump",
    "storage_error": "root mean square difference from float64 on the operands before they were "
    "rounded to the stored type / root mean square",
    "limit": "of the error, and of the storage error where the sampling is encoder-like",
    "cpu": "process CPU time at one thread",
    "wall": "wall time",
    "gpu": "events around CUDA graph replays, operands rotated beyond the second level cache; "
    "'eager' is not captured, so its launches count",
    "gpu, warm cache": "the same on one copy of the operands",
}
DIRECTIONS = ("forward", "backward")
MAIN_CLOCK = {"cpu": "cpu", "cuda": "gpu"}


@dataclass(frozen=True)
class Checked:
    """Relative errors of an answer and what is allowed; see `METHOD`."""

    error: float
    storage_error: float | None
    limit: float


@dataclass(frozen=True)
class Row:
    """One contender on one problem in one direction by one clock, beside one yardstick.

    The yardstick is a key of `YARDSTICKS`.
    """

    size: str
    batch: int
    sampling: str
    form: str
    direction: str
    contender: str
    yardstick: str
    clock: str
    threads: int | None
    errors: Checked
    times: measure.Summary


@dataclass(frozen=True)
class Unmeasured:
    """A contender without figures, and why."""

    device: str
    contender: str
    form: str
    reason: str


@dataclass(frozen=True)
class Report:
    """All figures of a run."""

    device: str
    rows: Sequence[Row]
    unmeasured: Sequence[Unmeasured]
    machine: dict[str, str | int]

    def main_rows(self) -> list[Row]:
        """Those by the clock that counts, over `grid_sample`."""
        return [
            row
            for row in self.rows
            if row.clock == MAIN_CLOCK[self.device] and row.yardstick == GRID_SAMPLE
        ]


def write_json(report: Report, path: Path) -> None:
    """Write every figure, and what is needed to get them again."""
    info = ops.info()
    content = {
        "benchmark": "ms_deform_attn",
        "device": report.device,
        "command": measure.command_line(),
        "machine": report.machine,
        "versions": measure.describe_versions("numpy", "rich") | {"torch": torch.__version__},
        "operators": {"cpu": info.cpu, "cuda": info.cuda},
        "method": METHOD,
        "rows": [
            {key: value for key, value in asdict(row).items() if key not in ("errors", "times")}
            | asdict(row.errors)
            | asdict(row.times)
            for row in report.rows
        ],
        "unmeasured": [
            asdict(row) | {"forward": UNMEASURED, "backward": UNMEASURED}
            for row in report.unmeasured
        ],
    }
    measure.write_record(path, content)


def print_tables(report: Report, console: Console) -> None:
    """Print the main figures by size and batch, the other clocks, and what was not measured."""
    rows = [row for row in report.rows if row.clock == MAIN_CLOCK[report.device]]
    for yardstick, size, batch in dict.fromkeys((r.yardstick, r.size, r.batch) for r in rows):
        own = [r for r in rows if (r.yardstick, r.size, r.batch) == (yardstick, size, batch)]
        title = f"{size}, batch {batch}: {METHOD[MAIN_CLOCK[report.device]]}; over {yardstick}"
        console.print(_main_table(own, title))
    others = [row for row in report.rows if row not in rows and row.sampling == rows[0].sampling]
    if others:
        console.print(_other_clocks(others))
    if report.unmeasured:
        table = Table(title="Not measured", title_justify="left")
        for column in ("device", "contender", "forward", "backward", "reason"):
            table.add_column(column)
        for row in report.unmeasured:
            table.add_row(row.device, row.contender, UNMEASURED, UNMEASURED, row.reason)
        console.print(table)


def _main_table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("sampling", no_wrap=True)
    table.add_column("contender", no_wrap=True)
    for direction in DIRECTIONS:
        table.add_column(f"{direction} ms", justify="right")
        for column in ("speed-up", "range", "error"):
            table.add_column(column, justify="right")
    previous = rows[0].sampling
    for number, (sampling, form, contender) in enumerate(
        dict.fromkeys((row.sampling, row.form, row.contender) for row in rows)
    ):
        cells: list[str] = []
        for direction in DIRECTIONS:
            key = (sampling, form, contender, direction)
            (row,) = (r for r in rows if (r.sampling, r.form, r.contender, r.direction) == key)
            times = row.times
            cells += [
                f"{times.median_ms:.3g}",
                f"{times.ratio:.2f}",
                f"{times.ratio_lowest:.2f}-{times.ratio_highest:.2f}",
                f"{row.errors.error:.0e}",
            ]
        if sampling != previous:
            table.add_section()
        table.add_row(sampling if not number or sampling != previous else "", contender, *cells)
        previous = sampling
    return table


def _other_clocks(rows: Sequence[Row]) -> Table:
    """Speed-ups only, for information; the rest stands in the JSON file."""
    table = Table(title=f"Speed-up by other clocks, {rows[0].sampling}", title_justify="left")
    for column in ("size", "batch", "contender"):
        table.add_column(column, no_wrap=True)
    columns = list(dict.fromkeys((r.direction, r.yardstick, r.clock, r.threads) for r in rows))
    for direction, yardstick, clock, threads in columns:
        counted = f", threads: {threads}" if threads else ""
        table.add_column(f"{direction} over {yardstick}, {clock}{counted}", justify="right")
    lines: dict[tuple[str, int, str, str], dict[object, str]] = {}
    for row in rows:
        times = row.times
        line = lines.setdefault((row.size, row.batch, row.form, row.contender), {})
        line[row.direction, row.yardstick, row.clock, row.threads] = (
            f"{times.ratio:.2f} ({times.ratio_lowest:.2f}-{times.ratio_highest:.2f})"
        )
    for (size, batch, _, contender), cells in lines.items():
        table.add_row(size, str(batch), contender, *(cells.get(c, "") for c in columns))
    return table
