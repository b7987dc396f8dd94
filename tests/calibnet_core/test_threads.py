from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from calibnet_core.threads import in_passing_thread

COUNT_THREADS = """
import os, time
import torch
from calibnet_core.threads import in_passing_thread

def count():
    return len(os.listdir("/proc/self/task"))

def compute():
    torch.ones(4096, 4096).exp_().sum()
    return count()

before = count()
busy = in_passing_thread(compute)
for _ in range(500):
    if count() == before:
        break
    time.sleep(0.01)
print(busy - before, count() - before, compute() - before)
"""


def test_what_the_work_returns_comes_back_from_another_thread() -> None:
    assert in_passing_thread(threading.current_thread) is not threading.current_thread()
    assert in_passing_thread(lambda: 7) == 7


def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("calibration")

    with pytest.raises(KeyError, match="calibration"):
        in_passing_thread(fail)


def test_the_team_of_a_passing_thread_is_gone_and_that_of_a_lasting_one_stays() -> None:
    output = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    in_passing, after_it, in_lasting = map(int, output.stdout.split())
    assert in_passing == 2  # itself and another
    assert after_it == 0
    assert in_lasting == 1
