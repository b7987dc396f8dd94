from __future__ import annotations

import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from geometry_msgs.msg import Point, Pose, Quaternion
from std_msgs.msg import Header

from calibnet_ros.consumers import planning_scene_bridge
from calibnet_ros.consumers.collision_objects import CollisionChange, Operation
from calibnet_ros.consumers.planning_scene_bridge import NODE_NAME, collision_object_msg
from tests.calibnet_ros.consumers.builders import message, tracked
from tests.support.ros import time_msg

if TYPE_CHECKING:
    from tests.calibnet_ros.consumers.bench import Bench

try:
    import moveit_msgs.msg as moveit
    import shape_msgs.msg as shapes
except ImportError:
    moveit = shapes = None


class StandInObject:
    """The fields of moveit_msgs/CollisionObject that the bridge fills, and its constants."""

    ADD, REMOVE, APPEND, MOVE = b"\x00", b"\x01", b"\x02", b"\x03"

    def __init__(self) -> None:
        self.header, self.pose, self.id = Header(), Pose(), ""
        self.operation = self.ADD
        self.primitives: list[Any] = []
        self.primitive_poses: list[Pose] = []


class StandInPrimitive:
    """The fields of shape_msgs/SolidPrimitive that the bridge fills."""

    BOX = 1

    def __init__(self) -> None:
        self.type, self.dimensions = 0, []


STAND_INS = (
    SimpleNamespace(CollisionObject=StandInObject),
    SimpleNamespace(SolidPrimitive=StandInPrimitive),
)
REAL = pytest.param(
    (moveit, shapes),
    id="MoveIt",
    marks=pytest.mark.skipif(moveit is None, reason="moveit_msgs is not installed"),
)


@pytest.mark.parametrize("modules", [pytest.param(STAND_INS, id="stand-ins"), REAL])
def test_a_box_is_one_primitive_that_sits_at_the_objects_own_pose(modules: Any) -> None:
    pose = Pose(position=Point(x=1.0, y=2.0, z=3.0), orientation=Quaternion(x=0.6, w=0.8))
    change = CollisionChange(
        operation=Operation.ADD,
        object_id="calibnet_7",
        stamp=time_msg(5),
        frame_id="camera",
        pose=pose,
        size=(0.1, 0.2, 0.3),
    )
    msg = collision_object_msg(change, *modules)
    assert (msg.header.frame_id, msg.header.stamp.nanosec, msg.id) == ("camera", 5, "calibnet_7")
    assert msg.operation == type(msg).ADD
    assert msg.pose == pose
    (box,) = msg.primitives
    assert box.type == modules[1].SolidPrimitive.BOX
    assert list(box.dimensions) == [0.1, 0.2, 0.3]
    assert msg.primitive_poses == [Pose()]


@pytest.mark.parametrize("modules", [pytest.param(STAND_INS, id="stand-ins"), REAL])
@pytest.mark.parametrize("operation", [Operation.MOVE, Operation.REMOVE])
def test_moving_and_removing_leave_the_shapes_empty(modules: Any, operation: Operation) -> None:
    pose = Pose(position=Point(x=1.0))
    change = CollisionChange(
        operation=operation, object_id="calibnet_7", stamp=time_msg(5), frame_id="camera", pose=pose
    )
    msg = collision_object_msg(change, *modules)
    assert msg.operation == getattr(type(msg), operation.name)
    assert (list(msg.primitives), list(msg.primitive_poses)) == ([], [])
    assert msg.pose.position.x == (1.0 if operation is Operation.MOVE else 0.0)


@pytest.mark.skipif(moveit is not None, reason="MoveIt's messages are installed")
def test_without_moveit_the_bridge_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert planning_scene_bridge.main([]) == 1
    assert "needs the packages moveit_msgs and shape_msgs; install" in capsys.readouterr().err


@pytest.mark.ros
def test_the_bridge_follows_a_track_and_empties_the_scene_when_it_ends(
    start: Callable[..., Bench],
) -> None:
    module = "tests.calibnet_ros.consumers.printing_bridge"
    bench = start(module, NODE_NAME, time_to_live=0.3, update_period=0.0, id_prefix="seen_")

    def show(*tracks: int) -> None:
        bench.instances.publish(message(*(tracked(track) for track in tracks)))

    def lines(*parts: str) -> list[str]:
        return bench.process.lines("change:", *parts)

    def until(*parts: str, tracks: tuple[int, ...]) -> None:
        def shown() -> list[str]:
            show(*tracks)
            return lines(*parts)

        bench.wait_for(shown, f"a change with {parts}")

    until("add seen_1", tracks=(1,))
    until("move seen_1", tracks=(1,))
    # Nothing is published any more: time alone removes.
    bench.wait_for(lambda: lines("remove seen_1"), "the removal of an unseen object")
    until("add seen_2", tracks=(2,))
    assert "choose 0.1 to 3600" in bench.set_parameter("time_to_live", 0.0).reason
    assert bench.set_parameter("time_to_live", 3600.0).successful
    until("move seen_2", tracks=(2,))
    bench.process.send(signal.SIGTERM)
    assert bench.process.exit_code(2.0) == 0
    assert lines()[-1] == "change: remove seen_2"


@pytest.mark.ros
def test_a_parameter_out_of_range_ends_the_start_with_its_reason(
    start: Callable[..., Bench],
) -> None:
    bench = start("tests.calibnet_ros.consumers.printing_bridge", NODE_NAME, padding=-1.0)
    assert bench.process.exit_code() == 2
    assert "padding is -1.0; choose 0 to 1" in bench.process.log
