"""The lock of a store, so that one driver at a time writes it.

The lock of `store.zarr` is the file `.store.zarr.lock` beside it, which says who holds it. On a disk it is the
kernel's (flock), so that it ends with the process. At a URL, and on file systems without flock, the file itself
is the lock: it is made only where there is none, and a driver that was killed leaves it for a person to remove.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.paths import content_of, is_remote, put_new


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
        """Go on only while the lock is held.

        Raises
        ------
        JobError
            It was removed, or another driver holds it.
        """
        found = _read(self.path)
        if found is None or found.get("name") != self.holder["name"]:
            raise JobError(
                f"{_target(self.path)} was taken over by {_words(found)} while this driver worked on it; what is "
                "finished is kept, the other one goes on."
            )


@contextmanager
def locked(target: Path) -> Iterator[Lock]:
    """Hold the lock of a store, or of whatever else one driver alone may write.

    Parameters
    ----------
    target
        What is written; its folder is made where it is missing.

    Raises
    ------
    JobError
        Another driver works on it, or nothing can be written there.
    """
    here = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    lock = Lock(target.with_name(f".{target.name}.lock"), {**here, "name": uuid4().hex})
    try:
        file = _take(lock)
    except OSError as error:
        raise JobError(
            f"{target} cannot be written ({error.strerror or error}): give a folder that you may write to, on a disk "
            "with space."
        ) from error
    try:
        yield lock
    finally:
        if (_read(lock.path) or {}).get("name") == lock.holder["name"]:
            lock.path.unlink()
        if file is not None:
            os.close(file)


def _take(lock: Lock) -> int | None:
    """Leave our name in the lock file; a descriptor whose end is the end of the lock, None at a URL."""
    content = json.dumps(lock.holder).encode()
    if is_remote(lock.path):
        try:
            put_new(lock.path, content)
        except FileExistsError:
            raise _refusal(lock.path, stays=True) from None
        return None
    lock.path.parent.mkdir(parents=True, exist_ok=True)
    file = _flocked(lock.path)
    os.truncate(file, 0)
    os.pwrite(file, content, 0)
    os.fsync(file)
    return file


def _flocked(path: Path) -> int:
    """A descriptor of the lock file, flocked where that is possible."""
    while True:
        file, made = _opened(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise _refusal(path) from None
        except OSError:  # a file system without flock: whoever made the file holds it
            if made:
                return file
            os.close(file)
            raise _refusal(path, stays=True) from None
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            return file
        os.close(file)  # its holder has removed it meanwhile


def _opened(path: Path) -> tuple[int, bool]:
    """A descriptor, and whether the file was made for it."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock says; None if there is none, or half of one."""
    try:
        found = json.loads(content_of(path) or b"")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _refusal(path: Path, *, stays: bool = False) -> JobError:
    """The error for a store that another driver writes; `stays`: its lock would outlive it."""
    remedy = f"if it was killed, remove {path}" if stays else "a lock ends with its process"
    return JobError(
        f"{_target(path)} is being written by {_words(_read(path))}: two drivers would write over each other; wait for "
        f"it, or end it first ({remedy})."
    )


def _words(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another driver"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def _target(path: Path) -> Path:
    return path.with_name(path.name.removeprefix(".").removesuffix(".lock"))
