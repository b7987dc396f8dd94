"""Threads of the libraries below."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


def in_passing_thread(work: Callable[[], Result]) -> Result:
    """Do work in a thread that ends with it, for a process that infers in another thread.

    Whatever thread computes with torch keeps a team of OpenMP threads. As soon as there are more of
    them than processors, OpenMP has all teams go to sleep between any two steps: on two cores a
    network takes twice as long for another thread having loaded it. The team of a thread that has
    ended is gone.

    Returns:
        What `work` returns; what it raises is raised.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    # A daemon: whoever is interrupted while waiting can end the process.
    thread = threading.Thread(target=run, name="calibnet-passing", daemon=True)
    thread.start()
    thread.join()
    return future.result()


def use_one_blas_thread() -> None:
    """Have numpy and scipy do linear algebra in the calling thread, for the rest of the process.

    What is measured of objects are many small products. Handed to threads that wait by spinning,
    they take several times as long as soon as anything else wants the processor. torch has threads
    of its own, which stay.
    """
    threadpool_limits(limits=1, user_api="blas")
