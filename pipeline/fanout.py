"""The Dask edge: independent tasks out, small results back, never more in flight than the workers can hold.

Tasks carry names of stores and numbers of shards, never arrays; workers open the stores themselves. A task may run
twice or die: the job's truth is on disk, in receipts, not in the scheduler.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from textwrap import shorten
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client, Future, as_completed

from pipeline.cluster import worker_threads
from pipeline.errors import JobError

T = TypeVar("T")
R = TypeVar("R")
RETRIES = 2  # for exceptions that pass, such as a full disk that is cleared; a poisoned task fails all three times


def run_tasks(
    client: Client | None, function: Callable[..., R], tasks: Iterable[T], *common: Any
) -> Iterator[tuple[T, R]]:
    """Results of `function(*common, task)` for every task, as they come.

    Parameters
    ----------
    client
        None: in this process, in order.
    common
        Small arguments that all tasks share.

    Raises
    ------
    JobError
        After every other task has ended: which tasks failed and why the first did.
    """
    if client is None:
        for task in tasks:
            yield task, function(*common, task)
        return
    failures: list[tuple[T, BaseException]] = []
    with _quiet_logs():
        yield from _windowed(client, function, iter(tasks), common, failures)
    if failures:
        first, error = shorten(str(failures[0][0]), 60), failures[0][1]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(
            f"{len(failures)} tasks failed, the first, {first}, with {type(error).__name__}: {reason}; "
            "what is finished is kept, run the same command again for the rest."
        ) from error


def _windowed(
    client: Client, function: Callable[..., R], tasks: Iterator[T], common: tuple[Any, ...], failures: list[Any]
) -> Iterator[tuple[T, R]]:
    """Twice as many tasks in flight as threads: workers never wait, the scheduler never chokes."""
    run, number, pending = uuid4().hex, count(), dict[Future, T]()

    def submit(task: T) -> Future:
        key = f"{function.__name__}-{run}-{next(number)}"
        future = client.submit(function, *common, task, key=key, pure=False, retries=RETRIES)
        pending[future] = task
        return future

    ready = as_completed([submit(task) for task in islice(tasks, 2 * worker_threads(client))])
    for future in ready:
        task, error = pending.pop(future), future.exception()
        if error is not None:
            failures.append((task, error))
        else:
            yield task, future.result()
        future.release()
        for following in islice(tasks, 1):
            ready.add(submit(following))


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
