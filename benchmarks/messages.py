"""How long the node's messages take to make.

    python benchmarks/messages.py [--size 480x640] [--objects 5] [--rounds 15] [--json FILE]

A frame of a rendered table with boxes around its objects becomes every message that is installed
here, one after the other, in one thread. The result and the label image have limits, for 5 objects
at 480x640: 0.8 ms and 0.5 ms. The result is also made of an empty frame, and with the other mask
encodings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import Summary, alternate, provenance, repeat, summarise, write_record
from calibnet_core.data.analytic_scene import render_sequence
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.perception.perceiver import Perception
from calibnet_ros.messages import OUTPUTS, FrameAccount, OutputOptions, instances_to_msg
from tests.support.perceptions import known_geometry, make_perception

LIMITS_MS = {"instances": 0.8, "label_image": 0.5}


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="480x640", help="height x width of the frame")
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    height, width = (int(part) for part in arguments.size.split("x"))
    seen = perceive((height, width), arguments.objects)
    calls = makers(seen, perceive((height, width), 0))
    for call in calls.values():
        call()  # warm-up
    seconds = alternate(
        {name: repeat(call) for name, call in calls.items()},
        repeated=["instances"],
        rounds=arguments.rounds,
    )
    title = f"{len(seen)} objects at {height}x{width}, 1 thread, {arguments.rounds} rounds"
    report(arguments, title, summarise(seconds["cpu"], "instances"))


def perceive(size: tuple[int, int], count: int) -> Perception:
    """The first objects of a rendered scene, each with a track and geometry."""
    (shot,) = render_sequence(1, size, seed=1)
    frame = shot.to_rgbd_frame()
    visible = [label for label in np.unique(shot.label) if label][:count]
    masks = np.stack([shot.label == label for label in visible] or [np.zeros((*size,), bool)])
    return make_perception(
        masks[: len(visible)],
        track_ids=list(range(1, len(visible) + 1)),
        geometry=[known_geometry(index) for index in range(len(visible))],
        frame={
            "rgb": frame.rgb,
            "depth_m": frame.depth_m,
            "intrinsics": frame.intrinsics,
        },
    )


def makers(seen: Perception, empty: Perception) -> dict[str, Callable[[], object]]:
    """What makes each message, by its name."""
    account, options = FrameAccount(sequence=1), OutputOptions()
    calls: dict[str, Callable[[], object]] = {
        "instances": lambda: instances_to_msg(seen, account, options),
        "instances, none": lambda: instances_to_msg(empty, account, options),
    }
    for encoding in (MaskEncoding.MONO8, MaskEncoding.RLE):
        chosen = OutputOptions(mask_encoding=encoding)
        calls[f"instances, {encoding.name.lower()}"] = lambda o=chosen: instances_to_msg(
            seen, account, o
        )
    for output in OUTPUTS:
        calls[output.name] = lambda o=output: o.make(seen, options)
    return calls


def report(arguments: argparse.Namespace, title: str, summaries: dict[str, Summary]) -> None:
    """Print the median of each message beside its limit."""
    table = Table(title=title)
    for column in ("message", "median ms", "limit ms"):
        table.add_column(column, justify="left" if column == "message" else "right")
    for name, summary in summaries.items():
        limit = f"{LIMITS_MS[name]:.1f}" if name in LIMITS_MS else ""
        table.add_row(name, f"{summary.median_ms:.3f}", limit)
    Console().print(table)
    if arguments.json:
        record = {
            **provenance("numpy", "opencv-python-headless"),
            "messages": {name: asdict(summary) for name, summary in summaries.items()},
        }
        write_record(arguments.json, record)


if __name__ == "__main__":
    main()
