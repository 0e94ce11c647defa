"""An expression store appears under its name only when it is complete; whatever fails leaves the folder as it was."""

import os
import re
import secrets
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.storage.paths import is_remote, put


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a name that no store may take.

    Parameters
    ----------
    overwrite
        Whether a Zarr store that lies there may be replaced.

    Raises
    ------
    InputError
        The name does not end in .zarr; it exists and may not be replaced; it exists and is no Zarr store.
    """
    if target.suffix != ".zarr":
        raise InputError(f"{target} does not end in .zarr: an expression store is a folder; name it {target.stem}.zarr")
    if not target.exists():
        return
    if not overwrite:
        raise InputError(f"{target} exists: give another name, or allow to overwrite it (--overwrite)")
    if not any((target / name).is_file() for name in ("zarr.json", ".zgroup")):
        raise InputError(f"{target} is not a Zarr store, so it is not overwritten: give another name")


@contextmanager
def published(target: Path) -> Iterator[Path]:
    """A free name beside the target to write to; at the end it takes the target's, and what lay there goes last.

    Raises
    ------
    JobError
        The disk refuses.
    """
    tag = uuid.uuid4().hex[:8]
    wip, old = (target.with_name(f".{target.name}.{tag}.{word}") for word in ("partial", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield wip
        if target.exists():
            target.rename(old)
        wip.rename(target)
    except BaseException as e:  # also when the user interrupts: leave the folder as it was found
        shutil.rmtree(wip, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        if isinstance(e, OSError):
            raise JobError(
                f"{target} cannot be written ({e}): free some space, or give a folder you may write to"
            ) from e
        raise
    shutil.rmtree(old, ignore_errors=True)


# A file or folder that is there whole or not at all: made aside, then renamed.


@contextmanager
def aside(target: Path) -> Iterator[Path]:
    """A name beside the target to write to, file or folder; it takes the target's at the end.

    Whatever fails leaves the folder as it was found, and folders that were made for it are gone again.
    """
    made = [folder for folder in target.absolute().parents if not folder.exists()]  # the innermost first
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")  # a name each, so that two at once do no harm
    try:
        yield part
        part.rename(target)
    except BaseException:  # also when the user interrupts
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        remove_empty(made)
        raise


def remove_empty(folders: list[Path]) -> None:
    """Remove those of some folders, the innermost first, that hold nothing."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


UNFINISHED = re.compile(r"\..+\.\d+")  # what `write_file` leaves when it is killed


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut; nothing to write is no file.

    The directory is made where it is missing. What a killed writer leaves is named `.NAME.NUMBER`; the number is drawn,
    since the workers of many containers have the same process id, and a task may run twice. An object of
    a storage is put there, which leaves nothing.
    """
    if content and is_remote(path):
        put(path, content)
        return
    if not content:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.randbits(63)}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:  # the disk is full: what is half written must not keep it so
        aside.unlink(missing_ok=True)
        raise


def clear_unfinished(folder: Path) -> None:
    """Remove what killed writers left anywhere below a folder in which nobody writes any more."""
    for path in folder.rglob(".*"):
        if UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink()
