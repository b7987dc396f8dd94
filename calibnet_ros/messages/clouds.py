"""Points of objects as PointCloud2."""

from __future__ import annotations

from sensor_msgs.msg import PointCloud2, PointField

from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.surface import (
    POINT_DTYPE,
    ObjectPoints,
    instance_points,
    object_points,
)
from calibnet_ros.messages.fields import byte_array, header_of
from calibnet_ros.messages.options import DEFAULTS, OutputOptions

# The colour is declared a float, whose bits are 0x00RRGGBB: what PCL writes and RViz reads.
_TYPES = {"instance": PointField.UINT16}


def points_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> PointCloud2 | None:
    """Points of all objects: x, y, z, rgb and instance id; None without depth or calibration."""
    points = object_points(perception, stride=options.points_stride)
    return None if points is None else _cloud(points, perception)


def instance_cloud_to_msg(perception: Perception, index: int) -> PointCloud2 | None:
    """Every point of one object, counted from 0, in the same layout; None as above."""
    points = instance_points(perception, index)
    return None if points is None else _cloud(points, perception)


def _cloud(points: ObjectPoints, perception: Perception) -> PointCloud2:
    packed = points.packed()
    assert POINT_DTYPE.fields is not None
    return PointCloud2(
        header=header_of(perception.frame),
        height=1,
        width=len(packed),
        fields=[
            PointField(
                name=name,
                offset=int(entry[1]),
                datatype=_TYPES.get(name, PointField.FLOAT32),
                count=1,
            )
            for name, entry in POINT_DTYPE.fields.items()
        ],
        is_bigendian=False,
        point_step=POINT_DTYPE.itemsize,
        row_step=POINT_DTYPE.itemsize * len(packed),
        data=byte_array(packed.tobytes()),
        is_dense=True,
    )
