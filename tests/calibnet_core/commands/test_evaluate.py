from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibnet_core import cli
from calibnet_core.config import InferenceConfig
from calibnet_core.structures import Instances, NonFiniteOutputError, RgbdFrame
from tests.calibnet_core.evaluation.coco_sets import box_mask, rle
from tests.support.shared import REPOSITORY, shared_file

SIZE = (48, 64)
OBJECT = box_mask(8, 8, 24, 20, SIZE)
NAMES = ("cup", "plate", "spoon")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images with one object each."""
    folder = tmp_path / "kitchen"
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in NAMES:
        rgb = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(rgb).save(folder / "rgb" / f"{name}.png")
        Image.fromarray(np.full(SIZE, 800, np.uint16)).save(folder / "depth" / f"{name}.png")
    images = [
        {
            "id": number,
            "file_name": f"{name}.png",
            "depth_file": f"{name}.png",
            "depth_scale_m": 0.001,
            "height": SIZE[0],
            "width": SIZE[1],
            "scene": "drawer",
        }
        for number, name in enumerate(NAMES, start=5)
    ]
    annotations = [
        {
            "id": image["id"],
            "image_id": image["id"],
            "category_id": 1,
            "segmentation": rle(OBJECT),
            "area": int(OBJECT.sum()),
            "bbox": [8, 8, 20, 24],
            "iscrowd": 0,
        }
        for image in images
    ]
    categories = [{"id": 1, "name": "object"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The object of every image, found exactly, and a stray."""
    entries = [
        {"image_id": number, "category_id": 1, "score": score, "segmentation": rle(mask)}
        for number in (5, 6, 7)
        for score, mask in ((0.9, OBJECT), (0.2, box_mask(40, 40, 5, 5, SIZE)))
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    return path


class FakePipeline:
    """Finds the object of every image; what it was asked for is kept in `calls`."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.frames: list[RgbdFrame] = []
        self.fails_on = ""
        self.model_info = SimpleNamespace(
            model_id="calibnet_r50-1234abcd", weights_sha256="12" * 32, device="cpu"
        )

    def from_weights(self, path, **arguments):
        self.calls.append({"path": path, **arguments})
        return self

    def predict(self, frame: RgbdFrame) -> Instances:
        self.frames.append(frame)
        if self.fails_on and self.fails_on in frame.name:
            raise NonFiniteOutputError("the network produced NaN")
        return Instances.from_masks(OBJECT[np.newaxis], np.array([0.9], np.float32))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    pipeline = FakePipeline()
    monkeypatch.setattr("calibnet_core.pipeline.Pipeline", pipeline)
    return pipeline


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", "--workers", "0", *(str(argument) for argument in arguments)])


def metrics(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return document


def test_a_model_is_evaluated_and_a_report_written(data, tmp_path, fake, capsys) -> None:
    out = tmp_path / "out"
    assert evaluate("--data", data, "--weights", "w.safetensors", "--output", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "metrics.json",
        "report.html",
        "report.md",
    ]
    found = metrics(out)
    assert found["mask_ap"]["AP"] == pytest.approx(100.0)
    assert found["dataset"] == {
        "name": "kitchen",
        "num_images": 3,
        "num_objects": 3,
        "num_failures": 0,
    }
    assert found["predictions"]["name"] == "calibnet_r50-1234abcd"
    assert found["predictions"]["sha256"] == "12" * 32
    assert found["predictions"]["inference"]["mask_threshold"] == 0.45
    assert [row["scene"] for row in found["images"]] == ["drawer"] * 3
    np.testing.assert_allclose(fake.frames[0].depth_m, 0.8)
    printed = capsys.readouterr()
    assert "model calibnet_r50-1234abcd on cpu" in printed.err
    assert "AP75" in printed.out
    assert "3 images evaluated, 0 failed" in printed.out
    assert "report.html" in printed.out
    assert str(tmp_path) not in (out / "metrics.json").read_text()


def test_results_of_a_file_are_evaluated_without_a_model(data, results, tmp_path, fake) -> None:
    out = tmp_path / "out"
    assert evaluate("--data", data, "--results", results, "--output", out) == 0
    assert fake.calls == []
    found = metrics(out)
    assert found["mask_ap"]["AP"] == pytest.approx(100.0)
    assert found["overlap"]["per_image"]["overlap_f"] == 100.0
    assert found["predictions"]["name"] == "results.json"
    assert len(found["predictions"]["sha256"]) == 64
    # Three strays are wrong at 0.2, three objects right at 0.9.
    assert found["calibration"]["expected_error"] == pytest.approx(15.0)


def test_the_published_setting_is_used_unless_a_config_says_otherwise(
    data, tmp_path, fake, capsys
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("inference: {score_threshold: 0.3}\ninput: {shortest_edge: 64}\n")
    base = ["--data", data, "--weights", "w", "--output"]
    evaluate(*base, tmp_path / "a", "--model", "calibnet_swin_t", "--device", "cuda:1")
    evaluate(*base, tmp_path / "b", "--config", config)
    assert "candidates scoring up to 0.3 are dropped" in capsys.readouterr().err
    evaluate(*base, tmp_path / "c", "--config", config, "--published")
    assert "dropped" not in capsys.readouterr().err
    first, second, third = fake.calls
    assert (first["model"], first["device"]) == ("calibnet_swin_t", "cuda:1")
    assert first["inference"] == InferenceConfig.published()
    assert second["inference"] == InferenceConfig(score_threshold=0.3)
    assert third["inference"] == InferenceConfig.published()
    assert third["config"] == config


def test_options_reach_the_evaluation(data, results, tmp_path) -> None:
    out = tmp_path / "out"
    code = evaluate(
        "--data", data, "--results", results, "--output", out, "--score-threshold", 0.1,
        "--boundary-tolerance", 0.01, "--bins", 5, "--gallery", 0, "--limit", 2,
    )  # fmt: skip
    assert code == 0
    found = metrics(out)
    assert found["settings"] == {
        "score_threshold": 0.1,
        "boundary_tolerance": 0.01,
        "num_bins": 5,
        "gallery_size": 0,
    }
    assert [row["num_instances"] for row in found["images"]] == [2, 2]


def test_the_number_of_workers_leaves_no_trace(data, results, tmp_path) -> None:
    for workers in (0, 2):
        evaluate(
            "--data", data, "--results", results, "--output", tmp_path / str(workers),
            "--workers", workers,
        )  # fmt: skip
    for name in ("metrics.json", "report.md", "report.html"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_fail_are_named_and_make_the_command_fail(
    data, tmp_path, fake, capsys, workers: int
) -> None:
    damaged = data / "rgb" / "plate.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    fake.fails_on = "spoon"
    out = tmp_path / "out"
    code = evaluate("--data", data, "--weights", "w", "--output", out, "--workers", workers)
    assert code == 1
    printed = capsys.readouterr().err
    assert "plate.png: is damaged or cut off" in printed
    assert "spoon.png: the network produced NaN" in printed
    assert "Traceback" not in printed
    found = metrics(out)
    assert [failure["image_id"] for failure in found["failures"]] == [6, 7]
    # The unreadable image is left out; the one without a prediction counts as missed.
    assert [row["image_id"] for row in found["images"]] == [5, 7]
    assert found["mask_ap"]["AR100"] == pytest.approx(50.0)


def test_a_folder_that_exists_is_refused_before_anything_is_predicted(
    data, tmp_path, fake, capsys
) -> None:
    assert evaluate("--data", data, "--weights", "w", "--output", tmp_path) == 2
    assert "exists already; choose another name" in capsys.readouterr().err
    assert fake.calls == []


def write_results(path: Path, **changes: Any) -> None:
    entry = {"image_id": 5, "category_id": 1, "score": 0.5, "segmentation": rle(OBJECT)} | changes
    path.write_text(json.dumps([entry]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere", "--results", "results.json"], "nowhere"),
        (["--data", "kitchen", "--results", "none.json"], "none.json: cannot be read"),
        (["--data", "kitchen", "--results", "other.json"], "entry 0 belongs to image 9"),
        (["--data", "kitchen", "--results", "small.json"], "other.json|small.json: entry 0: "),
        (["--data", "kitchen", "--weights", "w", "--config", "none.yaml"], "none.yaml: cannot be"),
        (["--data", "kitchen", "--results", "results.json", "--bins", "0"], "0 bins of scores"),
        (
            ["--data", "kitchen", "--results", "results.json", "--score-threshold", "2"],
            "the score threshold is 2.0",
        ),
        (
            ["--data", "kitchen", "--results", "results.json", "--boundary-tolerance", "1"],
            "the boundary tolerance is 1.0",
        ),
    ],
)
def test_what_cannot_work_is_one_line_with_the_remedy(
    data, results, tmp_path, capsys, monkeypatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "other.json", image_id=9)
    write_results(tmp_path / "small.json", segmentation=rle(np.ones((4, 4), bool)))
    assert evaluate("--output", "out", *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert any(word in line for word in words.split("|"))
    assert not (tmp_path / "out").exists()


def test_without_weights_those_of_the_package_are_evaluated(data, tmp_path, fake) -> None:
    assert evaluate("--data", data, "--output", tmp_path / "out") == 0
    assert fake.calls[0]["path"] is None


def test_random_weights_are_not_evaluated(data, tmp_path, fake, capsys) -> None:
    out = tmp_path / "out"
    assert evaluate("--data", data, "--model", "calibnet_r50", "--output", out) == 2
    assert "no weights of calibnet_r50 come with this package" in capsys.readouterr().err
    assert fake.calls == []
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--weights", "w", "--results", "r.json"],
        ["--weights", "w", "--model", "calibnet_r50", "--config", "c.yaml"],
        ["--weights", "w", "--workers", "-1"],
        ["--weights", "w", "--limit", "few"],
    ],
)
def test_contradicting_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--data", "kitchen", "--output", "out", *arguments])
    assert stopped.value.code == 2


def test_help_says_which_setting_is_used(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "with the setting of the published evaluation unless --config says otherwise" in told


def test_declaring_the_arguments_loads_nothing_slow() -> None:
    script = (
        "import sys, argparse; from calibnet_core.commands import evaluate; "
        "evaluate.add_arguments(argparse.ArgumentParser()); "
        "print({'torch', 'scipy', 'cv2', 'pycocotools', 'rich'} & sys.modules.keys())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


@pytest.mark.slow
def test_real_images_are_evaluated(tmp_path: Path) -> None:
    annotations = shared_file("data/rgbd_instances/annotations.json")
    truth = json.loads(annotations.read_text())
    entries = [
        {
            "image_id": a["image_id"],
            "category_id": 1,
            "score": 0.9,
            "segmentation": a["segmentation"],
        }
        for a in truth["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(entries))
    out = tmp_path / "out"
    arguments = ["--data", annotations.parent, "--results", tmp_path / "results.json"]
    assert evaluate(*arguments, "--output", out) == 0
    found = metrics(out)
    assert found["mask_ap"]["AP"] == pytest.approx(100.0)
    assert found["overlap"]["pooled"]["boundary_f"] == 100.0
    assert found["dataset"]["num_objects"] == 142
