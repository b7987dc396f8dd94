"""Tracked objects as boxes in MoveIt's planning scene.

Subscribes to `instances`, publishes `collision_object`, which a planning scene monitor reads. An
executable of its own, so that the perception node needs no MoveIt and nothing enters a scene unless
this is started. Ending it takes its objects out again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from geometry_msgs.msg import Pose
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from calibnet_ros import qos
from calibnet_ros.consumers.collision_objects import (
    CollisionChange,
    CollisionSettings,
    Operation,
    Scene,
    collision_changes,
    removals,
)
from calibnet_ros.consumers.running import Consumer, run
from calibnet_ros.msg import InstanceMaskArray

try:
    from moveit_msgs import msg as moveit_msgs
    from shape_msgs import msg as shape_msgs
except ImportError:
    moveit_msgs = shape_msgs = None

NODE_NAME = "planning_scene_bridge"
_TICK_S = 0.1
# One message an object: a frame with many must not push the first ones out.
_PROFILE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)

Send = Callable[[CollisionChange], None]


def collision_object_msg(change: CollisionChange, moveit: ModuleType, shapes: ModuleType) -> Any:
    """A change as `moveit_msgs/CollisionObject`.

    Args:
        change: see there.
        moveit: the module `moveit_msgs.msg`.
        shapes: the module `shape_msgs.msg`.
    """
    msg = moveit.CollisionObject()
    msg.header.stamp = change.stamp
    msg.header.frame_id = str(change.frame_id)
    msg.id = str(change.object_id)
    msg.operation = getattr(moveit.CollisionObject, change.operation.name)
    if change.operation is Operation.REMOVE:
        return msg
    msg.pose = change.pose
    if change.operation is Operation.ADD:  # a move must leave the shapes empty
        box = shapes.SolidPrimitive()
        box.type = shapes.SolidPrimitive.BOX
        box.dimensions = [float(extent) for extent in change.size]
        msg.primitives = [box]
        msg.primitive_poses = [Pose()]  # relative to the object's own
    return msg


def moveit_sender(node: Node) -> Send:
    """Publish changes on `collision_object`."""
    publisher = node.create_publisher(moveit_msgs.CollisionObject, "collision_object", _PROFILE)

    def send(change: CollisionChange) -> None:
        publisher.publish(collision_object_msg(change, moveit_msgs, shape_msgs))

    return send


class PlanningSceneBridge(Consumer[CollisionSettings]):
    """See the module.

    Args:
        make_sender: where changes go; tests put something else in MoveIt's place.
    """

    def __init__(self, make_sender: Callable[[Node], Send]) -> None:
        super().__init__(NODE_NAME, CollisionSettings())
        self._send = make_sender(self)
        self._scene: Scene = {}
        self.create_subscription(
            InstanceMaskArray,
            "instances",
            self._update,
            qos.own(qos.RESULT),
            qos_overriding_options=qos.overridable(),
        )
        self.create_timer(_TICK_S, lambda: self._update(None))

    def close(self) -> None:
        """Take every object out of the scene: nobody would do it later."""
        for change in removals(self._scene.values()):
            self._send(change)
        self._scene = {}

    def _update(self, msg: InstanceMaskArray | None) -> None:
        now_ns = self.get_clock().now().nanoseconds
        changes, self._scene = collision_changes(self._scene, msg, now_ns, self.settings)
        for change in changes:
            self._send(change)


def main(
    argv: Sequence[str] | None = None, make_sender: Callable[[Node], Send] | None = None
) -> int:
    """Run the bridge.

    Args:
        argv: see `run`.
        make_sender: see `PlanningSceneBridge`; None stands for MoveIt.

    Returns:
        The exit code: as `run`, or 1 without MoveIt's messages.
    """
    if make_sender is None:
        if moveit_msgs is None:
            print(
                f"{NODE_NAME}: needs the packages moveit_msgs and shape_msgs; install MoveIt 2, "
                "for instance ros-$ROS_DISTRO-moveit-msgs, and source the distribution",
                file=sys.stderr,
            )
            return 1
        make_sender = moveit_sender
    sender = make_sender
    return run(NODE_NAME, lambda: PlanningSceneBridge(sender), argv)


if __name__ == "__main__":
    sys.exit(main())
