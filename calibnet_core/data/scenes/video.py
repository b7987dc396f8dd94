"""A slow flight about one scene, as a recording with labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibnet_core.data.analytic_scene import Camera
from calibnet_core.data.bags import write_rgbd_bag
from calibnet_core.data.scenes.capture import Capture, sample_recorder
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.rendering import render
from calibnet_core.data.scenes.sampling import (
    SceneSettings,
    sample_camera,
    sample_scene,
)

_SWING_RAD = 0.3
_PERIOD_S = 12.0
_FRAME_ID = "camera_color_optical_frame"
_FIRST_STAMP_NS = 1_000_000_000


def render_video(
    seed: int, index: int, num_frames: int, settings: SceneSettings, *, rate: float = 15.0
) -> Iterator[Capture]:
    """Pictures of scene `index` of a series from a camera that swings from side to side.

    A thing keeps its label, and its camera the exposure of the first picture.

    Args:
        seed: of the series.
        index: of the scene in it.
        num_frames: how many pictures.
        settings: what scenes are like.
        rate: pictures a second.

    Raises:
        SceneError: a number is out of range, or no camera sees anything of this scene.
    """
    if num_frames < 1 or not rate > 0.0:
        raise SceneError(f"cannot film {num_frames} frames at {rate} a second; choose more")
    rng = np.random.default_rng((seed, index))
    scene = sample_scene(rng, settings)
    start = sample_camera(scene, rng, settings)
    recorder = None
    for frame in range(num_frames):
        seconds = frame / rate
        angle = _SWING_RAD * math.sin(2 * math.pi * seconds / _PERIOD_S)
        camera = _swung(start, scene.room.support.center, angle)
        view = render(scene.world, camera, scene.lighting)
        if recorder is None:
            recorder = sample_recorder(view, rng)
        capture = recorder.capture(view, scene, camera, rng)
        stamp_ns = _FIRST_STAMP_NS + round(seconds * 1e9)
        stamped = replace(capture.frame, stamp_ns=stamp_ns, frame_id=_FRAME_ID)
        yield replace(capture, frame=stamped)


def write_video(output: Path, captures: Iterator[Capture]) -> int:
    """Write pictures and their labels as a rosbag2; returns how many.

    Args:
        output: the folder to create.
        captures: with stamps.

    Raises:
        BagError: `output` exists.
    """
    for_frames, for_labels = tee(captures)
    return write_rgbd_bag(
        output,
        (capture.frame for capture in for_frames),
        labels=(capture.labels for capture in for_labels),
    )


def _swung(camera: Camera, center: NDArray[np.float64], angle: float) -> Camera:
    """The camera turned about a vertical through the centre."""
    turn = Rotation.from_euler("z", angle).as_matrix()
    return replace(
        camera,
        position=center + turn @ (camera.position - center),
        rotation=turn @ camera.rotation,
    )
