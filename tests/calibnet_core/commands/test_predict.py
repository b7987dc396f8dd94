from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from calibnet_core import cli
from calibnet_core.config import InferenceConfig
from calibnet_core.data.bags import write_rgbd_bag
from calibnet_core.structures import Instances, NonFiniteOutputError, RgbdFrame
from tests.support.shared import REPOSITORY, shared_file

SIZE = (48, 64)
# As small as the network takes, so that a frame costs little.
SMALL_INPUT = "input: {shortest_edge: 32, longest_edge: 64}\n"


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cup", "plate", "spoon"):
        save(
            tmp_path / "kitchen" / "rgb" / f"{name}.png", rng.integers(0, 256, (*SIZE, 3), np.uint8)
        )
        save(tmp_path / "kitchen" / "depth" / f"{name}.png", np.full(SIZE, 800, np.uint16))
    return tmp_path / "kitchen"


class FakePipeline:
    """Finds the left half of every image; what it was asked for is kept in `calls`."""

    def __init__(self) -> None:
        self.calls: list[dict] = []
        self.frames: list[RgbdFrame] = []
        self.fails_on = ""
        self.model_info = SimpleNamespace(
            model_id="calibnet_r50-random", device="cpu", has_random_weights=True
        )

    def from_weights(self, path, **arguments):
        self.calls.append({"path": path, **arguments})
        return self

    def predict(self, frame: RgbdFrame) -> Instances:
        self.frames.append(frame)
        if self.fails_on and self.fails_on in frame.name:
            raise NonFiniteOutputError("the network produced NaN")
        mask = np.zeros((1, *frame.size), bool)
        mask[:, :, : frame.size[1] // 2] = True
        return Instances.from_masks(mask, np.array([0.9], np.float32))


@pytest.fixture
def fake(monkeypatch) -> FakePipeline:
    pipeline = FakePipeline()
    monkeypatch.setattr("calibnet_core.pipeline.Pipeline", pipeline)
    return pipeline


def predict(*arguments: object) -> int:
    return cli.main(["predict", *(str(argument) for argument in arguments)])


def names_in(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def test_a_folder_gives_overlays_labels_and_results(folder, tmp_path, fake, capsys) -> None:
    assert predict(folder, "-o", tmp_path / "out") == 0
    names = ["cup.png", "plate.png", "spoon.png"]
    assert names_in(tmp_path / "out" / "overlays") == names
    assert names_in(tmp_path / "out" / "labels") == names
    labels = np.array(Image.open(tmp_path / "out" / "labels" / "cup.png"))
    assert labels[:, :32].all()
    assert not labels[:, 32:].any()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["image_id"] for entry in results] == [1, 2, 3]
    printed = capsys.readouterr()
    assert "the weights are random, so the masks mean nothing" in printed.err
    assert "frames" in printed.out


def test_options_reach_the_pipeline(folder, tmp_path, fake) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "inference: {score_threshold: 0.3, min_area: 9}\ninput: {shortest_edge: 64}\n"
    )
    assert (
        predict(
            folder, "-o", tmp_path / "out", "--weights", "w.safetensors", "--model",
            "calibnet_swin_t", "--config", config, "--device", "cuda:1", "--max-instances", 4,
            "--depth-scale", 0.002,
        )
        == 0
    )  # fmt: skip
    (call,) = fake.calls
    assert call["path"] == Path("w.safetensors")
    assert (call["model"], call["device"]) == ("calibnet_swin_t", "cuda:1")
    assert call["config"] == config
    assert call["inference"] == InferenceConfig(score_threshold=0.3, min_area=9, max_instances=4)
    np.testing.assert_allclose(fake.frames[0].depth_m, 1.6)


def test_the_published_setting_yields_to_explicit_options(folder, tmp_path, fake) -> None:
    predict(folder, "-o", tmp_path / "out", "--published", "--score-threshold", 0.1)
    inference = fake.calls[0]["inference"]
    assert inference.score_threshold == 0.1
    assert inference.mask_threshold == InferenceConfig.published().mask_threshold
    assert not inference.sort_by_score


def test_bad_frames_are_reported_and_the_others_saved(folder, tmp_path, fake, capsys) -> None:
    damaged = folder / "rgb" / "plate.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    fake.fails_on = "spoon"
    assert predict(folder, "-o", tmp_path / "out") == 1
    assert names_in(tmp_path / "out" / "labels") == ["cup.png"]
    printed = capsys.readouterr().err
    assert "plate.png: is damaged or cut off" in printed
    assert "spoon: the network produced NaN" in printed
    assert "Traceback" not in printed
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1


