"""Small labelled sets on disk, rendered, so that every mask is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from calibnet_core.data.analytic_scene import Camera, demo_scene, render
from calibnet_core.data.datasets import rle


def write_rendered_set(
    folder: Path, num_images: int, *, size: tuple[int, int] = (48, 64), seed: int = 0
) -> Path:
    """An rgbd-coco set of `num_images` different tables, one scene each; returns the folder."""
    for name in ("imgs", "depths"):
        (folder / name).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        name = f"table_{index:03}.png"
        camera = Camera.looking_at((0.0, 0.0, 0.76), position=(0.14, -0.56, 1.14), size=size)
        frame = render(demo_scene(seed + index), camera)
        Image.fromarray(frame.rgb).save(folder / "imgs" / name)
        depth_mm = np.nan_to_num(frame.depth_m * 1000.0).round().astype(np.uint16)
        Image.fromarray(depth_mm).save(folder / "depths" / name)
        images.append(
            {
                "id": index + 1,
                "file_name": name,
                "depth_file": name,
                "height": size[0],
                "width": size[1],
                "depth_scale_m": 0.001,
                "scene": f"table {index}",
            }
        )
        for label in range(1, int(frame.label.max()) + 1):
            mask = rle.encode(frame.label == label)
            if rle.area(mask) < 8:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": 1,
                    "segmentation": {**mask, "counts": mask["counts"].decode("ascii")},
                    "iscrowd": 0,
                }
            )
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder
