"""What both kinds of report are made of: worked cases, and text that breaks nothing."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.evaluation.report.pieces import (
    counted,
    html_table,
    html_tiles,
    jpeg_uri,
    markdown_table,
    markdown_text,
    markdown_tiles,
    package_file,
    policy_source,
    precision_recall,
)
from calibnet_core.evaluation.report.tables import Table

HOSTILE = "<img src=x onerror=alert(1)> | `a` [b](c)\n# d & e"
TABLE = Table(columns=("Name", "AP"), rows=(("kitchen", "1.5"), (HOSTILE, "–")))


class Cells(HTMLParser):
    """Collects tags and the text of cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_table_has_its_cells_in_both_forms() -> None:
    lines = markdown_table(TABLE).splitlines()
    assert lines[:3] == ["| Name | AP |", "| --- | ---: |", "| kitchen | 1.5 |"]
    assert len(lines) == 4
    page = Cells(html_table(TABLE))
    assert page.cells == ["Name", "AP", "kitchen", "1.5", HOSTILE, "–"]
    assert "img" not in page.tags
    assert page.tags.count("tr") == 3


@given(st.text())
def test_markdown_text_is_one_line_without_a_bare_sign(text: str) -> None:
    escaped = markdown_text(text)
    assert len(escaped.splitlines()) <= 1
    plain = escaped.replace("\\\\", "")
    for sign in "`*_{}[]<>#|&~":
        assert plain.count(sign) == plain.count("\\" + sign)


def test_tiles_name_their_figures_in_both_forms() -> None:
    tiles = [("AP", "53.0", "mean"), ("Found", "–", "objects")]
    lines = ["| AP | Found |", "| --- | ---: |", "| 53.0 | – |"]
    assert markdown_tiles(tiles).splitlines() == lines
    assert Cells(html_tiles(tiles)).cells == ["AP", "53.0", "mean", "Found", "–", "objects"]


def test_a_policy_names_what_is_in_the_page_by_its_hash() -> None:
    style = package_file("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy_source(style) == f"'sha256-{digest}'"
    assert jpeg_uri(b"\xff\xd8\xff") == "data:image/jpeg;base64,/9j/"


@pytest.mark.parametrize(("number", "told"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_nouns_follow_their_number(number: int, told: str) -> None:
    assert counted(number, "image") == told


class Steps:
    """Stands for an evaluation: the precision is 1 where the overlap is below 0.7, else 0."""

    @property
    def curves(self) -> Steps:
        return self

    def curve(self, overlap: float) -> NDArray[np.float64]:
        return np.full(101, float(overlap < 0.7 - 1e-9))


def test_the_legend_tells_the_area_below_each_curve() -> None:
    chart, legend = precision_recall(Steps())  # type: ignore[arg-type]
    cells = Cells(legend).cells
    # Of the ten overlaps from 0.50 to 0.95 four lie below 0.70.
    assert cells[0] == "0.50: AP 100.0"
    assert cells[-1] == "mean: AP 40.0"
    assert "0.50 100.0 %" in chart
