"""Schedulers and workers as the `dask` command starts them: on loopback or in namespaces, never left over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0  # for what takes a few seconds on an idle machine


@contextmanager
def running(*command: str | Path, log: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A process with all its children, ended with the block; what they say goes into a file."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(map(str, command)), stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **(environment or {})}, cwd=log.parent,
        )  # fmt: skip
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """End a process and whatever it started: asked first, then made to."""
    for order, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, order)
            process.wait(seconds)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def wait_for(condition, what: str, seconds: float = PATIENCE):
    """The first true value of a condition."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"no {what} within {seconds:.0f} s"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Engine:
    """A scheduler that runs, and how to start more workers of it."""

    folder: Path
    file: Path
    arguments: tuple[str, ...]

    @property
    def address(self) -> str:
        return json.loads(self.file.read_text())["address"]

    @contextmanager
    def workers(
        self, n: int, *, name="w", host="127.0.0.1", prefix: Sequence[str] = (), python=sys.executable, environment=None
    ) -> Iterator[Path]:
        """So many worker processes of one thread; yields their log."""
        log = self.folder / f"{name}.log"
        command = [
            *prefix, python, "-m", "dask", "worker", "--scheduler-file", self.file, "--nworkers", str(n),
            "--nthreads", "1", "--memory-limit", "2GB", "--host", host, "--no-dashboard", "--name", name,
            "--local-directory", self.folder / f"{name}.space", "--death-timeout", "60", *self.arguments,
        ]  # fmt: skip
        with running(*command, log=log, environment=environment):
            yield log


@contextmanager
def engine(folder: Path, *, host: str = "127.0.0.1", prefix: Sequence[str] = (), tls: Path | None = None):
    """`dask scheduler`, which writes a scheduler file."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = () if tls is None else (
        "--protocol", "tls", "--tls-ca-file", str(tls / "ca.pem"), "--tls-cert", str(tls / "dask.pem"),
        "--tls-key", str(tls / "dask.key"),
    )  # fmt: skip
    file, log = folder / "scheduler.json", folder / "scheduler.log"
    command = [
        *prefix, sys.executable, "-m", "dask", "scheduler", "--host", host, "--port", "0", "--scheduler-file", file,
        "--no-dashboard", "--no-show", *arguments,
    ]  # fmt: skip
    with running(*command, log=log):
        wait_for(lambda: file.exists() and file.stat().st_size, f"scheduler ({log})")
        yield Engine(folder, file, arguments)


def missing(*programs: str) -> str:
    """Why a test that needs these programs and the rights of root cannot run here; empty: it can."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    return "" if os.geteuid() == 0 else "needs root"
