"""The folder that an evaluation leaves: figures for programs, for text and for the eye."""

from __future__ import annotations

import json
from pathlib import Path

from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings
from calibnet_core.evaluation.report.figures import Provenance, figures_document
from calibnet_core.evaluation.report.html import html_report
from calibnet_core.evaluation.report.markdown import markdown_report
from calibnet_core.files import atomic_folder

__all__ = ["Provenance", "figures_document", "html_report", "markdown_report", "write_report"]


def write_report(
    folder: str | Path,
    evaluation: Evaluation,
    settings: EvaluationSettings,
    provenance: Provenance,
) -> None:
    """Write `metrics.json`, `report.md` and `report.html` into a new folder.

    The same evaluation gives the same bytes. The folder appears complete or not at all.

    Raises:
        FileExistsError: there is a file or folder of that name.
        OSError: it cannot be written.
    """
    figures = figures_document(evaluation, settings, provenance)
    files = {
        # NaN is no JSON; what is undefined is null by now.
        "metrics.json": json.dumps(figures, indent=1, allow_nan=False) + "\n",
        "report.md": markdown_report(evaluation, settings, provenance),
        "report.html": html_report(evaluation, settings, provenance),
    }
    with atomic_folder(folder) as workshop:
        workshop.mkdir()
        for name, content in files.items():
            # Newlines as they are: the page's policy names the hash of its script.
            (workshop / name).write_text(content, encoding="utf-8", newline="")
