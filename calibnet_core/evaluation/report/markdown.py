"""The report as Markdown, to paste where people talk."""

from __future__ import annotations

import re
from collections.abc import Sequence

from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, ImageRow
from calibnet_core.evaluation.report import tables
from calibnet_core.evaluation.report.figures import Provenance
from calibnet_core.evaluation.report.tables import Table, percent

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|&~])")


def markdown_report(
    evaluation: Evaluation, settings: EvaluationSettings, provenance: Provenance
) -> str:
    """Headline figures, tables, the worst images and what failed."""
    threshold = settings.score_threshold
    found = tables.headline(evaluation)
    parts = [
        f"# {_escaped(provenance.predictions)} on {_escaped(provenance.dataset)}",
        f"{len(evaluation.rows)} images, {evaluation.overlap.num_objects} objects. "
        "All figures in per cent.",
        _table(
            Table(
                columns=tuple(name for name, _, _ in found),
                rows=(tuple(value for _, value, _ in found),),
            )
        ),
        "## By area",
        _table(tables.by_area(evaluation)),
        "## Overlap and boundaries",
        f"Instances with a score above {threshold:g}, paired with the objects so that the sum of F "
        f"is highest. Boundaries agree within {settings.boundary_tolerance:g} of the image "
        "diagonal.",
        _table(tables.overlap(evaluation)),
    ]
    if evaluation.failures:
        failed = "\n".join(
            f"- image {failure.image_id}: {_escaped(failure.reason)}"
            for failure in evaluation.failures
        )
        parts[2:2] = [f"## Failures ({len(evaluation.failures)})", failed]
    if evaluation.worst:
        parts += ["## Worst images", _table(_images(tables.worst_rows(evaluation)))]
    return "\n\n".join(parts) + "\n"


def _images(rows: Sequence[ImageRow]) -> Table:
    return Table(
        columns=("Image", "Scene", "Objects", "Instances", "Overlap F", "Boundary F"),
        rows=tuple(
            (
                row.file_name,
                row.scene,
                str(row.num_objects),
                str(row.num_instances),
                percent(row.overlap_f),
                percent(row.boundary_f),
            )
            for row in rows
        ),
    )


def _table(table: Table) -> str:
    rules = ["---", *["---:"] * (len(table.columns) - 1)]
    lines = [table.columns, rules, *table.rows]
    return "\n".join(
        "| " + " | ".join(cell if line is rules else _escaped(cell) for cell in line) + " |"
        for line in lines
    )


def _escaped(text: str) -> str:
    """Text that neither forms nor breaks Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
