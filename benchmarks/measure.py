"""Measuring several ways of doing one thing, in turn, and comparing them round by round.

A machine is never as quiet at one minute as at the next, so what is compared is measured right
after one another: every round runs each contender once, and ratios are taken within a round. The
baseline runs twice a round; how far it is from itself says which differences mean something.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibnet_core.files import atomic_write

AGAIN = " again"
"""What the name of a baseline's second measurement in a round ends with."""

Stopwatch = Callable[[Callable[[], object]], dict[str, float]]
"""Runs something and returns the seconds it took, by the name of the clock."""

Seconds = dict[str, list[float]]
"""For every contender the seconds of one call, round by round."""


@dataclass(frozen=True)
class Run:
    """What one measurement runs.

    Attributes:
        execute: runs it.
        calls: of the contender that this makes; its seconds are divided by them.
    """

    execute: Callable[[], object]
    calls: int = 1


@dataclass(frozen=True)
class Summary:
    """A contender beside the baseline.

    Attributes:
        median_ms: of one call.
        ratio: median over the rounds of the baseline's time through this one's.
        ratio_lowest: of all rounds.
        ratio_highest: of all rounds.
        rounds: how many there were.
    """

    median_ms: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float
    rounds: int


def cpu_stopwatch(execute: Callable[[], object]) -> dict[str, float]:
    """CPU time of all threads of the process, and wall time.

    The first is what a shared machine leaves comparable, for as long as one thread does the work.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    execute()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def repeat(call: Callable[[], object], *, shortest_s: float = 0.01) -> Run:
    """Make a run of `call` that lasts at least `shortest_s`, so that clocks and caches matter less.

    Calls it once to know how long it takes, and so should have been called before.
    """
    started = time.perf_counter()
    call()
    calls = max(1, round(shortest_s / max(time.perf_counter() - started, 1e-9)))

    def execute() -> None:
        for _ in range(calls):
            call()

    return Run(execute, calls)


def alternate(
    runs: Mapping[str, Run],
    *,
    repeated: Sequence[str],
    stopwatch: Stopwatch = cpu_stopwatch,
    rounds: int | None = None,
    budget_s: float = 2.5,
) -> dict[str, Seconds]:
    """Measure all runs in turn, round by round.

    Every round starts with another contender, so that none always follows the same one.

    Args:
        runs: of the contenders, by name.
        repeated: the baselines; each is measured twice a round, the second time as its name and
            `AGAIN`.
        stopwatch: measures one run.
        rounds: how many, or None for 3 to 15, until `budget_s` of wall time has passed.
        budget_s: see rounds.

    Returns:
        Seconds by the name of the clock.
    """
    order = [*runs.items(), *((name + AGAIN, runs[name]) for name in repeated)]
    least, most = (3, 15) if rounds is None else (rounds, rounds)
    seconds: dict[str, Seconds] = {}
    started = time.perf_counter()
    collects = gc.isenabled()
    gc.disable()
    try:
        for number in range(most):
            if number >= least and time.perf_counter() - started > budget_s:
                break
            first = number % len(order)
            for name, run in order[first:] + order[:first]:
                for clock, elapsed in stopwatch(run.execute).items():
                    by_name = seconds.setdefault(clock, {name: [] for name, _ in order})
                    by_name[name].append(elapsed / run.calls)
    finally:
        if collects:
            gc.enable()
    return seconds


def summarise(seconds: Mapping[str, Sequence[float]], baseline: str) -> dict[str, Summary]:
    """Compare every contender with the baseline, ratio by ratio within the rounds."""
    summaries = {}
    for name, values in seconds.items():
        ratios = [theirs / its for theirs, its in zip(seconds[baseline], values, strict=True)]
        summaries[name] = Summary(
            median_ms=statistics.median(values) * 1e3,
            ratio=statistics.median(ratios),
            ratio_lowest=min(ratios),
            ratio_highest=max(ratios),
            rounds=len(ratios),
        )
    return summaries


def describe_machine() -> dict[str, str | int]:
    """What ran here: processor, its cores, operating system."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
    }


def describe_versions(*packages: str) -> dict[str, str]:
    """Version of Python and of the installed packages of these names."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def provenance(*packages: str) -> dict[str, object]:
    """What a record begins with: the command, the machine, and versions of Python and packages."""
    return {
        "command": command_line(),
        "machine": describe_machine(),
        "versions": describe_versions(*packages),
    }


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write figures and how they came about as JSON; folders are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        file.write(json.dumps(record, indent=1) + "\n")


def command_line() -> str:
    """What was typed, less the folders that Python and this repository lie in."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, name = line.partition(":")
        if key.strip() == "model name":
            return name.strip()
    return platform.processor() or "unknown"
