"""Small data sets on disk, sound unless a test changes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 12, 16


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def color(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def depth(seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).integers(500, 3000, size).astype(np.uint16)


def box_polygon(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def image_entry(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{number}.png",
        "depth_file": f"{number}.png",
        "height": HEIGHT,
        "width": WIDTH,
    } | changes


def annotation_entry(number: int, image: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "segmentation": box_polygon(2, 3, 7, 9),
        "iscrowd": 0,
    } | changes


def document(num_images: int = 3) -> dict[str, Any]:
    """One annotation in each image."""
    numbers = range(1, num_images + 1)
    return {
        "images": [image_entry(number) for number in numbers],
        "annotations": [annotation_entry(10 * number, number) for number in numbers],
        "categories": [{"id": 1, "name": "object"}],
    }


def write_set(folder: Path, content: dict[str, Any] | None = None, num_images: int = 3) -> Path:
    """A folder in the rgbd-coco format; the document may be another."""
    for number in range(1, num_images + 1):
        save(folder / "imgs" / f"{number}.png", color(number))
        save(folder / "depths" / f"{number}.png", depth(number))
    text = json.dumps(document(num_images) if content is None else content)
    (folder / "annotations.json").write_text(text)
    return folder
