"""The page in a real browser, from the file system and without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calibnet_core.evaluation.evaluator import Evaluation, EvaluationSettings, evaluate_dataset
from calibnet_core.evaluation.report import Provenance, write_report
from tests.calibnet_core.evaluation.stand_ins import Oracle, random_dataset

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTINGS = EvaluationSettings(gallery_size=3)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = [os.environ.get("CHROMIUM", ""), *(shutil.which(name) or "" for name in NAMES)]
    path = next((path for path in found if path), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with playwright_api.sync_playwright() as playwright:
        # Chromium's sandbox needs rights that containers lack; the page is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    dataset = random_dataset(11, num_images=14)
    return evaluate_dataset(dataset, Oracle(dataset), settings=SETTINGS)


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "report"
    write_report(folder, evaluation, SETTINGS, Provenance(dataset="drawers", predictions="oracle"))
    return folder / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page, wide; whatever it complains of or asks for fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("file:", "data:"))
            or complaints.append(f"request: {request.url}")
        ),
    )
    page.goto(report.as_uri())
    yield page
    assert complaints == []
    context.close()


def names(page: Any) -> list[str]:
    """Names of the rows that are seen, from top to bottom."""
    rows = page.locator("#image-table tbody tr:visible th")
    return [name.strip() for name in rows.all_inner_texts()]


def heading_of(page: Any, name: str) -> Any:
    return page.locator("#image-table").get_by_role("columnheader", name=name, exact=True)


def test_the_page_opens_from_a_file_and_all_pictures_show(page: Any) -> None:
    assert page.title() == "oracle on drawers"
    page.evaluate("document.querySelectorAll('img').forEach((image) => (image.loading = 'eager'))")
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert widths == [80] * 12


def test_the_policy_of_the_page_lets_nothing_be_fetched(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    refused = page.evaluate("fetch('data:text/plain,x').then(() => false, () => true)")
    assert refused
    page.close()


def test_sorting_orders_the_rows_both_ways(page: Any, evaluation: Evaluation) -> None:
    heading = heading_of(page, "Overlap F")
    worst_first = sorted(evaluation.rows, key=lambda row: row.overlap_f)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(page) == [row.file_name for row in worst_first]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    best_first = sorted(evaluation.rows, key=lambda row: -row.overlap_f)
    assert names(page) == [row.file_name for row in best_first]


def test_names_are_sorted_as_people_count(page: Any, evaluation: Evaluation) -> None:
    heading_of(page, "Image").get_by_role("button").click()
    assert names(page) == [f"drawer_{n}.png" for n in sorted(r.image_id for r in evaluation.rows)]
    assert page.locator("th[aria-sort]").count() == 1


def test_undefined_figures_stay_below_in_either_order(page: Any) -> None:
    page.evaluate(
        "document.querySelector('#image-table tbody tr td:nth-child(8)').dataset.value = ''"
    )
    empty = names(page)[0]
    button = heading_of(page, "Best score").get_by_role("button")
    for _ in range(2):
        button.click()
        assert names(page)[-1] == empty


def test_filters_leave_what_they_say(page: Any, evaluation: Evaluation) -> None:
    page.get_by_label("Scene").select_option("kitchen 1")
    wanted = [row for row in evaluation.rows if row.scene == "kitchen 1"]
    assert 0 < len(wanted) < len(evaluation.rows)
    assert names(page) == [row.file_name for row in wanted]
    told = page.get_by_role("status")
    assert told.inner_text() == f"{len(wanted)} of {len(evaluation.rows)} images"

    middle = sorted(row.overlap_f for row in wanted)[len(wanted) // 2]
    page.locator("#filter-f-low").fill(str(middle))
    wanted = [row for row in wanted if row.overlap_f >= middle]
    assert names(page) == [row.file_name for row in wanted]

    page.get_by_role("button", name="Clear").click()
    playwright_api.expect(page.locator("#image-table tr[hidden]")).to_have_count(0)
    assert names(page) == [row.file_name for row in evaluation.rows]

    page.locator("#filter-score-high").fill("0.9")
    assert names(page) == [row.file_name for row in evaluation.rows if row.top_score <= 0.9]
    page.get_by_role("searchbox").fill("KITCHEN drawer_1")
    chosen = [
        row.file_name
        for row in evaluation.rows
        if row.top_score <= 0.9 and "drawer_1" in row.file_name
    ]
    assert names(page) == chosen


def test_text_that_no_image_has_leaves_none(page: Any, evaluation: Evaluation) -> None:
    page.get_by_role("searchbox").fill("bathroom")
    assert names(page) == []
    assert page.get_by_role("status").inner_text() == f"0 of {len(evaluation.rows)} images"


def test_pictures_enlarge_with_the_keyboard(page: Any, evaluation: Evaluation) -> None:
    button = page.locator(".enlarge").first
    button.press("Enter")
    dialog = page.get_by_role("dialog")
    row = next(row for row in evaluation.rows if row.image_id == next(iter(evaluation.worst)))
    assert dialog.get_by_role("heading").inner_text() == row.file_name
    assert dialog.locator("img").count() == 2
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_row_leads_to_its_pictures(page: Any, evaluation: Evaluation) -> None:
    page.locator("#image-table a").first.click()
    target = page.url.partition("#")[2]
    assert target in {f"image-{n}" for n in (*evaluation.worst, *evaluation.best)}
    assert page.locator(f"#{target}").is_visible()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_never_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


CONTRAST = """
() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.body.querySelectorAll("*")) {
    const hasText = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!hasText || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const ink = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(parse(ink)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(node.tagName + " " + node.textContent.slice(0, 30) + " " + ratio);
  }
  return faint;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []


def test_every_field_has_a_label(page: Any) -> None:
    nameless = page.evaluate(
        "[...document.querySelectorAll('input, select')]"
        ".filter((field) => field.labels.length === 0).map((field) => field.id)"
    )
    assert nameless == []
