"""From tracked boxes to changes of a planning scene: pure functions, no MoveIt needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose

from calibnet_ros.consumers.running import setting
from calibnet_ros.msg import InstanceMask, InstanceMaskArray

_NS_PER_S = 1_000_000_000
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class CollisionSettings:
    """Which boxes enter the planning scene, how large, and how long they stay.

    The fields are the node's parameters, so they are named like those, without units.

    Raises:
        ValueError: a value is out of range.
    """

    time_to_live: float = setting(
        2.0, "Seconds an object stays in the scene after its track was last seen; 0.1 to 3600."
    )
    update_period: float = setting(
        0.1, "Seconds between two updates of one object, at least; 0 to 60."
    )
    refresh_period: float = setting(
        5.0,
        "Seconds after which a seen object is added anew, for a planner that started late; "
        "0.1 to 3600.",
    )
    padding: float = setting(0.01, "Metres added on each side of a box; 0 to 1.")
    min_size: float = setting(
        0.01, "Least extent of a box in metres: what is seen of a flat object is thin; 0.001 to 1."
    )
    size_tolerance: float = setting(
        0.02, "Metres by which an extent must change until the box is replaced; 0 to 1."
    )
    min_score: float = setting(0.5, "Least score with which a new object enters; 0 to 1.")
    min_age: int = setting(3, "Frames a track must have lasted before it enters; 1 to 1000.")
    id_prefix: str = setting(
        "calibnet_", "What an object's name begins with; its track id follows."
    )

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:  # false for NaN, which is in no range
                raise ValueError(f"{name} is {value}; choose {lowest:g} to {highest:g}")
        if not self.id_prefix:
            raise ValueError("id_prefix is empty; other objects of the scene may have numbers")


_RANGES = {
    "time_to_live": (0.1, 3600.0),
    "update_period": (0.0, 60.0),
    "refresh_period": (0.1, 3600.0),
    "padding": (0.0, 1.0),
    "min_size": (0.001, 1.0),
    "size_tolerance": (0.0, 1.0),
    "min_score": (0.0, 1.0),
    "min_age": (1, 1000),
}


class Operation(Enum):
    """What happens to an object. The names are those of MoveIt's constants."""

    ADD = "add"
    """Enters, or replaces the object of that name."""
    MOVE = "move"
    """Gets a new pose and keeps its shape."""
    REMOVE = "remove"


@dataclass(frozen=True, kw_only=True)
class CollisionChange:
    """One change of the scene.

    Attributes:
        object_id: the object's name in the scene.
        stamp: of the colour image it was seen in.
        frame_id: of that image; the pose is in this frame.
        pose: of the box's centre. Meaningless for `REMOVE`.
        size: full extents in metres along the box's own axes, padding included. For `ADD` only.
    """

    operation: Operation
    object_id: str
    stamp: Time
    frame_id: str
    pose: Pose
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class PlacedObject:
    """What the scene holds of one track; times are nanoseconds of the clock given as `now_ns`."""

    object_id: str
    frame_id: str
    size: tuple[float, float, float]
    seen_ns: int
    updated_ns: int
    added_ns: int


Scene = Mapping[int, PlacedObject]
"""Objects by track id."""


def collision_changes(
    previous: Scene, msg: InstanceMaskArray | None, now_ns: int, settings: CollisionSettings
) -> tuple[list[CollisionChange], Scene]:
    """What must change in the planning scene, and what it holds afterwards.

    A track enters with a measured box, a sufficient score and age. Once in, it is moved while it is
    seen; a frame in which its box could not be measured keeps it where it is. An empty message does
    not remove anything by itself: an arm may hide an object that is still there. What was not seen
    for the time to live goes. After a jump of the clock back, times begin at the new now.

    Args:
        previous: what the scene holds.
        msg: the objects of a frame; None when only time has passed.
        now_ns: the node's clock, nanoseconds.
        settings: see there.

    Returns:
        The changes, removals first, and the new scene.
    """
    scene = {track_id: _not_later(placed, now_ns) for track_id, placed in previous.items()}
    changes = []
    for instance in _tracked(msg):
        placed = scene.get(instance.track_id)
        if placed is not None:
            placed = scene[instance.track_id] = replace(placed, seen_ns=now_ns)
        if msg is None or not _has_box(instance):
            continue
        change = _change(placed, instance, msg, now_ns, settings)
        if change is None:
            continue
        changes.append(change)
        if change.operation is Operation.MOVE and placed is not None:
            scene[instance.track_id] = replace(placed, updated_ns=now_ns)
        else:
            scene[instance.track_id] = PlacedObject(
                object_id=change.object_id,
                frame_id=change.frame_id,
                size=change.size,
                seen_ns=now_ns,
                updated_ns=now_ns,
                added_ns=now_ns,
            )
    limit_ns = now_ns - round(settings.time_to_live * _NS_PER_S)
    expired = {key: placed for key, placed in scene.items() if placed.seen_ns < limit_ns}
    kept = {key: placed for key, placed in scene.items() if key not in expired}
    return removals(expired.values()) + changes, kept


