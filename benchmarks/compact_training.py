"""Train the compact configuration on real frames and record how it learns unseen scenes.

    python benchmarks/compact_training.py [--data FOLDER] [--weights FILE] [--output DIR] [--record]

`config/train/improved_compact.yaml` as it is, on the labelled frames and the quantised ImageNet
MobileNetV2 that lie beside the repository; scenes for validation are in no training image. With
`--record` the curve goes to docs/performance/compact_training.json and .png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import safetensors.torch
import torch
import torchvision
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import provenance, write_record
from calibnet_core.config import load_config
from calibnet_core.preprocessing import PIXEL_MEAN, PIXEL_STD
from calibnet_core.training.config import TrainConfig
from calibnet_core.training.fitting import fit
from calibnet_core.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
RECORD = ROOT / "docs" / "performance" / "compact_training"


def main() -> None:
    """Train and show the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED / "rgbd_instances")
    parser.add_argument(
        "--weights", type=Path, default=SHARED / "weights" / "mobilenet_v2_imagenet_int8.npz"
    )
    parser.add_argument("--output", type=Path, help="the folder of the run; kept")
    parser.add_argument("--record", action="store_true", help="write the curve to docs/performance")
    arguments = parser.parse_args()
    for path in (arguments.data, arguments.weights):
        if not path.exists():
            raise SystemExit(f"{path} is not there; give --data and --weights")
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "mobilenet_v2.safetensors"
        safetensors.torch.save_file(dequantised_mobilenet(arguments.weights), weights)
        config = load_config(ROOT / "config" / "train" / "improved_compact.yaml", TrainConfig)
        config = dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, train=(str(arguments.data),)),
            run=dataclasses.replace(config.run, backbone_weights=str(weights)),
        )
        folder = RunFolder(arguments.output or Path(temporary) / "run")
        if folder.has_state:
            raise SystemExit(f"{folder.path} holds a run already; choose another folder")
        started = time.perf_counter()
        trainer = fit(config, folder, accelerator="cpu")
        minutes = (time.perf_counter() - started) / 60.0
        log = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    curve = [entry for entry in log if "AP50" in entry]
    steps = [entry for entry in log if "computing_s" in entry]
    loading, computing = (sum(step[key] for step in steps) for key in ("loading_s", "computing_s"))
    print(f"{minutes:.1f} minutes, waiting for images {loading / computing:.1%} of computing")
    if arguments.record:
        assert trainer.sets.validation is not None
        record = {
            **provenance("torch", "torchvision"),
            "training_images": len(trainer.sets.train),
            "validation_images": len(trainer.sets.validation),
            "validation_scenes": list(trainer.sets.validation.scenes),
            "parameters": sum(p.numel() for p in trainer.network.parameters()),
            "minutes": round(minutes, 1),
            "waiting_for_images_share": round(loading / computing, 4),
            "curve": curve,
        }
        write_record(RECORD.with_suffix(".json"), record)
        draw(curve, RECORD.with_suffix(".png"))


def dequantised_mobilenet(path: Path) -> dict[str, Tensor]:
    """Weights with torchvision's names from 8-bit ones whose norms are folded in.

    The file's network takes pixels from -1 to 1; the first layer takes over the difference to
    pixels that are normalised as everywhere here.
    """
    archive = np.load(path)
    network = torchvision.models.mobilenet_v2(weights=None)
    modules = dict(network.named_modules())
    state: dict[str, Tensor] = {}
    for key in archive.files:
        name = key.removesuffix(".weight_int8")
        if name == key or not name.startswith("features."):
            continue
        parent, _, index = name.rpartition(".")
        norm = f"{parent}.{int(index) + 1}"
        assert isinstance(modules[norm], torch.nn.BatchNorm2d)
        scale = torch.from_numpy(archive[f"{name}.scale"]).float().view(-1, 1, 1, 1)
        weight = torch.from_numpy(archive[key]).float() * scale
        bias = torch.from_numpy(archive[f"{name}.bias"]).float()
        if name == "features.0.0":
            mean, std = (
                torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD)
            )
            bias = bias + (weight * (mean / 127.5 - 1.0)).sum((1, 2, 3))
            weight = weight * std / 127.5
        state[f"{name}.weight"] = weight
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.ones_like(bias), bias
        state[f"{norm}.running_mean"] = torch.zeros_like(bias)
        state[f"{norm}.running_var"] = torch.ones_like(bias) - 1e-5
    return state


def draw(curve: list[dict[str, Any]], path: Path) -> None:
    """The figures over the iterations as a picture."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    iterations = [entry["iteration"] for entry in curve]
    for name, marker, color in (
        ("AP50", "o", "#0072b2"),
        ("AP75", "s", "#d55e00"),
        ("AP", "^", "#009e73"),
    ):
        axes.plot(
            iterations, [entry[name] for entry in curve], marker=marker, color=color, label=name
        )
    axes.axhline(25.0, color="#888888", linewidth=0.8, linestyle="--")
    axes.set(
        xlabel="iteration",
        ylabel="mask AP on unseen scenes, per cent",
        title="Compact model, real frames, from an ImageNet backbone",
        ylim=(0, 100),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
