"""The report as one HTML file that needs nothing else and asks nobody.

Its content security policy allows the one script and the one style inside it, by their hashes, and
pictures that are part of the file; nothing can be fetched. All text from files is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from string import Template

from calibnet_core import __version__
from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, ImageRow
from calibnet_core.evaluation.gallery import PicturePair
from calibnet_core.evaluation.image_outcomes import iou_thresholds
from calibnet_core.evaluation.report import charts, tables
from calibnet_core.evaluation.report.figures import Provenance
from calibnet_core.evaluation.report.pieces import (
    counted,
    html_page,
    html_table,
    html_tiles,
    jpeg_uri,
    package_file,
    precision_recall,
)
from calibnet_core.evaluation.report.tables import UNDEFINED, percent

_ESCAPED = html.escape


def html_report(
    evaluation: Evaluation, settings: EvaluationSettings, provenance: Provenance
) -> str:
    """The whole page."""
    script = package_file("report.js")
    worst, best = tables.worst_rows(evaluation), tables.best_rows(evaluation)
    curves, legend = precision_recall(evaluation)
    body = Template(package_file("report.html")).substitute(
        script=script,
        predictions=_ESCAPED(provenance.predictions),
        dataset=_ESCAPED(provenance.dataset),
        summary=_summary(evaluation, settings),
        warnings=_warnings(evaluation),
        headline=html_tiles(tables.headline(evaluation)),
        precision_recall=curves,
        legend=legend,
        reliability=charts.reliability_chart(
            evaluation.calibration.bins,
            description="Reliability diagram; the table of its bins is in metrics.json",
        ),
        levels=_levels(evaluation),
        by_area=html_table(tables.by_area(evaluation)),
        by_detections=html_table(tables.by_detections(evaluation)),
        overlap=html_table(tables.overlap(evaluation)),
        overlap_note=_overlap_note(settings),
        worst=_gallery(worst, evaluation.worst),
        best=_gallery(best, evaluation.best),
        scenes=_options({row.scene for row in evaluation.rows}),
        rows=_image_rows(evaluation),
        num_images=len(evaluation.rows),
        threshold=f"{settings.score_threshold:g}",
        calibration_note=_calibration_note(evaluation, settings),
        facts=_facts(settings, provenance),
    )
    title = _ESCAPED(f"{provenance.predictions} on {provenance.dataset}")
    return html_page(title, body, script=script)


def _summary(evaluation: Evaluation, settings: EvaluationSettings) -> str:
    num_instances = sum(row.num_instances for row in evaluation.rows)
    instances = counted(num_instances, "instance")
    counts = (
        counted(len(evaluation.rows), "image"),
        counted(evaluation.overlap.num_objects, "object"),
        f"{instances} with a score above {settings.score_threshold:g}",
    )
    return " · ".join(counts)


def _warnings(evaluation: Evaluation) -> str:
    if not evaluation.failures:
        return ""
    entries = "".join(
        f"<li>image {failure.image_id}: {_ESCAPED(failure.reason)}</li>"
        for failure in evaluation.failures
    )
    return (
        '<section class="warning" aria-labelledby="failed-title">'
        f'<h2 id="failed-title">{counted(len(evaluation.failures), "image")} failed</h2>'
        "<p>What could not be read is left out of the figures; where the prediction failed, "
        f"nothing counts as found.</p><ul>{entries}</ul></section>"
    )


def _levels(evaluation: Evaluation) -> str:
    rows = []
    for overlap in iou_thresholds().tolist():
        value = evaluation.mask_ap[f"AP{round(100 * overlap)}"]
        width = value if math.isfinite(value) else 0.0
        rows.append(
            f'<tr><th scope="row">{overlap:.2f}</th><td>{percent(value)}</td><td>'
            '<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
            '<rect class="track" width="100" height="12"/>'
            f'<rect width="{width:.1f}" height="12"/></svg></td></tr>'
        )
    return (
        '<table class="levels"><thead><tr><th scope="col">Overlap (IoU)</th><th scope="col">AP</th>'
        f"<td></td></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _overlap_note(settings: EvaluationSettings) -> str:
    return (
        f"Instances with a score above {settings.score_threshold:g}, paired one to one with the "
        "objects so that the sum of F is highest. Boundaries agree within "
        f"{settings.boundary_tolerance:g} of the image diagonal, rounded up to whole pixels. "
        "Found: objects with F above 75 %."
    )


def _calibration_note(evaluation: Evaluation, settings: EvaluationSettings) -> str:
    return (
        f"The calibration error is that of {evaluation.calibration.num_detections} detections of "
        f"any score in {settings.num_bins} bins of equal width; the widest gap of a bin is "
        f"{percent(evaluation.calibration.max_error)} %."
    )


def _gallery(rows: Sequence[ImageRow], pictures: dict[int, PicturePair]) -> str:
    if not rows:
        return '<p class="note">No pictures were kept.</p>'
    return f'<ul class="gallery">{"".join(_card(row, pictures[row.image_id]) for row in rows)}</ul>'


def _card(row: ImageRow, pair: PicturePair) -> str:
    name = _ESCAPED(row.file_name)
    # Images without a scene of their own have the file's name for it.
    is_told = row.scene not in (row.file_name, PurePosixPath(row.file_name).stem)
    scene = f'<span class="scene">{_ESCAPED(row.scene)}</span>' if is_told else ""
    figures = (
        f"overlap F {percent(row.overlap_f)} · boundary F {percent(row.boundary_f)} · "
        f"{row.num_found} of {row.num_objects} found"
    )
    images = "".join(
        f'<span class="picture"><img src="{jpeg_uri(data)}" '
        f'width="{pair.width}" height="{pair.height}" loading="lazy" decoding="async" '
        f'alt="{what} drawn over {name}"><span class="caption">{what}: {count}</span></span>'
        for data, what, count in (
            (pair.truth, "ground truth", counted(row.num_objects, "object")),
            (pair.prediction, "prediction", counted(row.num_instances, "instance")),
        )
    )
    return (
        f'<li class="card" id="image-{row.image_id}"><span class="name">{name}</span>{scene}'
        f'<p class="figures">{figures}</p><button type="button" class="enlarge" '
        f'data-name="{name}" title="enlarge"><span class="pair">{images}</span>'
        "</button></li>"
    )


def _options(scenes: Iterable[str]) -> str:
    return "".join(
        f'<option value="{_ESCAPED(scene)}">{_ESCAPED(scene)}</option>' for scene in sorted(scenes)
    )


def _image_rows(evaluation: Evaluation) -> str:
    shown = evaluation.worst.keys() | evaluation.best.keys()
    return "\n".join(_image_row(row, row.image_id in shown) for row in evaluation.rows)


def _image_row(row: ImageRow, is_shown: bool) -> str:
    name, scene = _ESCAPED(row.file_name), _ESCAPED(row.scene)
    text = _ESCAPED(f"{row.file_name} {row.scene}".lower())
    cells = "".join(
        f'<td data-value="{value}">{told}</td>'
        for value, told in (
            (row.num_objects, row.num_objects),
            (row.num_instances, row.num_instances),
            (row.num_found, row.num_found),
            _number(row.overlap_f, 1),
            _number(row.boundary_f, 1),
            _number(row.top_score, 3),
        )
    )
    link = (
        f'<a href="#image-{row.image_id}" aria-label="pictures of {name}">pictures</a>'
        if is_shown
        else ""
    )
    return (
        f'<tr data-text="{text}"><th scope="row" data-value="{name}">{name}</th>'
        f'<td data-value="{scene}">{scene}</td>{cells}<td>{link}</td></tr>'
    )


def _number(value: float, digits: int) -> tuple[str, str]:
    """For the script and for the reader."""
    return (repr(value), f"{value:.{digits}f}") if math.isfinite(value) else ("", UNDEFINED)


def _facts(settings: EvaluationSettings, provenance: Provenance) -> str:
    facts = [
        ("data set", provenance.dataset),
        ("predictions", provenance.predictions),
        ("SHA-256", provenance.sha256 or "none: random weights"),
        ("score threshold", f"{settings.score_threshold:g} for overlap, boundaries and pictures"),
        ("boundary tolerance", f"{settings.boundary_tolerance:g} of the image diagonal"),
        *((f"inference: {name}", str(value)) for name, value in provenance.inference.items()),
        ("calibnet_core", __version__),
    ]
    return "".join(f"<dt>{_ESCAPED(name)}</dt><dd>{_ESCAPED(value)}</dd>" for name, value in facts)
