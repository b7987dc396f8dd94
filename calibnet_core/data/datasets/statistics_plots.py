"""The pictures of data set statistics, several sets side by side on equal axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from calibnet_core.data.datasets.faults import DatasetError
from calibnet_core.data.datasets.statistics import (
    IOU_EDGES,
    SIZE_EDGES,
    SetStatistics,
    matching_curve,
)
from calibnet_core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without yellow, which a thin line on white does not show.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", "-.", ":")
_MAX_COUNT = 10
"""Instances in an image from which on all count as one class."""
_MAX_COLUMNS = 4
_INK = "#202024"
_LINE_INCHES = 0.2


def draw_statistics(sets: Sequence[SetStatistics], folder: Path) -> list[Path]:
    """Write `instance_counts.png`, `instance_sizes.png`, `center_bias.png`, `consistency.png`.

    Args:
        sets: at least one, in the order of the legends.
        folder: where the pictures go; it exists.

    Returns:
        The paths written.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    pictures: dict[str, Callable[[Sequence[SetStatistics]], Figure]] = {
        "instance_counts": _instance_counts,
        "instance_sizes": _instance_sizes,
        "center_bias": _center_bias,
        "consistency": _consistency,
    }
    require_matplotlib()
    paths = []
    for name, draw in pictures.items():
        figure = draw(sets)
        paths.append(folder / f"{name}.png")
        with atomic_write(paths[-1]) as file:
            figure.savefig(file, format="png", dpi=150, facecolor="white")
    return paths


