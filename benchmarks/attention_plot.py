"""The picture of the operator's benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import measure
from benchmarks.attention_cases import FUSED_FORM, SAMPLING_FORM
from benchmarks.attention_contenders import GRID_SAMPLE, YARDSTICKS
from benchmarks.attention_report import DIRECTIONS, Report, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart in every common form of colour blindness (Okabe and Ito).
COLOURS = {
    "eager": "#999999",
    "by channel": "#5A5A5A",
    "softmax + by channel": "#C4C4C4",
    "compiled": "#0072B2",
    "compiled fp16": "#CC79A7",
    "compiled bf16": "#56B4E9",
    "softmax + compiled": "#009E73",
    "fused": "#D55E00",
    "fused fp16": "#F0E442",
    "fused bf16": "#E69F00",
}


def plot(report: Report, path: Path) -> None:
    """Draw the speed-up over grid_sample of the first size and batch as horizontal bars."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = report.main_rows()
    baselines = YARDSTICKS[GRID_SAMPLE]
    size, batch = rows[0].size, rows[0].batch
    rows = [row for row in rows if (row.size, row.batch) == (size, batch)]
    again = {baseline + measure.AGAIN for baseline in baselines.values()}
    bars = [row for row in rows if row.contender not in again.union(baselines.values())]
    forms = dict.fromkeys((row.contender, row.form) for row in bars)
    contenders = [contender for contender, _ in forms]
    samplings = list(dict.fromkeys(row.sampling for row in bars))
    inches = 1.6 + 0.21 * len(samplings) * (len(contenders) + 1)
    figure, panels = plt.subplots(
        1, 2, sharey=True, figsize=(12, inches), dpi=150, layout="constrained"
    )
    for panel, direction in zip(panels, DIRECTIONS, strict=True):
        _draw(panel, [row for row in bars if row.direction == direction], contenders, samplings)
        repeated = [
            row.times for row in rows if row.contender in again and row.direction == direction
        ]
        panel.axvspan(
            min(times.ratio_lowest for times in repeated),
            max(times.ratio_highest for times in repeated),
            color="black",
            alpha=0.12,
            linewidth=0,
        )
        panel.axvline(1.0, color="black", linewidth=1.0)
        panel.set_title(direction.capitalize(), fontsize=12)
        panel.set_xlabel("speed-up, baseline's time / own time (×; line: 1, no faster)")
    panels[0].set_ylabel("where the queries look")
    panels[0].set_yticks(range(len(samplings)), samplings)
    panels[0].set_ylim(len(samplings) - 0.45, -0.55)
    panels[1].tick_params(axis="y", length=0)
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    for form, place, title in (
        (SAMPLING_FORM, "outside lower left", "given locations and weights"),
        (FUSED_FORM, "outside lower right", "given a linear layer's output"),
    ):
        own = [contender for contender, its in forms if its == form]
        if not own:
            continue  # the fused operator exists compiled only
        figure.legend(
            [handles[contender] for contender in own],
            own,
            loc=place,
            ncols=min(3, len(own)),
            title=f"{title}, over {baselines[form]}",
            frameon=False,
        )
    timed = "CPU time at one thread" if report.device == "cpu" else "GPU time, cache cold"
    machine = report.machine.get("name", report.machine["processor"])
    figure.suptitle(
        f"Deformable attention at {size}, batch {batch}: speed-up over grid_sample ({timed})\n"
        f"{machine}; bars: median, whiskers: lowest to highest round; "
        "grey band: grid_sample against itself",
        fontsize=12,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _draw(
    panel: Axes, rows: Sequence[Row], contenders: Sequence[str], samplings: Sequence[str]
) -> None:
    height = 0.84 / len(contenders)
    longest = max(row.times.ratio_highest for row in rows)
    for place, contender in enumerate(contenders):
        own = {row.sampling: row.times for row in rows if row.contender == contender}
        times = [own[sampling] for sampling in samplings]
        ratios = [summary.ratio for summary in times]
        below = [summary.ratio - summary.ratio_lowest for summary in times]
        above = [summary.ratio_highest - summary.ratio for summary in times]
        ys = [group - 0.42 + (place + 0.5) * height for group in range(len(samplings))]
        panel.barh(
            ys,
            ratios,
            height * 0.92,
            xerr=(below, above),
            color=COLOURS[contender],
            error_kw={"elinewidth": 1.2, "capsize": 2.5, "ecolor": "#222222"},
            label=contender,
        )
        for y, summary in zip(ys, times, strict=True):
            panel.text(
                summary.ratio_highest + 0.012 * longest,
                y,
                f"{summary.ratio:.1f}×",
                va="center",
                fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
    panel.set_xlim(0, longest * 1.1)
    panel.grid(axis="x", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
