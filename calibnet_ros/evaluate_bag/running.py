"""Many recordings at once: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch

from calibnet_core.data.bags import BagError
from calibnet_core.processor import Predictor
from calibnet_ros.evaluate_bag.evaluation import Job, Outcome, evaluate_bag
from calibnet_ros.parameter_schema import Values

MakePredictor = Callable[[Values], Predictor]
"""Builds the pipeline from the node's parameters; a function of a module, so that it travels."""


class ClusterError(RuntimeError):
    """The cluster cannot be used; the message says why and what to do."""


def run_jobs(
    jobs: Sequence[Job], make_predictor: MakePredictor, *, workers: int = 1, threads: int = 1
) -> Iterator[Outcome]:
    """Evaluate recordings in up to `workers` processes, one network in each.

    Args:
        jobs: all with the same parameters.
        make_predictor: see there; what it raises ends the run.
        workers: processes; 1 works in this one.
        threads: of torch in each. The last bits of a result may depend on it, so it is the same for
            any number of workers.

    Yields:
        An outcome each, in the order of the jobs. A recording that cannot be evaluated costs no
        other.
    """
    if workers <= 1 or len(jobs) == 1:
        with _torch_threads(threads):
            predictor = make_predictor(jobs[0].values)
            for job in jobs:
                yield attempt(job, predictor)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        # A fork of a process that has used torch's threads or a GPU hangs.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(make_predictor, jobs[0].values, threads),
    )
    with pool:
        yield from pool.map(_attempt_here, jobs)


def run_on_ray(
    jobs: Sequence[Job],
    make_predictor: MakePredictor,
    *,
    address: str | None = None,
    workers: int = 1,
    threads: int = 1,
) -> Iterator[Outcome]:
    """The same on a Ray cluster, whose machines must see recordings and output under one path.

    Args:
        jobs: as for `run_jobs`.
        make_predictor: likewise.
        address: of the cluster; None starts one on this machine.
        workers: actors, each with `threads` CPUs, and a GPU where the parameters ask for one.
        threads: of torch in each.

    Raises:
        ClusterError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise ClusterError(
            f"--ray needs Ray, which is not installed ({error}); install it with "
            "`pip install calibnet_ros[cluster]`, or use --workers"
        ) from error
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except Exception as error:  # Ray raises many types for a cluster that cannot be reached
        raise ClusterError(f"Ray cannot be started or reached at {address}: {error}") from error
    try:
        wants_gpu = str(jobs[0].values["model.device"]) != "cpu" and torch.cuda.is_available()
        actor = ray.remote(num_cpus=threads, num_gpus=int(wants_gpu))(_Evaluator)
        actors = [
            actor.remote(make_predictor, jobs[0].values, threads)
            for _ in range(min(workers, len(jobs)))
        ]
        yield from ActorPool(actors).map(lambda one, job: one.attempt.remote(job), jobs)
    finally:
        ray.shutdown()


def attempt(job: Job, predictor: Predictor) -> Outcome:
    """Evaluate a recording; what is wrong with it is said in the outcome.

    Raises:
        EvaluationError: the labels do not fit it.
    """
    try:
        return evaluate_bag(job, predictor)
    except (BagError, OSError) as error:
        return Outcome(name=job.bag.stem, error=str(error))


class _Evaluator:
    """What lives on a machine of the cluster."""

    def __init__(self, make_predictor: MakePredictor, values: Values, threads: int) -> None:
        torch.set_num_threads(threads)
        self._predictor = make_predictor(values)

    def attempt(self, job: Job) -> Outcome:
        return attempt(job, self._predictor)


_evaluator: _Evaluator | None = None


def _begin(make_predictor: MakePredictor, values: Values, threads: int) -> None:
    global _evaluator
    _evaluator = _Evaluator(make_predictor, values, threads)


def _attempt_here(job: Job) -> Outcome:
    assert _evaluator is not None
    return _evaluator.attempt(job)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
