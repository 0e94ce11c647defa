"""Run independent tasks on the workers of a session, never more in flight than they can hold.

Tasks carry names of stores and numbers of shards, never arrays; workers open the stores themselves. A task may run
twice or die: receipts on disk, not the scheduler, say what is finished.
"""

import errno
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
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from uuid import uuid4

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError, JobError, in_one_line

if TYPE_CHECKING:  # a job in this process starts without Dask
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")
MORE_MEMORY = "give --memory-limit, or fewer --workers"
RETRIES = 2  # for exceptions that pass, such as a full disk that is cleared; a poisoned task fails all three times


HOPELESS = 8  # failures, if they outnumber what succeeded, after which nothing more is started
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # by the disk, of whatever comes next


class Measured(NamedTuple):
    """What a task took: its worker as the scheduler calls it, its peak memory so far in bytes, and seconds."""

    worker: str
    peak: int
    seconds: float


class FailedTasksError(JobError):
    """Some tasks failed, all others have ended or were given up.

    Attributes
    ----------
    failures
        Tasks and their last errors.
    hopeless
        Whether the rest was not even started, as it would have failed too.
    remedy
        How workers that died get more memory, which `open_client` knows. None: those of this machine have an option.
    """

    def __init__(self, failures: list[tuple[Any, BaseException]], hopeless: bool) -> None:
        super().__init__()
        self.failures, self.hopeless = failures, hopeless
        self.remedy: str | None = None

    def __str__(self) -> str:
        first, error = self.failures[0]
        return in_one_line(
            f"{len(self.failures)} tasks failed, the first, {shorten(str(first), 60)}, with "
            f"{reason(error, self.remedy or MORE_MEMORY)}; {'the rest was not started; ' if self.hopeless else ''}what "
            "is finished is kept, run the same command again for the rest."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return FailedTasksError, (self.failures, self.hopeless)


def reason(error: BaseException, more_memory: str = MORE_MEMORY) -> str:
    """The reason of a failed task, in one line."""
    if _killed_its_worker(error):
        deaths = error.allowed_failures + 1  # type: ignore[attr-defined]
        return (
            f"KilledWorker: its worker died {deaths} times (out of memory is the usual reason: {more_memory}; the "
            "worker's own log may tell)"
        )
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0]}" if said else type(error).__name__


def _killed_its_worker(error: BaseException) -> bool:
    if "distributed" not in sys.modules:
        return False
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)


def run_tasks(
    session: Session,
    function: Callable[..., R],
    tasks: Iterable[T],
    *common: Any,
    describe: Callable[[T, R], dict[str, Any]] | None = None,
) -> Iterator[tuple[T, R]]:
    """Results of `function(*common, task)` for every task, as they come.

    A task that fails is tried again, RETRIES times; one whose workers died is tried again by itself at the end, since
    Dask blames whatever a dying worker held.

    Parameters
    ----------
    session
        Without a client the tasks run in this process, in order.
    common
        Small arguments that all tasks share.
    describe
        What the log of events says of a task and its result. Absent: nothing but who did it and how long it took.

    Raises
    ------
    FailedTasksError
        After every other task has ended: which tasks failed and why the first did.
    JobError
        The scheduler is gone.
    """
    client, usage = session.client, session.usage

    def noted(task: T, result: R, measured: Measured) -> tuple[T, R]:
        usage.add(*measured)
        facts = describe(task, result) if describe is not None else {}
        took = {"worker": measured.worker, "peak_bytes": measured.peak, "task_seconds": round(measured.seconds, 3)}
        usage.events.write("task", function=function.__name__, **took, **facts)
        return task, result

    if client is None:
        for task in tasks:
            yield noted(task, *_measured(function, None, *common, task))
        return
    from pairscape.pipeline.compute.scheduler import subscribed

    run: _Run[T, R] = _Run(client, function, common, uuid4().hex)
    topics = {run.topic: usage.attempt_failed, "all": usage.workers_changed}
    with _quiet_logs(client), subscribed(client, topics):
        for task, (result, measured) in run.windowed(iter(tasks)):
            yield noted(task, result, measured)
        suspects, run.failures = run.failures, []
        for task, error in suspects:
            if run.hopeless or not _killed_its_worker(error):
                run.failures.append((task, error))
                continue
            for _, (result, measured) in run.windowed(iter([task])):
                yield noted(task, result, measured)
    usage.retries = max(usage.retries - len(run.failures), 0)
    if run.failures:
        raise FailedTasksError(run.failures, run.hopeless) from run.failures[0][1]


def run_on_source(
    session: Session, function: Callable[..., R], tasks: Iterable[T], *common: Any
) -> Iterator[tuple[T, R]]:
    """The same for tasks that read a user's matrix.

    Raises
    ------
    InputError
        A task found a fault in the matrix.
    FailedTasksError, JobError
        As `run_tasks`.
    """
    try:
        yield from run_tasks(session, function, tasks, *common)
    except JobError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise


