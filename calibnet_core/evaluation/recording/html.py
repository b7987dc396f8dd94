"""The report of a recording as one HTML file that needs nothing else and asks nobody.

It has no script; its content security policy allows the one style inside it, by its hash, and
pictures that are part of the file. All text from files is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from calibnet_core.evaluation.evaluator import ImageRow
from calibnet_core.evaluation.gallery import PicturePair
from calibnet_core.evaluation.recording import tables
from calibnet_core.evaluation.recording.evaluator import (
    FramePicture,
    RecordingEvaluation,
    TruthFigures,
)
from calibnet_core.evaluation.recording.tables import Document
from calibnet_core.evaluation.recording.timeline import legend, timeline_chart
from calibnet_core.evaluation.report import charts
from calibnet_core.evaluation.report.pieces import (
    counted,
    html_page,
    html_table,
    html_tiles,
    jpeg_uri,
    precision_recall,
)
from calibnet_core.evaluation.report.tables import best_rows, worst_rows

_PAGE = Template("""<header>
  <p class="kicker">Recording</p>
  <h1><span>$model</span> <span class="on">on</span> <span>$name</span></h1>
  <p class="summary">$summary</p>
</header>
<main>
$warnings
<section id="figures" aria-labelledby="figures-title">
  <h2 id="figures-title">Figures</h2>
  <dl class="tiles">$headline</dl>
</section>
$truth
<section id="frames" aria-labelledby="frames-title">
  <h2 id="frames-title">Frame by frame</h2>
  <div class="columns">
    <figure class="card">
      <figcaption><strong>Objects</strong>
        Instances shown, and those of them whose position and box could be measured.</figcaption>
      $objects_chart
    </figure>
    <figure class="card">
      <figcaption><strong>Steadiness and depth</strong>
        Overlap of masks with those of the same tracks in the frame before, and share of pixels with
        a usable depth.</figcaption>
      $steadiness_chart
    </figure>
  </div>
</section>
<section id="pictures" aria-labelledby="pictures-title">
  <h2 id="pictures-title">Pictures</h2>
  <p class="note">Frames spread over the recording. Numbers and colours follow the tracks; depth is
    red where near, blue where far, dark grey where nothing was measured.</p>
  $pictures
</section>
<section id="tables" aria-labelledby="tables-title">
  <h2 id="tables-title">Tables</h2>
  <div class="columns">
    <div class="card"><h3>What became of the images</h3>$fates</div>
    <div class="card"><h3>Geometry</h3>$geometry<h3>Steadiness</h3>$tracks</div>
  </div>
</section>
<section id="about" aria-labelledby="about-title">
  <h2 id="about-title">About these figures</h2>
  <div class="columns">
    <div class="card"><h3>Recording and model</h3><dl class="facts">$facts</dl></div>
    <details class="card"><summary>Parameters</summary>
      <dl class="facts">$parameters</dl></details>
  </div>
</section>
</main>
""")

_TRUTH = Template("""<section id="truth" aria-labelledby="truth-title">
  <h2 id="truth-title">Beside the truth</h2>
  <p class="note">$matched</p>
  <dl class="tiles">$headline</dl>
  <div class="columns">
    <figure class="card">
      <figcaption><strong>Precision over recall</strong>
        How many detections are right when so many objects are to be found, by the overlap (IoU)
        that is asked for.</figcaption>
      $curves
      <ul class="legend">$legend</ul>
    </figure>
    <figure class="card">
      <figcaption><strong>Reliability</strong>
        Share of detections that are right at an overlap of 0.50, by score. Honest scores lie on the
        diagonal.</figcaption>
      $reliability
    </figure>
  </div>
  <div class="card"><h3>By size of the object</h3>$by_area</div>
  <h3>Worst images</h3>
  $worst
  <h3>Best images</h3>
  $best