def test_a_single_image_takes_its_depth_from_the_option(folder, tmp_path, fake) -> None:
    depth_path = tmp_path / "elsewhere.npy"
    np.save(depth_path, np.full(SIZE, 2.5, np.float32))
    assert predict(folder / "rgb" / "cup.png", "--depth", depth_path, "-o", tmp_path / "out") == 0
    np.testing.assert_array_equal(fake.frames[0].depth_m, np.float32(2.5))


def test_a_damaged_recording_fails_after_its_good_frames(tmp_path, fake, capsys) -> None:
    rng = np.random.default_rng(0)
    frames = [
        RgbdFrame(
            rgb=rng.integers(0, 256, (120, 320, 3), np.uint8),
            depth_m=np.ones((120, 320), np.float32),
            stamp_ns=1_700_000_000_000_000_000 + index * 33_333_333,
        )
        for index in range(14)
    ]
    write_rgbd_bag(tmp_path / "tour", frames)
    file = tmp_path / "tour" / "tour.mcap"
    content = bytearray(file.read_bytes())
    middle = len(content) * 6 // 10
    content[middle : middle + 300_000] = bytes(300_000)
    file.write_bytes(content)
    assert predict(tmp_path / "tour", "-o", tmp_path / "out") == 1
    assert 3 <= len(names_in(tmp_path / "out" / "labels")) < 14
    assert "mcap recover" in capsys.readouterr().err


def test_images_of_a_recording_that_cannot_be_used_are_told(tmp_path, fake, capsys) -> None:
    frames = [
        RgbdFrame(
            rgb=np.zeros((height, 8, 3), np.uint8),
            depth_m=np.ones((height, 8), np.float32),
            stamp_ns=1_700_000_000_000_000_000 + index * 33_333_333,
        )
        for index, height in enumerate((6, 6, 6))
    ]
    write_rgbd_bag(tmp_path / "tour", frames, depth_offset_ns=60_000_000)
    assert predict(tmp_path / "tour", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "tour: 2 colour images not used (no_partner)" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "-o", "out"], "nowhere: there is no such file or folder"),
        (["kitchen", "-o", "out", "--config", "none.yaml"], "none.yaml: cannot be read"),
        (["kitchen", "-o", "out", "--max-instances", "0"], "choose a number from 1"),
        (["kitchen", "-o", "out", "--score-threshold", "2"], "choose a value from 0 to 1"),
        (["kitchen", "-o", "kitchen/rgb/cup.png"], "cup.png"),
        (["empty", "-o", "out"], "holds no RGB-D frames"),
        (["kitchen", "notes.txt", "-o", "out"], "notes.txt: is no recording and no image"),
    ],
)
def test_what_cannot_work_is_one_line_with_the_remedy(
    folder, tmp_path, fake, capsys, monkeypatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    assert predict(*arguments) == 2
    assert words in capsys.readouterr().err


def test_a_missing_weights_file_is_named(folder, tmp_path, capsys) -> None:
    assert predict(folder, "-o", tmp_path / "out", "--weights", tmp_path / "w.safetensors") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "w.safetensors" in printed
    assert not (tmp_path / "out").exists()


def run_cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "calibnet_core.cli", *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_the_real_program_segments_a_folder_and_both_real_recordings(folder, tmp_path) -> None:
    bags = [
        shared_file(f"data/bags/{name}/metadata.yaml").parent
        for name in ("ycbv_0000_16uc1_mcap", "ycbv_0000_32fc1_sqlite3")
    ]
    (tmp_path / "small.yaml").write_text(SMALL_INPUT)
    done = run_cli(
        "predict", folder, *bags, "-o", "out", "--config", "small.yaml", "--score-threshold", 0.01,
        "--max-instances", 3, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "calibnet_compact-" in done.stderr
    assert "weights are random" not in done.stderr
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    assert len(images) == 3 + 10 + 3
    assert [image["id"] for image in images] == list(range(1, 17))
    assert len(names_in(tmp_path / "out" / "overlays")) == 16
    sizes = {(image["height"], image["width"]) for image in images}
    assert sizes == {SIZE, (480, 640)}
