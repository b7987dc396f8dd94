"""The command: its folder, its verdict, and that nothing but the input decides them.

The golden report is written anew by `python -m tests.calibnet_ros.evaluate_bag.test_main`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from PIL import Image

from calibnet_ros.evaluate_bag.main import main
from tests.calibnet_ros.evaluate_bag.recordings import (
    TOPICS,
    make_stub,
    painted_frames,
    write_recording,
    write_truth,
)

pytestmark = pytest.mark.ros

GOLDEN = Path(__file__).with_name("golden_report.json")
OPTIONS = ("--camera", "realsense", "--device", "cpu", "-p", "detection.min_area:=4")


def evaluate(*arguments: object) -> int:
    return main([*map(str, arguments), *OPTIONS], make_predictor=make_stub)


def report_of(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "report.json").read_text())
    # They change with every parameter that the node gains.
    document.pop("parameters")
    document.pop("package_version")
    return document


@pytest.fixture(scope="module")
def folder(recording: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluation") / "out"
    extras = ("--result-bag", "--overlays")
    assert evaluate(recording, "--output", output, "--truth", truth, *extras) == 0
    return output


def test_the_report_is_the_golden_one(folder: Path) -> None:
    assert report_of(folder) == json.loads(GOLDEN.read_text())


def test_perfect_predictions_are_told_so(folder: Path) -> None:
    report = report_of(folder)
    assert report["ap"] == report["ap50"] == report["ap75"] == report["max_f"] == 1.0
    assert report["truth"]["matched"] == report["frames"] == 5
    # Scores of 0.9, 0.8, 0.7 and 0.6, all of them right: 5, 4, 5 and 5 times.
    error = 1 - (5 * 0.9 + 4 * 0.8 + 5 * 0.7 + 5 * 0.6) / 19
    assert report["calibration_error"] == pytest.approx(error, abs=1e-5)
    assert report["tracks"]["returns"] == 1
    assert report["tracks"]["id_switches"] == 0


def test_everything_asked_for_is_there(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "overlays",
        "report.html",
        "report.json",
        "report.md",
        "results",
        "timings.json",
    ]
    overlays = sorted((folder / "overlays").iterdir())
    assert len(overlays) == 5
    assert overlays[0].name == "000001_1700000000_000000000.jpg"
    assert Image.open(overlays[0]).size == (128, 96)
    timings = json.loads((folder / "timings.json").read_text())
    assert timings["latency_ms"]["inference"] == {"p50": 2.0, "p95": 2.0, "p99": 2.0}
    assert timings["gpu_memory_mb"] is None
    page = (folder / "report.html").read_text()
    # Five frames with their depth, and three of those beside their truth.
    assert page.count("<img ") == 2 * 5 + 2 * 3
    assert "<script" not in page
    assert str(folder) not in page


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_alone_or_among_workers(
    folder: Path, recording: Path, tmp_path: Path
) -> None:
    second = shutil.copytree(recording, tmp_path / "second")
    output = tmp_path / "many"
    assert evaluate(recording, second, "--output", output, "--workers", 2) == 0
    alone = tmp_path / "alone"
    assert evaluate(recording, "--output", alone) == 0
    for name in ("report.json", "report.md", "report.html"):
        assert (output / "tabletop" / name).read_bytes() == (alone / name).read_bytes()
    summary = json.loads((output / "summary.json").read_text())
    assert [entry["name"] for entry in summary["recordings"]] == ["tabletop", "second"]
    assert summary["recordings"][0]["frames"] == summary["recordings"][1]["frames"] == 5
    assert "[second](<second/report.md>)" in (output / "summary.md").read_text()
    # Labels add figures and change none of the others.
    plain, labelled = report_of(alone), report_of(folder)
    assert plain["ap"] is plain["truth"] is None
    assert plain["rows"] == labelled["rows"]


def test_limits_decide_the_exit_code(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("frames: {min: 5}\ndrops.no_partner: {max: 0}\n")
    assert evaluate(recording, "--output", tmp_path / "a", "--thresholds", limits) == 0
    limits.write_text("frames: {min: 5}\ntracks.flicker_rate: {max: 0.1}\nap50: {min: 0.5}\n")
    assert evaluate(recording, "--output", tmp_path / "b", "--thresholds", limits) == 1
    told = capsys.readouterr().out
    assert told.count("FAILS") == 2
    assert (tmp_path / "b" / "report.json").exists()
    limits.write_text("ap51: {min: 0.5}\n")
    assert evaluate(recording, "--output", tmp_path / "c", "--thresholds", limits) == 2
    assert not (tmp_path / "c").exists()


def test_a_damaged_recording_among_sound_ones_costs_no_other(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(recording, tmp_path / "broken")
    (file,) = broken.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:200])
    output = tmp_path / "out"
    assert evaluate(broken, recording, "--output", output) == 1
    assert (output / "tabletop" / "report.json").exists()
    assert not (output / "broken").exists()
    assert "is damaged" in capsys.readouterr().err
    entries = json.loads((output / "summary.json").read_text())["recordings"]
    assert [bool(entry["error"]) for entry in entries] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("/no/such/bag",), "there is no such file or folder"),
        (("BAG", "--truth", "TRUTH.json"), "TRUTH.json"),
        (("BAG", "-p", "sync.mode:=approximate"), "message_filters decides"),
        (("BAG", "-p", "sync.queue:=0"), "sync.queue is 0"),
        (("BAG", "--output", "."), "exists already"),
        (("BAG", "BAG", "--ray"), "pip install calibnet_ros"),
    ],
)
def test_wrong_arguments_are_said_and_end_with_two(
    arguments: tuple[str, ...],
    words: str,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--ray" in arguments:
        monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert evaluate(*(str(recording) if a == "BAG" else a for a in arguments)) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_recording_are_refused(
    recording: Path, frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    later = [(replace(frame, stamp_ns=frame.stamp_ns + 5), label) for frame, label in frames]
    other = write_truth(tmp_path / "other.json", later)
    assert evaluate(recording, "--output", tmp_path / "out", "--truth", other) == 2
    assert "none of its images is an answered frame" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_the_presets_topics_those_recorded_are_found(frames, tmp_path: Path) -> None:
    topics = {name: topic.replace("/camera/camera", "/arm") for name, topic in TOPICS.items()}
    path = write_recording(tmp_path / "bag", frames[:2], **topics)
    truth = write_truth(tmp_path / "truth.json", frames[:2], by_stamp=False)
    assert evaluate(path, "--output", tmp_path / "out", "--truth", truth) == 0
    report = report_of(tmp_path / "out")
    assert report["recording"]["topics"]["info"] == "/arm/color/camera_info"
    assert report["ap"] == 1.0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        labelled = painted_frames(5, hidden={2: {2}})
        write_recording(home / "tabletop", labelled, depth_offset_ns=4_000_000)
        write_truth(home / "truth.json", labelled)
        evaluate(home / "tabletop", "--output", home / "out", "--truth", home / "truth.json")
        document = report_of(home / "out")
        GOLDEN.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
