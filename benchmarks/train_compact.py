"""Train the weights of this package from nothing but rendered scenes and an ImageNet backbone.

    python benchmarks/train_compact.py OUTPUT [--mobilenet FILE] [--small]

Renders what is missing, trains config/train/compact_coarse.yaml and then compact_fine.yaml,
calibrates the scores and writes OUTPUT/calibnet_compact.safetensors in half precision. Interrupted,
the same command goes on. `--small` is the model card's fixed small budget: 1000 scenes and 500
iterations of the first part, whose average precision on the validation scenes is printed.

The backbone starts from a MobileNetV2 quantised to 8 bits (repository google-coral/test_data,
Apache-2.0), as a file of arrays that lies beside the repository.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.compact_training import dequantised_mobilenet
from calibnet_core import cli
from calibnet_core.checkpoint import read_state_dict
from calibnet_core.config import load_config
from calibnet_core.data.scenes.rendered_set import render_set
from calibnet_core.files import atomic_write
from calibnet_core.training.config import TrainConfig
from calibnet_core.training.fitting import fit
from calibnet_core.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
MOBILENET = ROOT.parent / "shared" / "data" / "weights" / "mobilenet_v2_imagenet_int8.npz"
SCENES = {
    "train_coarse": (8000, 1),
    "train_fine": (16000, 5),
    "validation": (300, 3),
    "calibration": (1000, 4),
}
"""Pictures and seed of each rendered set; seed 2 is held out for the card's figures."""
SMALL = {"train_coarse": 1000, "validation": 300}
SMALL_ITERATIONS, SMALL_WARMUP = 500, 100


def main() -> None:
    """Go through the steps that are left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--mobilenet", type=Path, default=MOBILENET, metavar="FILE")
    parser.add_argument("--small", action="store_true", help="the fixed small budget")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "cuda"))
    arguments = parser.parse_args()
    folder: Path = arguments.output
    prepare(folder, arguments.mobilenet, is_small=arguments.small)
    if arguments.small:
        run = fit_part(small_config(folder), folder / "small", arguments.accelerator)
        print(f"AP on the validation scenes: {last_figure(run):.2f}")
        return
    coarse = fit_part(part_config(folder, "coarse"), folder / "coarse", arguments.accelerator)
    started_from = {"initial_weights": str(coarse.path / "weights.safetensors")}
    config = part_config(folder, "fine", run=started_from)
    fine = fit_part(config, folder / "fine", arguments.accelerator)
    halved = folder / "halved.safetensors"
    halve(fine.path / "weights.safetensors", halved)
    calibrated = folder / "calibnet_compact.safetensors"
    options = ("--data", folder / "calibration", "--weights", halved, "--output", calibrated)
    cli.main(["calibrate", *map(str, options)])


def prepare(folder: Path, mobilenet: Path, *, is_small: bool) -> None:
    """Render the sets and convert the backbone, where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (count, seed) in SCENES.items():
        wanted = SMALL.get(name, 0) if is_small else count
        if wanted and not (folder / name).exists():
            render_set(folder / name, wanted, seed=seed, workers=2)
    backbone = folder / "mobilenet_v2.safetensors"
    if not backbone.exists():
        with atomic_write(backbone) as file:
            file.write(safetensors.torch.save(dequantised_mobilenet(mobilenet)))


def part_config(folder: Path, part: str, **changes: dict[str, Any]) -> TrainConfig:
    """Settings of one part, on the sets in `folder`; `changes` are by section."""
    path = ROOT / "config" / "train" / f"compact_{part}.yaml"
    config = load_config(path, TrainConfig)
    sets = {"train": (str(folder / f"train_{part}"),), "validation": str(folder / "validation")}
    run = config.run
    if run.backbone_weights is not None:
        run = dataclasses.replace(run, backbone_weights=str(folder / "mobilenet_v2.safetensors"))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **sets), run=run)
    for name, values in changes.items():
        section = dataclasses.replace(getattr(config, name), **values)
        config = dataclasses.replace(config, **{name: section})
    return config


def small_config(folder: Path, **changes: dict[str, Any]) -> TrainConfig:
    """Settings of the fixed small budget."""
    small: dict[str, dict[str, Any]] = {
        "run": {"iterations": SMALL_ITERATIONS},
        "optimisation": {"warmup_iterations": SMALL_WARMUP},
    }
    for name, values in changes.items():
        small[name] = {**small.get(name, {}), **values}
    return part_config(folder, "coarse", **small)


def fit_part(config: TrainConfig, folder: Path, accelerator: str) -> RunFolder:
    """Train, or go on with it."""
    run_folder = RunFolder(folder)
    fit(config, run_folder, accelerator=accelerator)
    return run_folder


def last_figure(run_folder: RunFolder) -> float:
    """Average precision at the end of a run, in per cent."""
    lines = (run_folder.path / "log.jsonl").read_text().splitlines()
    return float(next(e["AP"] for line in reversed(lines) if "AP" in (e := json.loads(line))))


def halve(source: Path, target: Path) -> None:
    """Write weights in half precision: half the bytes, and masks stay what they were."""
    with safetensors.safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    state = {name: value.half() for name, value in read_state_dict(source).items()}
    with atomic_write(target) as file:
        file.write(safetensors.torch.save(state, metadata))


if __name__ == "__main__":
    main()
