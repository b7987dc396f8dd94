"""The diagnosis as text for a terminal, and as JSON for a machine."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calibnet_core import __version__
from calibnet_ros.doctor.diagnosis import Diagnosis
from calibnet_ros.doctor.facts import Facts
from calibnet_ros.doctor.findings import Finding, Theme, Verdict

_MARKS = {Verdict.GOOD: "good", Verdict.NOTE: "note", Verdict.MEND: "MEND"}
_STYLES = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.MEND: "bold red"}
_SUMMARIES = {
    Verdict.GOOD: "Everything is good.",
    Verdict.NOTE: "The node will work; some things are worth knowing.",
    Verdict.MEND: "{count} must be mended before the node gives what it is there for.",
}


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print the findings by theme, the summary, and the lines that start the node."""
    for theme in Theme:
        if findings := diagnosis.of(theme):
            console.print(Text(theme.value, style="bold"))
            for finding in findings:
                _show_finding(finding, console)
    console.print()
    verdict = diagnosis.verdict
    mends = sum(finding.verdict is Verdict.MEND for finding in diagnosis.findings)
    count = "1 thing" if mends == 1 else f"{mends} things"
    _print(console, _SUMMARIES[verdict].format(count=count), _STYLES[verdict])
    later = " then" if verdict is Verdict.MEND else ""
    _print(console, f"Start the node{later} with", "")
    # As they are, however narrow the terminal: they are there to be copied.
    _print(console, f"  {diagnosis.launch_line}", "bold")
    hint = "or, without launch (after `ros2 run calibnet_ros` where the shell does not find it),"
    console.print(Text(hint), soft_wrap=not console.is_terminal)
    for line in diagnosis.node_lines:
        _print(console, f"  {line}", "bold")


def to_json(diagnosis: Diagnosis, facts: Facts) -> str:
    """The diagnosis as JSON text, with the topics that were looked at."""
    choice = facts.inputs.choice
    content: dict[str, Any] = {
        "calibnet_ros": __version__,
        "source": facts.inputs.source,
        "verdict": diagnosis.verdict.value,
        "findings": [
            {
                "theme": finding.theme.value,
                "verdict": finding.verdict.value,
                "text": finding.text,
                "remedy": finding.remedy,
            }
            for finding in diagnosis.findings
        ],
        "topics": {
            role: choice.topic(role)  # type: ignore[arg-type]
            for role in ("color", "depth", "info", "depth_info")
        },
        "camera": choice.camera,
        "launch_line": diagnosis.launch_line,
        "node_lines": list(diagnosis.node_lines),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _show_finding(finding: Finding, console: Console) -> None:
    mark = Text(f"  {_MARKS[finding.verdict]}", style=_STYLES[finding.verdict])
    sentence = Text(_sentence(finding.text))
    remedy = Text(f"-> {finding.remedy}", style="cyan")
    if not console.is_terminal:  # one line each, for grep
        console.print(mark + Text("  ") + sentence, soft_wrap=True)
        if finding.remedy:
            console.print(Text("        ") + remedy, soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(mark, sentence)
    if finding.remedy:
        table.add_row("", remedy)
    console.print(table)


def _print(console: Console, text: str, style: str) -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith(("/", "'")) else text
