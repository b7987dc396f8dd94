"""How fast and how exact each way of computing deformable attention is.

    python benchmarks/ms_deform_attn.py [--quick] [--json FILE] [--plot FILE] [--record]

All contenders run in this process on the same operands, in turn; every ratio is taken within a
round. Before one is timed, its answer is compared with float64 arithmetic. Forward and backward are
timed apart, the backward without the forward it belongs to.

On the CPU the figure that counts is process CPU time at one thread; wall times stand beside it. On
a GPU it is the time of calls in a CUDA graph on operands that the cache does not hold.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

# Measures the sources beside it, not an installed copy of them.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import attention_cuda, attention_plot, attention_report, measure
from benchmarks.attention_cases import (
    FUSED_FORM,
    LIMITS,
    SAMPLING_FORM,
    SAMPLINGS,
    Case,
    Truth,
    backward_error,
    forward_error,
    make_operands,
    storage_error,
    stored_as,
    true_answers,
)
from benchmarks.attention_contenders import (
    BY_CHANNEL,
    YARDSTICKS,
    Contender,
    contenders,
    has_compiled,
    names,
)
from benchmarks.attention_cuda import Answer
from benchmarks.attention_report import DIRECTIONS, Checked, Row, Unmeasured
from benchmarks.measure import Run

USUAL: dict[str, dict[int, Sequence[str]]] = {
    "320x480": {1: SAMPLINGS, 8: SAMPLINGS[:1]},
    "480x640": {1: SAMPLINGS},
}
"""What is measured on the CPU unless told otherwise: samplings by image size and batch.

