from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from calibnet_core import PipelineConfig, build_model, cli, save_weights
from calibnet_core.checkpoint import read_score_map, read_state_dict
from calibnet_core.config import InferenceConfig, InputConfig, ModelConfig
from calibnet_core.score_calibration import ScoreMap
from calibnet_core.structures import Instances, ModelInfo, NonFiniteOutputError, RgbdFrame
from tests.calibnet_core.evaluation.coco_sets import box_mask, rle
from tests.support.datasets import write_rendered_set
from tests.support.shared import REPOSITORY

SIZE = (48, 64)
OBJECTS = [
    box_mask(4 + 22 * row, 4 + 15 * column, 16, 10, SIZE) for row in (0, 1) for column in range(4)
]
STRAY = box_mask(46, 0, 2, 64, SIZE)
NUM_IMAGES = 10


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten images with eight objects each."""
    folder = tmp_path / "kitchen"
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, NUM_IMAGES + 1):
        name = f"{number}.png"
        Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(folder / "rgb" / name)
        Image.fromarray(np.full(SIZE, 800, np.uint16)).save(folder / "depth" / name)
        images.append(
            {
                "id": number,
                "file_name": name,
                "depth_file": name,
                "depth_scale_m": 0.001,
                "height": SIZE[0],
                "width": SIZE[1],
            }
        )
        annotations += [
            {
                "id": 100 * number + index,
                "image_id": number,
                "category_id": 1,
                "segmentation": rle(mask),
                "iscrowd": 0,
            }
            for index, mask in enumerate(OBJECTS)
        ]
    categories = [{"id": 1, "name": "object"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"kernel": torch.ones(2)}, path, {"model": "mine"})
    return path


class FakePipeline:
    """Scores 0.9 for what is right half of the time, and 0.2 for a stray in every image.

    Its scores are calibrated already, which is not to matter.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fails_on = -1
        self.model_info = ModelInfo(name="calibnet_r50", weights_sha256="12" * 32, device="cpu")

    def from_weights(self, path, **arguments):
        self.calls.append({"path": path, **arguments})
        return self

    def predict(self, frame: RgbdFrame) -> Instances:
        number = int(frame.rgb[0, 0, 0])
        if number == self.fails_on:
            raise NonFiniteOutputError("the network produced NaN")
        # Moved by half its width an object overlaps by a third.
        masks = [mask if i % 2 else np.roll(mask, 5, axis=1) for i, mask in enumerate(OBJECTS)]
        scores = np.array([0.9] * len(masks) + [0.2], np.float32)
        return Instances.from_masks(
            np.stack([*masks, STRAY]), np.full_like(scores, 0.5), raw_scores=scores
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    pipeline = FakePipeline()
    monkeypatch.setattr("calibnet_core.pipeline.Pipeline", pipeline)
    return pipeline


def calibrate(*arguments: object) -> int:
    return cli.main(["calibrate", "--workers", "0", *(str(argument) for argument in arguments)])


def test_scores_are_calibrated_and_written_beside_the_weights(
    data, weights, tmp_path, fake, capsys
) -> None:
    out = tmp_path / "out.safetensors"
    assert calibrate("--data", data, "--weights", weights, "-o", out, "--device", "cuda:1") == 0
    (call,) = fake.calls
    assert (call["path"], call["device"], call["config"]) == (weights, "cuda:1", None)
    assert call["inference"] == InferenceConfig(
        score_threshold=0.005, nms_iou=0.5, rescore_before_threshold=False
    )
    score_map = read_score_map(out)
    assert isinstance(score_map, ScoreMap)
    assert score_map.dataset == "kitchen"
    assert abs(datetime.date.fromisoformat(score_map.date) - datetime.date.today()).days <= 1
    assert score_map.num_detections == NUM_IMAGES * 9
    # 40 of 80 at 0.9 are right, none of 10 at 0.2.
    assert score_map(np.array([0.9, 0.2])) == pytest.approx([0.5, 0.02], abs=0.03)
    assert torch.equal(read_state_dict(out)["kernel"], torch.ones(2))
    told = capsys.readouterr().out
    assert "90 instances, 40 right, 10 images" in told
    # 80 detections are off by 0.4 and 10 by 0.2.
    errors = dict(re.findall(r"^│ ([a-z, ]+?) +│ ([\d.]+) +│$", told, re.MULTILINE))
    assert float(errors["before"]) == pytest.approx(100 * (80 * 0.4 + 10 * 0.2) / 90, abs=0.06)
    assert float(errors["after"]) < 3.0
    assert float(errors["after, on images left out"]) < 4.0
    assert "too small" not in told
    assert f"{out}: calibrated on kitchen, sha256 " in told


def test_settings_of_ones_own_are_used_but_for_the_threshold(data, weights, tmp_path, fake) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("inference: {score_threshold: 0.3, mask_threshold: 0.4, nms_iou: 0.7}\n")
    calibrate("--data", data, "--weights", weights, "-o", weights, "--config", config)
    (call,) = fake.calls
    assert call["config"] == config
    assert call["inference"] == InferenceConfig(
        score_threshold=0.005, mask_threshold=0.4, nms_iou=0.7, rescore_before_threshold=False
    )
    assert read_score_map(weights) is not None  # written in place


def test_images_that_fail_are_named_and_left_out(data, weights, tmp_path, fake, capsys) -> None:
    (data / "rgb" / "3.png").write_bytes(b"\x89PNG")
    fake.fails_on = 5
    out = tmp_path / "out.safetensors"
    assert calibrate("--data", data, "--weights", weights, "-o", out) == 1
    printed = capsys.readouterr()
    assert "3.png" in printed.err
    assert "failed: " in printed.err
    assert "5.png: the network produced NaN" in printed.err
    assert "72 instances, 32 right, 8 images" in printed.out
    assert read_score_map(out) is not None


def test_a_set_too_small_to_show_a_gain_is_said_to_be(
    data, weights, tmp_path, fake, capsys
) -> None:
    out = tmp_path / "out.safetensors"
    # Six images are enough to fit, five without the fifth of them are not.
    assert calibrate("--data", data, "--weights", weights, "-o", out, "--limit", 6) == 0
    told = capsys.readouterr().out
    assert re.search(r"after, on images left out │ - +│", told)
    assert "too small to show that calibration helps" in told


def test_too_few_detections_write_nothing(data, weights, tmp_path, fake, capsys) -> None:
    out = tmp_path / "out.safetensors"
    assert calibrate("--data", data, "--weights", weights, "-o", out, "--limit", 5) == 2
    assert "the number of detections is 45; choose a larger set" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("weights_name", "output", "words"),
    [
        ("w.pth", "o.safetensors", "w.pth: must end in .safetensors; see `calibnet convert-"),
        ("w.safetensors", "o.pth", "o.pth: must end in .safetensors"),
        ("w.safetensors", "no/o.safetensors", "no/o.safetensors: its folder does not exist"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_predicted(
    data, tmp_path, fake, capsys, monkeypatch, weights_name: str, output: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert calibrate("--data", data, "--weights", weights_name, "-o", output) == 2
    assert words in capsys.readouterr().err
    assert fake.calls == []


def test_declaring_the_arguments_loads_nothing_slow() -> None:
    script = (
        "import sys, argparse; from calibnet_core.commands import calibrate; "
        "calibrate.add_arguments(argparse.ArgumentParser()); "
        "print({'torch', 'scipy', 'cv2', 'pycocotools', 'rich'} & sys.modules.keys())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_a_real_network_is_calibrated(tmp_path: Path) -> None:
    own = ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=0)
    settings = PipelineConfig(model=own, input=InputConfig(shortest_edge=64, longest_edge=96))
    weights = tmp_path / "w.safetensors"
    save_weights(build_model(own, seed=0), weights, model_name="mine", settings=settings)
    config = tmp_path / "config.yaml"
    # With random weights many masks resemble each other.
    config.write_text(
        "model: {backbone: mobilenet_v2, width: 64, num_transformer_layers: 0}\n"
        "input: {shortest_edge: 64, longest_edge: 96}\n"
        "inference: {nms_iou: 1.0, min_area: 1}\n"
    )
    data = write_rendered_set(tmp_path / "tables", 3)
    arguments = ["--data", data, "--weights", weights, "--config", config]
    assert calibrate(*arguments, "-o", tmp_path / "once.safetensors") == 0
    once = read_score_map(tmp_path / "once.safetensors")
    assert once is not None
    assert once.num_detections > 50
    assert once(np.array([0.035])) < 0.01
    # What was calibrated before is calibrated anew from the network's own scores.
    arguments[3] = tmp_path / "once.safetensors"
    assert calibrate(*arguments, "-o", tmp_path / "twice.safetensors") == 0
    twice = read_score_map(tmp_path / "twice.safetensors")
    assert twice is not None
    assert (twice.raw, twice.calibrated) == (once.raw, once.calibrated)
