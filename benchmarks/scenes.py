"""How fast scenes are rendered, and two engines that could render them.

    python benchmarks/scenes.py [--scenes 60] [--workers 2] [--json FILE]

First the rate of `calibnet scenes render` at 320x240, files included. Then the work of one scene
in MuJoCo, which is used, and in PyBullet, where that is installed (pip install pybullet): 20 boxes,
cylinders and balls fall for a second onto a table, and one picture of 320x240 shows depth, what
belongs to what, and one lamp's shadows.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import provenance, write_record
from calibnet_core.data.analytic_scene import Camera
from calibnet_core.data.scenes.parts import Box, Cylinder, Ellipsoid, Material, Part, Thing
from calibnet_core.data.scenes.rendered_set import render_set
from calibnet_core.data.scenes.rendering import Lamp, Lighting, render
from calibnet_core.data.scenes.world import Placed, World

SIZE = (240, 320)
LEAST_RATE = 10.0
"""Scenes a second on two cores that must be reached."""
EYE, TARGET = (0.0, -1.1, 1.5), (0.0, 0.0, 0.75)
LAMP = (1.0, -0.5, 2.2)
STEP_S, FALL_S = 0.005, 1.0

Stages = dict[str, float]


def main() -> None:
    """Measure and print; exit with 1 where scenes come too slowly."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=60, help="scenes of a series to render")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each engine")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rate = measure_rate(arguments.scenes, arguments.workers)
    print(f"{rate:.1f} scenes a second with {arguments.workers} processes (at least {LEAST_RATE})")
    engines = {"MuJoCo and Embree": mujoco_scene}
    if importlib.util.find_spec("pybullet"):
        engines["PyBullet"] = bullet_scene
    figures = measure_engines(engines, arguments.rounds)
    table = Table(title=f"one scene, median ms of {arguments.rounds} rounds")
    stages = list(next(iter(figures.values())))
    for column in ("engine", *stages):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, medians in figures.items():
        table.add_row(name, *(f"{medians[stage] * 1e3:.1f}" for stage in stages))
    Console().print(table)
    if arguments.json:
        record = {
            **provenance("mujoco", "pybullet", "numpy"),
            "scenes_per_second": rate,
            "engines_s": figures,
        }
        write_record(arguments.json, record)
    if rate < LEAST_RATE:
        sys.exit(f"too slow: {rate:.1f} scenes a second")


def measure_rate(num_scenes: int, workers: int) -> float:
    """Scenes a second once the processes have started, which they say by their first pictures."""
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        render_set(
            Path(folder) / "set",
            num_scenes,
            seed=0,
            workers=workers,
            progress=lambda done, total: moments.append(time.perf_counter()),
        )
    warm = num_scenes // 4
    return (num_scenes - 1 - warm) / (moments[-1] - moments[warm])


def measure_engines(engines: dict[str, Callable[[int], Stages]], rounds: int) -> dict[str, Stages]:
    """Median seconds of each stage; the engines take turns."""
    samples: dict[str, list[Stages]] = {name: [] for name in engines}
    for number in range(rounds):
        for name, run in engines.items():
            samples[name].append(run(number))
    return {
        name: {stage: statistics.median(one[stage] for one in ones) for stage in ones[0]}
        for name, ones in samples.items()
    }


