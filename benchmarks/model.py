"""How much faster the whole model is on its default path than in the plain grid_sample form.

    python benchmarks/model.py [--model calibnet_r50] [--pairs 9] [--json FILE]

All forms run in this process on the same input, in turn; CPU time at one thread is compared pair
by pair. The plain form is the model as torch lays it out by default with attention by
`grid_sample`; the default path is what `Pipeline` runs: the compiled operator in
`models.inference_form`. `eager` and `operator` change only how attention is computed: with the
operator's eager kernel and with the one that is loaded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from benchmarks.measure import Run, Summary, alternate, provenance, summarise, write_record
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet import encoder
from calibnet_core.models.inference_form import inference_form
from calibnet_core.ops import eager, info, ms_deform_attn_reference

HEIGHT, WIDTH = 320, 480


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="calibnet_r50")
    parser.add_argument(
        "--pairs", type=int, default=9, help="alternating measurements of each form"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain_model = build_model(arguments.model, seed=0)
    default_model = inference_form(plain_model)
    rgb, depth = torch.randn(2, 1, 3, HEIGHT, WIDTH)
    last = [image.contiguous(memory_format=torch.channels_last) for image in (rgb, depth)]

    def with_attention(attend: Callable[..., torch.Tensor]) -> Callable[[], torch.Tensor]:
        def form() -> torch.Tensor:
            with mock.patch.object(encoder, "ms_deform_attn_fused", attend):
                return plain_model(rgb, depth).mask_logits

        return form

    forms = {
        "plain": with_attention(by_grid_sample),
        "eager": with_attention(by_eager_kernel),
        "operator": lambda: plain_model(rgb, depth).mask_logits,
        "default": lambda: default_model(*last).mask_logits,
    }
    with torch.inference_mode():
        outputs = {name: form() for name, form in forms.items()}  # also the warm-up
        seconds = alternate(
            {name: Run(form) for name, form in forms.items()},
            repeated=["plain"],
            rounds=arguments.pairs,
        )
    largest = float(outputs["plain"].abs().max())
    deviation = {
        name: float((output - outputs["plain"]).abs().max()) / largest
        for name, output in outputs.items()
    }
    report(arguments, summarise(seconds["cpu"], "plain"), deviation)


def by_grid_sample(
    value: torch.Tensor, shapes: list[tuple[int, int]], packed: torch.Tensor
) -> torch.Tensor:
    """The fused operator's job by softmax, location arithmetic and `grid_sample`."""
    flat = [side for shape in shapes for side in shape]
    return ms_deform_attn_reference(value, shapes, *eager.unpack(value, flat, None, packed))


def by_eager_kernel(
    value: torch.Tensor, shapes: list[tuple[int, int]], packed: torch.Tensor
) -> torch.Tensor:
    """The fused operator's job by the kernel that needs no compiler."""
    return eager.fused_forward(value, [side for shape in shapes for side in shape], None, packed)


def report(
    arguments: argparse.Namespace, summaries: dict[str, Summary], deviation: dict[str, float]
) -> None:
    """Print medians, ratios to the plain form round by round, their spread, and the deviation."""
    table = Table(
        title=f"{arguments.model}, {HEIGHT}x{WIDTH}, fp32, 1 thread, {arguments.pairs} pairs"
    )
    for column in ("form", "median ms", "plain / form", "lowest", "highest", "max deviation"):
        table.add_column(column, justify="left" if column == "form" else "right")
    figures = {}
    for name, summary in summaries.items():
        figures[name] = {**asdict(summary), "relative_deviation": deviation.get(name, 0.0)}
        ratios = (summary.ratio, summary.ratio_lowest, summary.ratio_highest)
        table.add_row(
            name,
            f"{summary.median_ms:.0f}",
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{deviation.get(name, 0.0):.0e}",
        )
    Console().print(table)
    if arguments.json:
        record = {
            **provenance("torch", "torchvision"),
            "operator": str(info()),
            "forms": figures,
        }
        write_record(arguments.json, record)


if __name__ == "__main__":
    main()
