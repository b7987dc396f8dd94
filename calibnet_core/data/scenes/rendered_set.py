"""Rendered scenes as a labelled set in the rgbd-coco format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from calibnet_core.data.datasets import open_dataset
from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.data.datasets.writing import annotation_of, write_annotations
from calibnet_core.data.scenes.capture import Capture, capture_scene
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.sampling import SceneSettings
from calibnet_core.data.sources import ImagePair
from calibnet_core.files import atomic_folder
from calibnet_core.threads import use_one_blas_thread

_DEPTH_SCALE_M = 0.001
_PNG_EFFORT = 1  # 9 is the most; larger files, but a third of the time
_CHUNK = 4


def render_set(
    output: Path,
    num_scenes: int,
    *,
    seed: int,
    settings: SceneSettings | None = None,
    first: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Render scenes into a new folder; it appears complete or not at all.

    Args:
        output: the folder to create: annotations.json, imgs/, depths/.
        num_scenes: pictures, each of another scene.
        seed: of the endless series; the same picture follows from the same seed and number,
            whatever the number of workers.
        settings: what scenes are like.
        first: number of the first picture in the series; parts of a series do not overlap.
        workers: processes.
        progress: called with the number of pictures done and their total.

    Raises:
        SceneError: a number is out of range.
        FileExistsError: the output exists.
        OSError: it cannot be written.
    """
    if num_scenes < 1 or first < 0 or seed < 0 or workers < 1:
        raise SceneError(
            f"cannot render {num_scenes} scenes from number {first} of seed {seed} with {workers} "
            "workers; choose at least one scene and worker, and no negative number"
        )
    with atomic_folder(output) as folder:
        for name in ("imgs", "depths"):
            (folder / name).mkdir(parents=True)
        render_one = partial(_render_one, folder, seed, settings or SceneSettings())
        records = []
        for record in _map(render_one, range(first, first + num_scenes), workers):
            records.append(record)
            progress(len(records), num_scenes)
        write_annotations(folder, output.name, records)
        open_dataset(folder)  # what cannot be opened must not appear


def _map(
    render_one: Callable[[int], ImageRecord], indices: range, workers: int
) -> Iterator[ImageRecord]:
    if workers == 1:
        yield from map(render_one, indices)
        return
    # A forked child would inherit locks that OpenCV's threads hold.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare_worker)
    try:
        yield from pool.map(render_one, indices, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """Workers share the cores, so each keeps to one."""
    cv2.setNumThreads(1)
    use_one_blas_thread()


def _render_one(folder: Path, seed: int, settings: SceneSettings, index: int) -> ImageRecord:
    capture = capture_scene(seed, index, settings)
    stem = f"scene_{seed}_{index:06}"
    return _write(folder, stem, index, capture)


def _write(folder: Path, stem: str, index: int, capture: Capture) -> ImageRecord:
    name = f"{stem}.png"
    pair = ImagePair(
        name=stem,
        rgb_path=folder / "imgs" / name,
        depth_path=folder / "depths" / name,
        depth_scale_m=_DEPTH_SCALE_M,
        intrinsics=capture.frame.intrinsics,
        file_name=name,
    )
    depth_m = capture.frame.depth_m
    assert depth_m is not None
    steps = np.nan_to_num(depth_m / _DEPTH_SCALE_M).round().clip(0, 65535).astype(np.uint16)
    for path, pixels in ((pair.rgb_path, capture.frame.rgb), (pair.depth_path, steps)):
        Image.fromarray(pixels).save(path, compress_level=_PNG_EFFORT)
    seen = np.unique(capture.labels)
    return ImageRecord(
        pair=pair,
        image_id=index + 1,
        size=capture.frame.size,
        scene=stem,
        annotations=tuple(
            annotation_of(capture.labels == label, int(label)) for label in seen[seen > 0]
        ),
    )