def pile(seed: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Kinds, sizes and places of 20 solids above a table."""
    rng = np.random.default_rng(seed)
    return [
        (
            ("box", "cylinder", "ball")[index % 3],
            rng.uniform(0.03, 0.08, 3),
            np.array([*rng.uniform(-0.25, 0.25, 2), 0.85 + 0.1 * index]),
        )
        for index in range(20)
    ]


def mujoco_scene(seed: int) -> Stages:
    """Build, fall and picture in MuJoCo, by the package's own code."""
    gray = Material(texture=np.full((2, 2, 3), 180, np.uint8))

    def placed(solid: Any, position: Any, label: int) -> Placed:
        thing = Thing(name="solid", parts=(Part(solid=solid, material=gray),))
        return Placed(thing=thing, rotation=np.eye(3), position=np.array(position), label=label)

    solids = {
        "box": lambda size: Box(size=tuple(2 * size)),
        "cylinder": lambda size: Cylinder(radius=size[0], height=2 * size[1]),
        "ball": lambda size: Ellipsoid(radii=(size[0],) * 3),
    }
    moments = [time.perf_counter()]
    room = [
        placed(Box(size=(20, 20, 0.1)), (0, 0, -0.05), 0),
        placed(Box(size=(1.2, 0.8, 0.04)), (0, 0, 0.73), 0),
    ]
    things = [
        placed(solids[kind](size), place, label)
        for label, (kind, size, place) in enumerate(pile(seed), start=1)
    ]
    world = World([*room, *things])
    moments.append(time.perf_counter())
    world.settle(FALL_S)
    moments.append(time.perf_counter())
    camera = Camera.looking_at(TARGET, position=EYE, size=SIZE)
    ambient = np.full(3, 0.3, np.float32)
    lamp = Lamp(position=np.array(LAMP), color=np.ones(3, np.float32))
    lighting = Lighting(lamps=(lamp,), sky=ambient, ground=ambient, far=ambient)
    view = render(world, camera, lighting)
    moments.append(time.perf_counter())
    assert view.labels.any()
    return stages_of(moments)


def bullet_scene(seed: int) -> Stages:
    """The same in PyBullet with its renderer for CPUs."""
    import pybullet as bullet

    moments = [time.perf_counter()]
    client = bullet.connect(bullet.DIRECT)
    bullet.setGravity(0, 0, -9.81, client)
    bullet.setTimeStep(STEP_S, client)

    def add(kind: int, position: Any, mass: float, **size: Any) -> None:
        visual = dict(size)
        if "height" in visual:
            visual["length"] = visual.pop("height")
        shape = bullet.createCollisionShape(kind, physicsClientId=client, **size)
        look = bullet.createVisualShape(
            kind, rgbaColor=(0.7, 0.7, 0.7, 1), physicsClientId=client, **visual
        )
        bullet.createMultiBody(mass, shape, look, position, physicsClientId=client)

    add(bullet.GEOM_BOX, (0, 0, -0.05), 0.0, halfExtents=(10, 10, 0.05))
    add(bullet.GEOM_BOX, (0, 0, 0.73), 0.0, halfExtents=(0.6, 0.4, 0.02))
    for kind, size, place in pile(seed):
        if kind == "box":
            add(bullet.GEOM_BOX, place, 0.2, halfExtents=list(size))
        elif kind == "cylinder":
            add(bullet.GEOM_CYLINDER, place, 0.2, radius=size[0], height=2 * size[1])
        else:
            add(bullet.GEOM_SPHERE, place, 0.2, radius=size[0])
    moments.append(time.perf_counter())
    for _ in range(round(FALL_S / STEP_S)):
        bullet.stepSimulation(client)
    moments.append(time.perf_counter())
    height, width = SIZE
    *_, labels = bullet.getCameraImage(
        width,
        height,
        bullet.computeViewMatrix(EYE, TARGET, (0, 0, 1)),
        bullet.computeProjectionMatrixFOV(45, width / height, 0.05, 20),
        lightDirection=LAMP,
        shadow=1,
        renderer=bullet.ER_TINY_RENDERER,
        physicsClientId=client,
    )
    moments.append(time.perf_counter())
    assert (np.asarray(labels) > 1).any()
    bullet.disconnect(client)
    return stages_of(moments)


def stages_of(moments: list[float]) -> Stages:
    """Seconds between the moments, and of all."""
    build, fall, picture = np.diff(moments).tolist()
    return {"build": build, "fall": fall, "picture": picture, "all": build + fall + picture}


if __name__ == "__main__":
    main()
