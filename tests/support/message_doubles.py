"""Stand-ins for message packages that cannot be installed here, built from their field lists.

Like generated classes with field checks, they take no unknown field and no value of another type.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseWithCovariance, Vector3
from std_msgs.msg import Header


def message_class(name: str, **fields: type) -> type:
    """A message class with these fields; a list stands for an array of anything."""

    def init(self: Any, **values: Any) -> None:
        for field, kind in fields.items():
            setattr(self, field, values.pop(field) if field in values else kind())
        assert not values, f"{name} has no field {sorted(values)}"

    def set_field(self: Any, field: str, value: Any) -> None:
        assert field in fields, f"{name} has no field {field}"
        assert type(value) is fields[field], f"{name}.{field} is {type(value).__name__}"
        object.__setattr__(self, field, value)

    return type(name, (), {"__init__": init, "__setattr__": set_field})


def vision_msgs() -> SimpleNamespace:
    """vision_msgs.msg of version 4.1, as far as it is used."""
    point = message_class("Point2D", x=float, y=float)
    pose = message_class("Pose2D", position=point, theta=float)
    box_2d = message_class("BoundingBox2D", center=pose, size_x=float, size_y=float)
    box_3d = message_class("BoundingBox3D", center=Pose, size=Vector3)
    hypothesis = message_class("ObjectHypothesis", class_id=str, score=float)
    return SimpleNamespace(
        ObjectHypothesisWithPose=message_class(
            "ObjectHypothesisWithPose", hypothesis=hypothesis, pose=PoseWithCovariance
        ),
        Detection2D=message_class("Detection2D", header=Header, results=list, bbox=box_2d, id=str),
        Detection3D=message_class("Detection3D", header=Header, results=list, bbox=box_3d, id=str),
        Detection2DArray=message_class("Detection2DArray", header=Header, detections=list),
        Detection3DArray=message_class("Detection3DArray", header=Header, detections=list),
        VisionClass=message_class("VisionClass", class_id=int, class_name=str),
        LabelInfo=message_class("LabelInfo", header=Header, class_map=list, threshold=float),
    )


def foxglove_msgs() -> SimpleNamespace:
    """foxglove_msgs.msg, as far as it is used."""
    point = message_class("Point2", x=float, y=float)
    color = message_class("Color", r=float, g=float, b=float, a=float)
    points = message_class(
        "PointsAnnotation",
        timestamp=Time,
        type=int,
        points=list,
        outline_color=color,
        outline_colors=list,
        fill_color=color,
        thickness=float,
    )
    points.LINE_LOOP = 2  # type: ignore[attr-defined]
    text = message_class(
        "TextAnnotation",
        timestamp=Time,
        position=point,
        text=str,
        font_size=float,
        text_color=color,
        background_color=color,
    )
    return SimpleNamespace(
        Point2=point,
        Color=color,
        PointsAnnotation=points,
        TextAnnotation=text,
        ImageAnnotations=message_class("ImageAnnotations", circles=list, points=list, texts=list),
    )
