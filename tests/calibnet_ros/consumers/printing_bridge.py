"""The planning scene bridge with its log in MoveIt's place."""

from __future__ import annotations

import sys

from calibnet_ros.consumers import planning_scene_bridge
from calibnet_ros.consumers.collision_objects import CollisionChange


def say(change: CollisionChange) -> None:
    print(f"change: {change.operation.value} {change.object_id}", flush=True)


if __name__ == "__main__":
    sys.exit(planning_scene_bridge.main(make_sender=lambda node: say))
