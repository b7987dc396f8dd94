"""Ten thousand frames with every fault at random: none is lost, and no memory is kept."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from sensor_msgs.msg import CameraInfo
from std_srvs.srv import SetBool, Trigger

from tests.support.ros import (
    NS_PER_MS,
    PERIOD_NS,
    SIZE,
    camera_info_msg,
    color_msg,
    depth_msg,
    image_msg,
    stamp_ns_of,
)
from tests.support.stub_perception_node import FAIL, FULL_MEMORY, NOT_FINITE, SEE_NOTHING

pytestmark = [pytest.mark.ros, pytest.mark.slow]

NUM_FRAMES = 10_000
BURST = 50
WARM_UP_FRAMES = 2_000
MOST_BYTES_A_FRAME = 1_000


class FaultyCamera:
    """Sends frames with something wrong at random, and counts every message that goes out."""

    def __init__(self, robot, seed):
        self.robot, self.random = robot, random.Random(seed)
        self.sent = {"color": 0, "depth": 0}
        self.stamp_ns = robot.next_stamp()
        self.failed_last = False

    def send(self):
        self.stamp_ns += PERIOD_NS
        kinds = [name for name in dir(self) if name.startswith("fault_")]
        if self.random.random() < 0.5:
            self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))
        else:
            getattr(self, self.random.choice(kinds))()

    def publish(self, color=None, depth=None):
        pairs = [("color", color), ("depth", depth)]
        self.random.shuffle(pairs)  # either may come first
        for name, msg in pairs:
            if msg is not None:
                getattr(self.robot, name).publish(msg)
                self.sent[name] += 1

    def ordered(self, order):
        # Three failures in a row would rightly stop the node.
        order = order if not self.failed_last else None
        self.failed_last = order is not None
        self.publish(color_msg(self.stamp_ns, order), depth_msg(self.stamp_ns))

    def fault_no_depth(self):
        self.publish(color=color_msg(self.stamp_ns))

    def fault_no_color(self):
        self.publish(depth=depth_msg(self.stamp_ns))

    def fault_depth_off(self):
        offset_ns = self.random.randint(-60, 60) * NS_PER_MS
        self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns + offset_ns))

    def fault_twice(self):
        self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))
        self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))

    def fault_jump_back(self):
        self.stamp_ns -= self.random.randint(1, 300) * PERIOD_NS
        self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))

    def fault_jump_ahead(self):
        self.stamp_ns += self.random.randint(1, 100) * PERIOD_NS
        self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))

    def fault_no_stamp(self):
        self.publish(color_msg(0), depth_msg(self.stamp_ns))

    def fault_cut_short(self):
        msg = color_msg(self.stamp_ns)
        msg.data = msg.data[: len(msg.data) // 2]
        self.publish(msg, depth_msg(self.stamp_ns))

    def fault_encoding(self):
        name = self.random.choice(["bayer_rggb8", "nv12", "16UC1", "", "rgb8 "])
        depth = depth_msg(self.stamp_ns)
        depth.encoding = self.random.choice(["8UC1", "16UC1", "rgb8"])
        color = color_msg(self.stamp_ns)
        color.encoding = name
        self.publish(color, depth)

    def fault_empty(self):
        color = color_msg(self.stamp_ns)
        color.height = self.random.choice([0, 2**31])
        self.publish(color, depth_msg(self.stamp_ns))

    def fault_size(self):
        depth = image_msg(np.ones((9, 9), "<f4"), "32FC1", self.stamp_ns)
        self.publish(color_msg(self.stamp_ns), depth)

    def fault_depth_invalid(self):
        value = self.random.choice([math.nan, math.inf, -1.0, 0.0])
        depth = image_msg(np.full(SIZE, value, "<f4"), "32FC1", self.stamp_ns)
        self.publish(color_msg(self.stamp_ns), depth)

    def fault_inference(self):
        self.ordered(self.random.choice([FAIL, NOT_FINITE]))

    def fault_memory(self):
        self.publish(color_msg(self.stamp_ns, FULL_MEMORY), depth_msg(self.stamp_ns))

    def fault_nothing_to_see(self):
        self.publish(color_msg(self.stamp_ns, SEE_NOTHING), depth_msg(self.stamp_ns))

    def fault_calibration(self):
        info = self.random.choice([CameraInfo(), camera_info_msg(), camera_info_msg(height=9)])
        self.robot.info.publish(info)
        self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))

    def fault_operator(self):
        """Somebody turns knobs meanwhile."""
        what = self.random.randrange(4)
        if what == 0:
            threshold = self.random.choice([0.1, 0.5, 0.85])
            assert self.robot.set_parameters(detection__score_threshold=threshold)[0].successful
        elif what == 1:
            self.robot.call(SetBool, "set_enabled", SetBool.Request(data=False))
            self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))
            self.robot.call(SetBool, "set_enabled", SetBool.Request(data=True))
        elif what == 2:
            self.robot.call(Trigger, "reset_tracks", Trigger.Request())
        else:
            flags = {"geometry__enable": bool(self.random.getrandbits(1))}
            self.robot.set_parameters(**flags)

    def settle(self):
        """Send pairs without a fault until one is answered: everything before has arrived."""
        stamps = []

        def is_answered():
            newest = self.robot.results[-1] if self.robot.results else None
            return newest is not None and stamp_ns_of(newest) in stamps

        def answered():
            self.stamp_ns += PERIOD_NS
            self.publish(color_msg(self.stamp_ns), depth_msg(self.stamp_ns))
            stamps.append(self.stamp_ns)
            # Not faster than the node: a queue that runs over would lose what is to be counted.
            until = time.monotonic() + 1.0
            while not is_answered() and time.monotonic() < until:
                time.sleep(0.002)
            return is_answered()

        self.robot.wait_for(answered, "the end of a burst")
        self.failed_last = False


@pytest.mark.timeout(600)
def test_ten_thousand_frames_with_faults_are_all_accounted_for_and_memory_stays_flat(start_robot):
    robot = start_robot(loses_nothing=True)
    robot.wait_until_connected()
    robot.sends_info = False
    begun = robot.counters()
    camera = FaultyCamera(robot, seed=20)
    frames, memory = [], []
    for number in range(1, NUM_FRAMES + 1):
        camera.send()
        if number % BURST == 0:
            camera.settle()
            robot.results.clear()
            robot.arrived_ns.clear()
        if number >= WARM_UP_FRAMES and number % 500 == 0:
            frames.append(number)
            memory.append(robot.memory_bytes())
    ended = robot.counters()
    robot.assert_balanced()
    for name in ("color", "depth"):
        received = ended[f"received_{name}"] - begun[f"received_{name}"]
        assert received == camera.sent[name]
    dropped = {key.partition(".")[2] for key, count in ended.items() if key.startswith("dropped_")}
    assert {
        "no_partner",
        "bad_stamp",
        "bad_size",
        "bad_encoding",
        "duplicate",
        "size_mismatch",
        "inference_error",
        "not_finite",
        "paused",
        "reset",
    } <= dropped
    assert robot.state() == "active"
    slope, _ = np.polyfit(frames, memory, 1)
    num_dropped = sum(count for key, count in ended.items() if key.startswith("dropped_"))
    print(f"{slope:.0f} bytes a frame; {ended['published']} published, {num_dropped} dropped")
    assert slope < MOST_BYTES_A_FRAME, list(zip(frames, memory, strict=True))
