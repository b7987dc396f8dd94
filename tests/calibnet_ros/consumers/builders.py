"""Messages of tracked boxes. Import this only where the messages are installed."""

from __future__ import annotations

from calibnet_ros.msg import InstanceMask, InstanceMaskArray
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3


def tracked(
    track_id: int,
    *,
    at: tuple[float, float, float] = (0.1, 0.2, 1.0),
    size: tuple[float, float, float] = (0.3, 0.2, 0.1),
    score: float = 0.9,
    age: int = 5,
    status: int = InstanceMask.GEOMETRY_OK,
    turn: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
) -> InstanceMask:
    """An instance that may enter, unless told otherwise."""
    pose = Pose(
        position=Point(**dict(zip("xyz", at, strict=True))),
        orientation=Quaternion(**dict(zip("xyzw", turn, strict=True))),
    )
    return InstanceMask(
        track_id=track_id,
        track_age=age,
        score=score,
        geometry_status=status,
        box_pose=pose,
        box_size=Vector3(**dict(zip("xyz", size, strict=True))),
    )


def message(*instances: InstanceMask, frame_id: str = "camera") -> InstanceMaskArray:
    msg = InstanceMaskArray(instances=list(instances))
    msg.header.frame_id = frame_id
    return msg
