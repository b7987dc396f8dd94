"""Outlines and captions for Foxglove's image panel, where foxglove_msgs is installed."""

from __future__ import annotations

from typing import Any

from calibnet_core.perception.perceiver import Perception
from calibnet_core.visualization import (
    display_captions,
    display_numbers,
    instance_color,
    mask_outlines,
)
from calibnet_ros.messages.fields import header_of
from calibnet_ros.messages.options import DEFAULTS, OutputOptions

try:
    import foxglove_msgs.msg as foxglove
except ImportError:
    foxglove = None

# Foxglove counts from the corner of the top-left pixel, we from its centre.
_CORNER = 0.5
_THICKNESS_PX = 2.0
_FONT_SIZE_PX = 14.0
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def annotations_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Any:
    """ImageAnnotations: the outlines of every mask and its holes, and a caption above each."""
    stamp = header_of(perception.frame).stamp
    msg = foxglove.ImageAnnotations()
    captions, numbers = display_captions(perception), display_numbers(perception)
    for mask, roi, number, caption in zip(
        perception.instances.masks, perception.rois, numbers, captions, strict=True
    ):
        color = instance_color(number - 1)
        for outline in mask_outlines(mask, roi):
            msg.points.append(
                foxglove.PointsAnnotation(
                    timestamp=stamp,
                    type=foxglove.PointsAnnotation.LINE_LOOP,
                    points=[_point(x, y) for x, y in outline.tolist()],
                    outline_color=_color(color, 1.0),
                    fill_color=_color(color, 0.25),
                    thickness=_THICKNESS_PX,
                )
            )
        msg.texts.append(
            foxglove.TextAnnotation(
                timestamp=stamp,
                position=_point(roi.x_offset, roi.y_offset),
                text=caption,
                font_size=_FONT_SIZE_PX,
                text_color=_color(_WHITE, 1.0),
                background_color=_color(_BLACK, 0.6),
            )
        )
    return msg


def _point(x: float, y: float) -> Any:
    return foxglove.Point2(x=x + _CORNER, y=y + _CORNER)


def _color(color: tuple[int, int, int], opacity: float) -> Any:
    red, green, blue = (value / 255.0 for value in color)
    return foxglove.Color(r=red, g=green, b=blue, a=opacity)