def on_every_worker(client: "Client | None", function: Callable[..., R], *arguments: Any) -> Iterator[R]:
    """Call a function once for every thread of the workers that are there now, each in its place if it can be.

    Without a cluster, once in this process. Results come as they are ready; the first failure is raised.
    """
    if client is None:
        yield function(*arguments)
        return
    from distributed import as_completed

    futures = [
        client.submit(function, *arguments, workers=[worker], allow_other_workers=True, pure=False)
        for worker, threads in client.nthreads().items()
        for _ in range(threads)
    ]
    for ended in as_completed(futures):
        yield ended.result()


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[R]:
    """Results of tasks 0, 1, 2, … in that order; only those that came before their turn are held."""
    early, turn = dict[int, R](), 0
    for number, result in results:
        early[number] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def _measured(function: Callable[..., R], topic: str | None, *arguments: Any) -> tuple[R, Measured]:
    """A result, and what it took. Runs on the worker, which tells of an attempt that failed.

    Parameters
    ----------
    topic
        Under which the scheduler passes it on. Absent: there is no scheduler.
    """
    started, worker = time.perf_counter(), _own_name()
    try:
        result = function(*arguments)
    except Exception as error:
        if topic is not None:
            from distributed import get_worker

            message = {"worker": worker, "task": shorten(str(arguments[-1]), 60), "why": reason(error)}
            get_worker().log_event(topic, message)
        raise
    return result, Measured(worker, peak_memory(), time.perf_counter() - started)


def _own_name() -> str:
    """Address of this worker, as all events call it; without a cluster, host and process id."""
    here = f"{socket.gethostname()}:{os.getpid()}"
    if "distributed" not in sys.modules:
        return here
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return here


def peak_memory() -> int:
    """Most memory that this process held, in bytes; `ru_maxrss` alone would count the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass(eq=False)
class _Run(Generic[T, R]):
    """Tasks of one call of `run_tasks`.

    Attributes
    ----------
    name
        That no other has: results of an earlier run must not answer for this one.
    succeeded, failures
        What has ended.
    """

    client: "Client"
    function: Callable[..., R]
    common: tuple[Any, ...]
    name: str
    succeeded: int = 0
    failures: list[tuple[T, BaseException]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def topic(self) -> str:
        """Under which workers tell of this run."""
        return f"pairscape-{self.name}"

    @property
    def hopeless(self) -> bool:
        """Whether whatever comes next would fail as well."""
        refused = sum(isinstance(error, OSError) and error.errno in REFUSALS for _, error in self.failures)
        return refused > 2 or len(self.failures) >= max(HOPELESS, self.succeeded)

    def windowed(self, tasks: Iterator[T]) -> Iterator[tuple[T, tuple[R, Measured]]]:
        """Twice as many tasks in flight as threads: workers never wait, the scheduler never chokes.

        Whatever has ended is fetched together and replaced together: one message each to the scheduler, not one a task.
        """
        from distributed import Future, as_completed

        from pairscape.pipeline.compute.scheduler import SILENT_SECONDS, SchedulerLink, scheduler_gone

        line, pending, again = SchedulerLink(self.client), dict[Future[Any], T](), list[T]()

        def submitted() -> list[Future[Any]]:
            room = 0 if self.hopeless else max(2 * line.threads - len(pending), 0)
            futures = self._submit(added := [*again, *islice(tasks, max(room - len(again), 0))])
            again.clear()
            pending.update(zip(futures, added, strict=True))
            return futures

        ready = as_completed(submitted(), raise_errors=False)
        while pending:
            ended = line.next_batch(ready)
            results = line.gather([future for future in ended if future.status == "finished"])
            for future in ended:
                task = pending.pop(future)
                if future in results:
                    self.succeeded += 1
                    yield task, results.pop(future)
                elif future.status == "error":
                    self.failures.append((task, future.exception(timeout=SILENT_SECONDS)))
                elif future.cancelled():
                    raise scheduler_gone(self.client)
                else:  # its result was lost on the way
                    again.append(task)
                future.release()
            if following := submitted():
                ready.update(following)

    def _submit(self, tasks: list[T]) -> "list[Future[Any]]":
        if not tasks:
            return []
        keys = [f"{self.function.__name__}-{self.name}-{next(self.numbers)}" for _ in tasks]
        call = partial(_measured, self.function, self.topic, *self.common)
        return list(self.client.map(call, tasks, key=keys, pure=False, retries=RETRIES))


@contextmanager
def _quiet_logs(client: "Client") -> Iterator[None]:
    """Dask's logs repeat every failed task with a traceback; the job reports failures itself, in one line.

    A client whose scheduler is gone complains until it is closed, so then the logs stay quiet.
    """
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]  # each has a level of its own
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if client.status == "running":
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
