"""What holds of the intake whatever comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.intake import IntakeSettings
from calibnet_core.perception.pairing import PairerConfig
from tests.support.image_messages import camera_info
from tests.support.intake import ALONE, MS, START_NS, Camera, color_msg, depth_msg, stamp

FAULTS: Sequence[dict[str, Any]] = (
    {},
    {"data": bytes(3)},
    {"height": 0},
    {"encoding": "teal9"},
    {"encoding": "rgb8"},  # also of depth
    {"encoding": "16UC1"},  # also of colour
)
stamps_ns = st.one_of(
    st.integers(0, 60).map(stamp),
    st.tuples(st.integers(0, 60), st.integers(-20, 20)).map(lambda at: stamp(at[0]) + at[1] * MS),
    st.sampled_from([0, -5 * MS, stamp(10_000), 5 * MS]),
)
steps = st.tuples(
    st.sampled_from(["color", "depth", "color", "depth", "frame", "info", "publish", "settings"]),
    stamps_ns,
    st.sampled_from([*FAULTS, {}, {}, {}, {}]),
)
pairings = st.builds(
    PairerConfig,
    mode=st.sampled_from(["nearest", "nearest", "exact", "latest"]),
    tolerance_s=st.sampled_from([0.0, 0.01, 0.5]),
    queue=st.integers(1, 6),
    reset_on_backward_jump_s=st.sampled_from([0.05, 0.5, 10.0]),
)
intake_settings = st.builds(
    IntakeSettings,
    pairing=pairings,
    use_arrival_time=st.booleans(),
    require_depth=st.booleans(),
    depth_timeout_s=st.sampled_from([0.1, 0.5, 2.0]),
    max_rate_hz=st.sampled_from([0.0, 0.0, 5.0, 30.0]),
)


@settings(max_examples=300)
@given(intake_settings, intake_settings, st.lists(steps, max_size=60))
def test_every_message_is_counted_whatever_comes(chosen, other, story) -> None:
    other = replace(other, use_arrival_time=chosen.use_arrival_time)  # cannot change meanwhile
    camera = Camera(chosen)
    intake, sent = camera.intake, []
    for what, stamp_ns, fault in story:
        if what in ("color", "frame"):
            # Read by arrival, a stamp may be missing, and the other way round.
            sent.append(color_msg(stamp_ns, **fault))
            intake.add_color(sent[-1], abs(stamp_ns))
        if what in ("depth", "frame"):
            intake.add_depth(depth_msg(stamp_ns, **fault), abs(stamp_ns))
        if what == "info":
            intake.add_info(camera_info(width=1 + stamp_ns % 2))
        elif what == "publish":
            camera.publish()
        elif what == "settings":
            chosen, other = other, chosen
            intake.reconfigure(chosen)
        snapshot = camera.check()
        over_rate = snapshot.dropped_pairs.get(DropReason.OVER_RATE, 0)
        assert len(camera.handed) == snapshot.paired - over_rate
    intake.close()
    end = camera.check()
    assert (end.waiting_color, end.waiting_depth) == (0, 0)
    assert end.received_color == len(sent)
    # Every pair is handed over once, and is made of what was sent.
    headers = [id(pair.color.header) for pair in camera.handed]
    assert len(set(headers)) == len(headers)
    assert set(headers) <= {id(msg.header) for msg in sent}
    depths = [id(pair.depth.header) for pair in camera.handed if pair.depth]
    assert len(set(depths)) == len(depths)


@given(
    st.lists(st.tuples(st.sampled_from("cdb"), st.integers(1, 60)), max_size=60),
    st.sampled_from([0.1, 2.0]),
    st.integers(-40, 40),
)
def test_no_colour_image_goes_alone_after_a_newer_one(story, timeout_s, offset_ms) -> None:
    camera = Camera(replace(ALONE, depth_timeout_s=timeout_s))
    now_ns = START_NS
    for streams, step_ms in story:
        now_ns += step_ms * MS
        if streams in "cb":
            camera.color(now_ns)
        if streams in "db":
            camera.depth(now_ns + offset_ms * MS)
    newest_ns = np.maximum.accumulate(camera.stamps())
    is_alone = np.array([pair.depth is None for pair in camera.handed], np.bool_)
    assert (newest_ns == camera.stamps())[is_alone].all()


@given(
    st.lists(st.integers(1, 400), max_size=40),
    st.floats(0.5, 100.0),
    st.booleans(),
)
def test_no_two_pairs_are_closer_than_the_rate_allows(steps_ms, rate_hz, is_alone) -> None:
    camera = Camera(IntakeSettings(max_rate_hz=rate_hz, require_depth=not is_alone))
    for stamp_ns in START_NS + np.cumsum(steps_ms, dtype=np.int64) * MS:
        camera.color(int(stamp_ns))
        if not is_alone:
            camera.depth(int(stamp_ns))
    distances_s = np.diff(camera.stamps()) / 1e9
    assert (distances_s > 0.9 / rate_hz - 1e-6).all()
