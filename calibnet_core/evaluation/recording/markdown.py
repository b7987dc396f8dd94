"""The report of a recording as Markdown, to paste where people talk."""

from __future__ import annotations

from calibnet_core.evaluation.recording import tables
from calibnet_core.evaluation.recording.tables import Document
from calibnet_core.evaluation.report.pieces import markdown_table, markdown_text, markdown_tiles


def recording_markdown(document: Document) -> str:
    """Headline figures, what became of the images, and the figures beside the truth.

    Args:
        document: as `recording_document` makes it.
    """
    recording, model = document["recording"], document["model"]
    parts = [
        f"# {markdown_text(model.get('model_id', ''))} on {markdown_text(recording['name'])}",
        f"{document['frames']} frames of {document['messages']['color']} colour images, "
        f"{recording['duration_s']:.1f} s recorded.",
    ]
    if recording["damage"]:
        parts.append(f"**The recording is damaged:** {markdown_text(recording['damage'])}")
    parts.append(markdown_tiles(tables.headline(document)))
    if document["truth"] is not None:
        truth = document["truth"]
        parts += [
            f"## Beside {markdown_text(truth['name'])}",
            f"{truth['matched']} of {truth['images']} labelled images were answered.",
            markdown_tiles(tables.truth_headline(document)),
            markdown_table(tables.by_area(document)),
        ]
    parts += ["## What became of the images", markdown_table(tables.fates(document))]
    if document["notes"]:
        parts.append("\n".join(f"- {markdown_text(note)}" for note in document["notes"]))
    parts += [
        "## Objects",
        markdown_table(tables.geometry(document)),
        markdown_table(tables.tracks(document)),
    ]
    return "\n\n".join(parts) + "\n"
