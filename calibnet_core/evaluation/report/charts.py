"""Charts as inline SVG. Colours are classes, so that the page decides on light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibnet_core.evaluation.calibration import ScoreBin
from calibnet_core.evaluation.image_outcomes import recall_thresholds

DRAWN_OVERLAPS = (0.50, 0.70, 0.75, 0.90)
"""Overlaps whose curves are drawn; together with the mean over all of them."""

_WIDTH = 460
_LEFT, _RIGHT, _TOP = 46, 12, 12
_PLOT_HEIGHT = 280
_STRIP_HEIGHT = 56
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def precision_recall_chart(curves: Sequence[NDArray[np.float64]], *, description: str) -> str:
    """Precision over recall.

    Args:
        curves: (R,) precision in [0, 1] over `recall_thresholds()` each; NaN leaves a curve out.
            The n-th has the class `series-n`.
        description: for those who do not see the picture.
    """
    recalls = recall_thresholds()
    lines = []
    for number, curve in enumerate(curves):
        if np.isfinite(curve).all():
            # The drop to 0 is drawn, but not the way along the axis, where all curves would meet.
            end = min(len(curve), int(np.count_nonzero(curve)) + 1)
            points = " ".join(
                f"{_x(recall):.1f},{_y(precision):.1f}"
                for recall, precision in zip(recalls[:end].tolist(), curve.tolist(), strict=False)
            )
            lines.append(f'<polyline class="curve series-{number}" points="{points}"/>')
    body = _axes("recall", "precision") + "".join(lines)
    return _svg(body, _TOP + _PLOT_HEIGHT + 40, description)


def reliability_chart(bins: Sequence[ScoreBin], *, description: str) -> str:
    """Share of right detections over score, the diagonal of honest scores, and counts below.

    Args:
        bins: the reliability table.
        description: for those who do not see the picture.
    """
    body, points = [_axes("score", "share that is right")], []
    for entry in bins:
        if not entry.count:
            continue
        left, right = _x(entry.low) + 1, _x(entry.high) - 1
        top = _y(entry.share_right)
        told = (
            f"score {entry.low:.2f} to {entry.high:.2f}: {entry.count} detections, "
            f"{100 * entry.share_right:.1f} % right, mean score {entry.mean_score:.3f}"
        )
        bar = f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        body.append(f'{bar}height="{_y(0.0) - top:.1f}"><title>{told}</title></rect>')
        x, y = _x(entry.mean_score), _y(entry.share_right)
        points.append(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    x0, y0, x1, y1 = _x(0.0), _y(0.0), _x(1.0), _y(1.0)
    body.append(f'<line class="honest" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    base = _TOP + _PLOT_HEIGHT + 48 + _STRIP_HEIGHT
    body += [*points, _strip(bins, base)]
    return _svg("".join(body), base + 20, description)


def _strip(bins: Sequence[ScoreBin], base: float) -> str:
    """Counts of the bins on a logarithmic scale, for most candidates score next to nothing."""
    highest = math.log10(1 + max((entry.count for entry in bins), default=0)) or 1.0
    parts = []
    for entry in bins:
        left, width = _x(entry.low) + 1, _x(entry.high) - _x(entry.low) - 2
        height = (_STRIP_HEIGHT - 14) * math.log10(1 + entry.count) / highest
        parts.append(
            f'<rect class="count" x="{left:.1f}" y="{base - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/>'
        )
        if len(bins) <= 12:
            parts.append(
                f'<text class="tick" text-anchor="middle" x="{left + width / 2:.1f}" '
                f'y="{base - height - 3:.1f}">{entry.count}</text>'
            )
    parts.append(f'<line class="axis" x1="{_x(0.0)}" y1="{base}" x2="{_x(1.0)}" y2="{base}"/>')
    parts.append(
        f'<text class="label" text-anchor="middle" x="{_x(0.5)}" y="{base + 15}">'
        "detections in each bin (logarithmic)</text>"
    )
    return "".join(parts)


def _axes(x_label: str, y_label: str) -> str:
    parts = []
    for tick in _TICKS:
        x, y = _x(tick), _y(tick)
        parts.append(f'<line class="grid" x1="{_x(0.0)}" y1="{y}" x2="{_x(1.0)}" y2="{y}"/>')
        parts.append(f'<line class="grid" x1="{x}" y1="{_y(0.0)}" x2="{x}" y2="{_y(1.0)}"/>')
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x}" y="{_y(0.0) + 15}">{tick:.1f}</text>'
        )
        parts.append(
            f'<text class="tick" text-anchor="end" x="{_x(0.0) - 6}" y="{y + 4}">{tick:.1f}</text>'
        )
    parts.append(
        f'<text class="label" text-anchor="middle" x="{_x(0.5)}" y="{_y(0.0) + 32}">{x_label}'
        f'</text><text class="label" text-anchor="middle" transform="translate(13 {_y(0.5)}) '
        f'rotate(-90)">{y_label}</text>'
    )
    return "".join(parts)


def _svg(body: str, height: float, description: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{description}">{body}</svg>'
    )


def _x(share: float) -> float:
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 2)


def _y(share: float) -> float:
    return round(_TOP + (1.0 - share) * _PLOT_HEIGHT, 2)