</section>
""")


def recording_html(evaluation: RecordingEvaluation, document: Document) -> str:
    """The whole page.

    Args:
        evaluation: with the pictures.
        document: its figures, as `recording_document` makes them.
    """
    name, model = document["recording"]["name"], document["model"].get("model_id", "")
    body = _PAGE.substitute(
        name=escape(name),
        model=escape(model),
        summary=_summary(document),
        warnings=_warnings(document),
        headline=html_tiles(tables.headline(document)),
        truth=_truth(evaluation.truth, document) if evaluation.truth is not None else "",
        objects_chart=_objects_chart(evaluation),
        steadiness_chart=_steadiness_chart(evaluation),
        pictures=_pictures(evaluation.pictures),
        fates=html_table(tables.fates(document)),
        geometry=html_table(tables.geometry(document)),
        tracks=html_table(tables.tracks(document)),
        facts=_facts(document),
        parameters=_list(document["parameters"]),
    )
    return html_page(escape(f"{model} on {name}"), body)


def _summary(document: Document) -> str:
    counts = (
        counted(document["frames"], "frame"),
        counted(document["instances"]["total"], "instance"),
        f"{document['recording']['duration_s']:.1f} s recorded",
    )
    return " · ".join(counts)


def _warnings(document: Document) -> str:
    damage = document["recording"]["damage"]
    said = ([f"The recording is damaged: {damage}"] if damage else []) + list(document["notes"])
    if not said:
        return ""
    entries = "".join(f"<li>{escape(entry)}</li>" for entry in said)
    return (
        '<section class="warning" aria-labelledby="warning-title">'
        '<h2 id="warning-title">Worth knowing</h2>'
        f"<p>The first of each kind; the table below counts them.</p><ul>{entries}</ul></section>"
    )


def _objects_chart(evaluation: RecordingEvaluation) -> str:
    series = {
        "instances": [float(row.num_instances) for row in evaluation.rows],
        "with position and box": [float(row.num_located) for row in evaluation.rows],
    }
    return timeline_chart(series, y_label="objects") + legend(list(series))


def _steadiness_chart(evaluation: RecordingEvaluation) -> str:
    series = {
        "overlap with the frame before": [row.mask_iou for row in evaluation.rows],
        "usable depth": [row.depth_valid for row in evaluation.rows],
    }
    return timeline_chart(series, y_label="share") + legend(list(series))


def _pictures(pictures: tuple[FramePicture, ...]) -> str:
    if not pictures:
        return '<p class="note">No pictures were kept.</p>'
    return f'<ul class="gallery">{"".join(map(_card, pictures))}</ul>'


def _card(picture: FramePicture) -> str:
    told = f"frame {picture.number}"
    images = _image(picture.overlay, picture, f"objects of {told}")
    images += _image(picture.depth, picture, f"depth of {told}")
    return (
        f'<li class="card"><span class="name">{told}</span><span class="pair">{images}</span></li>'
    )


def _truth_gallery(rows: Sequence[ImageRow], pictures: Mapping[int, PicturePair]) -> str:
    if not rows:
        return '<p class="note">No further pictures were kept.</p>'
    return f'<ul class="gallery">{"".join(_truth_card(r, pictures[r.image_id]) for r in rows)}</ul>'


def _truth_card(row: ImageRow, pair: PicturePair) -> str:
    name = escape(row.file_name)
    images = _image(pair.truth, pair, f"truth of {name}")
    images += _image(pair.prediction, pair, f"objects found in {name}")
    return (
        f'<li class="card"><span class="name">{name}</span>'
        f'<p class="figures">left truth, right found · overlap F {row.overlap_f:.1f} % · '
        f"{row.num_found} of {row.num_objects} found</p>"
        f'<span class="pair">{images}</span></li>'
    )


def _image(jpeg: bytes, size: FramePicture | PicturePair, told: str) -> str:
    if not jpeg:
        return ""
    return (
        f'<img src="{jpeg_uri(jpeg)}" width="{size.width}" height="{size.height}" '
        f'loading="lazy" decoding="async" alt="{told}">'
    )


def _truth(truth: TruthFigures, document: Document) -> str:
    evaluation = truth.evaluation
    curves, entries = precision_recall(evaluation)
    answered = f"{truth.num_matched} of {truth.num_images} labelled images of {truth.name} were"
    return _TRUTH.substitute(
        matched=escape(f"{answered} answered; what was not answered is left out here."),
        headline=html_tiles(tables.truth_headline(document)),
        curves=curves,
        legend=entries,
        reliability=charts.reliability_chart(
            evaluation.calibration.bins, description="Reliability diagram"
        ),
        by_area=html_table(tables.by_area(document)),
        worst=_truth_gallery(worst_rows(evaluation), evaluation.worst),
        best=_truth_gallery(best_rows(evaluation), evaluation.best),
    )


def _facts(document: Document) -> str:
    roles = document["recording"]["topics"]
    topics = {f"{role} topic": name or "none" for role, name in roles.items()}
    facts = {**document["model"], **topics, "package version": document["package_version"]}
    return _list(facts)


def _list(entries: Document) -> str:
    return "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in entries.items()
    )
