"""As much of tf2_ros as the node uses, for machines on which it cannot be installed.

Transforms really travel: as `geometry_msgs/TransformStamped` on `/tf_standin`, because tf2's own
message cannot be had either. There is no interpolation: a transform holds at its own stamp only.
"""

from __future__ import annotations

import time

from geometry_msgs.msg import TransformStamped

TOPIC, OWN_TOPIC = "/tf_standin", "/tf_standin_out"


class TransformException(Exception):  # noqa: N818 (the name is tf2's)
    """A transform is not known."""


class Buffer:
    def __init__(self, node=None):
        self._known = {}

    def set_transform(self, msg):
        stamp = msg.header.stamp
        self._known[msg.header.frame_id, msg.child_frame_id, stamp.sec, stamp.nanosec] = msg

    def lookup_transform(self, target, source, when, timeout):
        seconds, nanoseconds = divmod(when.nanoseconds, 10**9)
        deadline = time.monotonic() + timeout.nanoseconds / 1e9
        while True:
            found = self._known.get((target, source, seconds, nanoseconds))
            if found is not None:
                return found
            if time.monotonic() >= deadline:
                raise TransformException(f"'{source}' to '{target}' is not known")
            time.sleep(0.002)


class TransformListener:
    def __init__(self, buffer, node):
        self._node = node
        self._subscription = node.create_subscription(
            TransformStamped, TOPIC, buffer.set_transform, 100
        )

    def unregister(self):
        self._node.destroy_subscription(self._subscription)


class TransformBroadcaster:
    def __init__(self, node):
        self.pub_tf = node.create_publisher(TransformStamped, OWN_TOPIC, 100)

    def sendTransform(self, msgs):  # noqa: N802
        for msg in msgs:
            self.pub_tf.publish(msg)
