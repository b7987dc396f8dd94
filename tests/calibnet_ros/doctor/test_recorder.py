"""What is kept of messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.data.analytic_scene import render_sequence
from calibnet_core.perception.registration import Registration
from calibnet_ros.doctor.facts import Choice, Form, InputFacts, Request
from calibnet_ros.doctor.recorder import EvenSample, Recorder
from tests.calibnet_ros.doctor.sound import PERIOD_NS, START_NS

CHOICE = Choice(color="/c", depth="/d", info="/i")


def image(pixels: np.ndarray, encoding: str, stamp_ns: int = START_NS, **changes: Any) -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    stamp = SimpleNamespace(sec=seconds, nanosec=nanoseconds)
    given = {
        "header": SimpleNamespace(stamp=stamp, frame_id="cam"),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": pixels[0].nbytes,
        "data": pixels.tobytes(),
    }
    return SimpleNamespace(**{**given, **changes})


def recorded(recorder: Recorder) -> InputFacts:
    facts = InputFacts(source="live", request=Request())
    recorder.fill(facts)
    return facts


@given(st.integers(1, 8), st.integers(0, 300))
def test_a_sample_is_even_bounded_and_begins_with_the_first(limit: int, count: int) -> None:
    sample: EvenSample[int] = EvenSample(limit)
    for item in range(count):
        sample.add(item)
    assert len(sample.items) <= limit
    assert sample.items[:1] == list(range(count))[:1]
    assert len({b - a for a, b in zip(sample.items, sample.items[1:], strict=False)}) <= 1
    if count:
        stride = count / len(sample.items)
        assert count - sample.items[-1] <= 2 * stride + 1


@pytest.mark.parametrize("has_stamps", [True, False])
def test_edges_are_compared_within_pairs_and_without_stamps_within_neighbours(
    has_stamps: bool,
) -> None:
    recorder = Recorder(CHOICE)
    (frame,) = render_sequence(1, size=(120, 160))
    for index in range(2):
        stamp_ns = START_NS + index * PERIOD_NS if has_stamps else 0
        recorder.add("color", image(frame.rgb, "rgb8", stamp_ns), 1.7e9 + 2.0)
        depth = np.nan_to_num(frame.depth_m).astype(np.float32)
        recorder.add("depth", image(depth, "32FC1", stamp_ns), 1.7e9 + 2.0)
    facts = recorded(recorder)
    assert facts.agreement is not None
    assert facts.agreement.verdict is Registration.REGISTERED
    assert facts.depth is not None
    assert facts.depth.num_images == 2
    assert facts.streams["color"].forms == {Form("rgb8", (120, 160), "cam"): 2}
    assert facts.streams["color"].image_bytes == 120 * 160 * 3
    assert len(facts.streams["color"].ages_s) == 2 * has_stamps
    assert [stream for stream, _ in facts.arrivals] == ["color", "depth"] * 2


def test_a_refused_image_keeps_its_stamp_and_the_reason() -> None:
    recorder = Recorder(CHOICE)
    recorder.add("depth", image(np.zeros((4, 4, 3), np.uint8), "rgb8"))
    recorder.add("color", None)
    facts = recorded(recorder)
    assert "looks like a colour image" in facts.streams["depth"].refusal
    assert facts.streams["depth"].stamps_ns == [START_NS]
    assert facts.streams["color"].num_damaged == 1
    assert (facts.depth, facts.agreement) == (None, None)


def test_a_compressed_image_that_cannot_be_decoded_is_refused() -> None:
    recorder = Recorder(Choice(color="/c", depth="/d", color_transport="compressed"))
    broken = image(np.zeros((1, 9), np.uint8), "", format="rgb8; jpeg compressed bgr8")
    recorder.add("color", broken)
    recorder.add("depth", image(np.ones((100, 100), np.float32), "32FC1"))
    facts = recorded(recorder)
    assert facts.streams["color"].refusal
    assert facts.streams["color"].form == Form("rgb8; jpeg compressed bgr8", None, "cam")


SIZES = st.integers(0, 2**32 - 1) | st.integers(0, 8)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["color", "depth"]),
            st.sampled_from(["rgb8", "16UC1", "32FC1", "64FC1", "mono8", "nonsense"]),
            SIZES,
            SIZES,
            SIZES,
            st.binary(max_size=64),
            st.integers(-(2**60), 2**60),
        ),
        max_size=6,
    )
)
@settings(max_examples=60)
def test_no_header_breaks_the_recorder(messages: list[Any]) -> None:
    recorder = Recorder(CHOICE)
    for role, encoding, height, width, step, data, stamp_ns in messages:
        shape = {"height": height, "width": width, "step": step, "data": data}
        recorder.add(role, image(np.zeros((1, 1), np.uint8), encoding, stamp_ns, **shape))
    assert len(recorded(recorder).arrivals) == len(messages)
