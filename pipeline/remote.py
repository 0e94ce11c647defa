"""Stores in object storage: a URL as a path, and many small files looked at in a few requests.

Only reading: the fan-out writes to a disk that all workers see.
"""

from pathlib import Path
from typing import Any, cast

from pipeline.errors import InputError

LOCAL = "file://"


def is_remote(path: str | Path) -> bool:
    """Whether this is a URL of something else than local files."""
    return "://" in str(path) and not str(path).startswith(LOCAL)


def located(path: Any) -> Path:
    """A path; of a URL, such as s3://bucket/images.zarr, an object that has the same methods.

    Raises
    ------
    InputError
        A URL whose kind of storage nothing here can read.
    """
    text = str(path)
    if not is_remote(text):
        return Path(text.removeprefix(LOCAL))
    try:
        from upath import UPath

        found = UPath(text.rstrip("/"))
        _ = found.fs
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{text} cannot be read here ({error}); install what that storage needs (pip install 'pairscape[s3]' for "
            "s3://), or copy the store to a disk."
        ) from error
    return cast(Path, found)


def local_target(path: str | Path) -> Path:
    """A path to write to.

    Raises
    ------
    InputError
        It is a URL.
    """
    if is_remote(path):
        raise InputError(
            f"{path} is a URL, and images are written to a disk that all workers see: receipts and resuming need one; "
            "give a path there, and copy the finished store."
        )
    return Path(str(path).removeprefix(LOCAL))


def file_sizes(folder: Path) -> dict[str, int]:
    """Sizes of all files below a folder, by path within it: one listing, not a request for each file."""
    remote = cast(Any, folder)
    found = remote.fs.find(remote.path, detail=True)
    return {_within(name, remote.path): int(info["size"]) for name, info in found.items()}


def small_files(folder: Path) -> dict[str, bytes]:
    """Contents of all files below a folder, by path within it; those of a storage that can are fetched together."""
    remote = cast(Any, folder)
    names = remote.fs.find(remote.path)
    found = remote.fs.cat(names) if len(names) > 1 else {name: remote.fs.cat_file(name) for name in names}
    return {_within(name, remote.path): content for name, content in found.items()}


def _within(name: str, folder: str) -> str:
    return name.lstrip("/").removeprefix(folder.strip("/")).lstrip("/")
