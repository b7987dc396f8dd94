"""Parts that many messages share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="rclpy is not installed")

from std_msgs.msg import Header

from calibnet_core.perception.received_image import pixels_of
from calibnet_core.structures import RgbdFrame
from calibnet_ros.messages.fields import (
    array_to_image,
    duration_from_ns,
    header_of,
    time_from_ns,
)

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape", "step"),
    [
        ("rgb8", np.uint8, (3, 5, 3), 15),
        ("mono16", np.uint16, (3, 5), 10),
        ("mono16", ">u2", (3, 5), 10),
        ("32FC1", np.float32, (3, 5), 20),
        ("mono8", "u1", (3, 5), 5),
    ],
)
def test_an_array_becomes_an_image(encoding, dtype, shape, step):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    header = Header(frame_id="eye")
    # A view with holes must be packed on the way.
    for array in (pixels, np.repeat(pixels, 2, axis=1)[:, ::2]):
        msg = array_to_image(array, encoding, header)
        assert (msg.height, msg.width, msg.step) == (3, 5, step)
        assert (msg.encoding, msg.is_bigendian, msg.header) == (encoding, 0, header)
        np.testing.assert_array_equal(pixels_of(msg), pixels)


@pytest.mark.parametrize(
    ("nanoseconds", "sec", "nanosec"),
    [
        (0, 0, 0),
        (4_000_000, 0, 4_000_000),
        (-4_000_000, -1, 996_000_000),
        (-1_000_000_000, -1, 0),
        (1_500_000_000, 1, 500_000_000),
        (2**31 * 10**9, 2**31 - 1, 0),
        (-(2**31) * 10**9 - 1, -(2**31), 0),
    ],
)
def test_times_borrow_from_the_seconds_and_end_at_the_types_limits(nanoseconds, sec, nanosec):
    frame = RgbdFrame(
        rgb=np.zeros((1, 1, 3), np.uint8),
        depth_m=np.ones((1, 1), np.float32),
        stamp_ns=nanoseconds,
        frame_id="eye",
    )
    header = header_of(frame)
    assert header.frame_id == "eye"
    for found in (duration_from_ns(nanoseconds), time_from_ns(nanoseconds), header.stamp):
        assert (found.sec, found.nanosec) == (sec, nanosec)


@given(nanoseconds=st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_times_keep_every_nanosecond(nanoseconds):
    for found in (duration_from_ns(nanoseconds), time_from_ns(nanoseconds)):
        assert found.sec * 10**9 + found.nanosec == nanoseconds
