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
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table

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
    parser.add_argument("--json", help="also write the figures to this file")
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

    plain = with_attention(by_grid_sample)
    forms: dict[str, Callable[[], torch.Tensor]] = {
        "plain": plain,
        "eager": with_attention(by_eager_kernel),
        "operator": lambda: plain_model(rgb, depth).mask_logits,
        "default": lambda: default_model(*last).mask_logits,
    }
    with torch.inference_mode():
        outputs = {name: form() for name, form in forms.items()}  # also the warm-up
        seconds: dict[str, list[float]] = {name: [] for name in (*forms, "plain again")}
        for _ in range(arguments.pairs):
            for name, form in (*forms.items(), ("plain again", plain)):
                seconds[name].append(cpu_seconds(form))
    largest = float(outputs["plain"].abs().max())
    deviation = {
        name: float((output - outputs["plain"]).abs().max()) / largest
        for name, output in outputs.items()
    }
    report(arguments, seconds, deviation)


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


def cpu_seconds(form: Callable[[], torch.Tensor]) -> float:
    """CPU time of one call; wall time would measure the neighbours of a shared machine."""
    started = time.process_time()
    form()
    return time.process_time() - started


def report(
    arguments: argparse.Namespace, seconds: dict[str, list[float]], deviation: dict[str, float]
) -> None:
    """Print medians, pairwise ratios to the plain form, their spread, and the deviation."""
    table = Table(
        title=f"{arguments.model}, {HEIGHT}x{WIDTH}, fp32, 1 thread, {arguments.pairs} pairs"
    )
    for column in ("form", "median ms", "plain / form", "lowest", "highest", "max deviation"):
        table.add_column(column, justify="left" if column == "form" else "right")
    figures = {}
    for name, values in seconds.items():
        ratios = [plain / value for plain, value in zip(seconds["plain"], values, strict=True)]
        figures[name] = {
            "median_ms": statistics.median(values) * 1e3,
            "ratio": statistics.median(ratios),
            "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios),
            "relative_deviation": deviation.get(name, 0.0),
        }
        row = figures[name]
        cells = (row["ratio"], row["ratio_lowest"], row["ratio_highest"])
        table.add_row(
            name,
            f"{row['median_ms']:.0f}",
            *(f"{cell:.2f}" for cell in cells),
            f"{row['relative_deviation']:.0e}",
        )
    Console().print(table)
    if arguments.json:
        machine = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "operator": str(info()),
        }
        Path(arguments.json).write_text(
            json.dumps({"machine": machine, "forms": figures}, indent=2)
        )


if __name__ == "__main__":
    main()
