"""Where objects are and how large: from a mask and registered depth to points, centroid and box."""

from calibnet_core.perception.geometry.measuring import measure_objects
from calibnet_core.perception.geometry.values import (
    BoxUpAxis,
    GeometrySettings,
    GeometryStatus,
    ObjectGeometry,
)

__all__ = [
    "BoxUpAxis",
    "GeometrySettings",
    "GeometryStatus",
    "ObjectGeometry",
    "measure_objects",
]
