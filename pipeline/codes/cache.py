"""A copy on this host's disk of a code store behind a URL, since chunks are picked by their place in a file many times.

It is fetched once a host, by whichever process needs it first, into the folder for temporary files (TMPDIR), and stays
for the next job on the same codes; copies of other codes that no process holds any more go when one is fetched. Every
chunk ends in a checksum, which is compared whenever it is read. (fsspec's filecache has neither the lock between
processes, nor the check of the content, nor the removal of what no process uses.)
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.paths import fetch_file, file_sizes, is_remote, located, root_attributes
from pairscape.pipeline.storage.write import replaced

_held: dict[str, tuple[Path, int]] = {}  # content hash → its copy, and the lock that this process keeps on it


def nearby(url: str, content_hash: str) -> Path:
    """The folder of a code store, on this host.

    Parameters
    ----------
    url
        Where it lies; a path is its own answer.
    content_hash
        What it has to hold.

    Raises
    ------
    JobError
        It holds something else by now, cannot be fetched, or there is no room for it.
    """
    if not is_remote(url):
        return Path(url)
    if content_hash not in _held:
        folder = _cache()
        place = folder / f"{content_hash}.zarr"
        with _locked(folder / "fetching"):  # one process fetches, the others of this host wait for it
            lock = os.open(folder / f"{content_hash}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_SH)  # as long as this process lives
            if not place.exists():
                _clear_unused(folder)
                _fetch(url, content_hash, place)
        _held[content_hash] = place, lock
    return _held[content_hash][0]


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"pairscape-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise JobError(
            f"{folder} belongs to another user, so it is no place for codes; set TMPDIR to a folder of yours."
        )
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_unused(folder: Path) -> None:
    """Remove copies that no process holds; called by the one that may fetch."""
    for lock in folder.glob("*.lock"):
        with lock.open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.with_suffix(".zarr"), ignore_errors=True)
            lock.unlink()


def _fetch(url: str, content_hash: str, place: Path) -> None:
    remote = located(url)
    try:
        with replaced(place) as part:
            for name, size in file_sizes(remote / "codes").items():
                file = part / "codes" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                fetch_file(remote / "codes" / name, file)
                if file.stat().st_size != size:
                    raise JobError(f"{url}: {name} changed while it was fetched; run the same command again.")
            if root_attributes(remote).get("content_hash") != content_hash:
                raise JobError(f"{url} holds other codes than those of this job; run the same command again.")
    except OSError as error:
        raise JobError(
            f"{url} cannot be copied to {place.parent} ({error}); set TMPDIR to a folder with room for it."
        ) from error
