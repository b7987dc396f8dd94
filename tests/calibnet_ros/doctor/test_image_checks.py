"""What the doctor says of encodings, sizes, depth, registration and frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calibnet_core.perception.input_statistics import DepthSummary
from calibnet_ros.doctor.facts import Form
from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.image_checks import (
    check_depth,
    check_encodings,
    check_frames,
    check_registration,
    check_sizes,
)
from tests.calibnet_ros.doctor.sound import FRAME_ID, IN_PLACE, SIZE, facts, only, stream

DEPTH = DepthSummary(num_images=5, valid_share=0.9, median_m=1.2, near_m=0.5, far_m=3.0)


def with_forms(color: Form, depth: Form) -> dict[str, object]:
    return {
        "streams": {
            "color": stream("", forms={color: 1}),
            "depth": stream("", forms={depth: 1}),
        }
    }


def test_a_refused_encoding_is_told_in_the_words_of_the_node() -> None:
    refused = stream("yuv422", refusal="image has encoding 'yuv422'; republish it as bgr8")
    finding = only(check_encodings, facts(streams={"color": refused}), Verdict.MEND)
    assert finding.text == "colour images are refused: image has encoding 'yuv422'."
    assert finding.remedy == "republish it as bgr8"


@pytest.mark.parametrize(
    ("encoding", "part"), [("8UC3", "blue first"), ("bayer_rggb8", "cv_bridge")]
)
def test_encodings_that_are_read_with_a_caveat_are_told(encoding: str, part: str) -> None:
    given = facts(streams={"color": stream(encoding)})
    only(check_encodings, given, Verdict.NOTE, encoding, part)


def test_changing_encodings_and_sizes_are_told() -> None:
    forms = {Form("rgb8", SIZE, "a"): 3, Form("bgr8", (240, 320), "a"): 1}
    given = facts(streams={"color": stream("", forms=forms)})
    only(check_encodings, given, Verdict.NOTE, "changes its encoding: bgr8, rgb8")
    only(check_sizes, given, Verdict.NOTE, "320x240, 640x480")


def test_different_sizes_are_told_both_and_their_cause() -> None:
    given = with_forms(Form("rgb8", (720, 1280), "a"), Form("16UC1", (480, 848), "a"))
    only(check_sizes, facts(**given), Verdict.MEND, "1280x720", "848x480", "not aligned")


@pytest.mark.parametrize(
    ("encoding", "median_m", "verdict", "parts"),
    [
        ("32FC1", 1200.0, Verdict.MEND, ("these are millimetres", "depth.unit:=mm")),
        ("16UC1", 0.0012, Verdict.MEND, ("these are metres",)),
        ("16UC1", 15.0, Verdict.NOTE, ("unusual", "counts as millimetres")),
        ("32FC1; compressedDepth png", 1200.0, Verdict.MEND, ("these are millimetres",)),
    ],
)
def test_depth_in_another_unit_than_its_encoding_says_is_told(
    encoding: str, median_m: float, verdict: Verdict, parts: tuple[str, ...]
) -> None:
    given = facts(depth=replace(DEPTH, median_m=median_m), streams={"depth": stream(encoding)})
    only(check_depth, given, verdict, *parts)


@pytest.mark.parametrize(
    ("share", "verdict", "part"),
    [
        (0.0, Verdict.MEND, "no depth pixel"),
        (0.05, Verdict.MEND, "only 5%"),
        (0.3, Verdict.NOTE, "30%"),
    ],
)
def test_missing_measurements_are_told(share: float, verdict: Verdict, part: str) -> None:
    only(check_depth, facts(depth=replace(DEPTH, valid_share=share)), verdict, part)


@pytest.mark.parametrize(
    ("change", "verdict", "parts"),
    [
        ({"shift_xy": (-8, 3), "gain": 0.5}, Verdict.MEND, ("8 px to the left and 3 px down",)),
        ({"magnification": 1.25}, Verdict.MEND, ("enlarged 1.25 times", "alignment")),
        ({"num_edge_pixels": 3}, Verdict.NOTE, ("too few edges", "a few objects")),
        ({"distinctness": 2.0}, Verdict.NOTE, ("no shift fits clearly",)),
    ],
)
def test_what_the_edges_say_is_told(
    change: dict[str, object], verdict: Verdict, parts: tuple[str, ...]
) -> None:
    given = facts(agreement=replace(IN_PLACE, **change))  # type: ignore[arg-type]
    only(check_registration, given, verdict, *parts)


@pytest.mark.parametrize(
    ("color", "depth", "part"),
    [
        ("", "", "empty frame_id"),
        ("camera_link", "camera_link", "x would point forward"),
        (FRAME_ID, "camera_depth_optical_frame", "probably not aligned"),
        ("rgb_camera", "rgb_camera", "no transform leads to 'rgb_camera'"),
    ],
)
def test_odd_frames_are_told(color: str, depth: str, part: str) -> None:
    given = facts(
        **with_forms(Form("rgb8", SIZE, color), Form("16UC1", SIZE, depth)),
        known_frames=frozenset({FRAME_ID, "camera_link"}),
    )
    only(check_frames, given, Verdict.NOTE, part)


def test_transforms_that_could_not_be_looked_at_are_one_sentence() -> None:
    only(check_frames, facts(known_frames=None), Verdict.NOTE, "tf2_ros is not installed")
