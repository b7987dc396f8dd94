"""Small recordings of objects in pure colours, which the stub finds exactly, and their truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calibnet_core.data.analytic_scene import render_sequence
from calibnet_core.data.bags import write_rgbd_bag
from calibnet_core.data.datasets import rle
from calibnet_core.structures import RgbdFrame
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import pipeline_config
from tests.support.stub_predictor import SCORES, StubPredictor

SIZE = (96, 128)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333
TOPICS = {
    "color_topic": "/camera/camera/color/image_raw",
    "depth_topic": "/camera/camera/aligned_depth_to_color/image_raw",
}


def make_stub(values: Values) -> StubPredictor:
    return StubPredictor(pipeline_config(values))


def painted_frames(
    count: int, *, hidden: dict[int, set[int]] | None = None, seed: int = 0
) -> list[tuple[RgbdFrame, np.ndarray]]:
    """Frames and their label images; object k has the k-th colour, unless it is hidden."""
    frames = []
    for index, rendered in enumerate(render_sequence(count, SIZE, seed)):
        rgb, label = rendered.rgb.copy(), rendered.label.copy()
        label[label > len(SCORES)] = 0
        for number, color in enumerate(SCORES, start=1):
            if number in (hidden or {}).get(index, set()):
                label[label == number] = 0
            rgb[label == number] = color
        frame = rendered.to_rgbd_frame(stamp_ns=START_NS + index * PERIOD_NS)
        frames.append((replace(frame, rgb=rgb), label))
    return frames


def write_recording(path: Path, frames: list[tuple[RgbdFrame, np.ndarray]], **options: Any) -> Path:
    write_rgbd_bag(path, (frame for frame, _ in frames), **{**TOPICS, **options})
    return path


def write_truth(
    path: Path, frames: list[tuple[RgbdFrame, np.ndarray]], *, by_stamp: bool = True
) -> Path:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, (frame, label) in enumerate(frames):
        seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
        name = f"scene_{seconds}_{nanoseconds:09d}.png" if by_stamp else f"image-{index}.png"
        height, width = frame.size
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for number in sorted(set(np.unique(label)) - {0}):
            mask = rle.encode(label == number)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": 1,
                    "track_id": int(number),
                    "iscrowd": 0,
                    "segmentation": {**mask, "counts": mask["counts"].decode("ascii")},
                }
            )
    categories = [{"id": 1, "name": "object"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    return path
