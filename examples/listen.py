"""Print what a perception node sees: `python3 listen.py`, beside a running node.

For a node of another name add `--ros-args -r /calibnet/instances:=/front/calibnet/instances`.
"""

import math

import rclpy
from calibnet_ros.msg import InstanceMask, InstanceMaskArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from calibnet_core.perception.mask_codec import MaskFormatError, decode_mask


def describe(instance: InstanceMask) -> str:
    """One object in a line: id, score, distance and what its mask covers."""
    distance = "distance unknown"
    if math.isfinite(instance.depth_median):
        distance = f"{instance.depth_median:.2f} m away"
    roi = instance.roi
    try:
        # (height, width) bool: the pixels of the box whose top-left corner is the roi's offset.
        mask = decode_mask(instance.mask_data, roi.height, roi.width, instance.mask_encoding)
        pixels = f"{mask.sum()} pixels from ({roi.x_offset}, {roi.y_offset}) on"
    except MaskFormatError as error:
        pixels = f"no mask: {error}"
    return f"{instance.instance_id}: score {instance.score:.2f}, {distance}, {pixels}"


class Listener(Node):
    """Subscribes to one perception node."""

    def __init__(self) -> None:
        super().__init__("listen")
        # An empty list says "looked, found nothing"; no message says that nobody looked.
        self.create_subscription(InstanceMaskArray, "/calibnet/instances", self.on_instances, 5)

    def on_instances(self, msg: InstanceMaskArray) -> None:
        """Print the objects of one frame, best first."""
        seconds = msg.header.stamp.sec + msg.header.stamp.nanosec / 1e9
        print(f"{seconds:.3f} s, {msg.header.frame_id}: {len(msg.instances)} objects", flush=True)
        for instance in msg.instances:
            print(f"  {describe(instance)}", flush=True)


def main() -> None:
    """Listen until interrupted."""
    rclpy.init()
    try:
        rclpy.spin(Listener())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
