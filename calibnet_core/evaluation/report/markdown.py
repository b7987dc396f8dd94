"""The report as Markdown, to paste where people talk."""

from __future__ import annotations

from collections.abc import Sequence

from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, ImageRow
from calibnet_core.evaluation.report import tables
from calibnet_core.evaluation.report.figures import Provenance
from calibnet_core.evaluation.report.pieces import markdown_table, markdown_text, markdown_tiles
from calibnet_core.evaluation.report.tables import Table, percent


def markdown_report(
    evaluation: Evaluation, settings: EvaluationSettings, provenance: Provenance
) -> str:
    """Headline figures, tables, the worst images and what failed."""
    threshold = settings.score_threshold
    parts = [
        f"# {markdown_text(provenance.predictions)} on {markdown_text(provenance.dataset)}",
        f"{len(evaluation.rows)} images, {evaluation.overlap.num_objects} objects. "
        "All figures in per cent.",
        markdown_tiles(tables.headline(evaluation)),
        "## By area",
        markdown_table(tables.by_area(evaluation)),
        "## Overlap and boundaries",
        f"Instances with a score above {threshold:g}, paired with the objects so that the sum of F "
        f"is highest. Boundaries agree within {settings.boundary_tolerance:g} of the image "
        "diagonal.",
        markdown_table(tables.overlap(evaluation)),
    ]
    if evaluation.failures:
        failed = "\n".join(
            f"- image {failure.image_id}: {markdown_text(failure.reason)}"
            for failure in evaluation.failures
        )
        parts[2:2] = [f"## Failures ({len(evaluation.failures)})", failed]
    if evaluation.worst:
        parts += ["## Worst images", markdown_table(_images(tables.worst_rows(evaluation)))]
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
