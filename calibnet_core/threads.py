"""Threads of the libraries below."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def use_one_blas_thread() -> None:
    """Have numpy and scipy do linear algebra in the calling thread, for the rest of the process.

    What is measured of objects are many small products. Handed to threads that wait by spinning,
    they take several times as long as soon as anything else wants the processor. torch has threads
    of its own, which stay.
    """
    threadpool_limits(limits=1, user_api="blas")
