"""What a job tells of how far it is: bars with rate and time left in the terminal, or nothing."""

import math
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

Say = Callable[..., None]  # takes lines that a user should read; `--quiet` keeps them back


def silent(*lines: str) -> None:
    """Print nothing."""


class Progress(Protocol):
    """What every job takes; notebooks may pass their own."""

    def start(self, stage: str, total: int) -> None:
        """A stage of this many units begins; the one before it is over."""

    def advance(self, units: int) -> None:
        """That many more are done."""


class Silent:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int) -> None:
        """Say nothing."""

    def advance(self, units: int) -> None:
        """Say nothing."""


class _Rate(ProgressColumn):
    """Units a second: now while the stage runs, over all of it when it is over."""

    def render(self, task: Task) -> Text:
        pace: Pace = task.fields["pace"]
        whole = task.completed / task.finished_time if task.finished_time else None
        rate = pace.rate(time.monotonic()) if whole is None else whole
        return Text(f"{rate:,.0f}/s" if rate else "", style="dim")


class _Left(ProgressColumn):
    """Time left at the rate of now."""

    def render(self, task: Task) -> Text:
        seconds = 0.0 if task.finished else task.fields["pace"].seconds_left(time.monotonic())
        return Text("-:--:--" if seconds is None else str(timedelta(seconds=int(seconds))), style="progress.remaining")


class Bars:
    """A bar a stage on standard error: done, rate, time left. In a file or pipe it stays silent but for stage names."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            _Left(),
        )
        self._bars = RichProgress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task: TaskID | None = None
        self._pace = Pace(1, time.monotonic())

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._complete()
        self._bars.stop()

    def start(self, stage: str, total: int) -> None:
        """Begin the bar of a stage; the bar before it is full, also where it stopped early by design."""
        self._complete()
        self._pace = Pace(total, time.monotonic())
        self._task = self._bars.add_task(stage, total=max(total, 1), completed=0 if total else 1, pace=self._pace)
        if not self._console.is_terminal:
            print(stage, file=sys.stderr)

    def advance(self, units: int) -> None:
        """Move the bar."""
        self._pace.advance(units, time.monotonic())
        if self._task is not None:
            self._bars.advance(self._task, units)

    def _complete(self) -> None:
        if self._task is not None:
            done = self._bars.tasks[self._task].completed
            self._bars.update(self._task, total=done or 1, completed=done or 1)


# How fast a stage is now, and when it will be done: right also while workers come and go. Pure.
#
# The mean over the whole stage would be wrong for hours after a cluster has grown, and the rate of the last seconds
# jumps with every task that ends. What was done t seconds ago counts exp(-t / MEMORY_SECONDS); the beginning, when
# there is less to remember, is divided out.

MEMORY_SECONDS = 120.0  # a few of the longest tasks
KEPT_SECONDS = 0.2  # what is reported so soon was finished by an earlier run, and says nothing of the speed


class Pace:
    """Units a second of a stage.

    Parameters
    ----------
    total
        Units of the stage.
    now
        Seconds of any clock that does not jump.
    """

    def __init__(self, total: int, now: float) -> None:
        self.total, self.done = total, 0
        self._started = self._last = now
        self._weighted = 0.0

    def advance(self, units: int, now: float) -> None:
        """So many more are done."""
        self.done += units
        if now - self._started > KEPT_SECONDS:
            self._weighted = self._faded(now) + units
            self._last = now

    def rate(self, now: float) -> float:
        """Units a second; 0 until some are done."""
        remembered = MEMORY_SECONDS * -math.expm1(-(now - self._started) / MEMORY_SECONDS)
        return self._faded(now) / remembered if remembered > 0 else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Time to the end at this rate; None while nobody can tell."""
        rate, left = self.rate(now), self.total - self.done
        return 0.0 if left <= 0 else left / rate if rate > 0 else None

    def _faded(self, now: float) -> float:
        return self._weighted * math.exp((self._last - now) / MEMORY_SECONDS)
