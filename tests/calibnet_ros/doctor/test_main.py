"""The command line: arguments and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from calibnet_core.checkpoint import save_weights
from calibnet_core.config import PipelineConfig
from calibnet_core.models.build import build_model
from calibnet_ros.doctor import environment
from calibnet_ros.doctor.main import main
from tests.support.training import TINY_MODEL


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--bag", "nowhere.mcap"], "nowhere.mcap"),
        (["--json", "nowhere/report.json"], "nowhere/report.json"),
        (["--camera", "kinect9"], "kinect9"),
        (["--duration", "-1"], "0.1 to 86400"),
        (["--duration", "soon"], "soon"),
        (["--unknown"], "--unknown"),
    ],
)
def test_wrong_arguments_end_with_2_and_are_named(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert part in capsys.readouterr().err


def test_a_file_that_is_no_recording_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.mcap"
    path.write_bytes(b"no recording")
    assert main(["--bag", str(path)]) == 1
    out = capsys.readouterr().out
    assert "MEND" in out
    assert "photo.mcap" in out


def test_weights_are_tried_on_the_model_that_they_name(tmp_path: Path) -> None:
    name = "tiny"
    path = tmp_path / "w.safetensors"
    settings = PipelineConfig(model=TINY_MODEL)
    save_weights(build_model(TINY_MODEL), path, model_name=name, settings=settings)
    facts = environment.gather_weights(str(path), "calibnet_r50")
    assert (facts.failure, facts.model, facts.calibration) == ("", name, "")
    assert facts.num_loaded > 100
    assert len(facts.sha256) == 64
    path.write_bytes(path.read_bytes()[:1000])
    assert "not a readable weights file" in environment.gather_weights(str(path), name).failure
    assert environment.gather_weights(str(tmp_path), name).failure


def test_the_profile_is_read_for_its_segment_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile.xml"
    profile.write_text("<a><segment_size> 33554432 </segment_size></a>")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(profile))
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE", raising=False)
    facts = environment.gather_machine()
    assert facts.profile_variable == "FASTDDS_DEFAULT_PROFILES_FILE"
    assert facts.profile_exists
    assert facts.shared_memory_bytes == 33_554_432
    assert facts.discovery_range == "LOCALHOST"
    assert facts.operator_cpu
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(tmp_path / "absent.xml"))
    absent = environment.gather_machine()
    assert not absent.profile_exists
    assert absent.shared_memory_bytes == environment.DEFAULT_SHARED_MEMORY_BYTES
