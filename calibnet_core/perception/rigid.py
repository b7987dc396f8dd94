"""Moving what was measured into another frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.perceiver import Perception


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """Takes points of one frame into another: `rotation @ point + translation`.

    Attributes:
        rotation: (3, 3).
        translation: (3,) metres.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    @classmethod
    def from_quaternion(
        cls, translation: tuple[float, float, float], quaternion: tuple[float, float, float, float]
    ) -> RigidTransform:
        """Build one from metres and a quaternion x, y, z, w of any length.

        Raises:
            ValueError: the quaternion is zero, or a number is not finite.
        """
        if not np.isfinite((*translation, *quaternion)).all():
            raise ValueError(
                f"translation {translation} and rotation {quaternion} are not all finite; look for "
                "the broadcaster of this transform"
            )
        rotation = Rotation.from_quat(quaternion).as_matrix()
        return cls(np.asarray(rotation, np.float64), np.array(translation, np.float64))

    @property
    def up(self) -> NDArray[np.float64]:
        """(3,) the target frame's z axis, seen from the source frame."""
        return np.asarray(self.rotation[2], np.float64)

    def geometry(self, geometry: ObjectGeometry) -> ObjectGeometry:
        """An object's geometry in the target frame; depths stay those along the optical axis."""
        if geometry.status != GeometryStatus.OK:
            return geometry
        return replace(
            geometry,
            centroid=self.rotation @ geometry.centroid + self.translation,
            covariance=self.rotation @ geometry.covariance @ self.rotation.T,
            box_center=self.rotation @ geometry.box_center + self.translation,
            box_rotation=self.rotation @ geometry.box_rotation,
        )

    def perception(self, perception: Perception, frame_id: str) -> Perception:
        """Everything of a frame, its geometry in the frame called `frame_id`."""
        return replace(
            perception,
            frame=replace(perception.frame, frame_id=frame_id),
            geometry=tuple(self.geometry(entry) for entry in perception.geometry),
        )
