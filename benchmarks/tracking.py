"""How long the tracker takes for one frame.

    python benchmarks/tracking.py [--rounds 31] [--json FILE]

Objects of about 100x100 pixels stand in an image of 1280x720, in a row where there are few, over
one another where there are many. `still` is a camera at rest, `shaking` one that throws every
object over its neighbour's place from frame to frame.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import alternate, provenance, repeat, summarise, write_record
from calibnet_core.perception.mask_codec import Roi
from calibnet_core.perception.tracking import Observation, Tracker, TrackingSettings

SIZE, WIDTH, HEIGHT, FOCAL = 100, 1280, 720, 900.0
PERIOD_NS = 33_333_333
LIMITS_MS = {"still, 5 objects": 0.7, "still, 20 objects": 5.0}
"""What the median of a frame's processor time has to stay within."""


def main() -> None:
    """Measure and print; exit with 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31, help="measurements of each case")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    runs = {
        f"{name}, {count} objects": repeat(frames(count, shift))
        for count in (1, 5, 20, 50)
        for name, shift in (("still", 2), ("shaking", 180))
    }
    baseline = next(iter(runs))
    seconds = alternate(runs, repeated=[], rounds=arguments.rounds)
    by_clock = {clock: summarise(named, baseline) for clock, named in seconds.items()}
    table = Table(title=f"Tracker.update, {arguments.rounds} rounds")
    for column in ("case", "median cpu ms", "median wall ms", "limit ms"):
        table.add_column(column, justify="left" if column == "case" else "right")
    exceeded = []
    for name in runs:
        cpu, wall = (by_clock[clock][name].median_ms for clock in ("cpu", "wall"))
        limit = LIMITS_MS.get(name)
        table.add_row(name, f"{cpu:.3f}", f"{wall:.3f}", "" if limit is None else f"{limit}")
        if limit is not None and cpu > limit:
            exceeded.append(name)
    Console().print(table)
    if arguments.json:
        record = {
            **provenance("numpy", "scipy"),
            "figures": {
                clock: {name: asdict(summary) for name, summary in named.items()}
                for clock, named in by_clock.items()
            },
        }
        write_record(arguments.json, record)
    if exceeded:
        sys.exit(f"too slow: {'; '.join(exceeded)}")


def frames(count: int, shift: int) -> Callable[[], object]:
    """Return what tracks the next frame of a scene of `count` objects that moves there and back."""
    scenes = [objects(count, offset) for offset in (0, shift)]
    tracker = Tracker(TrackingSettings())
    numbers = itertools.count()

    def next_frame() -> object:
        number = next(numbers)
        return tracker.update(number * PERIOD_NS, scenes[number % 2], score_threshold=0.5)

    for _ in range(3):
        next_frame()
    return next_frame


def objects(count: int, offset: int) -> list[Observation]:
    """Discs spread evenly over the image, all of them moved by `offset` pixels."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    mask = rows**2 + columns**2 <= (SIZE / 2) ** 2
    observations = []
    for index in range(count):
        column = int((index + 0.5) / count * (WIDTH - SIZE)) + offset
        row = int((index * 0.618 % 1.0) * (HEIGHT - SIZE))
        depth_m = 1.0 + 0.5 * (index * 0.382 % 1.0)
        bearing = np.array([column / FOCAL, row / FOCAL, 1.0])
        observations.append(
            Observation(
                mask=mask,
                roi=Roi(x_offset=column, y_offset=row, height=SIZE, width=SIZE),
                score=0.9,
                position=depth_m * bearing,
            )
        )
    return observations


if __name__ == "__main__":
    main()
