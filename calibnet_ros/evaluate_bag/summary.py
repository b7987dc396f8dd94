"""What many recordings, or many limits, come to: tables for the terminal and a folder's summary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from calibnet_core.evaluation.recording import tables
from calibnet_core.evaluation.recording.limits import Limit, Verdict, judge
from calibnet_core.files import atomic_write
from calibnet_ros.evaluate_bag.evaluation import Outcome

_SHOWN = ("Frames answered", "Lost", "Instances", "Located", "Flicker", "AP")
"""What a terminal has room for."""


def write_summary(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write `summary.json` and `summary.md` of many recordings into an existing folder.

    Raises:
        OSError: they cannot be written.
    """
    entries = [
        {"name": o.name, "folder": o.folder, "error": o.error, **_figures(o)} for o in outcomes
    ]
    with atomic_write(folder / "summary.json", "w") as file:
        content = {"format": "calibnet recordings 1", "recordings": entries}
        file.write(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    columns = _columns(outcomes)
    lines = [["Recording", *columns], ["---", *["---:"] * len(columns)]]
    lines += [[_link(outcome), *_cells(outcome, columns)] for outcome in outcomes]
    text = ["# Recordings", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    errors = [f"- {_plain(o.name)}: {_plain(o.error)}" for o in outcomes if o.error]
    if errors:
        text += ["## Not as it should be", "\n".join(errors)]
    with atomic_write(folder / "summary.md", "w") as file:
        file.write("\n\n".join(text) + "\n")


def print_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """All headline figures of one recording, or the first ones of several, one a row."""
    if len(outcomes) == 1:
        table = Table("figure", "value", "")
        for tile in _tiles(outcomes[0]):
            table.add_row(*tile)
    else:
        columns = [name for name in _columns(outcomes) if name in _SHOWN]
        table = Table("recording", *columns)
        for outcome in outcomes:
            table.add_row(escape(outcome.name), *_cells(outcome, columns))
    console.print(table)


def print_verdicts(
    console: Console, outcomes: Sequence[Outcome], limits: tuple[Limit, ...]
) -> bool:
    """A table with one limit a row; whether all pass. No figures, as without a report, fail all."""
    table = Table("recording", "figure", "limit", "value", "")
    all_pass = True
    for outcome in outcomes:
        for verdict in _judged(outcome, limits):
            all_pass = all_pass and verdict.passes
            said = "[green]passes[/green]" if verdict.passes else "[red]FAILS[/red]"
            value = tables.number(verdict.value, "{:.6g}")
            table.add_row(
                escape(outcome.name), escape(verdict.limit.name), str(verdict.limit), value, said
            )
    console.print(table)
    return all_pass


def _judged(outcome: Outcome, limits: tuple[Limit, ...]) -> list[Verdict]:
    if not outcome.document:
        return [Verdict(limit=limit, value=None) for limit in limits]
    return judge(limits, outcome.document)


def _figures(outcome: Outcome) -> dict[str, Any]:
    document = outcome.document
    names = ("frames", "drops", "instances", "geometry", "tracks", "ap", "ap50", "ap75", "mae")
    return {name: document[name] for name in names} if document else {}


def _columns(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(name for outcome in outcomes for name, _, _ in _tiles(outcome)))


def _cells(outcome: Outcome, columns: Sequence[str]) -> list[str]:
    values = {name: value for name, value, _ in _tiles(outcome)}
    return [values.get(column, tables.UNDEFINED) for column in columns]


def _tiles(outcome: Outcome) -> list[tables.Tile]:
    document = outcome.document
    if not document:
        return []
    truth = tables.truth_headline(document) if document["truth"] is not None else []
    return [*tables.headline(document), *truth]


def _link(outcome: Outcome) -> str:
    name = _plain(outcome.name)
    return f"[{name}](<{outcome.folder}/report.md>)" if outcome.folder else name


def _plain(text: str) -> str:
    """Text that neither forms nor breaks a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("[", "\\[").replace("]", "\\]")
