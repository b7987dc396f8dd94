from __future__ import annotations

import threading
import time

import pytest

from calibnet_core.data.datasets.parallel import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(ordered_map(work, range(30), workers)) == [i * i for i in range(30)]


def test_few_results_wait_at_a_time() -> None:
    started = []

    def work(item: int) -> int:
        started.append(item)
        return item

    results = ordered_map(work, range(1000), 3)
    next(results)
    time.sleep(0.05)
    assert len(started) <= 8
    results.close()


def test_several_items_are_worked_on_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    assert list(ordered_map(lambda item: together.wait() >= 0, range(3), 3)) == [True] * 3


@pytest.mark.parametrize("workers", [1, 3])
def test_an_exception_reaches_the_caller(workers: int) -> None:
    def work(item: int) -> int:
        if item == 4:
            raise ValueError("item four")
        return item

    with pytest.raises(ValueError, match="item four"):
        list(ordered_map(work, range(30), workers))
