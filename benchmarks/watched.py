"""A command run to its end or to a limit, and what it and all the processes that it starts take."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import psutil

EVERY = 0.5  # seconds between looks at the memory
PAUSE = 50  # times as long as a look takes
GONE = 10  # seconds within which what was killed should have let go of its memory


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes
    ----------
    seconds, cpu_seconds
        Of the clock; of all processes, user and system (of a stopped command only what it waited for itself).
    most_bytes_of_a_process
        The most memory of one of its processes.
    most_bytes_together
        The most memory of all of them, where a page that several share counts once.
    cores_of_others
        Cores that the rest of the machine used meanwhile.
    status
        What the command ended with; negative where it was stopped.
    stopped
        Why it was stopped: "time", "memory", or empty if it ended by itself.
    """

    seconds: float
    cpu_seconds: float
    most_bytes_of_a_process: int
    most_bytes_together: int
    cores_of_others: float
    status: int
    stopped: str


class Watch(threading.Thread):
    """Looks at a process and all that it starts, and stops them at a limit."""

    def __init__(self, process: psutil.Process, seconds: float, most_bytes: float, every: float) -> None:
        super().__init__(daemon=True)
        self._process, self._until, self._most_bytes = process, time.monotonic() + seconds, most_bytes
        self._every, self.one, self.together, self.stopped = every, 0, 0, ""

    def run(self) -> None:
        """Until the process has ended."""
        while _alive(self._process):
            began = time.monotonic()
            held = [_memory(process) for process in _family(self._process)]
            self.one, self.together = max(self.one, *(m[0] for m in held)), max(self.together, sum(m[1] for m in held))
            if self.together > self._most_bytes or time.monotonic() > self._until:
                self.stopped = "memory" if self.together > self._most_bytes else "time"
                stop(self._process)
                return
            now = time.monotonic()
            pause = max(self._every, PAUSE * (now - began))  # a look holds up what is looked at
            time.sleep(min(pause, max(self._until - now, 0.01)))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes, and those of them that are its own share."""
    try:
        held = process.memory_full_info()
        return held.rss, held.pss
    except psutil.Error:  # it has ended
        return 0, 0


def stop(process: psutil.Process) -> None:
    """End a process that leads a group, the group, and what it started outside of it."""
    family = _family(process)
    for end in (lambda: os.killpg(process.pid, signal.SIGKILL), *(one.kill for one in family)):
        try:
            end()
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    psutil.wait_procs(family[1:], timeout=GONE)


def run(
    command: Sequence[str | Path], folder: Path, log: Path, env: Mapping[str, str],
    seconds: float = inf, most_bytes: float = inf, every: float = EVERY,
) -> Taken:  # fmt: skip
    """Run a command in a folder, with what it says in the log; stop it, and all that it started, at a limit."""
    spent, busy, started = _cpu_seconds(), _busy_seconds(), time.perf_counter()
    with log.open("w") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        watch = Watch(psutil.Process(process.pid), seconds, most_bytes, every)
        watch.start()
        try:
            status = process.wait()
        except BaseException:  # interrupted: it is of another group, so that nobody else stops it
            stop(psutil.Process(process.pid))
            raise
    wall, own = time.perf_counter() - started, _cpu_seconds() - spent
    watch.join()
    return Taken(
        seconds=round(wall, 2), cpu_seconds=round(own, 2), most_bytes_of_a_process=watch.one,
        most_bytes_together=watch.together, cores_of_others=round(max(_busy_seconds() - busy - own, 0) / wall, 2),
        status=status, stopped=watch.stopped,
    )  # fmt: skip


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _busy_seconds() -> float:
    """Of all cores of the machine, since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
