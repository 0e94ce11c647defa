"""Where a job writes until it is done: a folder beside the target, that the same job finds again after a kill.

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

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.write import put_in_place, write_file, writing

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
        self.keeps = path.exists()  # a mistake in the command must not cost what an earlier one has finished
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
        file, text = self.path / "job.json", json.dumps(job, sort_keys=True)
        found = file.exists() and file.read_text() == text
        self.keeps = False
        if not found:
            for path in self.path.iterdir():
                if path.is_dir() and path.name != SCRATCH:
                    shutil.rmtree(path)
                elif path.name != SCRATCH:
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
