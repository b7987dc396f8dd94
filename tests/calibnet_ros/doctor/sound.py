"""Facts of a camera and a machine with which all is well, for tests to spoil."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from calibnet_core.perception.input_statistics import DepthSummary
from calibnet_core.perception.registration import EdgeAgreement
from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.diagnosis import Check
from calibnet_ros.doctor.facts import (
    CAMERA_INFO,
    IMAGE,
    Choice,
    EndpointFacts,
    Facts,
    Form,
    InfoFacts,
    InputFacts,
    MachineFacts,
    Request,
    StreamFacts,
    TopicFacts,
    WeightsFacts,
)
from calibnet_ros.doctor.findings import Finding, Verdict

PRESET = PRESETS["realsense"]
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333
COUNT = 60
SIZE = (480, 640)
FRAME_ID = "camera_color_optical_frame"
INFO = InfoFacts(
    size=SIZE,
    frame_id=FRAME_ID,
    pinhole=(600.0, 600.0, 319.5, 239.5),
    d=(0.1, -0.2, 0.001, 0.0, 0.05),
    distortion_model="plumb_bob",
)
IN_PLACE = EdgeAgreement(
    shift_xy=(-1, 0),
    magnification=1.0,
    agreement=0.55,
    agreement_in_place=0.55,
    distinctness=4.5,
    magnification_gain=1.0,
    num_edge_pixels=9000,
    gain=0.0,
)
MACHINE = MachineFacts(
    middleware="rmw_fastrtps_cpp",
    profile_path="/profiles/images.xml",
    profile_exists=True,
    shared_memory_bytes=33_554_432,
    shipped_profile="/share/fastdds_profile.xml",
    shm_total_bytes=2**30,
    torch_version="2.15",
    gpus=(("NVIDIA H100", 80.0),),
    operator_cpu="compiled (AVX2)",
    operator_cuda="compiled (sm_90)",
)
WEIGHTS = WeightsFacts(
    path="best.safetensors",
    sha256="ab" * 32,
    model="calibnet_r50",
    num_loaded=500,
    calibration="lab, 2026-01-02",
)


def stamps(
    count: int = COUNT, *, start_ns: int = START_NS, period_ns: int = PERIOD_NS
) -> list[int]:
    return [start_ns + index * period_ns for index in range(count)]


def endpoint(**changes: Any) -> EndpointFacts:
    given = {"node": "/driver", "msg_type": IMAGE, "reliability": "reliable"}
    return EndpointFacts(**{**given, "durability": "volatile", **changes})


def topic(name: str, msg_type: str = IMAGE, **changes: Any) -> TopicFacts:
    given = {"publishers": (endpoint(msg_type=msg_type),), **changes}
    return TopicFacts(name=name, msg_types=(msg_type,), **given)


def stream(encoding: str, **changes: Any) -> StreamFacts:
    given: dict[str, Any] = {
        "stamps_ns": stamps(),
        "ages_s": [0.02] * COUNT,
        "forms": {Form(encoding, SIZE, FRAME_ID): COUNT},
        "image_bytes": 921_600,
    }
    return StreamFacts(**{**given, **changes})


def interleaved(color: list[int], depth: list[int]) -> list[tuple[Any, int]]:
    """Colour and depth in turn, as they arrive; the longer stream ends alone."""
    both: list[tuple[Any, int]] = []
    for index in range(max(len(color), len(depth))):
        both += [("color", color[index])] if index < len(color) else []
        both += [("depth", depth[index])] if index < len(depth) else []
    return both


def inputs(**changes: Any) -> InputFacts:
    """A live RealSense; changes replace fields."""
    given: dict[str, Any] = {
        "source": "live",
        "request": Request(),
        "topics": (
            topic(PRESET.color),
            topic(PRESET.depth),
            topic(PRESET.info, CAMERA_INFO),
            topic(PRESET.depth_info, CAMERA_INFO),
        ),
        "choice": Choice(
            color=PRESET.color,
            depth=PRESET.depth,
            info=PRESET.info,
            depth_info=PRESET.depth_info,
            camera="realsense",
        ),
        "streams": {"color": stream("rgb8"), "depth": stream("16UC1")},
        "infos": {"info": INFO, "depth_info": INFO},
        "depth": DepthSummary(num_images=5, valid_share=0.9, median_m=1.2, near_m=0.5, far_m=3.0),
        "agreement": IN_PLACE,
        "known_frames": frozenset({FRAME_ID, "base_link"}),
        "elapsed_s": COUNT * PERIOD_NS / 1e9,
    }
    facts = InputFacts(**{**given, **changes})
    if "arrivals" not in changes and {"color", "depth"} <= facts.streams.keys():
        color, depth = (facts.streams[role].stamps_ns for role in ("color", "depth"))
        facts.arrivals = interleaved(color, depth)
    return facts


def facts(**changes: Any) -> Facts:
    """Sound facts; changes go to `InputFacts`, `machine` and `weights` excepted."""
    machine = changes.pop("machine", MACHINE)
    weights = changes.pop("weights", WEIGHTS)
    return Facts(inputs=inputs(**changes), machine=machine, weights=weights)


def machine(**changes: Any) -> MachineFacts:
    return replace(MACHINE, **changes)


def bad(check: Check, given: Facts) -> list[Finding]:
    """What a check does not find good."""
    return [finding for finding in check(given) if finding.verdict is not Verdict.GOOD]


def only(check: Check, given: Facts, verdict: Verdict, *parts: str) -> Finding:
    """The one thing that a check does not find good, whose text and remedy hold `parts`."""
    (finding,) = bad(check, given)
    assert finding.verdict is verdict, finding
    for part in parts:
        assert part in finding.text + " " + finding.remedy, (part, finding)
    return finding
