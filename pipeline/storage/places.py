"""Where a source lies: a path of this machine, or a URL of any file system that fsspec knows (s3://, https://, …)."""

import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from pairscape.pipeline.errors import InputError


def is_url(place: str | Path) -> bool:
    """Whether the place is not on this machine's disks; a `Path` never is."""
    return isinstance(place, str) and "://" in place


def suffix_of(place: str | Path) -> str:
    """The last suffix of the name, with the one before it if it is .gz; small letters."""
    suffixes = Path(name_of(place)).suffixes
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:]).lower()


def name_of(place: str | Path) -> str:
    """The last part of the path, of whatever kind it is."""
    return str(place).rstrip("/").rsplit("/", 1)[-1]


@contextmanager
def binary(place: str | Path) -> Iterator[BinaryIO]:
    """The bytes of a file, closed at the end."""
    if not is_url(place):
        with Path(place).open("rb") as file:
            yield file
        return
    with fsspec.open(str(place), "rb") as remote:
        yield cast(BinaryIO, remote)


def is_folder(place: str | Path) -> bool:
    """Whether a folder lies there.

    Raises
    ------
    InputError
        Nothing does, it may not be read, or the URL cannot be reached.
    """
    if is_url(place):
        return bool(_reached(str(place)))
    path = Path(place)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path (the working folder is {Path.cwd()})")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read: ask its owner for permission, or copy it")
    return path.is_dir()


def listed(folder: str | Path) -> list[str]:
    """The names of what a folder holds, sorted."""
    if not is_url(folder):
        return sorted(path.name for path in Path(folder).iterdir())
    system, path = fsspec.core.url_to_fs(str(folder))
    return sorted(name_of(found) for found in system.ls(path, detail=False))


def inside(folder: str | Path, name: str) -> str:
    """The place of what a folder holds under that name."""
    return f"{str(folder).rstrip('/')}/{name}"


def beside(place: str | Path, name: str) -> str:
    """The place of that name in the same folder."""
    return f"{str(place).rstrip('/').rpartition('/')[0] or '.'}/{name}"


def expanded(place: str) -> list[str]:
    """The places that a pattern with * ? or [ names, sorted; any other place, or one that exists, is itself alone.

    Raises
    ------
    InputError
        Nothing fits the pattern.
    """
    if not glob.has_magic(place) or (not is_url(place) and Path(place).exists()):
        return [place]
    if is_url(place):
        system, path = fsspec.core.url_to_fs(place)
        found = [system.unstrip_protocol(name) for name in system.glob(path)]
    else:
        found = glob.glob(place)  # noqa: PTH207 — Path.glob takes no absolute pattern
    if not found:
        raise InputError(f"{place} fits no file: check the pattern (the working folder is {Path.cwd()})")
    return sorted(found)


def remote_fingerprint(url: str) -> str:
    """Hex sha256 over name, size and version of a file, or of all files below a folder, as their server has them."""
    with _reaching(url):
        system, path = fsspec.core.url_to_fs(url)
        files: dict[str, Any] = system.find(path, detail=True) or {path: system.info(path)}
    total = hashlib.sha256()
    for name, facts in sorted(files.items()):
        version = next((facts[k] for k in ("ETag", "etag", "mtime", "LastModified", "created") if k in facts), "")
        total.update(f"{name}\0{facts.get('size')}\0{version}\n".encode())
    return total.hexdigest()


def _reached(url: str) -> bool:
    """Whether the URL is a folder."""
    with _reaching(url):
        system, path = fsspec.core.url_to_fs(url)
        if not system.exists(path):
            raise InputError(f"{url} does not exist: check the URL")
        return bool(system.isdir(path))


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Whatever a file system says is wrong, in one line."""
    try:
        yield
    except InputError:
        raise
    except ImportError as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"{url} needs one more package ({reason}): for s3://, pip install 'pairscape[s3]'") from e
    except Exception as e:  # every file system of fsspec has errors of its own
        reason = next(iter(str(e).splitlines()), "") or type(e).__name__
        raise InputError(f"{url} cannot be reached ({reason}): check the URL and the credentials") from e
