"""Stores in object storage: a URL as a path, many small files looked at in a few requests, and what is written there.

Nothing can be renamed there, but an object appears whole or not at all. So a store is put together object by object,
and its root, without which nobody takes it for a store, comes last.
"""

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

import fsspec

from pairscape.pipeline.errors import InputError, JobError

LOCAL = "file://"
ROOT = "zarr.json"
MARK = ".unfinished"  # object in a store that is being put together; with it, and without a root, it may be replaced
CLIENTS = ("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "s3fs")  # their errors are the storage's


def is_remote(path: Any) -> bool:
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
        found.fs.invalidate_cache()  # others write too
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{text} cannot be read here ({error}); install what that storage needs (pip install 'pairscape[s3]' for "
            "s3://), or copy the store to a disk."
        ) from error
    return cast(Path, found)


def writable(path: Any) -> Path:
    """A path to write to; a URL is tried with an object beside it, which is read and removed again.

    Raises
    ------
    InputError
        A URL of which the storage refuses any of that, or that names no place within it.
    """
    target = cast(Any, located(path))
    if not is_remote(target):
        return cast(Path, target)
    if not target.name or target.parent == target:
        raise InputError(
            f"{path} names no store within the bucket; give one, such as {str(path).rstrip('/')}/images.zarr."
        )
    probe = target.with_name(f".{target.name}.{uuid4().hex[:8]}.probe")
    with reaching(path, "written", "check the URL and that the bucket exists, the credentials and what they permit"):
        put(probe, b"pairscape")
        if probe.fs.cat_file(probe.path) != b"pairscape":
            raise OSError("what is read there is not what was written")
        probe.fs.rm_file(probe.path)
    return cast(Path, target)


def local_target(path: str | Path) -> Path:
    """A path on a disk to write to, of a job whose parts no object storage can hold.

    Raises
    ------
    InputError
        It is a URL.
    """
    if is_remote(path):
        raise InputError(
            f"{path} is a URL, and this job works on a disk that all workers see: copy there what it reads, and give a "
            "path."
        )
    return Path(str(path).removeprefix(LOCAL))


@contextmanager
def reaching(place: Any, done: str = "read", remedy: str = "check the URL and the credentials") -> Iterator[None]:
    """Whatever the storage behind a URL says is wrong, in one line; errors of paths stay as they are.

    Raises
    ------
    InputError
        The storage refuses.
    """
    try:
        yield
    except (InputError, JobError):
        raise
    except Exception as error:  # every file system of fsspec has errors of its own
        if not is_remote(place):
            raise
        raise InputError(f"{place} cannot be {done} ({_reason(error)}); {remedy}.") from error


@contextmanager
def lasting(place: Any) -> Iterator[None]:
    """What a disk or a storage refuses while a job works there, in one line; what is finished is worth a next run.

    Raises
    ------
    JobError
        It fails or refuses.
    """
    try:
        yield
    except Exception as error:  # only what disks and the clients of storages raise is turned
        theirs = isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS
        if not theirs:
            raise
        failed = (
            f"{place}: the storage fails ({_reason(error)})"
            if is_remote(place)
            else f"{place} cannot be finished ({error}): free some space, or make it writable"
        )
        raise JobError(f"{failed}; what is finished is kept, run the same command again for the rest.") from error


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def put(path: Path, content: bytes) -> None:
    """Write an object, in place of whatever has its name: whole or not at all."""
    remote = cast(Any, path)
    remote.fs.pipe_file(remote.path, content)


def put_new(path: Path, content: bytes) -> None:
    """Write an object where there is none; a storage that cannot promise it is asked first.

    Raises
    ------
    FileExistsError
        There is one.
    """
    remote = cast(Any, path)
    try:
        remote.fs.pipe_file(remote.path, content, mode="create")
    except (NotImplementedError, OSError) as error:
        if content_of(path) is not None:
            raise FileExistsError(str(path)) from error
        if isinstance(error, OSError) and error.errno != errno.ENOSYS:
            raise
        put(path, content)


def content_of(path: Path) -> bytes | None:
    """The bytes of a file, None if there is none; of an object, in one request."""
    try:
        return bytes(cast(Any, path).fs.cat_file(cast(Any, path).path)) if is_remote(path) else path.read_bytes()
    except FileNotFoundError:
        return None


def holds_store(path: Path) -> bool:
    """Whether something lies there; at a URL, whether a store does, of any kind: half of one is none.

    Raises
    ------
    InputError
        At the URL lie objects that are no store, or the storage refuses.
    """
    if not is_remote(path):
        return path.exists()
    remote = cast(Any, path)
    remote.fs.invalidate_cache()
    with reaching(path):
        if content_of(path / ROOT) is not None:
            return True
        names = _listed(remote)
        if names and content_of(path / MARK) is None:
            raise InputError(
                f"{path} holds objects that are no store ({names[0].rsplit('/', 1)[-1]}), which a store there would be "
                "mixed with; give another name, or remove them."
            )
    return False


def root_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the root of a store, of whatever kind.

    Raises
    ------
    OSError, ValueError, KeyError
        There is none.
    InputError
        The storage refuses.
    """
    with reaching(path):
        content = content_of(path / ROOT)
    return dict(json.loads(content or b"")["attributes"])


def _listed(remote: Any) -> list[str]:
    try:
        return sorted(remote.fs.ls(remote.path, detail=False))
    except FileNotFoundError:
        return []


def remove_tree(path: Path) -> None:
    """Remove a folder, or all objects below a URL, if there are any."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        _remove(path, list(file_sizes(path)))


def _remove(folder: Path, names: list[str]) -> None:
    if names:
        remote = cast(Any, folder)
        remote.fs.rm([f"{remote.path.rstrip('/')}/{name}" for name in names])


def remove_files(folder: Path, names: list[str]) -> None:
    """Remove those of some objects below a URL that are there, by their names within it."""
    there = file_sizes(folder)
    _remove(folder, [name for name in names if name in there])


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
    if not is_remote(target):
        if replace:
            shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
        return
    if not replace and holds_store(target):
        raise JobError(f"{target} was made by another job meanwhile; run the same command again.")
    put(target / MARK, b"")
    old = list(file_sizes(target))
    _remove(target, [name for name in old if name == ROOT])
    _remove(target, [name for name in old if name not in (ROOT, MARK)])
    fs, source, place = cast(Any, target).fs, cast(Any, made).path, cast(Any, target).path
    names = [name for name in file_sizes(made) if name != ROOT]
    fs.copy([f"{source}/{name}" for name in names], [f"{place}/{name}" for name in names])
    try:
        put_new(target / ROOT, cast(bytes, content_of(made / ROOT)))
    except FileExistsError as error:
        raise JobError(f"{target} was made by another job meanwhile; run the same command again.") from error
    _remove(target, [MARK])
    remove_tree(made)


def file_sizes(folder: Path) -> dict[str, int]:
    """Sizes of all files below a folder, by path within it: one listing, not a request for each file."""
    remote = cast(Any, folder)
    remote.fs.invalidate_cache()
    found = remote.fs.find(remote.path, detail=True)
    return {_within(name, remote.path): int(info["size"]) for name, info in found.items()}


def small_files(folder: Path) -> dict[str, bytes]:
    """Contents of all files below a folder, by path within it; those of a storage that can are fetched together."""
    remote = cast(Any, folder)
    remote.fs.invalidate_cache()
    names = remote.fs.find(remote.path)
    found = remote.fs.cat(names) if len(names) > 1 else {name: remote.fs.cat_file(name) for name in names}
    return {_within(name, remote.path): content for name, content in found.items()}


def _within(name: str, folder: str) -> str:
    return name.lstrip("/").removeprefix(folder.strip("/")).lstrip("/")


# Where a source lies: a path of this machine, or a URL of any file system that fsspec knows (s3://, https://, …).


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


def _path(store: Any) -> Path:
    """The path of a store, which may be a URL, also of one that is open in xarray."""
    return located(getattr(store, "encoding", {}).get("source", store))
