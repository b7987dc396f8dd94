"""A frame with its answer as a folder that goes with a report of a fault."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.bags import write_rgbd_bag
from calibnet_core.files import atomic_folder
from calibnet_core.perception.mask_codec import label_image
from calibnet_core.perception.perceiver import Perception
from calibnet_core.visualization import draw_perception
from calibnet_ros.parameter_schema import Values


def save_frame(folder: Path, perception: Perception, *, model_id: str, values: Values) -> Path:
    """Write colour, depth, calibration, answer and parameters of one frame.

    `recording/` can be played and evaluated like any recording; pictures and `result.json` show the
    answer.

    Args:
        folder: where to put it; created if need be.
        perception: the frame and its answer.
        model_id: of the model that answered.
        values: parameters of the node.

    Returns:
        The new folder, named after the colour stamp; a number is appended to one that exists.

    Raises:
        OSError: it cannot be written.
        BagError: the frame cannot be written as a recording.
    """
    seconds, nanoseconds = divmod(perception.frame.stamp_ns, 1_000_000_000)
    target = _unused(folder.expanduser() / f"frame_{seconds}_{nanoseconds:09d}")
    with atomic_folder(target) as workshop:
        workshop.mkdir()
        encoding = "16UC1" if perception.depth_encoding in ("16UC1", "mono16") else "32FC1"
        write_rgbd_bag(workshop / "recording", [perception.frame], depth_encoding=encoding)
        _write_png(workshop / "overlay.png", draw_perception(perception)[..., ::-1])
        _write_png(workshop / "label_image.png", label_image(perception.instances.masks))
        result = {"model_id": model_id, "parameters": dict(values), **_described(perception)}
        text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False)
        (workshop / "result.json").write_text(text + "\n", encoding="utf-8")
    return target


def _described(perception: Perception) -> dict[str, Any]:
    frame, instances = perception.frame, perception.instances
    return {
        "stamp_ns": frame.stamp_ns,
        "frame_id": frame.frame_id,
        "size": list(frame.size),
        "status": perception.status.name,
        "instances": [
            {
                "instance_id": perception.instance_ids[index],
                "track_id": track.track_id,
                "score": _number(instances.scores[index]),
                "raw_score": _number(instances.raw_scores[index]),
                "roi_xywh": [roi.x_offset, roi.y_offset, roi.width, roi.height],
                "geometry_status": geometry.status.name,
                "centroid_m": [_number(value) for value in geometry.centroid],
                "box_size_m": [_number(value) for value in geometry.box_size],
            }
            for index, (track, roi, geometry) in enumerate(
                zip(perception.tracks, perception.rois, perception.geometry, strict=True)
            )
        ],
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    is_encoded, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not is_encoded:
        raise OSError(f"{path.name} could not be encoded as PNG")
    path.write_bytes(data.tobytes())
