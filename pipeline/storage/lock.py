"""One driver a store: a second one is refused, and a driver that died keeps nothing.

The lock of `store.zarr` is the file `.store.zarr.lock` beside it. It says who holds it, and a number in it changes
every BEAT_SECONDS as long as the holder lives. Where the file system has `flock`, a holder is told at once; else
whoever comes looks at the file for some seconds: if it changes, its holder lives. No clocks are compared, so it
does not matter how far those of two machines are apart.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psutil

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.paths import is_remote

BEAT_SECONDS = 2.0
PATIENCE_SECONDS = 20.0  # without a beat, after which a holder that cannot be asked is dead: ten beats
RECORD_BYTES = 1024
SETTLE_SECONDS = 1.0  # after which, of two that took a lock at once, only the later one finds its own name in it


@dataclass(frozen=True)
class Lock:
    """A lock that is held.

    Attributes
    ----------
    path
        The lock file.
    holder
        What it says of this process, with a name that no other has.
    """

    path: Path
    holder: dict[str, Any]

    def require(self) -> None:
        """Go on only while the lock is held: a driver that was stopped for minutes may find another in its place.

        Raises
        ------
        JobError
            Another driver has taken the store over.
        """
        found = _read(self.path)
        if found is None and self.path.exists():
            return  # half of what is just being written: the next look tells
        if found is None or found.get("name") != self.holder["name"]:
            raise JobError(
                f"{_target(self.path)} was taken over by {_words(found)} while this driver stood still; what is "
                "finished is kept, the other one goes on."
            )


@contextmanager
def locked(target: Path) -> Iterator[Lock]:
    """Hold the lock of a store, or whatever else one driver alone may write.

    Parameters
    ----------
    target
        What is written; its folder is made where it is missing.

    Raises
    ------
    JobError
        Another driver works on it, or nothing can be written there.
    """
    path = target.with_name(f".{target.name}.lock")
    try:
        file = _flocked(path) if not is_remote(path) else None
    except OSError as error:
        raise JobError(
            f"{target} cannot be written ({error.strerror or error}): give a folder that you may write to, on a disk "
            "with space."
        ) from error
    try:
        lock = _take(path)
        try:
            with _beating(lock):
                yield lock
        finally:
            if (_read(path) or {}).get("name") == lock.holder["name"]:
                path.unlink()
    finally:
        if file is not None:
            os.close(file)


def _flocked(path: Path) -> int:
    """A descriptor of the lock file, flocked where that is possible: of the file that has the name, not of one that was
    removed meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise _refusal(path, _read(path)) from None
        except OSError:  # a file system without flock: the beats tell
            return file
        if _is_named(file, path):
            return file
        os.close(file)


def _is_named(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _take(path: Path) -> Lock:
    """Write our name, once it is clear that nobody alive has theirs there."""
    found = _read(path)
    if found is not None and _lives(path, found):
        raise _refusal(path, found)
    lock = Lock(path, {**_here(), "name": uuid4().hex})
    _write(lock, 0)
    if found is not None or is_remote(path):
        time.sleep(SETTLE_SECONDS)
        lock.require()
    return lock


def _lives(path: Path, found: dict[str, Any]) -> bool:
    """Whether the holder is alive: by its process where it is one of ours, else by what its file does."""
    here = _here()
    if found.get("machine") == here["machine"] and not _runs(int(found.get("pid", 0))):
        return False
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(BEAT_SECONDS / 8)
        now = _read(path)
        if now is None and not path.exists():
            return False
        if now is not None and now != found:
            return True
    return False


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _here() -> dict[str, Any]:
    """Who this process is. Containers of one machine do not see each other's processes, so they are told apart."""
    boot, names = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [socket.gethostname(), boot.read_text().strip() if boot.exists() else str(psutil.boot_time())]
    if names.exists():
        known.append(str(names.readlink()))
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    return {"host": socket.gethostname(), "machine": "/".join(known), "pid": os.getpid(), "since": started}


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock says; None if there is none, or half of one."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(lock: Lock, beat: int) -> None:
    """In one piece and of one length, so that never half of it is read."""
    content = json.dumps({**lock.holder, "beat": beat}).encode().ljust(RECORD_BYTES)
    if is_remote(lock.path):
        lock.path.write_bytes(content)
        return
    file = os.open(lock.path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.pwrite(file, content, 0)
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _beating(lock: Lock) -> Iterator[None]:
    over = Event()

    def beat() -> None:
        number = 1
        while not over.wait(BEAT_SECONDS):
            if (_read(lock.path) or {}).get("name") == lock.holder["name"]:  # else another has taken it over
                with suppress(OSError):  # the disk is full, or away: the next beat tries again
                    _write(lock, number)
            number += 1

    thread = Thread(target=beat, name="pairscape-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _refusal(path: Path, holder: dict[str, Any] | None) -> JobError:
    return JobError(
        f"{_target(path)} is being written by {_words(holder)}: two drivers would write over each other; wait for it, "
        "or end it first (a dead one is noticed)."
    )


def _words(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another driver"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def _target(path: Path) -> Path:
    return path.with_name(path.name.removeprefix(".").removesuffix(".lock"))
