"""A file or folder that is there whole or not at all: made aside, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
