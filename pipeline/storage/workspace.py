"""The folder of a job under way, beside its target, which the same job finds again after a kill.

It holds `job.json`, which says what job it is of; whatever the job keeps between its steps; and `store`, which takes
the target's name at the end. Another job for the same target begins anew.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairscape.interrupt import keeping_nothing
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.ownership import files_below, refuse_foreign
from pairscape.pipeline.storage.paths import (
    content_of,
    fetch_file,
    file_sizes,
    is_remote,
    located,
    put,
    reaching,
    remove_files,
    writable,
)
from pairscape.pipeline.storage.results import RECEIPT, Holds, check_result, unfinished
from pairscape.pipeline.storage.write import put_in_place, write_file, writing

JOB = "job.json"
KEPT = "; what is finished is kept, run the same command again for the rest"
SCRATCH = "scratch"  # of whoever opens the source: kept, as it is told apart by the source and not by the job


class Workplace:
    """A folder for a job under way.

    Attributes
    ----------
    path
        The folder.
    keeps
        Whether what is finished is worth keeping, if the job ends with an error of the user's; else the folder goes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keeps = path.exists()  # what an earlier run has finished outlives a mistake in this command
        if self.keeps and not (path / JOB).exists():
            refuse_foreign(path, (name for name in files_below(path) if not name.startswith(f"{SCRATCH}/")))
        path.mkdir(parents=True, exist_ok=True)

    @property
    def scratch(self) -> Path:
        """Where a source may keep what it turns."""
        return self.path / SCRATCH

    @property
    def store(self) -> Path:
        """The store that is being made."""
        return self.path / "store"

    def claim(self, job: dict[str, Any]) -> bool:
        """Make the folder this job's, whatever it held if that was of another; returns whether it was this one's.

        Parameters
        ----------
        job
            All that decides a byte of the result.
        """
        file, text = self.path / JOB, json.dumps(job, sort_keys=True)
        found = file.exists() and file.read_text(encoding="utf-8") == text
        self.keeps = False
        if not found:
            write_file(file, b"{}")  # what is left after a kill is still ours, and of no job
            for path in self.path.iterdir():
                if path.is_dir() and path.name != SCRATCH:
                    shutil.rmtree(path)
                elif path.name not in (SCRATCH, JOB):
                    path.unlink()
            write_file(file, text.encode())
        return found

    def publish(self, target: Path) -> None:
        """Give the store its name; what lay there goes last."""
        put_in_place(self.store, target)
        shutil.rmtree(self.path)


@contextmanager
def workplace(target: Path) -> Iterator[Workplace]:
    """The folder of the job that writes `target`; it stays where a next run can go on with it.

    Raises
    ------
    InputError
        What lies where the folder goes is of somebody else.
    JobError
        The disk refuses, or another driver writes `target`.
    """
    place = None
    try:
        with writing(target, KEPT), locked(target):
            place = Workplace(target.with_name(f".{target.name}.wip"))
            yield place
    except InputError:
        if place is not None and not place.keeps:
            shutil.rmtree(place.path)
        raise


@contextmanager
def no_workplace() -> Iterator[Workplace]:
    """A folder of a job that only looks; nothing of it stays."""
    with tempfile.TemporaryDirectory() as folder:
        yield Workplace(Path(folder))


# ── folders behind a URL, such as a run: written and read on this machine, sent and fetched whole ─────────────────────


@contextmanager
def sent_folder(place: Any, holds: Holds, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder for a result: the path itself, or one of the same name here that goes to the URL at the end.

    Parameters
    ----------
    holds
        What the result is.
    overwrite
        Whether a finished one at the URL may be replaced.

    Raises
    ------
    InputError
        The URL cannot be written, or holds what may not be replaced (`results.check_result`).
    JobError
        Another process sends there, or the folder cannot be sent; it stays here.
    """
    if not is_remote(place):
        yield located(place)
        return
    target = writable(place)
    with reaching(place):
        check_result(target, holds, overwrite=overwrite)
    with locked(target):
        scratch = Path(tempfile.mkdtemp(prefix="pairscape-"))
        try:
            with keeping_nothing():
                yield scratch / target.name
                _send(scratch / target.name, target)
        except JobError:
            raise
        except BaseException:
            shutil.rmtree(scratch)
            raise
        shutil.rmtree(scratch)


def _send(folder: Path, target: Path) -> None:
    """Put a result at a URL, its receipt last; what else lay there goes just before."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    try:
        with reaching(target, "written"):
            put(target / RECEIPT, unfinished(folder))
            for name in sorted(names, key=lambda name: name == RECEIPT):
                if name == RECEIPT:
                    remove_files(target, [name for name in file_sizes(target) if name not in names])
                content = (folder / name).read_bytes()
                put(target / name, content)
                if content_of(target / name) != content:
                    raise OSError(f"{name} is not read back as it was written")
    except InputError as error:
        raise JobError(f"{str(error).rstrip('.')}; what should be there is kept in {folder}.") from error


@contextmanager
def fetched_folder(place: Any) -> Iterator[Path]:
    """A folder to read: the path itself, or a copy here of what lies at the URL, as long as the body runs.

    Raises
    ------
    InputError
        Nothing lies at the URL, or it cannot be read.
    """
    if not is_remote(place):
        yield located(place)
        return
    source = located(place)
    with tempfile.TemporaryDirectory(prefix="pairscape-") as scratch:
        folder = Path(scratch) / source.name
        with reaching(place):
            for name in file_sizes(source):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                fetch_file(source / name, folder / name)
        if not folder.exists():
            raise InputError(f"{place} holds nothing; check the URL.")
        yield folder