def removals(objects: Iterable[PlacedObject]) -> list[CollisionChange]:
    """Take objects out of the scene."""
    return [
        CollisionChange(
            operation=Operation.REMOVE,
            object_id=placed.object_id,
            stamp=Time(),
            frame_id=placed.frame_id,
            pose=Pose(),
        )
        for placed in objects
    ]


def _change(
    placed: PlacedObject | None,
    instance: InstanceMask,
    msg: InstanceMaskArray,
    now_ns: int,
    settings: CollisionSettings,
) -> CollisionChange | None:
    size = _padded(instance, settings)
    object_id = f"{settings.id_prefix}{instance.track_id}"
    if placed is None:
        if instance.score < settings.min_score or instance.track_age < settings.min_age:
            return None
        operation = Operation.ADD
    else:
        if now_ns - placed.updated_ns < settings.update_period * _NS_PER_S:
            return None
        object_id = placed.object_id  # the prefix may have changed since
        must_replace = (
            placed.frame_id != msg.header.frame_id
            or now_ns - placed.added_ns >= settings.refresh_period * _NS_PER_S
            or any(
                abs(new - old) > settings.size_tolerance
                for new, old in zip(size, placed.size, strict=True)
            )
        )
        # Moved even where the pose is the same: a camera that moves together with the object sees
        # no difference, and the scene, which holds poses in the world, would.
        operation = Operation.ADD if must_replace else Operation.MOVE
    return CollisionChange(
        operation=operation,
        object_id=object_id,
        stamp=msg.header.stamp,
        frame_id=msg.header.frame_id,
        pose=instance.box_pose,
        size=size if operation is Operation.ADD else (0.0, 0.0, 0.0),
    )


def _tracked(msg: InstanceMaskArray | None) -> list[InstanceMask]:
    """Instances with a track, best first, one of each."""
    found: dict[int, InstanceMask] = {}
    for instance in () if msg is None else msg.instances:
        if instance.track_id:
            found.setdefault(int(instance.track_id), instance)
    return list(found.values())


def _has_box(instance: InstanceMask) -> bool:
    position, turn, size = (
        instance.box_pose.position,
        instance.box_pose.orientation,
        instance.box_size,
    )
    norm = math.hypot(turn.x, turn.y, turn.z, turn.w)
    extents = (size.x, size.y, size.z)
    return (
        instance.geometry_status == InstanceMask.GEOMETRY_OK
        and all(map(math.isfinite, (position.x, position.y, position.z, *extents)))
        and min(extents) >= 0.0
        and max(extents) > 0.0
        and abs(norm - 1.0) <= _ROTATION_TOLERANCE  # false for NaN
    )


def _padded(instance: InstanceMask, settings: CollisionSettings) -> tuple[float, float, float]:
    size = instance.box_size
    x, y, z = (
        max(float(extent), settings.min_size) + 2.0 * settings.padding
        for extent in (size.x, size.y, size.z)
    )
    return x, y, z


def _not_later(placed: PlacedObject, now_ns: int) -> PlacedObject:
    return replace(
        placed,
        seen_ns=min(placed.seen_ns, now_ns),
        updated_ns=min(placed.updated_ns, now_ns),
        added_ns=min(placed.added_ns, now_ns),
    )
