"""A picture as an RGB-D camera takes it, with what it really shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.analytic_scene import Camera
from calibnet_core.data.scenes.parts import SceneError
from calibnet_core.data.scenes.rendering import View, render
from calibnet_core.data.scenes.salience import salient_labels
from calibnet_core.data.scenes.sampling import (
    Scene,
    SceneSettings,
    sample_camera,
    sample_scene,
)
from calibnet_core.data.scenes.sensors.color import ColorCamera, sample_color_camera
from calibnet_core.data.scenes.sensors.depth import DepthSensor, observe, sample_sensor
from calibnet_core.structures import RgbdFrame

_CUT_SHARE = 0.2
_NUM_SCENE_ATTEMPTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """An RGB-D picture and its truth.

    Attributes:
        frame: colour, and depth as the sensor gave it.
        labels: (H, W) uint16, the number of the thing for those that count, 0 elsewhere.
        depth_m: (H, W) float32 exact metres, NaN where there is no surface.
        kind: of the room.
        camera: where it was taken from.
    """

    frame: RgbdFrame
    labels: NDArray[np.uint16]
    depth_m: NDArray[np.float32]
    kind: str
    camera: Camera


def capture_scene(seed: int, index: int, settings: SceneSettings) -> Capture:
    """Picture `index` of the endless series that `seed` begins, each of another scene.

    Raises:
        SceneError: no camera sees anything in any of several scenes.
    """
    rng = np.random.default_rng((seed, index))
    for attempt in range(_NUM_SCENE_ATTEMPTS):
        scene = sample_scene(rng, settings)
        try:
            camera = sample_camera(scene, rng, settings)
        except SceneError:
            if attempt + 1 == _NUM_SCENE_ATTEMPTS:
                raise
        else:
            break
    view = render(scene.world, camera, scene.lighting)
    recorder = sample_recorder(view, rng)
    return recorder.capture(view, scene, camera, rng)


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """An RGB-D camera with the faults of its two halves.

    Attributes:
        color, depth: these halves.
        is_cut: leave no depth but on the things and what they stand on, as some data sets do.
    """

    color: ColorCamera
    depth: DepthSensor
    is_cut: bool = False

    def capture(
        self, view: View, scene: Scene, camera: Camera, rng: np.random.Generator
    ) -> Capture:
        """Take a picture of what is seen.

        Args:
            view: of the scene by the camera, without faults.
            scene: what is seen.
            camera: where from.
            rng: of noise and drop-outs.
        """
        depth = observe(
            view.depth_m, camera.intrinsics, self.depth, rng, reflectance=view.reflectance
        )
        if self.is_cut:
            depth = np.where(_near_things(view, scene), depth, np.float32(np.nan))
        frame = RgbdFrame(
            rgb=self.color.photograph(view.radiance, rng),
            depth_m=depth,
            intrinsics=camera.intrinsics,
        )
        return Capture(
            frame=frame,
            labels=salient_labels(view.labels, view.depth_m),
            depth_m=view.depth_m,
            kind=scene.room.kind,
            camera=camera,
        )


def sample_recorder(view: View, rng: np.random.Generator) -> Recorder:
    """An RGB-D camera that exposes this view about right."""
    return Recorder(
        color=sample_color_camera(view.radiance, rng),
        depth=sample_sensor(rng),
        is_cut=bool(rng.random() < _CUT_SHARE),
    )


def _near_things(view: View, scene: Scene) -> NDArray[np.bool_]:
    """The things and the surface that they stand on, a pixel or two more or less."""
    keeps = np.array(
        [
            entry.label > 0 or entry.thing.name in scene.room.carries
            for entry in scene.world.placed
            for _ in entry.thing.parts
        ]
        + [False]  # where no ray met anything
    )
    kept = keeps[view.parts]
    return np.asarray(cv2.dilate(kept.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool))
