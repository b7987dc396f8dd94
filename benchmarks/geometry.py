"""How long the geometry of a frame's objects takes, and how long a new camera's rays.

    python benchmarks/geometry.py [--rounds 300] [--json FILE]

Five objects of about 100x100 pixels in 640x480, with the noise and the flying pixels of a sensor:
two boxes, a slab, a ball and the top of one. All runs are on one core. CPU time is what a shared
machine leaves comparable; wall time is what a frame waits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import Run, alternate, provenance, write_record
from calibnet_core.perception.camera_rays import camera_rays, pixel_footprints
from calibnet_core.perception.geometry import GeometrySettings, measure_objects
from tests.support.analytic_objects import (
    CAMERAS,
    Cuboid,
    Picture,
    Slab,
    SphereCap,
    add_sensor_noise,
    render,
    turned,
)

_WALL_M = 1.6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    forms: dict[str, Callable[[], object]] = {}
    for name in ("pinhole", "rational_polynomial"):
        picture = typical_picture(name)
        forms[f"5 objects, {name}"] = geometry_of(picture, GeometrySettings())
        forms[f"1 object, {name}"] = geometry_of(
            Picture(frame=picture.frame, masks=picture.masks[:1], rois=picture.rois[:1]),
            GeometrySettings(),
        )
    forms["5 objects, stride 1"] = geometry_of(
        typical_picture("pinhole"), GeometrySettings(stride=1)
    )
    forms["rays of a new camera"] = rays_of_new_cameras()
    for form in forms.values():
        form()  # warm-up
    seconds = alternate(
        {name: Run(form) for name, form in forms.items()}, repeated=[], rounds=arguments.rounds
    )
    figures = {
        name: {
            f"{clock}_p{percent}_ms": float(np.percentile(seconds[clock][name], percent)) * 1e3
            for clock in ("cpu", "wall")
            for percent in (50, 99)
        }
        for name in forms
    }
    table = Table(title=f"640x480, 1 thread, {arguments.rounds} rounds, milliseconds")
    table.add_column("what")
    columns = ("cpu_p50_ms", "cpu_p99_ms", "wall_p50_ms", "wall_p99_ms")
    for column in columns:
        table.add_column(column.removesuffix("_ms").replace("_", " "), justify="right")
    for name, values in figures.items():
        table.add_row(name, *(f"{values[column]:.2f}" for column in columns))
    Console().print(table)
    if arguments.json:
        record = {
            **provenance("numpy", "opencv-python-headless"),
            "figures": figures,
        }
        write_record(arguments.json, record)


def typical_picture(camera: str) -> Picture:
    """Five objects before a wall, as a sensor sees them."""
    picture = render(
        CAMERAS[camera],
        [
            Cuboid(
                center=(-0.3, -0.2, 1.2),
                size=(0.17, 0.13, 0.1),
                rotation=turned(x=35) @ turned(y=30),
            ),
            SphereCap(center=(0.0, -0.2, 1.2), radius=0.1),
            Slab(center=(0.3, -0.2, 1.2), size=(0.25, 0.16), rotation=turned(z=30) @ turned(y=40)),
            Cuboid(center=(-0.2, 0.2, 1.2), size=(0.2, 0.18, 0.1), rotation=turned(y=40)),
            SphereCap(center=(0.2, 0.2, 1.2), radius=0.12, half_angle=60),
        ],
    )
    exact = np.nan_to_num(picture.frame.depth_m, nan=_WALL_M)
    smeared = np.where(cv2.Laplacian(exact, cv2.CV_32F) > 0.2, cv2.blur(exact, (3, 3)), exact)
    rng = np.random.default_rng(0)
    noisy = add_sensor_noise(smeared, rng, sigma_at_1m=0.0015, patch_px=3)
    return picture.with_depth(np.round(noisy, 3))


def geometry_of(picture: Picture, settings: GeometrySettings) -> Callable[[], object]:
    """What measures the objects of a picture."""
    return lambda: measure_objects(picture.frame, picture.masks, picture.rois, settings)


def rays_of_new_cameras() -> Callable[[], object]:
    """What computes rays and footprints for a camera that was never seen before."""
    shift = iter(range(1_000_000))

    def compute() -> None:
        camera = CAMERAS["rational_polynomial"]
        pixel_footprints(replace(camera, cx=camera.cx + 1e-6 * (1 + next(shift))))

    camera_rays.cache_clear()
    return compute


if __name__ == "__main__":
    main()
