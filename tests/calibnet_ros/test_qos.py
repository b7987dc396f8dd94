"""Qualities of service by role."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from calibnet_ros import qos

pytestmark = pytest.mark.ros


def test_roles_have_the_documented_qualities():
    found = {
        name: (profile.reliability, profile.durability, profile.depth)
        for name, profile in vars(qos).items()
        if name in ("INPUT", "RESULT", "PICTURE", "LATCHED")
    }
    reliable, best_effort = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
    volatile, latched = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
    assert found == {
        "INPUT": (best_effort, volatile, 5),
        "RESULT": (reliable, volatile, 5),
        "PICTURE": (best_effort, volatile, 1),
        "LATCHED": (reliable, latched, 1),
    }
