"""A chart of figures over the frames of a recording, in the style of the report's other charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 460, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 44
_MOST_POINTS = 400
"""Longer recordings are drawn as means of neighbouring frames: the eye sees no more."""


def timeline_chart(
    series: Mapping[str, Sequence[float]], *, y_label: str, least_top: float = 1.0
) -> str:
    """Lines over the number of the frame.

    Args:
        series: values of the frames by name, all of one length, 0 or more each; NaN leaves a gap.
            The n-th has the class `series-n`.
        y_label: of the vertical axis.
        least_top: the vertical axis reaches at least this, or higher where a value does.

    Returns:
        An `svg` element.
    """
    count = max((len(values) for values in series.values()), default=0)
    known = [v for values in series.values() for v in values if math.isfinite(v)]
    top = _nice_top(max([least_top, *known]))
    body = [_axes(count, top, y_label)]
    for number, values in enumerate(series.values()):
        for run in _runs(_thinned(values)):
            points = [(_x(frame, count), _y(value, top)) for frame, value in run]
            if len(points) == 1:
                x, y = points[0]
                body.append(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
            else:
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                body.append(f'<polyline class="curve series-{number}" points="{path}"/>')
    told = escape(f"{', '.join(series)} over {count} frames")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{told}">{"".join(body)}</svg>'
    )


def legend(names: Sequence[str]) -> str:
    """A list that tells the lines of a chart apart."""
    entries = "".join(
        f'<li><svg viewBox="0 0 34 10" aria-hidden="true"><line class="series-{number}" x1="0" '
        f'y1="5" x2="34" y2="5"/></svg>{escape(name)}</li>'
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{entries}</ul>'


def _thinned(values: Sequence[float]) -> list[tuple[float, float]]:
    """(frame number from 1, value), a mean where there are too many."""
    step = max(1, math.ceil(len(values) / _MOST_POINTS))
    points = []
    for start in range(0, len(values), step):
        known = [v for v in values[start : start + step] if math.isfinite(v)]
        middle = start + 1 + (min(step, len(values) - start) - 1) / 2
        points.append((middle, sum(known) / len(known) if known else math.nan))
    return points


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for frame, value in points:
        if math.isfinite(value):
            runs[-1].append((frame, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _nice_top(highest: float) -> float:
    """The least of 1, 2, 5, 10, 20 ... that is no less than `highest`."""
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= highest)


def _axes(count: int, top: float, y_label: str) -> str:
    parts = []
    x0, x1 = _x(1, count), _WIDTH - _RIGHT
    # So that whole numbers stand at the lines: the top begins with 1, 2 or 5.
    num_steps = 4 if f"{top:e}".startswith("2") else 5
    for share in (step / num_steps for step in range(num_steps + 1)):
        y = _y(share * top, top)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{x1}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">'
            f"{share * top:g}</text>"
        )
    for frame in sorted({1, (count + 1) // 2, count} - {0}):
        x = _x(frame, count) if count > 1 else x0
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}">'
            f"{frame}</text>"
        )
    middle = (_LEFT + x1) / 2
    parts.append(
        f'<text class="label" text-anchor="middle" x="{middle:.1f}" y="{_HEIGHT - 8}">frame</text>'
        '<text class="label" text-anchor="middle" transform="translate(13 '
        f'{(_HEIGHT - _BOTTOM + _TOP) / 2:.1f}) rotate(-90)">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _x(frame: float, count: int) -> float:
    share = (frame - 1) / (count - 1) if count > 1 else 0.5
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _TOP + (1.0 - value / top) * (_HEIGHT - _TOP - _BOTTOM)
