"""The tables of the report as rows of text, for Markdown and HTML alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from calibnet_core.evaluation.evaluator import Evaluation, ImageRow
from calibnet_core.evaluation.image_outcomes import AREAS
from calibnet_core.evaluation.object_overlap import OverlapMeans

UNDEFINED = "–"

_AREA_NAMES = {
    "all": "all",
    "small": "small, below 32²",
    "medium": "medium, 32² to 96²",
    "large": "large, above 96²",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Column titles, and rows whose first entry names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def percent(value: float) -> str:
    """A figure with one decimal, a dash where it is undefined."""
    return f"{value:.1f}" if math.isfinite(value) else UNDEFINED


def headline(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(figure, value in per cent, what it says) of the figures to look at first."""
    means = evaluation.overlap.per_image
    ap = evaluation.mask_ap
    entries = [
        ("AP", ap["AP"], "mean over overlaps of 0.50 to 0.95"),
        ("AP50", ap["AP50"], "at an overlap of 0.50"),
        ("AP70", ap["AP70"], "at an overlap of 0.70"),
        ("AP75", ap["AP75"], "at an overlap of 0.75"),
        ("AR100", ap["AR100"], "recall with 100 detections"),
        ("Overlap F", means.overlap_f, "mean of the images"),
        ("Boundary F", means.boundary_f, "mean of the images"),
        ("Found", means.found_above_75, "objects with F above 75 %"),
        ("ECE", evaluation.calibration.expected_error, "calibration error; lower is better"),
    ]
    return [(name, percent(value), meaning) for name, value, meaning in entries]


def by_area(evaluation: Evaluation) -> Table:
    """Average precision and recall by range of area."""
    rows = []
    for area in AREAS:
        suffix = "" if area == "all" else area[0]
        recall = evaluation.mask_ap["AR100" if area == "all" else f"AR{suffix}"]
        precision = evaluation.mask_ap[f"AP{suffix}"]
        rows.append((_AREA_NAMES[area], percent(precision), percent(recall)))
    return Table(columns=("Mask area in pixels", "AP", "AR"), rows=tuple(rows))


def by_detections(evaluation: Evaluation) -> Table:
    """Average recall by the number of detections."""
    rows = tuple((n, percent(evaluation.mask_ap[f"AR{n}"])) for n in ("1", "10", "100"))
    return Table(columns=("Detections an image", "AR"), rows=rows)


def overlap(evaluation: Evaluation) -> Table:
    """Overlap and boundary precision, recall and F under both conventions."""

    def row(name: str, means: OverlapMeans) -> tuple[str, ...]:
        values = (
            means.overlap_precision,
            means.overlap_recall,
            means.overlap_f,
            means.boundary_precision,
            means.boundary_recall,
            means.boundary_f,
            means.found_above_75,
        )
        return (name, *(percent(value) for value in values))

    return Table(
        columns=(
            "Averaged",
            "Overlap P",
            "Overlap R",
            "Overlap F",
            "Boundary P",
            "Boundary R",
            "Boundary F",
            "Found",
        ),
        rows=(
            row("over images", evaluation.overlap.per_image),
            row("over pixels", evaluation.overlap.pooled),
        ),
    )


def worst_rows(evaluation: Evaluation) -> list[ImageRow]:
    """The rows of the worst images, the worst first."""
    rows = {row.image_id: row for row in evaluation.rows}
    return [rows[image_id] for image_id in evaluation.worst]


def best_rows(evaluation: Evaluation) -> list[ImageRow]:
    """The rows of the best images, the best first."""
    rows = {row.image_id: row for row in evaluation.rows}
    return [rows[image_id] for image_id in evaluation.best]
