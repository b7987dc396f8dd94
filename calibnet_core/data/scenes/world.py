"""Things that fall and come to rest by MuJoCo, and are met by rays."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibnet_core.data.scenes.parts import (
    Box,
    Capsule,
    Cylinder,
    Ellipsoid,
    Mesh,
    Part,
    SceneError,
    Thing,
)
from calibnet_core.data.scenes.ray_casting import Hits, RayCaster

try:
    import mujoco
except ImportError as error:
    raise SceneError(
        "MuJoCo, which lets things fall, is not installed; run: pip install calibnet_ros[scenes]"
    ) from error

_STEP_S = 0.005
_DENSITY = 400.0  # kg per cubic metre: things about the house are mostly hollow
_FRICTION = (0.9, 0.02, 0.002)
_AWAY = (0.0, 0.0, -1000.0)
_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A thing in the world, whose z axis points up.

    Attributes:
        thing: what stands there.
        rotation: (3, 3) from the thing's frame to the world's.
        position: (3,) metres, of its origin.
        label: 0 for what belongs to the room and stays; others fall and come to rest.
        throws_shadow: False for what is too far from the things to matter, which saves time.
    """

    thing: Thing
    rotation: _Array
    position: _Array
    label: int = 0
    throws_shadow: bool = True


class World:
    """Things that fall and rays that meet them.

    Args:
        placed: what stands in it.

    Attributes:
        parts: of all things, in order.
        labels: (P,) int32, the label of each part's thing.
    """

    def __init__(self, placed: Sequence[Placed]) -> None:
        self.placed = tuple(placed)
        self.parts: tuple[Part, ...] = tuple(
            itertools.chain.from_iterable(entry.thing.parts for entry in self.placed)
        )
        self.labels = np.array(
            [entry.label for entry in self.placed for _ in entry.thing.parts], np.int32
        )
        self._throws_shadow = np.array(
            [entry.throws_shadow for entry in self.placed for _ in entry.thing.parts]
        )
        self._caster: RayCaster | None = None
        self._model = _compile(self.placed)
        self._data = mujoco.MjData(self._model)
        mujoco.mj_kinematics(self._model, self._data)
        body_of_part = [
            body
            for body, entry in enumerate(self.placed, start=1)
            for _ in range(len(entry.thing.parts))
        ]
        self._body = np.array(body_of_part)
        self._part_rotation = np.stack([part.rotation for part in self.parts])
        self._part_position = np.stack([part.position for part in self.parts])

    def settle(self, seconds: float) -> _Array:
        """Let things fall for so long; what then still moves is stopped where it is.

        Things that push each other beyond what MuJoCo can compute start to fall anew, as is its
        way; they tend to be still moving at the end.

        Returns:
            (T,) speeds that they had, metres a second, in order; 0 for what belongs to the room.
        """
        with _no_log_file():
            mujoco.mj_step(self._model, self._data, nstep=max(1, round(seconds / _STEP_S)))
        speeds = np.zeros(len(self.placed))
        for index, entry in enumerate(self.placed):
            if entry.label:
                first = self._model.body_dofadr[index + 1]
                speeds[index] = np.linalg.norm(self._data.qvel[first : first + 3])
        self._data.qvel[:] = 0.0
        self._moved()
        return speeds

    def take_away(self, indices: Sequence[int]) -> None:
        """Remove things that fall, by their place among all: no ray meets them any more."""
        for index in indices:
            joint = self._model.body_jntadr[index + 1]
            first = self._model.jnt_qposadr[joint]
            self._data.qpos[first : first + 3] = _AWAY
        self._moved()

    def _moved(self) -> None:
        mujoco.mj_kinematics(self._model, self._data)
        self._caster = None

    def poses(self) -> tuple[_Array, _Array]:
        """(T, 3, 3) rotations and (T, 3) positions of the things, in order."""
        return self._data.xmat[1:].reshape(-1, 3, 3).copy(), self._data.xpos[1:].copy()

    def part_poses(self) -> tuple[_Array, _Array]:
        """(P, 3, 3) rotations and (P, 3) positions of the parts, in order."""
        rotation = self._data.xmat[self._body].reshape(-1, 3, 3)
        position = self._data.xpos[self._body]
        moved = np.einsum("pij,pj->pi", rotation, self._part_position) + position
        return rotation @ self._part_rotation, moved

    def cast(self, origin: _Array, directions: NDArray[np.float32]) -> Hits:
        """Follow rays from one point, see `RayCaster.cast`; parts are numbered as in `parts`."""
        return self._rays().cast(origin, directions)

    def shadowed(self, lamp: _Array, beams: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether something stands in a lamp's beams, see `RayCaster.shadowed`."""
        return self._rays().shadowed(lamp, beams)

    def _rays(self) -> RayCaster:
        if self._caster is None:
            solids = [part.solid for part in self.parts]
            self._caster = RayCaster(solids, *self.part_poses(), self._throws_shadow)
        return self._caster


@contextlib.contextmanager
def _no_log_file() -> Iterator[None]:
    """Keep MuJoCo from writing its warnings to a file in the user's current folder."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _compile(placed: Sequence[Placed]) -> Any:
    spec = mujoco.MjSpec()
    spec.option.timestep = _STEP_S
    # As thick as air is not: what rolls comes to rest.
    spec.option.density = 30.0
    spec.option.viscosity = 0.02
    for entry in placed:
        turn = Rotation.from_matrix(entry.rotation).as_quat()[[3, 0, 1, 2]]
        body = spec.worldbody.add_body(pos=entry.position, quat=turn)
        if entry.label:
            body.add_freejoint()
        for part in entry.thing.parts:
            _add_part(spec, body, part)
    return spec.compile()


def _add_part(spec: Any, body: Any, part: Part) -> None:
    turn = Rotation.from_matrix(part.rotation).as_quat()[[3, 0, 1, 2]]
    kinds, solid = mujoco.mjtGeom, part.solid
    options: dict[str, Any] = {
        "pos": part.position,
        "quat": turn,
        "density": _DENSITY,
        "friction": _FRICTION,
    }
    match solid:
        case Box():
            body.add_geom(type=kinds.mjGEOM_BOX, size=np.array(solid.size) / 2, **options)
        case Cylinder():
            size = [solid.radius, solid.height / 2, 0.0]
            body.add_geom(type=kinds.mjGEOM_CYLINDER, size=size, **options)
        case Capsule():
            size = [solid.radius, solid.length / 2, 0.0]
            body.add_geom(type=kinds.mjGEOM_CAPSULE, size=size, **options)
        case Ellipsoid():
            body.add_geom(type=kinds.mjGEOM_ELLIPSOID, size=solid.radii, **options)
        case Mesh():
            name = f"mesh{len(spec.meshes)}"
            mesh = spec.add_mesh(name=name)
            mesh.uservert = solid.vertices.ravel()
            mesh.userface = solid.faces.ravel()
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
            body.add_geom(type=kinds.mjGEOM_MESH, meshname=name, **options)
