"""The Dask edge: independent tasks out, small results back, never more in flight than the workers can hold.

Tasks carry names of stores and numbers of shards, never arrays; workers open the stores themselves. A task may run
twice or die: the job's truth is on disk, in receipts, not in the scheduler.
"""

import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client, Future, as_completed

from pipeline.cluster import worker_threads
from pipeline.errors import JobError

T = TypeVar("T")
R = TypeVar("R")
RETRIES = 2  # for exceptions that pass, such as a full disk that is cleared; a poisoned task fails all three times


@dataclass
class Usage:
    """What the workers measured of themselves while they ran tasks.

    Attributes
    ----------
    peak_bytes
        Largest resident memory that each worker process has had so far, by host and process.
    busy_seconds
        Time inside tasks, of all workers together.
    """

    peak_bytes: dict[str, int] = field(default_factory=dict)
    busy_seconds: float = 0.0

    @property
    def peak(self) -> int:
        """The largest of them, 0 before any task."""
        return max(self.peak_bytes.values(), default=0)

    def add(self, worker: str, peak: int, seconds: float) -> None:
        """One task more."""
        self.peak_bytes[worker] = max(peak, self.peak_bytes.get(worker, 0))
        self.busy_seconds += seconds


def run_tasks(
    client: Client | None,
    function: Callable[..., R],
    tasks: Iterable[T],
    *common: Any,
    usage: Usage | None = None,
) -> Iterator[tuple[T, R]]:
    """Results of `function(*common, task)` for every task, as they come.

    Parameters
    ----------
    client
        None: in this process, in order.
    common
        Small arguments that all tasks share.
    usage
        Takes in what the workers measured of themselves.

    Raises
    ------
    JobError
        After every other task has ended: which tasks failed and why the first did.
    """
    usage = usage if usage is not None else Usage()
    if client is None:
        for task in tasks:
            result, measured = _measured(function, *common, task)
            usage.add(*measured)
            yield task, result
        return
    failures: list[tuple[T, BaseException]] = []
    with _quiet_logs():
        for task, (result, measured) in _windowed(client, function, iter(tasks), common, failures):
            usage.add(*measured)
            yield task, result
    if failures:
        first, error = shorten(str(failures[0][0]), 60), failures[0][1]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(
            f"{len(failures)} tasks failed, the first, {first}, with {type(error).__name__}: {reason}; "
            "what is finished is kept, run the same command again for the rest."
        ) from error


def on_every_worker(client: Client | None, function: Callable[..., object], *arguments: Any) -> None:
    """Call a function once in every worker process that is there now; without a cluster, in this process."""
    if client is None:
        function(*arguments)
    else:
        client.run(function, *arguments)


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[R]:
    """Results of tasks 0, 1, 2, … in that order; only those that came before their turn are held."""
    early, turn = dict[int, R](), 0
    for number, result in results:
        early[number] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def _measured(function: Callable[..., R], *arguments: Any) -> tuple[R, tuple[str, int, float]]:
    """A result, and what it took: which process, its peak memory, seconds. Runs on the worker."""
    started = time.perf_counter()
    result = function(*arguments)
    return result, (f"{socket.gethostname()}:{os.getpid()}", peak_memory(), time.perf_counter() - started)


def peak_memory() -> int:
    """Most memory that this process held, in bytes; `ru_maxrss` alone would count the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _windowed(
    client: Client, function: Callable[..., R], tasks: Iterator[T], common: tuple[Any, ...], failures: list[Any]
) -> Iterator[tuple[T, tuple[R, tuple[str, int, float]]]]:
    """Twice as many tasks in flight as threads: workers never wait, the scheduler never chokes.

    Whatever has ended is fetched together and replaced together: one message each to the scheduler, not one a task.
    """
    run, number, pending = uuid4().hex, count(), dict[Future, T]()

    def submit(following: Iterable[T]) -> list[Future]:
        if not (added := list(following)):
            return []
        keys = [f"{function.__name__}-{run}-{next(number)}" for _ in added]
        futures = client.map(partial(_measured, function, *common), added, key=keys, pure=False, retries=RETRIES)
        pending.update(zip(futures, added, strict=True))
        return futures

    ready = as_completed(submit(islice(tasks, 2 * worker_threads(client))), raise_errors=False)
    for ended in ready.batches():
        gathered = client.gather([future for future in ended if future.status == "finished"], errors="skip")
        # A result that was lost with its worker is computed again meanwhile; where that failed, it was skipped.
        results = dict(zip((future for future in ended if future.status == "finished"), gathered, strict=True))
        for future in ended:
            task = pending.pop(future)
            if future in results:
                yield task, results.pop(future)
            else:
                failures.append((task, future.exception()))
            future.release()
        if following := submit(islice(tasks, len(ended))):
            ready.update(following)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Dask's logs repeat every failed task with a traceback; the job reports failures itself, in one line."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
