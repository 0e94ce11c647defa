"""Progress of a job: a bar a stage with rate and time left in the terminal, or nothing."""

import sys
import time
from collections.abc import Callable
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
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from pairscape.surroundings import make_printable

SPEED_SECONDS = 120.0  # over which the rate is taken: a few of the longest tasks, so that it follows workers that join
KEPT_SECONDS = 0.2

Say = Callable[..., None]  # takes lines that a user should read; `--quiet` keeps them back


def silent(*lines: str) -> None:
    """Print nothing."""


def duration(seconds: float) -> str:
    """Seconds in words, to two digits."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


class Progress(Protocol):
    """Stages and units of a job; notebooks may pass their own."""

    def start(self, stage: str, total: int) -> None:
        """A stage of this many units begins, 0 where they cannot be told; the one before it is over."""

    def advance(self, units: int) -> None:
        """That many more are done."""


class Silent:
    """Progress that shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Show nothing."""

    def advance(self, units: int) -> None:
        """Show nothing."""


class _Rate(ProgressColumn):
    """Units a second: of the last minutes while the stage runs, over all of it when it is over."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.0f}/s" if rate else "", style="dim")


class Bars:
    """A bar a stage on standard error: done, rate, time left. In a file or pipe it stays silent but for stage names.

    There a stage whose units cannot be told is said on standard output, as other words are.

    Parameters
    ----------
    clock
        Seconds of any clock that does not jump.
    transient
        Whether the bars vanish at the end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, transient: bool = False) -> None:
        make_printable()
        self._console = Console(stderr=True)
        # a kernel sets FORCE_COLOR for what it starts, which makes rich take a pipe for a terminal
        self.drawn = self._console.is_terminal and (sys.stderr.isatty() or self._console.is_jupyter)
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bars = RichProgress(
            *columns, console=self._console, disable=not self.drawn, transient=transient,
            redirect_stdout=sys.stdout.isatty(), speed_estimate_period=SPEED_SECONDS, get_time=clock,
        )  # fmt: skip
        self._clock = clock
        self._task: TaskID | None = None
        self._began = 0.0

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
        self._began = self._clock()
        self._task = self._bars.add_task(stage, total=total or None)  # None: it moves to and fro until it is over
        if not self.drawn:  # what cannot be counted are words, beside which an error stays one line
            print(stage, file=sys.stderr if total else sys.stdout, flush=True)

    def advance(self, units: int) -> None:
        """Move the bar. Units reported at once were finished by an earlier run, and say nothing of the speed."""
        if self._task is None:
            return
        if self._clock() - self._began < KEPT_SECONDS:
            self._bars.reset(self._task, completed=int(self._bars.tasks[self._task].completed) + units)
        else:
            self._bars.advance(self._task, units)

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the stage at the rate of the last minutes; None while nothing tells."""
        return None if self._task is None else self._bars.tasks[self._task].time_remaining

    def _complete(self) -> None:
        if self._task is not None:
            done = self._bars.tasks[self._task].completed
            self._bars.update(self._task, total=done or 1, completed=done or 1)
