"""The chart over frames: what is drawn, and what is left open."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from calibnet_core.evaluation.recording.timeline import legend, timeline_chart


def lines(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'<polyline[^>]*points="([^"]*)"', svg)
    ]


def test_a_gap_breaks_the_line_and_a_lone_value_is_a_dot() -> None:
    svg = timeline_chart({"x": [0.0, 1.0, math.nan, 0.5, math.nan, 1.0, 0.0]}, y_label="y")
    first, last = lines(svg)
    assert [len(first), len(last)] == [2, 2]
    assert svg.count("<circle") == 1
    assert first[0] == (46.0, 192.0)
    assert first[1][1] == 12.0  # the top
    assert last[1] == (448.0, 192.0)


@pytest.mark.parametrize(("highest", "top"), [(0.0, "1"), (1.0, "1"), (3.0, "5"), (101.0, "200")])
def test_the_axis_ends_at_a_round_number(highest: float, top: str) -> None:
    svg = ElementTree.fromstring(timeline_chart({"x": [highest]}, y_label="y"))
    ticks = [node.text for node in svg.iter("text") if node.get("text-anchor") == "end"]
    assert ticks[0] == "0"
    assert ticks[-1] == top


def test_a_long_recording_is_drawn_as_means() -> None:
    svg = timeline_chart({"x": [float(k % 2) for k in range(4000)]}, y_label="y")
    (line,) = lines(svg)
    assert len(line) == 400
    assert {y for _, y in line} == {102.0}  # half way


def test_no_frame_gives_axes_and_names_are_escaped() -> None:
    chart = ElementTree.fromstring(timeline_chart({"<b>": []}, y_label="a & b"))
    assert "a & b" in "".join(chart.itertext())
    names = ElementTree.fromstring(f"<ul>{legend(['<b>', '&'])}</ul>")
    assert [entry for entry in ("<b>", "&") if entry not in "".join(names.itertext())] == []
