"""Boxes, captions and the spread of the centroids for RViz."""

from __future__ import annotations

from typing import Any

from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.shapes import (
    box_top_m,
    has_geometry,
    quaternions,
    spread_ellipsoid,
)
from calibnet_core.visualization import display_captions, display_numbers, instance_color
from calibnet_ros.messages.fields import duration_from_ns, header_of, pose, vector
from calibnet_ros.messages.options import DEFAULTS, OutputOptions

_UPRIGHT = (0.0, 0.0, 0.0, 1.0)
_TEXT_HEIGHT_M = 0.04
_THINNEST_M = 0.001  # RViz complains about a scale of 0
_SIGMAS = 2.0


def markers_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> MarkerArray:
    """A box, a caption and the centroid's 2-sigma ellipsoid for each object with geometry.

    The first marker deletes all earlier ones, so that nothing lingers; the others vanish by
    themselves when the node falls silent.
    """
    header = header_of(perception.frame)
    lifetime = duration_from_ns(round(options.marker_lifetime_s * 1e9))
    msgs = [Marker(header=header, action=Marker.DELETEALL)]

    def add(index: int, **fields: Any) -> None:
        instance_id = int(perception.instance_ids[index])
        msgs.append(
            Marker(header=header, id=instance_id, action=Marker.ADD, lifetime=lifetime, **fields)
        )

    captions, numbers = display_captions(perception), display_numbers(perception)
    for index, geometry in enumerate(perception.geometry):
        if not has_geometry(geometry):
            continue
        axes, sigmas = spread_ellipsoid(geometry.covariance)
        box_turn, spread_turn = quaternions([geometry.box_rotation, axes])
        color = instance_color(numbers[index] - 1)
        add(
            index,
            ns="box",
            type=Marker.CUBE,
            pose=pose(geometry.box_center, box_turn),
            scale=vector(max(float(extent), _THINNEST_M) for extent in geometry.box_size),
            color=rgba(color, 0.35),
        )
        x, _, z = geometry.box_center
        above = (x, box_top_m(geometry) - _TEXT_HEIGHT_M, z)
        add(
            index,
            ns="caption",
            type=Marker.TEXT_VIEW_FACING,
            pose=pose(above, _UPRIGHT),
            scale=vector((0.0, 0.0, _TEXT_HEIGHT_M)),
            color=rgba((255, 255, 255), 1.0),
            text=captions[index],
        )
        add(
            index,
            ns="centroid",
            type=Marker.SPHERE,
            pose=pose(geometry.centroid, spread_turn),
            scale=vector(max(2.0 * _SIGMAS * float(s), _THINNEST_M) for s in sigmas),
            color=rgba(color, 1.0),
        )
    return MarkerArray(markers=msgs)


def rgba(color: tuple[int, int, int], opacity: float) -> ColorRGBA:
    """A colour of 8-bit channels with an opacity in [0, 1]."""
    red, green, blue = (value / 255.0 for value in color)
    return ColorRGBA(r=red, g=green, b=blue, a=float(opacity))
