"""Pictures and a table of what a perception node answered to a recording."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from rich.table import Table

from calibnet_core.data.bags import RgbdBag, read_frames
from calibnet_core.files import atomic_write
from calibnet_core.perception.received_image import pixels_of
from calibnet_core.visualization import colorize_depth, contact_sheet, instance_color
from calibnet_ros.bag_player import Answer, PlayReport, SentFrame

_MOST_SHEET_ROWS = 6
_LARGEST_INDEX = 255  # of a palette
SHEET_NAME = "contact_sheet.png"


def save_picture(path: Path, pixels: NDArray[np.generic]) -> None:
    """Write a PNG, atomically."""
    _save(path, PilImage.fromarray(np.ascontiguousarray(pixels)))


def save_labels(path: Path, labels: NDArray[np.generic]) -> None:
    """Write a label image as a PNG with a palette: its numbers are the ids, what is seen is colour.

    Ids as grey values would all look black.

    Args:
        path: the file.
        labels: (H, W) ids of the instances from 1, and 0 beside them.
    """
    if labels.max(initial=0) > _LARGEST_INDEX:
        save_picture(path, labels)
        return
    picture = PilImage.fromarray(labels.astype(np.uint8))
    colors = [instance_color(label - 1) for label in range(1, _LARGEST_INDEX + 1)]
    picture.putpalette(bytes([0, 0, 0, *itertools.chain(*colors)]))
    _save(path, picture)


def _save(path: Path, picture: PilImage.Image) -> None:
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


def save_answer(folder: Path, index: int, answer: Answer) -> None:
    """Write the overlay and the label image of one frame, as far as they came."""
    if answer.overlay is not None:
        save_picture(folder / f"overlay_{index:04d}.png", pixels_of(answer.overlay))
    if answer.label_image is not None:
        save_labels(folder / f"label_image_{index:04d}.png", pixels_of(answer.label_image))


def save_contact_sheet(folder: Path, bag: RgbdBag, report: PlayReport) -> Path | None:
    """Colour, depth and overlay of up to six frames spread over the recording; None without any."""
    drawn = {
        frame.stamp_ns: answer
        for frame, answer in ((f, report.answers.get(f.stamp_ns)) for f in report.sent)
        if answer is not None and answer.overlay is not None
    }
    if not drawn:
        return None
    stamps = sorted(drawn)
    chosen = {
        stamps[round(place)]
        for place in np.linspace(0, len(stamps) - 1, min(_MOST_SHEET_ROWS, len(stamps)))
    }
    rows, captions = [], []
    for frame in read_frames(bag):
        if frame.stamp_ns not in chosen or frame.depth_m is None:
            continue
        answer = drawn[frame.stamp_ns]
        rows.append([frame.rgb, colorize_depth(frame.depth_m), pixels_of(answer.overlay)])
        count = 0 if answer.result is None else len(answer.result.instances)
        captions.append(f"{frame.stamp_ns / 1e9:.3f} s, {count} instances")
    path = folder / SHEET_NAME
    titles = ("colour", "depth", "instances")
    save_picture(path, contact_sheet(rows, column_titles=titles, row_captions=captions))
    return path


def summary_table(report: PlayReport, title: str, where: Path | None) -> Table:
    """Frames sent, answered and dropped, instances, latencies, and where the pictures are."""
    answers = [answer for answer in report.answers.values() if answer.result is not None]
    latencies = [answer.latency_ms for answer in answers if np.isfinite(answer.latency_ms)]
    table = Table(title=title, show_header=False)
    table.add_row("frames sent", str(len(report.sent)))
    table.add_row("answered", str(report.num_answered))
    for reason, count in sorted(report.drops.items()):
        table.add_row(reason.replace(".", ": "), str(count))
    table.add_row("unaccounted for", str(report.num_unaccounted))
    table.add_row("instances", str(sum(len(answer.result.instances) for answer in answers)))
    if latencies:
        p50, p95 = np.percentile(latencies, (50, 95))
        table.add_row("latency p50 / p95", f"{p50:.0f} / {p95:.0f} ms")
    if where is not None:
        table.add_row("pictures", str(where))
    return table


def frame_index(report: PlayReport, frame: SentFrame) -> int:
    """Place of a frame among those sent."""
    return report.sent.index(frame)
