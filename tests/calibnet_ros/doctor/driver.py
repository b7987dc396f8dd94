"""A camera driver in a process of its own, good or bad: `python -m ...driver good|bad`."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from calibnet_core.data.analytic_scene import render_sequence
from calibnet_ros.camera_presets import PRESETS
from tests.support.ros import image_msg, time_msg

PERIOD_S = 0.05
PRESET = PRESETS["realsense"]
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Driver(Node, ABC):
    """Publishes with a RealSense's topic names."""

    def __init__(self) -> None:
        super().__init__("driver")
        self.color = self.create_publisher(Image, PRESET.color, BEST_EFFORT)
        self.depth = self.create_publisher(Image, PRESET.depth, BEST_EFFORT)
        self.info = self.create_publisher(CameraInfo, PRESET.info, BEST_EFFORT)
        self.count = 0
        self.create_timer(PERIOD_S, self.publish)

    @abstractmethod
    def publish(self) -> None:
        """Send what this camera sends, once a period."""


class GoodDriver(Driver):
    """A rendered scene, calibrated, registered and stamped with this machine's time."""

    def __init__(self) -> None:
        (frame,) = render_sequence(1, size=(120, 160))
        self.rgb = frame.rgb
        self.depth_mm = (np.nan_to_num(frame.depth_m) * 1000).astype("<u2")
        super().__init__()

    def publish(self) -> None:
        stamp_ns = time.time_ns()
        info = CameraInfo(height=120, width=160, distortion_model="plumb_bob", d=[0.0] * 5)
        info.k = np.array([144.0, 0, 79.5, 0, 144.0, 59.5, 0, 0, 1])
        info.header.stamp = time_msg(stamp_ns)
        self.info.publish(info)
        self.color.publish(image_msg(self.rgb, "rgb8", stamp_ns))
        self.depth.publish(image_msg(self.depth_mm, "16UC1", stamp_ns))


class BadDriver(Driver):
    """Every third stamp zero, the others in the future, and nothing else right either."""

    def __init__(self) -> None:
        super().__init__()
        # Asks for more than the driver offers.
        self.create_subscription(Image, PRESET.color, lambda msg: None, 10)

    def publish(self) -> None:
        ahead_ns = time.time_ns() + 5_000_000_000
        self.count += 1
        rgb, millimetres = np.zeros((120, 160, 3), np.uint8), np.full((60, 80), 1500, np.float32)
        stamp_ns = ahead_ns if self.count % 3 else 0
        self.color.publish(image_msg(rgb, "yuv422", stamp_ns, "camera_link"))
        late_ns = ahead_ns - 3_000_000_000
        self.depth.publish(image_msg(millimetres, "32FC1", late_ns, "camera_depth"))
        self.info.publish(CameraInfo(height=120, width=160))


if __name__ == "__main__":
    rclpy.init()
    driver = {"good": GoodDriver, "bad": BadDriver}[sys.argv[1]]()
    try:
        with suppress(KeyboardInterrupt, ExternalShutdownException):
            rclpy.spin(driver)
    except rclpy_implementation.RCLError:
        if rclpy.ok():  # otherwise the test's end came in the middle of a publication
            raise
