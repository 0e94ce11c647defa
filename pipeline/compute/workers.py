"""Check that workers on other machines run the same Pairscape and see the same files under the same paths.

Every worker is checked before the first task, in seconds: it reads a file that this process writes beside the target,
and writes one that is read here. Workers that join later are checked when they join, and retired if they fail.
`Client.get_versions` does not serve here: it compares neither zarr, numcodecs nor the source files, which decide bytes.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import fsspec
from distributed import Client

import pairscape
from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.errors import InputError, first_line
from pairscape.pipeline.storage.paths import is_remote, spelled
from pairscape.surroundings import hidden_libraries

SEEN_SECONDS = 5.0  # a network file system may hide a new file for so long
WATCH_SECONDS = 2.0
EXACT = ("pairscape", "source files", "numcodecs")  # the last compresses: another one, other bytes
LIBRARIES = ("numpy", "numba", "scipy", "pandas", "zarr", "numcodecs", "h5py", "anndata", "dask", "fsspec")
SERIES = ("python", "dask", "numpy", "zarr")  # the second number decides


@dataclass(frozen=True)
class Probe:
    """A small file beside the target, to be read everywhere.

    Attributes
    ----------
    place
        Its path or URL.
    token
        What it holds.
    """

    place: str
    token: str

    def answer(self, worker: str) -> str:
        """Where a worker writes its own."""
        return f"{self.place}-{hashlib.sha256(worker.encode()).hexdigest()[:12]}"


@contextmanager
def checked_workers(
    client: Client, reads: Sequence[str | Path], writes: str | Path | None, say: Say
) -> Iterator[dict[str, str]]:
    """Check every worker now, and those that join while the block runs. Yields the versions that all run.

    Parameters
    ----------
    reads
        Stores and files that tasks read.
    writes
        The store that tasks write, which need not exist.

    Raises
    ------
    InputError
        Which worker cannot do the job, and why.
    """
    places, own = [spelled(path) for path in reads], versions()
    with _probe(writes) as probe:
        seen = _ask(client, list(client.nthreads()), places, probe)
        for worker, reason in seen.items():
            if reason:
                raise InputError(f"worker {worker} {reason}")
        stop = Event()
        watch = Thread(target=_watch, args=(client, set(seen), places, probe, say, stop), daemon=True)
        watch.start()
        try:
            yield own
        finally:
            stop.set()
            watch.join()


def _watch(client: Client, seen: set[str], places: list[str], probe: Probe | None, say: Say, stop: Event) -> None:
    """Check workers as they join; retire one that cannot do the job, and say so."""
    while not stop.wait(WATCH_SECONDS) and client.status == "running":
        try:
            come = set(client.nthreads()) - seen
            seen |= come
            refused = {worker: why for worker, why in _ask(client, sorted(come), places, probe).items() if why}
            for worker, reason in refused.items():
                client.retire_workers([worker], close_workers=True)
                say(f"left out: worker {worker} {reason}")
        except (OSError, RuntimeError):  # the scheduler has gone, or a worker as it was asked: the job notices itself
            continue


def _ask(client: Client, workers: list[str], places: list[str], probe: Probe | None) -> dict[str, str]:
    """What is wrong with each worker; an empty text: nothing."""
    if not workers:
        return {}
    asked = client.run(
        describe_worker, places, probe and (probe.place, probe.token), workers=workers, on_error="return"
    )
    here = {place: describe_place(place) for place in places}
    return {worker: _fault(worker, answer, here, probe) for worker, answer in asked.items()}


def _fault(worker: str, answer: Any, here: Mapping[str, str], probe: Probe | None) -> str:
    if isinstance(answer, BaseException):
        return (
            f"cannot take part ({first_line(answer)}); install version {versions()['pairscape']} where the workers run."
        )
    if answer["hidden"]:
        return (
            f"would import {answer['hidden']} in place of the library of that name; rename it, or start the worker in "
            "another folder and without it on PYTHONPATH."
        )
    written = "" if probe is None or answer["error"] else _collect(probe.answer(answer["worker"]))
    if differing := differences(versions(), answer["versions"]):
        return (
            f"runs {differing}, so its images might not be the same bytes; install the same where the workers run "
            "(constraints.txt, or one image for all)."
        )
    for place, mine in here.items():
        if answer["places"][place] != mine:
            return f"sees {answer['here'][place]} at {place}, where there is {mine}; {_SHARE}"
    if probe is not None and answer["read"] != probe.token:
        return f"cannot read what is written here at {probe.place} ({answer['error'] or 'other contents'}); {_SHARE}"
    if probe is not None and answer["error"]:
        return f"cannot write beside {probe.place} ({answer['error']}); give it the rights, or {_SHARE}"
    if probe is not None and written != answer["worker"]:
        return f"wrote {probe.answer(answer['worker'])}, which is not seen here ({written}); {_SHARE}"
    return ""


_SHARE = "the stores have to lie where every worker and this process see them under one path: a shared disk, or a URL."


# ── on the worker ────────────────────────────────────────────────────────────────────────────────────────────────────


def describe_worker(places: Sequence[str], probe: tuple[str, str] | None) -> dict[str, Any]:
    """Versions of a worker and what it sees; it writes its own probe beside the driver's. Runs on the worker.

    Parameters
    ----------
    places
        What tasks will read.
    probe
        Path of the driver's probe and what it holds; None: nothing is written.
    """
    worker = uuid4().hex
    said: dict[str, Any] = {"worker": worker, "versions": versions(), "read": "", "error": ""}
    said["hidden"] = hidden_libraries(LIBRARIES)
    said["places"] = {place: describe_place(place) for place in places}
    if probe is not None:
        try:
            said["read"] = _read(probe[0], probe[1])
            _write(Probe(*probe).answer(worker), worker)
        except OSError as error:  # any other is told as it is
            said["error"] = f"{type(error).__name__}: {first_line(error)}"
    return said


def versions() -> dict[str, str]:
    """Versions of what decides whether two processes write the same bytes."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "source files": _source()}
    for name in ("pairscape", "dask", "numpy", "numcodecs", "zarr"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def _source() -> str:
    """Digest of the modules that tasks run: a checkout changed in one place only is another Pairscape."""
    house, total = Path(pairscape.__file__).parent, hashlib.sha256()
    files = {file.name: file for file in house.glob("*.py")}
    for wing in ("pipeline", "model"):
        folder = (house / wing).resolve()  # a link in a checkout, which `rglob` would not follow
        files |= {f"{wing}/{file.relative_to(folder).as_posix()}": file for file in folder.rglob("*.py")}
    for name in sorted(files):
        total.update(name.encode() + b"\0" + files[name].read_bytes())
    return total.hexdigest()[:12]


def differences(mine: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The versions that should be the same and are not, in words; empty: they agree."""
    series = [name for name in SERIES if mine[name].split(".")[:2] != other.get(name, "").split(".")[:2]]
    exact = [name for name in EXACT if mine[name] != other.get(name, "")]
    return ", ".join(f"{name} {other.get(name, 'none')} (here {mine[name]})" for name in (*exact, *series))


def describe_place(place: str) -> str:
    """What lies at a path or URL, in few words that differ for different contents."""
    system, path = fsspec.core.url_to_fs(place)
    system.invalidate_cache()
    if not system.exists(path):
        return "nothing"
    if is_remote(place):
        return "something"  # its server sees to it that it is the same for all
    if not system.isdir(path):
        return f"a file of {system.size(path):,} bytes"
    names = sorted(os.path.basename(name) for name in system.ls(path, detail=False))  # noqa: PTH119 — also URLs
    return f"a folder of {len(names)} ({hashlib.sha256(repr(names).encode()).hexdigest()[:8]})"


# ── probes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _probe(target: str | Path | None) -> Iterator[Probe | None]:
    """A probe beside the target, removed at the end; where its folder does not exist yet, in the one that does."""
    if target is None:
        yield None
        return
    folder, _, name = spelled(target).rstrip("/").rpartition("/")
    while not is_remote(folder) and not Path(folder).is_dir() and folder:
        folder = folder.rpartition("/")[0]
    probe = Probe(f"{folder}/.{name}.probe", uuid4().hex)
    try:
        _write(probe.place, probe.token)
    except Exception as error:  # every file system of fsspec has errors of its own
        raise InputError(f"cannot write in {folder} ({error}); check its rights, or give another target.") from error
    try:
        yield probe
    finally:
        _remove(probe.place)


def _collect(place: str) -> str:
    """What a worker wrote, which is then removed; or why it cannot be read."""
    try:
        found = _read(place, None)
    except OSError as error:
        return type(error).__name__
    _remove(place)
    return found


def _read(place: str, expected: str | None) -> str:
    """The contents of a file, waited for a while: network file systems show new files late."""
    system, path = fsspec.core.url_to_fs(place)
    end = time.monotonic() + SEEN_SECONDS
    while True:
        try:
            found = bytes(system.cat_file(path)).decode()
            if expected in (None, found) or time.monotonic() > end:
                return found
        except FileNotFoundError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
        system.invalidate_cache()


def _write(place: str, text: str) -> None:
    system, path = fsspec.core.url_to_fs(place)
    system.pipe_file(path, text.encode())


def _remove(place: str) -> None:
    system, path = fsspec.core.url_to_fs(place)
    system.rm_file(path)
