"""The demonstration: what it may remove, how it ends, and one run with the real network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.data.bags import open_rgbd_bag, read_frames
from calibnet_ros import demo
from tests.support.ros import wait_for
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    pytest.importorskip("mujoco", reason="rendered scenes are not installed")
    path = tmp_path_factory.mktemp("filmed") / "recording"
    demo.film(path, num_frames=2, seed=0)
    return path


def test_a_film_can_be_read_back(recording):
    bag = open_rgbd_bag(recording)
    frames = list(read_frames(bag))
    assert len(frames) == 2
    assert frames[0].intrinsics is not None
    assert frames[0].size == (480, 640)
    assert frames[1].stamp_ns - frames[0].stamp_ns == 200_000_000
    assert "/ground_truth/label_image" in {topic.name for topic in bag.topics}


def test_without_the_packages_that_render_the_way_out_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    for name in [name for name in sys.modules if name.startswith("calibnet_core.data.scenes.")]:
        if not name.endswith(".parts"):  # imported anew, but for the error's own class
            monkeypatch.delitem(sys.modules, name)
    assert demo.main(["--output", str(tmp_path)]) == 1
    assert "pip install calibnet_ros[scenes]" in " ".join(capsys.readouterr().err.split())


def test_an_earlier_runs_pictures_are_removed_and_nothing_else(tmp_path):
    mine = [tmp_path / "notes.txt", tmp_path / "overlay.png", tmp_path / "node.log"]
    old = [tmp_path / "overlay_0000.png", tmp_path / "label_image_0003.png"]
    for path in (*mine, *old, tmp_path / "contact_sheet.png"):
        path.touch()
    assert demo.prepare_output(tmp_path) == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in mine)


def test_a_folder_of_the_users_that_is_called_recording_survives(tmp_path):
    precious = tmp_path / "recording" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("three years of work")
    with suppress(OSError):  # to refuse is as good
        demo.prepare_output(tmp_path)
    assert precious.exists()


def test_the_recording_to_play_is_not_removed_before_it_is_played(recording, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    played = output / "recording"
    shutil.copytree(recording, played)
    demo.main(["--bag", str(played), "--output", str(output), "--depth-topic", "/none"])
    assert played.exists()


@pytest.mark.parametrize("frames", ["0", "-1"])
def test_a_number_of_frames_that_makes_no_sense_is_a_clear_error(tmp_path, capsys, frames):
    try:
        code = demo.main(["--frames", frames, "--output", str(tmp_path / "out")])
    except SystemExit as ending:
        code = ending.code
    assert code in (1, 2)
    assert "frames" in capsys.readouterr().err


def test_a_missing_recording_is_a_clear_error(tmp_path, capsys):
    code = demo.main(["--bag", str(tmp_path / "gone"), "--output", str(tmp_path / "out")])
    assert code == 1
    assert "there is no such file or folder" in " ".join(capsys.readouterr().err.split())


def test_what_the_user_set_in_the_environment_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"})
    demo.set_environment()
    assert os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"
    assert os.environ["FASTDDS_DEFAULT_PROFILES_FILE"].endswith("fastdds_profile.xml")
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_a_process_that_ignores_the_interruption_is_ended_all_the_same(monkeypatch):
    code = "import signal, time; signal.signal(2, signal.SIG_IGN); print('up', flush=True); "
    process = subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    waits = iter([0.05])
    wait = process.wait
    monkeypatch.setattr(process, "wait", lambda *args: wait(next(waits, None)))
    assert demo.end_process(process) == -signal.SIGKILL


def test_a_node_that_cannot_load_its_weights_is_told_of_with_the_end_of_its_log(
    recording, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "_NODE_TIMEOUT_S", 15.0)
    code = demo.main(
        ["--bag", str(recording), "--output", str(tmp_path), "--weights", "/nowhere/w.pth"]
    )
    said = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert "w.pth" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--frames", "3"], []), (["--frames", "1", "--model", "calibnet_r50"], ["random"])],
    ids=["weights of this package", "random weights"],
)
def test_the_demonstration_answers_every_frame(tmp_path, arguments, words):
    log = tmp_path / "demo.log"
    output = tmp_path / "output"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "calibnet_ros.demo", *arguments, "--output", str(output)],
            cwd=REPOSITORY,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: process.poll() is not None, "the demonstration to end", timeout_s=200.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    said = log.read_text()
    assert process.returncode == 0, said
    assert [word for word in words if word not in said] == []
    cells = [[cell.strip() for cell in line.split("│")] for line in said.splitlines()]
    rows = {row[1]: row[2] for row in cells if len(row) == 4}
    sent = arguments[1]
    assert (rows["frames sent"], rows["answered"], rows["unaccounted for"]) == (sent, sent, "0")
    names = {path.name for path in output.iterdir()}
    assert {
        f"{kind}_000{n}.png" for kind in ("overlay", "label_image") for n in range(int(sent))
    } <= names
    assert {"contact_sheet.png", "node.log"} <= names
    assert "Traceback" not in (output / "node.log").read_text()
