from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from calibnet_core.evaluation.calibration import ScoreCalibration
from calibnet_core.evaluation.report.charts import precision_recall_chart, reliability_chart


def elements(svg: str, name: str, kind: str = "") -> list[ElementTree.Element]:
    """Elements of one tag, and of one class where `kind` is given."""
    found = ElementTree.fromstring(svg).iter(name)
    return [e for e in found if kind in e.get("class", "").split() or not kind]


def points(svg: str) -> list[list[tuple[float, ...]]]:
    lines = elements(svg, "polyline")
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in lines
    ]


def scale(svg: str) -> tuple[float, float, float, float]:
    """Where 0 and 1 lie on either axis, by the grid."""
    lines = elements(svg, "line", "grid")
    xs = [float(line.get(name, "")) for line in lines for name in ("x1", "x2")]
    ys = [float(line.get(name, "")) for line in lines for name in ("y1", "y2")]
    return min(xs), max(xs), max(ys), min(ys)


def test_a_curve_runs_where_its_precision_is_and_ends_where_it_drops() -> None:
    curve = np.where(np.arange(101) <= 50, 0.75, 0.0)
    svg = precision_recall_chart([curve], description="one curve")
    (line,) = points(svg)
    x0, x1, y0, y1 = scale(svg)
    assert line[0] == (round(x0, 1), round(y0 + 0.75 * (y1 - y0), 1))
    assert len(line) == 52
    assert line[-1] == (round(x0 + 0.51 * (x1 - x0), 1), round(y0, 1))
    assert ElementTree.fromstring(svg).get("aria-label") == "one curve"


def test_a_perfect_curve_spans_the_chart_and_an_undefined_one_is_left_out() -> None:
    curves = [np.full(101, np.nan), np.ones(101)]
    svg = precision_recall_chart(curves, description="")
    (line,) = points(svg)
    x0, x1, _, y1 = scale(svg)
    assert line[0] == (round(x0, 1), round(y1, 1))
    assert line[-1] == (round(x1, 1), round(y1, 1))
    assert elements(svg, "polyline", "series-1")


def test_bars_are_as_high_as_the_share_that_is_right() -> None:
    calibration = ScoreCalibration(num_bins=5)
    calibration.update([0.5, 0.5, 0.5, 0.5, 0.9], [True, False, False, False, True])
    svg = reliability_chart(calibration.compute().bins, description="")
    *_, y0, y1 = scale(svg)
    heights = [float(bar.get("height", "")) for bar in elements(svg, "rect", "bar")]
    np.testing.assert_allclose(heights, [0.25 * (y0 - y1), y0 - y1], atol=0.1)
    told = [title.text for title in elements(svg, "title")]
    assert told[0] == "score 0.40 to 0.60: 4 detections, 25.0 % right, mean score 0.500"
    counts = [text.text for text in elements(svg, "text") if re.fullmatch(r"\d+", text.text or "")]
    assert counts == ["0", "0", "4", "0", "1"]


def test_a_table_without_detections_is_an_empty_chart() -> None:
    svg = reliability_chart(ScoreCalibration().compute().bins, description="")
    assert elements(svg, "rect", "bar") == []
    assert "nan" not in svg
