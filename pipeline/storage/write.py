"""Files and folders that are there whole or not at all, also after an error, a kill or a power cut.

What is written lies beside its target under a name that is drawn, `.NAME.NUMBER`: a process id would not do, since the
workers of many containers share it and a task may run twice. It reaches the disk, then takes the target's name, and
what had that name goes last. Any error leaves the folder as it was found. An object of a storage is put there, which is
one step; a store is put together there object by object, its root last.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.paths import (
    MARK,
    ROOT,
    content_of,
    copy_objects,
    file_sizes,
    holds_store,
    is_remote,
    put,
    put_new,
    remove_files,
    remove_tree,
)

UNFINISHED = re.compile(r"\..+\.\d{10,19}")  # what a killed writer leaves; no file of others ends in such a number


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A free name beside the target to write a file or folder to; it takes the target's at the end."""
    made = [folder for folder in target.absolute().parents if not folder.exists()]  # the innermost first
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target)
    try:
        yield part
        put_in_place(part, target)
    except BaseException:  # also when the user interrupts
        _remove(part)
        remove_empty(made)
        raise


def put_in_place(made: Path, target: Path) -> None:
    """Give a file or folder the target's name, once it has reached the disk; what lay there goes last."""
    for file in made.rglob("*") if made.is_dir() else [made]:
        if file.is_file():
            _sync(file)
    old = _beside(target) if target.exists() and (target.is_dir() or made.is_dir()) else None
    if old is not None:  # only a file takes the place of another in one step
        target.rename(old)
    try:
        made.replace(target)
    except BaseException:
        if old is not None:
            old.rename(target)
        raise
    if old is not None:
        _remove(old)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole, in its folder or in object storage; nothing to write is no file.

    Raises
    ------
    OSError
        The disk or the storage refuses.
    """
    if content and is_remote(path):
        put(path, content)
    elif content:
        with replaced(path) as part:
            part.write_bytes(content)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writing(target: Path, kept: str = "") -> Iterator[None]:
    """Turn what a disk refuses into one line.

    Parameters
    ----------
    kept
        What becomes of what is finished, to be said at the end.

    Raises
    ------
    JobError
        The disk refuses.
    """
    try:
        yield
    except OSError as error:
        raise JobError(
            f"{target} cannot be written ({error}): free some space, or give a folder you may write to{kept}"
        ) from error


def publish_store(made: Path, target: Path, *, replace: bool = False) -> None:
    """Give a store its name, and with it its place.

    On a disk it is renamed. In object storage it is copied there by the storage itself, object by object, its root
    last.

    Parameters
    ----------
    replace
        Whether a store that lies there goes.

    Raises
    ------
    JobError
        Another job has put a store there meanwhile.
    """
    taken = JobError(f"{target} was made by another job meanwhile; run the same command again.")
    if not replace and holds_store(target):
        raise taken
    if not is_remote(target):
        put_in_place(made, target)
        return
    put(target / MARK, b"")
    remove_files(target, [ROOT])
    remove_files(target, [name for name in file_sizes(target) if name != MARK])
    copy_objects(made, target, [name for name in file_sizes(made) if name != ROOT])
    try:
        put_new(target / ROOT, content_of(made / ROOT) or b"")
    except FileExistsError as error:
        raise taken from error
    remove_files(target, [MARK])
    remove_tree(made)


def clear_unfinished(folder: Path) -> None:
    """Remove what killed writers left anywhere below a folder in which nobody writes any more."""
    for path in folder.rglob(".*"):
        if UNFINISHED.fullmatch(path.name):
            _remove(path)


def remove_empty(folders: list[Path]) -> None:
    """Remove those of some folders, the innermost first, that hold nothing."""
    for folder in folders:
        with suppress(OSError):  # it holds something, or is gone
            folder.rmdir()


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.randbits(63)}")


def _sync(file: Path) -> None:
    number = os.open(file, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
