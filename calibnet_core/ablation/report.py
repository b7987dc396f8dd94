"""Measured rows beside the paper's columns: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibnet_core.ablation.rows import EASY, HARD, AblationRow

if TYPE_CHECKING:
    from rich.table import Table

    from calibnet_core.ablation.cost import Cost
    from calibnet_core.ablation.latency import Latency


@dataclass(frozen=True)
class MeasuredRow:
    """A row with what was measured of it.

    Attributes:
        row, cost: of the row.
        latency: None where that was not asked for.
        trained: AP, AP50 and AP70 in per cent of a run of the row, None without one.
    """

    row: AblationRow
    cost: Cost
    latency: Latency | None = None
    trained: Mapping[str, float] | None = None


_HEADER = ("row", "params M", "paper", "mult-adds G", "paper")
_LATENCY = ("ms", "ms lowest-highest", "times published", "FPS", "paper FPS")
_TRAINED = "trained AP/50/70"
_ACCURACY = (f"paper AP/50/70 {EASY}", f"paper AP/50/70 {HARD}")


def columns(rows: Sequence[MeasuredRow]) -> list[str]:
    """Titles of the columns that `cells` fills; those of latency only where one was measured."""
    timed = any(measured.latency is not None for measured in rows)
    trained = any(measured.trained is not None for measured in rows)
    return [
        *_HEADER,
        *(_LATENCY if timed else ("paper FPS",)),
        *((_TRAINED,) if trained else ()),
        *_ACCURACY,
    ]


def cells(measured: MeasuredRow, *, timed: bool, trained: bool = False) -> list[str]:
    """One line of the table; what the paper leaves out is a dash."""
    paper, latency = measured.row.paper, measured.latency
    line = [
        measured.row.key,
        f"{measured.cost.parameters / 1e6:.2f}",
        _figure(paper.parameters_m),
        f"{measured.cost.multiply_adds / 1e9:.1f}",
        _figure(paper.multiply_adds_g),
    ]
    if timed:
        line += (
            ["-", "-", "-", "-"]
            if latency is None
            else [
                f"{latency.median_ms:.1f}",
                f"{latency.lowest_ms:.1f}-{latency.highest_ms:.1f}",
                f"{latency.ratio:.2f}",
                f"{1e3 / latency.median_ms:.1f}",
            ]
        )
    line.append(_figure(paper.frames_per_second))
    if trained:
        values = (measured.trained or {}).values()
        line.append("/".join(f"{value:.1f}" for value in values) or "-")
    for name in (EASY, HARD):
        accuracy = paper.accuracy.get(name)
        line.append("-" if accuracy is None else f"{accuracy.ap}/{accuracy.ap50}/{accuracy.ap70}")
    return line


def as_table(rows: Sequence[MeasuredRow]) -> Table:
    """The rows for a terminal, a line between the paper's tables."""
    from rich.table import Table

    titles = columns(rows)
    table = Table()
    for title in titles:
        table.add_column(title, justify="left" if title == "row" else "right")
    for index, measured in enumerate(rows):
        ends = index + 1 < len(rows) and rows[index + 1].row.table != measured.row.table
        table.add_row(*_cells(measured, titles), end_section=ends)
    return table


def as_markdown(rows: Sequence[MeasuredRow], setting: str) -> str:
    """The same as a Markdown table under a line that tells how it was measured."""
    titles = columns(rows)
    lines = [titles, ["---", *("---:" for _ in titles[1:])]]
    lines += [_cells(measured, titles) for measured in rows]
    return f"{setting}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_document(rows: Sequence[MeasuredRow], setting: str) -> dict[str, Any]:
    """Plain values for JSON: settings, the paper's columns and what was measured, row by row."""
    return {
        "setting": setting,
        "rows": [
            {
                "table": measured.row.table,
                "name": measured.row.name,
                "model": dataclasses.asdict(measured.row.model),
                "loss_weights": dict(measured.row.loss_weights),
                "paper": dataclasses.asdict(measured.row.paper),
                "measured": {
                    **dataclasses.asdict(measured.cost),
                    "latency": None
                    if measured.latency is None
                    else dataclasses.asdict(measured.latency),
                    "trained": None if measured.trained is None else dict(measured.trained),
                },
            }
            for measured in rows
        ],
    }


def _cells(measured: MeasuredRow, titles: Sequence[str]) -> list[str]:
    return cells(measured, timed="ms" in titles, trained=_TRAINED in titles)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
