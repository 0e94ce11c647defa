"""The session of a job: the client its tasks go to, bars, lines and the log of events, and what the workers measured.

`pipeline.compute.clusters.open_session` makes one with a cluster, `here` one without. This module imports no Dask, so
that a trainer starts without it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from pairscape.pipeline.compute.progress import Bars, Progress, Say, Silent, silent
from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.storage.ownership import require_own_file
from pairscape.surroundings import make_printable

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Record:
    """What is kept of how a job ran.

    Parameters
    ----------
    events
        File to which what happens is appended as JSON lines: start, tasks, attempts that failed, workers that come, go
        and are lost, end.
    performance_report
        HTML page of Dask's own measurements to write. It needs workers, and bokeh (pip install 'pairscape[dashboard]').
    """

    events: Path | None = None
    performance_report: Path | None = None


class Events:
    """Log of a job; without a file it writes nothing.

    `outcome` is for what the last line says of a job that ends well.

    Every line has `time` (UTC), `seconds` since the log was opened, `event`, and facts of its own. Lines are appended,
    so that the runs of an interrupted job stand below each other; each begins with `start`.

    Parameters
    ----------
    path
        File to append to. Absent: nothing is noted.

    Raises
    ------
    InputError
        The file cannot be written, or holds something else than such lines.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._started, self._lock, self._file = time.monotonic(), Lock(), _opened(path)
        self.outcome: dict[str, Any] = {}

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.write("end", ok=False, why=" ".join(str(error).split()) or type(error).__name__)
        self.close()

    def write(self, event: str, **facts: Any) -> None:
        """Write one line; any thread may.

        Parameters
        ----------
        facts
            What is to be known of it, fit for JSON.
        """
        if self._file is None:
            return
        now, seconds = datetime.now(UTC).isoformat(timespec="milliseconds"), round(time.monotonic() - self._started, 3)
        line = json.dumps({"time": now, "seconds": seconds, "event": event, **facts})
        with self._lock:
            if not self._file.closed:  # a worker's message may arrive after the end
                self._file.write(f"{line}\n")

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            with self._lock:
                self._file.close()


@contextmanager
def logged(path: Path | None, command: str, **places: Any) -> Iterator[Events]:
    """The log of a command, from its start to its end.

    Parameters
    ----------
    places
        What it reads and writes, by name.

    Raises
    ------
    InputError
        As `Events`.
    """
    with Events(path) as log:
        log.write("start", command=command, **{n: str(p) for n, p in places.items()}, version=version("pairscape"))
        yield log
        log.write("end", ok=True, **log.outcome)


def _opened(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    try:
        if path.is_file() and path.stat().st_size:
            require_own_file(path, b'"event": "start"')
        return path.open("a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--events {path} cannot be written ({error.strerror or error}): give a file in a folder that exists and "
            "that you may write to."
        ) from error


@dataclass
class Usage:
    """Counts of a job's tasks, and what the workers measured of themselves while they ran them.

    Attributes
    ----------
    peak_bytes
        Largest resident memory of each worker, by its address (without a cluster, by host and process id).
    busy_seconds
        Time inside tasks, summed over the workers.
    tasks, retries, lost_workers
        Tasks that succeeded; attempts that failed and were repeated; workers that left unexpectedly.
    events
        Log that each of these is written to.
    """

    peak_bytes: dict[str, int] = field(default_factory=dict)
    busy_seconds: float = 0.0
    tasks: int = 0
    retries: int = 0
    lost_workers: int = 0
    events: Events = field(default_factory=Events, repr=False, compare=False)

    @property
    def peak(self) -> int:
        """Largest resident memory of any worker in bytes, 0 before any task."""
        return max(self.peak_bytes.values(), default=0)

    def add(self, worker: str, peak: int, seconds: float) -> None:
        """Count one task more."""
        self.tasks += 1
        self.peak_bytes[worker] = max(peak, self.peak_bytes.get(worker, 0))
        self.busy_seconds += seconds

    def attempt_failed(self, facts: dict[str, Any]) -> None:
        """Count an attempt that failed, as its worker reports it."""
        self.retries += 1
        self.events.write("attempt failed", **facts)

    def workers_changed(self, facts: dict[str, Any]) -> None:
        """Count a worker that left, as the scheduler reports it, and log those that come and go."""
        if facts.get("action") == "add-worker":
            self.events.write("worker joined", worker=facts["worker"])
        elif facts.get("action") == "remove-worker":
            expected = bool(facts.get("expected"))
            self.lost_workers += not expected
            held = len(facts.get("processing-tasks", ()))
            self.events.write("worker left" if expected else "worker lost", worker=facts["worker"], tasks=held)


@dataclass(frozen=True, eq=False)
class Session:
    """Where a job runs, and how its user is kept informed.

    Attributes
    ----------
    client
        Dask client that tasks go to; None: they run in this process.
    progress
        Bars of the stages.
    say
        Prints lines for the user.
    usage
        Collects what the tasks took.
    memory
        Bytes that one thread of the smallest worker may use; None: no limit.
    """

    client: "Client | None" = None
    progress: Progress = field(default_factory=Silent)
    say: Say = silent
    usage: Usage = field(default_factory=Usage)
    memory: int | None = None


def say_unless(quiet: bool) -> Say:
    """A function that prints lines to standard output at once, or does nothing."""
    return silent if quiet else _print_lines


_loading: list[Bars] = []  # the bar of a command until it opens a session


def first_word(quiet: bool, *read: Any) -> None:
    """Say what is read, if anything is, before what takes a second is loaded; in a terminal a bar moves meanwhile."""
    named = ["the matrix in memory" if not isinstance(one, str | Path) else str(one) for one in read]
    if named:
        say_unless(quiet)(f"reading {', '.join(named)}")
    bars = Bars(transient=True)
    if not quiet and bars.drawn:
        all_loaded()
        _loading.append(bars.__enter__())
        bars.start("reading", 0)


def all_loaded() -> None:
    """End the bar of `first_word`, if there is one: a session has bars of its own, and a command may fail before."""
    while _loading:
        _loading.pop().__exit__(None, None, None)


def _print_lines(*lines: str) -> None:
    make_printable()
    if lines:
        print(*map(printable, lines), sep="\n", flush=True)


@contextmanager
def here(quiet: bool, events: Events | None = None) -> Iterator[Session]:
    """A session in this process, with bars and lines unless it is to be quiet.

    Parameters
    ----------
    events
        Log of what happens to the tasks.
    """
    all_loaded()
    with nullcontext(Silent()) if quiet else Bars() as progress:
        yield Session(progress=progress, say=say_unless(quiet), usage=Usage(events=events or Events()))
