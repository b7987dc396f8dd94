"""Pieces that the reports of data sets and of recordings are made of, in Markdown and HTML."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from string import Template

import numpy as np

from calibnet_core.evaluation.evaluator import Evaluation
from calibnet_core.evaluation.image_outcomes import iou_thresholds
from calibnet_core.evaluation.report import charts
from calibnet_core.evaluation.report.tables import Table, percent

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|&~])")


def markdown_text(text: str) -> str:
    """Text that neither forms nor breaks Markdown."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown_table(table: Table) -> str:
    """A table; what is in its cells is escaped."""
    rules = ["---", *["---:"] * (len(table.columns) - 1)]
    lines = [table.columns, rules, *table.rows]
    return "\n".join(
        "| " + " | ".join(cell if line is rules else markdown_text(cell) for cell in line) + " |"
        for line in lines
    )


def markdown_tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Headline figures, given as (name, value, meaning), as a table of one row."""
    return markdown_table(
        Table(
            columns=tuple(name for name, _, _ in entries),
            rows=(tuple(value for _, value, _ in entries),),
        )
    )


def html_page(title: str, body: str, *, script: str = "") -> str:
    """A whole page that loads nothing and runs nothing but its own style and script.

    Args:
        title: escaped.
        body: HTML; it holds the script if there is one.
        script: what the page is allowed to run.
    """
    style = package_file("report.css")
    runs = f"script-src {policy_source(script)}; " if script else ""
    policy = (
        f"default-src 'none'; img-src data:; style-src {policy_source(style)}; {runs}"
        "base-uri 'none'; form-action 'none'"
    )
    page = Template(package_file("report.page.html"))
    return page.substitute(policy=policy, style=style, title=title, body=body)


def html_table(table: Table) -> str:
    """A table whose first column names the rows; what is in its cells is escaped."""
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in table.columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Headline figures, given as (name, value, meaning), for a list of the class `tiles`.

    They are not escaped: the words are ours.
    """
    return "".join(
        f'<div><dt>{name}</dt><dd class="value">{value}</dd>'
        f'<dd class="meaning">{meaning}</dd></div>'
        for name, value, meaning in entries
    )


def precision_recall(evaluation: Evaluation) -> tuple[str, str]:
    """The chart of precision over recall, and the entries of its legend."""
    drawn = [evaluation.curves.curve(overlap) for overlap in charts.DRAWN_OVERLAPS]
    names = [f"{overlap:.2f}" for overlap in charts.DRAWN_OVERLAPS]
    average = np.mean([evaluation.curves.curve(float(t)) for t in iou_thresholds()], axis=0)
    areas = [100.0 * float(np.mean(curve)) for curve in (*drawn, average)]
    legend = "".join(
        f'<li><svg viewBox="0 0 34 10" aria-hidden="true"><line class="series-{number}" x1="0" '
        f'y1="5" x2="34" y2="5"/></svg>{name}: AP {percent(area)}</li>'
        for number, (name, area) in enumerate(zip((*names, "mean"), areas, strict=True))
    )
    told = ", ".join(
        f"{name} {percent(area)} %" for name, area in zip((*names, "mean"), areas, strict=True)
    )
    description = f"Precision over recall; average precision by overlap: {told}"
    chart = charts.precision_recall_chart([*drawn, average], description=description)
    return chart, legend


def package_file(name: str) -> str:
    """The text of a file beside this one: style, script or template."""
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def policy_source(content: str) -> str:
    """What a content security policy calls a style or script inside the page: its hash."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def jpeg_uri(jpeg: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def counted(number: int, noun: str) -> str:
    """The number with its noun, in the plural where it is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
