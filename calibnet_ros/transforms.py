"""Results in another frame, through tf2_ros where it is installed."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from calibnet_core.perception.geometry import GeometryStatus
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.rigid import RigidTransform
from calibnet_core.perception.shapes import quaternions
from calibnet_ros.messages import header_of
from calibnet_ros.parameter_schema import Values

try:
    import tf2_ros
except ImportError:
    tf2_ros = None


class TransformError(RuntimeError):
    """Transforms are not to be had; the message says why."""


class Transforms:
    """Looks up where the camera was when an image was taken, and tells where objects are.

    Args:
        node: listens and broadcasts.
        values: parameters.

    Raises:
        TransformError: tf2_ros is not installed.
    """

    def __init__(self, node: Node, values: Values) -> None:
        if tf2_ros is None:
            raise TransformError(
                "output.frame, output.tf and geometry.box_up_axis 'gravity' need tf2_ros; install "
                "ros-<distro>-tf2-ros or leave them at their defaults"
            )
        self.target = str(values["output.frame"])
        self._node = node
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._broadcaster = tf2_ros.TransformBroadcaster(node) if values["output.tf"] else None

    def destroy(self) -> None:
        """Stop listening and broadcasting."""
        self._listener.unregister()
        # Given a node, tf2's buffer also holds a service and a hook into the node's clock.
        if (service := getattr(self._buffer, "srv", None)) is not None:
            self._node.destroy_service(service)
        if (hook := getattr(self._buffer, "jump_handle", None)) is not None:
            hook.unregister()
        if self._broadcaster is not None:
            self._node.destroy_publisher(self._broadcaster.pub_tf)

    def to_target(self, source: str, stamp_ns: int, timeout_s: float) -> RigidTransform:
        """Where the camera's frame was in `target` at an image's time.

        Args:
            source: frame of the image.
            stamp_ns: its stamp.
            timeout_s: longest wait for it. Call from the worker's thread: the executor's brings
                what is waited for.

        Raises:
            TransformError: it did not come.
        """
        try:
            found = self._buffer.lookup_transform(
                self.target,
                source,
                Time(nanoseconds=stamp_ns),
                timeout=Duration(seconds=timeout_s),
            ).transform
            shift, turn = found.translation, found.rotation
            return RigidTransform.from_quaternion(
                (shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w)
            )
        except (tf2_ros.TransformException, ValueError) as error:
            raise TransformError(
                f"no transform from '{source}' to '{self.target}' at the image's time ({error})"
            ) from error

    def broadcast(self, perception: Perception, prefix: str) -> None:
        """Broadcast a frame `<prefix>object_<track id>` for each tracked object with geometry."""
        if self._broadcaster is None:
            return
        turns = quaternions([geometry.box_rotation for geometry in perception.geometry])
        msgs = [
            _transform_msg(perception, f"{prefix}object_{track.track_id}", geometry, turn)
            for track, geometry, turn in zip(
                perception.tracks, perception.geometry, turns, strict=True
            )
            if track.track_id and geometry.status == GeometryStatus.OK
        ]
        if msgs:
            self._broadcaster.sendTransform(msgs)


def _transform_msg(
    perception: Perception, child: str, geometry: Any, turn: Any
) -> TransformStamped:
    msg = TransformStamped(header=header_of(perception.frame), child_frame_id=child)
    x, y, z = (float(value) for value in geometry.box_center)
    msg.transform.translation = Vector3(x=x, y=y, z=z)
    for name, value in zip("xyzw", turn, strict=True):
        setattr(msg.transform.rotation, name, float(value))
    return msg
