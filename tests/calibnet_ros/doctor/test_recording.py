"""Recordings: real ones, one with everything wrong, and none."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibnet_core.data.analytic_scene import render_sequence
from calibnet_core.data.bags import write_rgbd_bag
from calibnet_core.perception.registration import Registration
from calibnet_core.structures import RgbdFrame
from calibnet_ros.doctor.diagnosis import diagnose
from calibnet_ros.doctor.facts import Facts, Request
from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.recording import gather_recording
from tests.calibnet_ros.doctor.sound import MACHINE, PERIOD_NS, START_NS
from tests.support.shared import shared_file

pytest.importorskip("rclpy", reason="rclpy is not installed")


@pytest.mark.parametrize(
    ("folder", "ending", "count", "offset_ms"),
    [("ycbv_0000_16uc1_mcap", "mcap", 10, 4.0), ("ycbv_0000_32fc1_sqlite3", "db3", 3, 0.0)],
)
def test_a_real_recording_is_sound(
    folder: str,
    ending: str,
    count: int,
    offset_ms: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from calibnet_ros.doctor.main import main

    path = shared_file(f"data/bags/{folder}/{folder}.{ending}").parent
    report = tmp_path / "report.json"
    assert main(["--bag", str(path), "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    texts = " ".join(finding["text"] for finding in content["findings"])
    assert "must be mended" not in {finding["verdict"] for finding in content["findings"]}
    assert content["camera"] == "realsense_legacy"
    assert f"{count} of {count} possible pairs were made; depth is +{offset_ms:.1f} ms" in texts
    assert "depth is registered to colour" in texts
    assert "the intrinsics of the colour camera" in texts
    out = capsys.readouterr().out
    assert f"perception.launch.py camera:=realsense_legacy bag:={path}" in out


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depth in millimetres as 32FC1, 8 px off, 16 ms late, in topics of no preset."""
    path = tmp_path_factory.mktemp("bags") / "wrong"
    frames = []
    (rendered,) = render_sequence(1, size=(240, 320))
    for index in range(4):
        frame = rendered.to_rgbd_frame(stamp_ns=START_NS + index * PERIOD_NS, frame_id="cam_link")
        assert frame.depth_m is not None
        moved = np.full_like(frame.depth_m, np.nan)
        moved[:, 8:] = frame.depth_m[:, :-8] * 1000
        frames.append(replace(frame, depth_m=moved))
    write_rgbd_bag(
        path,
        frames,
        color_topic="/cam/color/image",
        depth_topic="/cam/depth/image",
        depth_encoding="32FC1",
        depth_offset_ns=16_000_000,
    )
    return path


def test_everything_wrong_in_a_recording_is_found(wrong: Path) -> None:
    facts = gather_recording(wrong, Request(), limit_s=60.0)
    diagnosis = diagnose(Facts(inputs=facts, machine=MACHINE))
    mends = [f.text for f in diagnosis.findings if f.verdict is Verdict.MEND]
    assert any("these are millimetres" in text for text in mends)
    assert any("depth 8 px to the left" in text.replace("moved ", "") for text in mends)
    assert any("'cam_link'" in f.text for f in diagnosis.findings)
    assert facts.agreement is not None
    assert facts.agreement.verdict is Registration.SHIFTED
    assert "color_topic:=/cam/color/image depth_topic:=/cam/depth/image" in diagnosis.launch_line


def table_frames() -> list[RgbdFrame]:
    (rendered,) = render_sequence(1, size=(240, 320))
    return [
        rendered.to_rgbd_frame(stamp_ns=START_NS + index * PERIOD_NS, frame_id="camera_optical")
        for index in range(4)
    ]


def test_a_compressed_recording_is_looked_at_and_started_with_its_parameters(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bag"
    write_rgbd_bag(
        path,
        table_frames(),
        color_topic="/camera/camera/color/image_raw",
        depth_topic="/camera/camera/aligned_depth_to_color/image_raw",
        color_transport="compressed",
        depth_transport="compressedDepth",
        depth_codec="rvl",
    )
    facts = gather_recording(path, Request(camera="realsense"), limit_s=60.0)
    assert facts.choice == gather_recording(path, Request(), limit_s=60.0).choice
    diagnosis = diagnose(Facts(inputs=facts, machine=MACHINE))
    texts = [finding.text for finding in diagnosis.findings]
    assert set(facts.infos) == {"info", "depth_info"}
    assert not [f.text for f in diagnosis.findings if f.verdict is Verdict.MEND]
    assert "depth comes compressed only, on " + facts.choice.topic("depth") + "." in texts
    assert any("is compressed as '16UC1; compressedDepth rvl', which is read" in t for t in texts)
    assert facts.agreement is not None
    assert facts.agreement.verdict is Registration.REGISTERED
    assert f"camera:=realsense bag:={path} params_file:=FILE" in diagnosis.launch_line
    assert "input.color_transport: compressed" in diagnosis.launch_line
    assert "input.depth_transport: compressedDepth" in diagnosis.launch_line


def test_compressed_images_where_the_node_does_not_listen_are_told(tmp_path: Path) -> None:
    # Without the ending of the transport, as some drivers publish them.
    path = tmp_path / "bag"
    write_rgbd_bag(path, table_frames(), color_transport="compressed", storage="sqlite3")
    (file,) = path.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        rename = "UPDATE topics SET name = '/camera/color/eye' WHERE name LIKE '%/compressed'"
        database.execute(rename)
    facts = gather_recording(file, Request(), limit_s=60.0)
    assert facts.choice.color == "/camera/color/eye"
    assert len(facts.streams["color"].stamps_ns) == 4
    diagnosis = diagnose(Facts(inputs=facts, machine=MACHINE))
    (told,) = [f for f in diagnosis.findings if f.verdict is Verdict.MEND]
    assert "/camera/color/eye holds sensor_msgs/msg/CompressedImage" in told.text
    assert "a topic that ends in /compressed" in told.remedy
    assert not any("cv_bridge" in finding.text for finding in diagnosis.findings)


def test_only_the_beginning_is_read_when_asked_so(wrong: Path) -> None:
    facts = gather_recording(wrong, Request(), limit_s=0.05)
    assert facts.truncated
    assert len(facts.streams["color"].stamps_ns) == 2


def test_topics_that_are_not_there_and_damaged_files_are_told(wrong: Path, tmp_path: Path) -> None:
    absent = gather_recording(wrong, Request(camera="orbbec"), limit_s=60.0)
    assert "/camera/color/image_raw' is not in the recording" in absent.failure
    assert "/cam/color/image" in absent.failure
    rubbish = tmp_path / "rubbish.mcap"
    rubbish.write_bytes(b"\x89MCAP0\r\n" + bytes(range(256)))
    assert "damaged" in gather_recording(rubbish, Request(), limit_s=60.0).failure


def test_recordings_that_were_changed_at_random_never_break_the_doctor(
    wrong: Path, tmp_path: Path
) -> None:
    (file,) = wrong.glob("*.mcap")
    sound = file.read_bytes()
    rng = np.random.default_rng(5)
    for round_ in range(8):
        data = np.frombuffer(sound, np.uint8).copy()
        data[rng.integers(0, data.size, 40)] = rng.integers(0, 256, 40)
        broken = tmp_path / f"{round_}.mcap"
        broken.write_bytes(data[: rng.integers(1, data.size)].tobytes())
        facts = gather_recording(broken, Request(), limit_s=60.0)
        diagnosis = diagnose(Facts(inputs=facts, machine=MACHINE))
        assert not any("fault of the doctor" in f.remedy for f in diagnosis.findings)
