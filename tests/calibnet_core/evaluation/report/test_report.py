from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, evaluate_dataset
from calibnet_core.evaluation.image_outcomes import iou_thresholds
from calibnet_core.evaluation.report import (
    Provenance,
    figures_document,
    html_report,
    markdown_report,
    write_report,
)
from calibnet_core.structures import Instances
from tests.calibnet_core.evaluation.stand_ins import (
    SIZE,
    MemoryDataset,
    Oracle,
    random_dataset,
    sample,
)

SETTINGS = EvaluationSettings(gallery_size=2)
PROVENANCE = Provenance(
    dataset="drawers",
    predictions="calibnet_r50-1234abcd",
    sha256="12" * 32,
    inference={"mask_threshold": 0.45},
)
NASTY = "<script>alert('1')</script> & \"x\" | *a*_b"


def evaluation_of(dataset: MemoryDataset, *, num_workers: int = 0) -> Evaluation:
    return evaluate_dataset(dataset, Oracle(dataset), settings=SETTINGS, num_workers=num_workers)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    dataset = random_dataset(7, num_images=9)
    dataset.broken = {3: "imgs/a.png: is damaged"}
    return evaluation_of(dataset)


class Page(HTMLParser):
    """Tags with their attributes, and text by the tag that holds it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open, []).append(data)


def test_the_figures_say_all_and_are_plain_json(evaluation: Evaluation) -> None:
    document = figures_document(evaluation, SETTINGS, PROVENANCE)
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    assert document["mask_ap"]["AP"] == evaluation.mask_ap["AP"]
    assert document["mask_ap"]["APl"] is None
    assert document["dataset"] == {
        "name": "drawers",
        "num_images": 8,
        "num_objects": evaluation.overlap.num_objects,
        "num_failures": 1,
    }
    assert document["overlap"]["per_image"] == dataclasses.asdict(evaluation.overlap.per_image)
    assert [row["image_id"] for row in document["images"]] == [
        row.image_id for row in evaluation.rows
    ]
    assert document["failures"][0]["reason"] == "imgs/a.png: is damaged"
    assert document["settings"]["score_threshold"] == 0.5
    assert document["versions"]["pycocotools"]
    for overlap in iou_thresholds():
        curve = document["precision_recall"]["precision"][f"{overlap:.2f}"]
        ap = document["mask_ap"][f"AP{round(100 * overlap)}"]
        assert 100 * np.mean(curve) == pytest.approx(ap)


def test_reports_have_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    dataset = random_dataset(7, num_images=9)
    for workers in (0, 3):
        found = evaluation_of(dataset, num_workers=workers)
        write_report(tmp_path / str(workers), found, SETTINGS, PROVENANCE)
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert names == ["metrics.json", "report.html", "report.md"]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_an_existing_folder_is_left_alone(tmp_path: Path, evaluation: Evaluation) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(FileExistsError, match="kept exists already"):
        write_report(tmp_path / "kept", evaluation, SETTINGS, PROVENANCE)
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def fail_at_the_third(self: Path, text: str, **arguments: Any) -> int:
        written.append(self.name)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return len(text)

    monkeypatch.setattr(Path, "write_text", fail_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path / "report", evaluation, SETTINGS, PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_the_page_asks_nobody_for_anything(evaluation: Evaluation) -> None:
    page = Page(html_report(evaluation, SETTINGS, PROVENANCE))
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    assert not re.search(r"url\(|@import", "".join(page.text["style"]))
    (policy,) = [a["content"] for t, a in page.tags if "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_the_tables_show_the_figures(evaluation: Evaluation) -> None:
    html = html_report(evaluation, SETTINGS, PROVENANCE)
    markdown = markdown_report(evaluation, SETTINGS, PROVENANCE)
    for value in (
        evaluation.mask_ap["AP"],
        evaluation.mask_ap["AP70"],
        evaluation.overlap.per_image.boundary_f,
        evaluation.overlap.pooled.overlap_recall,
        evaluation.calibration.expected_error,
    ):
        assert f">{value:.1f}<" in html
        assert f" {value:.1f} |" in markdown
    for row in evaluation.rows:
        assert f'data-value="{row.overlap_f!r}">{row.overlap_f:.1f}<' in html
    assert "imgs/a.png: is damaged" in html
    assert "imgs/a.png: is damaged" in markdown.replace("\\", "")


def test_the_gallery_shows_the_worst_first(evaluation: Evaluation) -> None:
    page = Page(html_report(evaluation, SETTINGS, PROVENANCE))
    shown = [a["id"] for t, a in page.tags if t == "li" and a.get("class") == "card"]
    assert shown == [f"image-{n}" for n in (*evaluation.worst, *evaluation.best)]
    assert len(evaluation.worst) == len(evaluation.best) == 2
    alternatives = [a["alt"] for t, a in page.tags if t == "img"]
    assert len(alternatives) == 8
    assert all(alternatives)
    links = {a["href"] for t, a in page.tags if t == "a" and "image-" in (a["href"] or "")}
    assert links == {f"#{name}" for name in shown}


def nasty_evaluation() -> Evaluation:
    masks = np.zeros((1, *SIZE), bool)
    masks[0, 5:25, 5:25] = True
    dataset = MemoryDataset(
        [sample(1, masks, file_name=NASTY, scene=NASTY + "s"), sample(2, masks)],
        broken={1: NASTY},
    )
    return evaluate_dataset(dataset, lambda frame: Instances.empty(frame.size), settings=SETTINGS)


def test_text_from_files_forms_no_html() -> None:
    names = Provenance(dataset=NASTY, predictions=NASTY, sha256=NASTY, inference={NASTY: NASTY})
    html = html_report(nasty_evaluation(), SETTINGS, names)
    assert "<script>alert" not in html
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    (row,) = [attributes for tag, attributes in page.tags if "data-text" in attributes]
    assert row["data-text"] == f"{NASTY} {NASTY}s".lower()
    assert NASTY in page.text["li"][0] or any(NASTY in text for text in page.text["li"])


def test_text_from_files_forms_no_markdown() -> None:
    names = dataclasses.replace(PROVENANCE, dataset=NASTY)
    markdown = markdown_report(nasty_evaluation(), SETTINGS, names)
    for line in markdown.splitlines():
        if "alert" in line:
            assert not re.search(r"(?<!\\)[<*_]", line)
        if line.startswith("|") and "alert" in line:
            assert len(re.findall(r"(?<!\\)\|", line)) == 7


def test_a_set_without_figures_has_a_report_with_dashes() -> None:
    dataset = random_dataset(1, num_images=1)
    dataset.broken = {0: "gone"}
    empty = evaluation_of(dataset)
    html = html_report(empty, SETTINGS, PROVENANCE)
    assert '<dd class="value">–</dd>' in html
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL).lower()
    assert "No pictures were kept" in html
    assert "1 image failed" in html
    assert "| – |" in markdown_report(empty, SETTINGS, PROVENANCE)
