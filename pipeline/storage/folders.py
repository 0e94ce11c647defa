"""Folders of small files, such as a run, behind a URL: written and read on this machine, sent and fetched whole."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairscape.pipeline.errors import InputError, JobError
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


@contextmanager
def sent_folder(place: Any, last: str, *, anew: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write to: the path itself, or one of the same name here that goes to the URL at the end.

    Parameters
    ----------
    last
        File that is sent last, since its being there says that all is.
    anew
        Whether the URL must hold nothing, or with `overwrite` is cleared before the folder is sent.

    Raises
    ------
    InputError
        The URL cannot be written, or holds something.
    JobError
        The folder cannot be sent; it stays here.
    """
    if not is_remote(place):
        yield located(place)
        return
    target = writable(place)
    if anew and not overwrite and file_sizes(target):
        raise InputError(f"{place} is not empty: two runs would be mixed; give another URL or --overwrite.")
    scratch = Path(tempfile.mkdtemp(prefix="pairscape-"))
    try:
        yield scratch / target.name
        _send(scratch / target.name, target, last, clear=anew)
    except JobError:
        raise
    except BaseException:
        shutil.rmtree(scratch)
        raise
    shutil.rmtree(scratch)


def _send(folder: Path, target: Path, last: str, *, clear: bool) -> None:
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    try:
        with reaching(target, "written"):
            if clear:
                remove_files(target, list(file_sizes(target)))
            for name in sorted(names, key=lambda name: name == last):
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
