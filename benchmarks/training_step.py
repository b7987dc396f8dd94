"""How fast a training step is beside the published structure, and whether loading keeps up.

    python benchmarks/training_step.py [--model calibnet_r50] [--rounds 5] [--json FILE]

A step is forward pass, matching, losses, backward pass and AdamW for one image of 320x480. All
forms run in this process on the same input and weights, in turn; CPU time at one thread is compared
round by round. `published` computes attention by `grid_sample`, `operator` by the compiled one, and
`channels_last` also lays tensors out for the convolution library, as the trainer does. `bf16` is
that in mixed precision, and `bf16_mended` what the trainer makes of `run.precision: bf16-mixed`:
operators that bfloat16 slows down stay in float32. `loading` reads, varies and normalises one
rendered image of 480x640 by the published recipe, which a worker process does while a step runs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import Run, Summary, alternate, provenance, summarise, write_record
from benchmarks.model import HEIGHT, WIDTH, by_grid_sample
from calibnet_core.config import DepthConfig, InputConfig
from calibnet_core.data.datasets import open_dataset
from calibnet_core.data.loading import Draw, TrainingImages
from calibnet_core.data.transforms import AugmentationConfig
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet import encoder
from calibnet_core.ops import info
from calibnet_core.training import compute_losses
from calibnet_core.training.config import OptimisationConfig, Precision
from calibnet_core.training.optimisation import build_optimizer
from calibnet_core.training.slow_halves import SlowHalvesInFull
from tests.support.datasets import write_rendered_set

OBJECTS = 3


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="calibnet_r50")
    parser.add_argument("--rounds", type=int, default=5, help="alternating measurements")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rgb, depth = torch.randn(2, 1, 3, HEIGHT, WIDTH, generator=generator)
    masks = [torch.zeros(OBJECTS, HEIGHT, WIDTH, dtype=torch.bool)]
    for index in range(OBJECTS):
        masks[0][index, 80:200, 20 + 150 * index : 120 + 150 * index] = True

    def step(
        *,
        by_operator: bool = True,
        is_channels_last: bool = True,
        precision: Precision = "32-true",
        is_mended: bool = False,
    ) -> Callable[[], object]:
        plain = build_model(arguments.model, seed=0).train()
        images = (rgb, depth)
        if is_channels_last:
            plain = plain.to(memory_format=torch.channels_last)
            images = tuple(i.contiguous(memory_format=torch.channels_last) for i in images)
        fabric = Fabric(accelerator="cpu", precision=precision)
        model, optimizer = fabric.setup(plain, build_optimizer(plain, OptimisationConfig()))
        mending = SlowHalvesInFull if is_mended else contextlib.nullcontext

        def once() -> None:
            optimizer.zero_grad()
            with mending():
                losses = compute_losses(model, *images, masks)
            fabric.backward(losses["total"])
            optimizer.step()

        if by_operator:
            return once

        def published() -> None:
            with mock.patch.object(encoder, "ms_deform_attn_fused", by_grid_sample):
                once()

        return published

    with tempfile.TemporaryDirectory() as folder:
        images = TrainingImages(
            open_dataset(write_rendered_set(Path(folder) / "set", 1, size=(480, 640))),
            augmentation=AugmentationConfig(),
            input_config=InputConfig(),
            depth_config=DepthConfig(),
        )
        seeds = iter(range(1_000_000))
        forms: dict[str, Callable[[], object]] = {
            "published": step(by_operator=False, is_channels_last=False),
            "operator": step(is_channels_last=False),
            "channels_last": step(),
            "bf16": step(precision="bf16-mixed"),
            "bf16_mended": step(precision="bf16-mixed", is_mended=True),
            "loading": lambda: images[Draw(0, next(seeds))],
        }
        for form in forms.values():
            form()  # warm-up
        seconds = alternate(
            {name: Run(form) for name, form in forms.items()},
            repeated=["published"],
            rounds=arguments.rounds,
        )
    report(arguments, summarise(seconds["cpu"], "published"))


def report(arguments: argparse.Namespace, summaries: dict[str, Summary]) -> None:
    """Print medians, ratios to the published structure round by round, and their spread."""
    table = Table(
        title=f"{arguments.model}, one image of {HEIGHT}x{WIDTH}, 1 thread, "
        f"{arguments.rounds} rounds"
    )
    for column in ("form", "median ms", "published / form", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "form" else "right")
    for name, summary in summaries.items():
        ratios = (summary.ratio, summary.ratio_lowest, summary.ratio_highest)
        table.add_row(name, f"{summary.median_ms:.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    console = Console()
    console.print(table)
    share = summaries["loading"].median_ms / summaries["channels_last"].median_ms
    console.print(f"loading takes {share:.1%} of the step's time")
    if arguments.json:
        record = {
            **provenance("torch", "torchvision"),
            "operator": str(info()),
            "forms": {name: asdict(summary) for name, summary in summaries.items()},
            "loading_share": share,
        }
        write_record(arguments.json, record)


if __name__ == "__main__":
    main()
