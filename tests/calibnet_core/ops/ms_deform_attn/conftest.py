"""Every test here runs once with each set of kernels that this processor can run, except those
marked `once`. `test_eager.py` runs the folder again without the compiled library.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from calibnet_core.ops import info, library
from tests.support.deform_attn_marks import COMPILED

ISAS = ("baseline", "AVX2", "AVX-512")


@pytest.fixture(scope="module", params=ISAS if COMPILED else ["as loaded"], autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run with one set of kernels; `as loaded` are the best there are."""
    if not COMPILED or request.param == "as loaded":
        yield
        return
    assert library._loaded is not None
    limit = library._loaded[1].calibnet_ops_limit_cpu_isa
    limit(ISAS.index(request.param))
    try:
        if info().cpu != f"compiled ({request.param})":
            pytest.skip(f"this processor has no {request.param}")
        yield
    finally:
        limit(len(ISAS) - 1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads wait for each other by spinning, for minutes where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def seed() -> int:
    """Another one in every run; pytest shows it among the arguments of a test that fails."""
    return random.SystemRandom().randrange(2**31)