Measuring everything would take a quarter of an hour.
"""

GPU_BATCHES = (1, 2, 8)
HALF_TYPES = {"cpu": (torch.bfloat16,), "cuda": (torch.float16, torch.bfloat16)}
RECORDS = Path(__file__).resolve().parents[1] / "docs" / "performance"


def main() -> None:
    """Measure, print, and write what was asked for."""
    arguments = parse(sys.argv[1:])
    device = torch.device(arguments.device)
    console = Console(width=None if sys.stdout.isatty() else 150)
    lacking = attention_cuda.load_reference_algorithm(device) if device.type == "cuda" else ""
    bench = Bench(arguments, device, console, by_channel=device.type == "cuda" and not lacking)
    rows = [row for case in arguments.cases for row in bench.measure(case)]
    report = attention_report.Report(
        device=device.type,
        rows=rows,
        unmeasured=unmeasured(device.type, rows, lacking),
        machine=measure.describe_machine()
        | (attention_cuda.describe_device(device) if device.type == "cuda" else {}),
    )
    attention_report.print_tables(report, console)
    if arguments.json:
        attention_report.write_json(report, arguments.json)
    if arguments.plot:
        attention_plot.plot(report, arguments.plot)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; `cases` and the files to write are worked out here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU where one is")
    parser.add_argument("--sizes", nargs="+", metavar="HxW", help="of the image in pixels")
    parser.add_argument("--batches", nargs="+", type=int, metavar="N")
    parser.add_argument(
        "--samplings", nargs="+", choices=SAMPLINGS, metavar="NAME", help=", ".join(SAMPLINGS)
    )
    parser.add_argument("--rounds", type=int, help="default: 3 to 15, as time allows")
    parser.add_argument(
        "--quick", action="store_true", help="one size, two samplings, three rounds"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the operands")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the first size and batch")
    parser.add_argument("--record", action="store_true", help="write both to docs/performance/")
    arguments = parser.parse_args(argv)
    has_gpu = torch.cuda.is_available()
    arguments.device = arguments.device or ("cuda" if has_gpu else "cpu")
    if arguments.device == "cuda" and not has_gpu:
        parser.error("torch sees no CUDA device here; its figures stay unmeasured")
    if arguments.quick:
        arguments.sizes = arguments.sizes or ["320x480"]
        arguments.batches = arguments.batches or [1]
        arguments.samplings = arguments.samplings or SAMPLINGS[:2]
        arguments.rounds = arguments.rounds or 3
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}; at least 1 is needed")
    try:
        arguments.cases = cases(arguments)
    except ValueError as error:
        parser.error(str(error))
    if arguments.record:
        arguments.json = arguments.json or RECORDS / f"ms_deform_attn_{arguments.device}.json"
        arguments.plot = arguments.plot or RECORDS / f"ms_deform_attn_{arguments.device}.png"
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("drawing needs matplotlib: pip install matplotlib")
    return arguments


def cases(arguments: argparse.Namespace) -> list[Case]:
    """All combinations that the command line asks for."""
    on_gpu = arguments.device == "cuda"
    found = []
    for size in arguments.sizes or USUAL:
        height, _, width = size.partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
            raise ValueError(f"--sizes has '{size}'; write height x width, such as 320x480")
        usual = USUAL.get(size, {1: SAMPLINGS})
        if on_gpu:
            usual = dict.fromkeys(GPU_BATCHES, SAMPLINGS)
        for batch in arguments.batches or usual:
            if batch < 1:
                raise ValueError(f"--batches has {batch}; at least 1 image is needed")
            samplings = SAMPLINGS if arguments.batches else usual[batch]
            found += [
                Case(int(height), int(width), batch, sampling)
                for sampling in arguments.samplings or samplings
            ]
    return found


def unmeasured(device: str, rows: Sequence[Row], lacking: str) -> list[Unmeasured]:
    """Every contender of both devices that has no figures, and why."""
    measured = {row.contender for row in rows}
    missing = []
    for other in ("cpu", "cuda"):
        if other == device:
            reason = "the operators are not compiled for this device"
        elif other == "cuda" and not torch.cuda.is_available():
            reason = "no CUDA device"
        else:
            reason = f"this run measured the other device; see --device {other}"
        dtypes = (torch.float32, *HALF_TYPES[other])
        missing += [
            Unmeasured(other, name, form, lacking if lacking and BY_CHANNEL in name else reason)
            for name, form in names(dtypes, cuda=other == "cuda")
            if other != device or name not in measured
        ]
    return missing


@dataclass(frozen=True)
class Bench:
    """Measures cases on one device.

    Attributes:
        arguments: of the command line.
        device: to measure on.
        console: to print to.
        by_channel: whether the reference algorithm is loaded.
    """

    arguments: argparse.Namespace
    device: torch.device
    console: Console
    by_channel: bool

    @torch.no_grad()
    def measure(self, case: Case) -> list[Row]:
        """Check and time every contender on one problem."""
        torch.set_num_threads(1)
        single = make_operands(case, self.device, self.arguments.seed)
        half_types = HALF_TYPES[self.device.type] if has_compiled(self.device) else ()
        operands = {torch.float32: single} | {t: stored_as(single, t) for t in half_types}
        truths = {dtype: true_answers(stored) for dtype, stored in operands.items()}
        count = 1
        if self.device.type == "cuda":
            count = attention_cuda.copies_beyond_cache(single, self.device)
        copies = [operands] + [
            {dtype: stored.cloned() for dtype, stored in operands.items()} for _ in range(count - 1)
        ]
        # One tuple a contender: itself on each copy of the operands.
        entrants = list(
            zip(*(contenders(copy, by_channel=self.by_channel) for copy in copies), strict=True)
        )
        rows = []
        for form in (SAMPLING_FORM, FUSED_FORM):
            for direction in DIRECTIONS:
                chosen = [entrant for entrant in entrants if entrant[0].form == form]
                rows += self.compare(case, chosen, direction, truths)
        return rows

    def compare(
        self,
        case: Case,
        entrants: Sequence[tuple[Contender, ...]],
        direction: str,
        truths: dict[torch.dtype, Truth],
    ) -> list[Row]:
        """Check and time contenders of one form in one direction."""
        runs: dict[str, dict[str, Run]] = {}  # by what is written after the clock's name
        checked: dict[str, Checked] = {}
        for entrant in entrants:
            name = entrant[0].name
            answer, kinds = self.prepare(entrant, direction)
            checked[name] = check(entrant[0], case, direction, answer, truths)
            for kind, run in kinds.items():
                runs.setdefault(kind, {})[name] = run
        self.console.print(
            f"{case.size}, batch {case.batch}, {case.sampling}, {direction}, relative errors: "
            + ", ".join(f"{name} {errors.error:.0e}" for name, errors in checked.items()),
            highlight=False,
            soft_wrap=True,
        )
        rows = []
        for kind, named in runs.items():
            rows += self.time(case, entrants[0][0].form, direction, named, checked, kind)
        if self.device.type == "cpu" and self.wants_two_threads(case):
            torch.set_num_threads(2)
            rows += self.time(case, entrants[0][0].form, direction, runs[""], checked, "")
            torch.set_num_threads(1)
        return rows

    def prepare(
        self, entrant: tuple[Contender, ...], direction: str
    ) -> tuple[Answer, dict[str, Run]]:
        """What a contender answers, and the runs to time it by."""
        makers: list[Callable[[], Callable[[], Answer]]] = [
            functools.partial(getattr, copy, "forward")
            if direction == "forward"
            else copy.prepare_backward
            for copy in entrant
        ]
        if self.device.type == "cpu":
            call = makers[0]()
            answer = call()
            return answer, {"": measure.repeat(call)}
        if entrant[0].keeps_graph and direction == "backward":
            makers = makers[:2]  # what autograd kept exceeds the cache by itself
        prepared = attention_cuda.prepare(makers, capturable=entrant[0].capturable)
        return prepared.answer, {"": prepared.cold, ", warm cache": prepared.warm}

    def wants_two_threads(self, case: Case) -> bool:
        """Wall time at two threads is for information, and one sampling is enough for it."""
        cores = len(os.sched_getaffinity(0))
        return case.sampling == SAMPLINGS[0] and not self.arguments.quick and cores > 1

    def time(
        self,
        case: Case,
        form: str,
        direction: str,
        runs: dict[str, Run],
        checked: dict[str, Checked],
        kind: str,
    ) -> list[Row]:
        """Time contenders in turn and compare them with each yardstick there is."""
        on_cpu = self.device.type == "cpu"
        baselines = {yardstick: by_form[form] for yardstick, by_form in YARDSTICKS.items()}
        baselines = {key: name for key, name in baselines.items() if name in runs}
        seconds = measure.alternate(
            runs,
            repeated=list(baselines.values()),
            stopwatch=measure.cpu_stopwatch if on_cpu else attention_cuda.event_stopwatch,
            rounds=self.arguments.rounds,
            budget_s=2.5 if on_cpu else 0.5,
        )
        threads = torch.get_num_threads() if on_cpu else None
        if on_cpu and threads != 1:
            del seconds["cpu"]  # counts threads that wait, too
        rows = []
        for clock, by_name in seconds.items():
            for yardstick, baseline in baselines.items():
                for name, summary in measure.summarise(by_name, baseline).items():
                    contender = name.removesuffix(measure.AGAIN)
                    if name != contender and contender != baseline:
                        continue  # a second measurement tells something of its own baseline only
                    rows.append(
                        Row(
                            size=case.size,
                            batch=case.batch,
                            sampling=case.sampling,
                            form=form,
                            direction=direction,
                            contender=name,
                            yardstick=yardstick,
                            clock=clock + kind,
                            threads=threads,
                            errors=checked[contender],
                            times=summary,
                        )
                    )
        return rows


def check(
    contender: Contender,
    case: Case,
    direction: str,
    answer: Answer,
    truths: dict[torch.dtype, Truth],
) -> Checked:
    """Compare an answer with float64 arithmetic; a wrong one ends the benchmark."""
    limit = LIMITS[contender.dtype]
    truth = truths[contender.dtype]
    if not isinstance(answer, torch.Tensor):
        error, from_storage = backward_error(answer, truth), None
    else:
        error = forward_error(answer, truth)
        from_storage = storage_error(answer, truths[torch.float32])
    counted = [error]
    if from_storage is not None and case.sampling == SAMPLINGS[0]:
        # Elsewhere offsets are longer than a network's, and so are the steps between those that a
        # half type can store.
        counted.append(from_storage)
    if not all(value <= limit for value in counted):  # also where one is not a number
        raise SystemExit(
            f"{contender.name} is wrong: {direction}, {case.size}, batch {case.batch}, "
            f"{case.sampling}: relative errors {', '.join(f'{value:.1e}' for value in counted)} "
            f"where {limit:g} is allowed"
        )
    return Checked(error=error, storage_error=from_storage, limit=limit)


if __name__ == "__main__":
    main()
