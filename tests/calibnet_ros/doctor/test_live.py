"""A good camera and one that does everything wrong, in processes of their own, over DDS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.facts import Request
from calibnet_ros.doctor.live import gather_live
from calibnet_ros.doctor.main import main
from tests.support.ros import NodeProcess

pytestmark = pytest.mark.ros
PRESET = PRESETS["realsense"]


@pytest.fixture
def start_driver(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Starts a driver of `driver.py`; it ends with the test."""
    processes: list[NodeProcess] = []

    def start(kind: str) -> None:
        command = ["-m", "tests.calibnet_ros.doctor.driver", kind]
        processes.append(NodeProcess(command, tmp_path / "driver.log"))

    yield start
    for process in processes:
        process.end()
        assert "Traceback" not in process.log


def examine(folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the command, and return its exit code and its JSON."""
    report = folder / "report.json"
    code = main(["--duration", "1.5", "--json", str(report)])
    return code, json.loads(report.read_text())


def texts_of(content: dict[str, Any], verdict: str) -> str:
    return "\n".join(f["text"] for f in content["findings"] if f["verdict"] == verdict)


def test_a_good_camera_passes(start_driver: Callable[[str], None], tmp_path: Path) -> None:
    start_driver("good")
    code, content = examine(tmp_path)
    assert code == 0, content
    good = texts_of(content, "good")
    assert f"{PRESET.color} from /driver (best effort, volatile)" in good
    assert "preset 'realsense'" in good
    assert "possible pairs were made; depth is +0.0 ms" in good
    assert "depth is registered to colour" in good
    assert "stamps agree with this machine's clock" in good
    assert "camera info is calibrated (focal lengths 144.0, 144.0 px)" in good
    assert content["launch_line"].endswith("perception.launch.py camera:=realsense")


def test_a_camera_that_does_everything_wrong_is_told_so(
    start_driver: Callable[[str], None], tmp_path: Path
) -> None:
    start_driver("bad")
    code, content = examine(tmp_path)
    assert code == 1
    mends, notes = texts_of(content, "must be mended"), texts_of(content, "worth knowing")
    for part in (
        "colour images have no stamp (zero)",
        "the nearest depth lies",
        "ahead of this machine's clock",
        "encoding 'yuv422'",
        "colour is 160x120 but depth 80x60",
        "these are millimetres",
        "the camera info is not calibrated",
    ):
        assert part in mends, content
    for part in (
        "/driver subscribes to",
        "hears nothing: best effort publisher and reliable subscription",
        "colour is in frame 'camera_link' but depth in 'camera_depth'",
    ):
        assert part in notes, content


def test_a_middleware_that_does_not_start_is_a_fact_and_no_error() -> None:
    arguments = ["--ros-args", "-r", "not a rule"]
    facts = gather_live(Request(), duration_s=0.2, ros_arguments=arguments)
    assert facts.failure.startswith("ROS does not start: ")


def test_an_empty_graph_and_a_name_that_is_none_give_facts_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("calibnet_ros.doctor.live._DISCOVERY_S", 0.3)
    facts = gather_live(Request(color_topic="/no such topic"), duration_s=0.2)
    assert (facts.failure, facts.topics) == ("", ())
    assert facts.streams["color"].stamps_ns == []