def require_matplotlib() -> None:
    """Say what to install, before minutes are spent on what cannot be drawn.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise DatasetError("drawing needs matplotlib; run pip install matplotlib") from error


def _figure(width: float, height: float, legend_lines: int) -> Figure:
    # Figures of their own, without pyplot: nothing global, no display, safe beside other plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height + _LINE_INCHES * legend_lines), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _instance_counts(sets: Sequence[SetStatistics]) -> Figure:
    figure = _figure(8.0, 4.2, len(sets))
    panel = figure.subplots()
    lowest = min((min(s.instances_per_image, default=1) for s in sets), default=1)
    highest = max((max(s.instances_per_image, default=1) for s in sets), default=1)
    classes = list(range(min(lowest, 1), min(max(highest, 2), _MAX_COUNT) + 1))
    _grouped_bars(
        panel,
        [str(n) if n < _MAX_COUNT else f"{n} or more" for n in classes],
        sets,
        [[_share_with(s, n) for n in classes] for s in sets],
    )
    _style(panel, "instances in an image", "share of the images (%)", grid="y")
    panel.set_title("Salient instances per image")
    labels = [
        f"{s.name}: {s.num_images} images, mean {s.num_instances / max(s.num_images, 1):.2f}"
        for s in sets
    ]
    _legend(panel, labels, is_filled=True)
    return figure


def _share_with(statistics: SetStatistics, number: int) -> float:
    counts = statistics.instances_per_image
    times = (
        sum(count for n, count in counts.items() if n >= _MAX_COUNT)
        if number == _MAX_COUNT
        else counts[number]
    )
    return 100.0 * times / max(statistics.num_images, 1)


def _instance_sizes(sets: Sequence[SetStatistics]) -> Figure:
    figure = _figure(11.0, 4.2, len(sets))
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1.0))
    edges = 100.0 * SIZE_EDGES
    for place, statistics in enumerate(sets):
        heights = 100.0 * statistics.size_histogram
        color = _color(place)
        if len(sets) <= 3:
            left.stairs(heights, edges, color=color, fill=True, alpha=0.12)
        # Empty classes draw no line, which would cover those of other sets.
        heights[heights == 0.0] = np.nan
        left.stairs(heights, edges, color=color, linewidth=2.0, linestyle=_line(place))
    left.set_xscale("log")
    left.set_xlim(edges[0], edges[-1])
    left.set_ylim(bottom=0.0)
    left.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    _style(left, "share of the image area (%), logarithmic", "share of the instances (%)")
    left.set_title("Sizes of the instances")
    labels = [
        f"{s.name}: {s.num_instances} instances, median {100 * float(np.median(s.shares)):.1f} %"
        if s.shares
        else f"{s.name}: no instance"
        for s in sets
    ]
    _legend(left, labels)
    classes = ("small", "medium", "large")
    _grouped_bars(
        right,
        ["small\nbelow 32² px", "medium\nup to 96² px", "large\nabove"],
        sets,
        [[100.0 * s.sizes_px[c] / max(s.num_instances, 1) for c in classes] for s in sets],
    )
    right.set_ylim(0.0, 112.0)
    right.set_yticks(range(0, 101, 20))
    _style(right, "", "share of the instances (%)", grid="y")
    right.set_title("Size classes of COCO")
    return figure


def _center_bias(sets: Sequence[SetStatistics]) -> Figure:
    columns = min(len(sets), _MAX_COLUMNS)
    rows = -(-len(sets) // columns)
    aspect = float(np.mean([s.aspect for s in sets]))
    width = max(3.4 * columns + 1.0, 9.0)
    map_height = min(3.2 / aspect, 4.5) + 0.7
    curve_height = 3.5
    figure = _figure(width, map_height * rows + curve_height, len(sets))
    heights = map_height * rows, curve_height + _LINE_INCHES * len(sets)
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=heights)).tolist()
    panels = upper.subplots(rows, columns, squeeze=False).ravel()
    highest = max(100.0 * float(s.center_map.max()) for s in sets)
    image: Any = None
    for panel, statistics in zip(panels, sets, strict=False):
        image = panel.imshow(
            100.0 * statistics.center_map,
            cmap="viridis",
            vmin=0.0,
            vmax=max(highest, 1e-6),
            extent=(0.0, 1.0, 1.0, 0.0),
            aspect=1.0 / aspect,
            interpolation="bilinear",
        )
        for line in (panel.axhline, panel.axvline):
            line(0.5, color="white", linewidth=0.8, linestyle=":")
        panel.set_xticks([0, 0.5, 1], ["left", "centre", "right"])
        panel.set_yticks([0, 0.5, 1], ["top", "centre", "bottom"])
        panel.set_title(statistics.name, fontsize=11)
    for panel in panels[len(sets) :]:
        panel.set_axis_off()
    bar = upper.colorbar(image, ax=list(panels), shrink=0.9)
    bar.set_label("instances that cover the place (%)")
    upper.suptitle("Where the instances lie: mean of all masks on one grid")
    left, right = lower.subplots(1, 2, sharey=True)
    for panel, label, attribute in (
        (left, "Centres of gravity", "center_distances"),
        (right, "Outermost pixels", "margin_distances"),
    ):
        for place, statistics in enumerate(sets):
            values = np.sort(getattr(statistics, attribute))
            panel.step(
                [0.0, *values, 1.0],
                100.0
                * np.array([0.0, *np.arange(1, len(values) + 1), len(values)])
                / max(len(values), 1),
                where="post",
                color=_color(place),
                linestyle=_line(place),
                linewidth=2.0,
            )
        panel.set_xlim(0.0, 1.0)
        panel.set_ylim(0.0, 101.0)
        panel.set_title(label, fontsize=11)
        _style(panel, "distance from the image centre (half diagonals)", "")
    left.set_ylabel("instances at most that far (%)")
    for panel, attribute in ((left, "center_distances"), (right, "margin_distances")):
        means = [f"{s.name}: mean {_mean(getattr(s, attribute))}" for s in sets]
        _legend(panel, means)
    return figure


def _consistency(sets: Sequence[SetStatistics]) -> Figure:
    figure = _figure(11.0, 4.2, len(sets))
    left, right = figure.subplots(1, 2, sharey=True)
    salient = "region label" if all(s.has_regions for s in sets) else "salient region"
    for panel, attribute, title in (
        (left, "object_ious", "Objects and instances: region label and union of the instances"),
        (right, "depth_ious", f"Depth and saliency: near part of the depth and {salient}"),
    ):
        for place, statistics in enumerate(sets):
            if ious := getattr(statistics, attribute):
                panel.plot(
                    IOU_EDGES,
                    100.0 * matching_curve(ious),
                    color=_color(place),
                    linestyle=_line(place),
                    linewidth=2.0,
                )
            else:
                panel.plot([], [], color=_color(place), linestyle=_line(place))
        panel.set_xlim(0.0, 1.0)
        panel.set_ylim(0.0, 103.0)
        panel.set_title(title, fontsize=10.5)
        _style(panel, "intersection over union", "")
    left.set_ylabel("images that reach it (%)")
    _legend(left, [f"{s.name}: {_object_caption(s)}" for s in sets])
    _legend(right, [f"{s.name}: {_depth_caption(s)}" for s in sets])
    return figure


def _object_caption(statistics: SetStatistics) -> str:
    if not statistics.has_regions:
        return "no region labels given"
    return f"mean IoU {_mean(statistics.object_ious)}"


def _depth_caption(statistics: SetStatistics) -> str:
    source = "" if statistics.has_regions else ", saliency from the instances"
    return f"mean IoU {_mean(statistics.depth_ious)}{source}"


def _mean(values: Sequence[float]) -> str:
    return f"{float(np.mean(values)):.3f}" if values else "unknown"


def _grouped_bars(
    panel: Axes,
    classes: Sequence[str],
    sets: Sequence[SetStatistics],
    heights: Sequence[Sequence[float]],
) -> None:
    width = 0.8 / len(sets)
    for place, own in enumerate(heights):
        left = np.arange(len(classes)) - 0.4 + (place + 0.5) * width
        bars = panel.bar(left, own, width * 0.92, color=_color(place))
        if len(sets) <= 3:
            labels = [f"{height:.0f}" if height >= 0.5 else "" for height in own]
            panel.bar_label(bars, labels, padding=2, fontsize=8.5, color=_INK)
    panel.set_xticks(range(len(classes)), classes)
    panel.set_ylim(0.0, 1.12 * max((max(own) for own in heights), default=0.0) or 1.0)


def _legend(panel: Axes, labels: Sequence[str], *, is_filled: bool = False) -> None:
    """A legend below the panel, where it hides nothing."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.transforms import ScaledTranslation

    handles: list[Any] = [
        Patch(color=_color(place))
        if is_filled
        else Line2D([], [], color=_color(place), linestyle=_line(place), linewidth=2.5)
        for place in range(len(labels))
    ]
    below_the_axis = ScaledTranslation(0.0, -0.5, panel.figure.dpi_scale_trans)
    panel.legend(
        handles,
        list(labels),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=panel.transAxes + below_the_axis,
        fontsize=9.5,
        frameon=False,
    )


def _color(place: int) -> str:
    return _COLORS[place % len(_COLORS)]


def _line(place: int) -> Any:
    return _LINES[place % len(_LINES)]


def _style(
    panel: Axes, x_label: str, y_label: str, grid: Literal["both", "x", "y"] = "both"
) -> None:
    panel.set_xlabel(x_label)
    if y_label:
        panel.set_ylabel(y_label)
    panel.grid(axis=grid, color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
