"""Places: a path on a disk, or a URL of any file system that fsspec knows (s3://, https://, memory://, …).

Whatever a user gives becomes one of two things at the front door, and everything below asks `is_remote`: `located`
makes a Path, or of a URL an object with the same methods, for stores; `spelled` makes text, an absolute path or the
URL, for what workers open themselves. Nothing can be renamed in object storage, but an object appears whole or not at
all.
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

from pairscape.pipeline.errors import InputError, JobError, first_line
from pairscape.pipeline.options import expand_home
from pairscape.pipeline.storage.plain_files import check_plain_file, moved

LOCAL = ("file://", "local://")
ROOT = "zarr.json"
MARK = ".unfinished"  # object in a store that is being put together; with it, and without a root, it may be replaced
STORAGE_CLIENTS = ("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "s3fs")  # packages with own errors
VERSIONS = ("ETag", "etag", "mtime", "LastModified", "created")  # what servers call the version of a file

# ── what a place is ──────────────────────────────────────────────────────────────────────────────────────────────────


def is_remote(place: Any) -> bool:
    """Whether this is a URL of something else than local files."""
    return "://" in str(place) and not str(place).startswith(LOCAL)


def located(place: Any) -> Path:
    """A path; of a URL, such as s3://bucket/images.zarr, an object that has the same methods.

    Parameters
    ----------
    place
        A path or URL as text or object, or a store that is open in xarray.

    Raises
    ------
    InputError
        A URL whose kind of storage nothing here can read.
    """
    text = str(getattr(place, "encoding", {}).get("source", place))
    if not is_remote(text):
        return Path(_on_disk(text))
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


def spelled(place: Any) -> str:
    """The absolute path, or the URL, as text: it means the same in every process."""
    text = str(place)
    return text.rstrip("/") if is_remote(text) else str(Path(_on_disk(text)).absolute())


def local_target(place: Any) -> Path:
    """A path on a disk to write to, of a job whose parts no object storage can hold.

    Raises
    ------
    InputError
        It is a URL.
    """
    if is_remote(place):
        raise InputError(
            f"{place} is a URL, and this job works on a disk that all workers see: copy there what it reads, and give "
            "a path."
        )
    return located(place)


def writable(place: Any) -> Path:
    """A path to write to; a URL is tried with an object beside it, which is read and removed again.

    Raises
    ------
    InputError
        A URL of which the storage refuses any of that, or that names no place within it.
    """
    target = located(place)
    if not is_remote(target):
        return target
    if not target.name or target.parent == target:
        raise InputError(
            f"{place} names no store within the bucket; give one, such as {str(place).rstrip('/')}/images.zarr."
        )
    probe = target.with_name(f".{target.name}.{uuid4().hex[:8]}.probe")
    with reaching(place, "written", "check the URL and that the bucket exists, the credentials and what they permit"):
        put(probe, b"pairscape")
        if content_of(probe) != b"pairscape":
            raise OSError("what is read there is not what was written")
        system, path = _system(probe)
        system.rm_file(path)
    return target


def _on_disk(text: str) -> str:
    """Without `file://`, and with `~` filled in."""
    return expand_home(next((text.removeprefix(scheme) for scheme in LOCAL if text.startswith(scheme)), text))


def _system(place: Path | str) -> tuple[Any, str]:
    """The file system of fsspec that a place lies in, and its path there; one of a URL keeps its clients."""
    if hasattr(place, "fs"):
        return place.fs, str(cast(Any, place).path)
    system, path = fsspec.core.url_to_fs(str(place))
    return system, str(path)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def reaching(place: Any, done: str = "read", remedy: str = "check the URL and the credentials") -> Iterator[None]:
    """Turn whatever the storage behind a URL raises into one line; errors of paths stay as they are.

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
        if isinstance(error, ImportError):
            remedy = "install the package that it needs (for s3://: pip install 'pairscape[s3]')"
        raise InputError(f"{place} cannot be {done} ({first_line(error)}); {remedy}.") from error


@contextmanager
def lasting(place: Any) -> Iterator[None]:
    """Turn what a disk or a storage refuses while a job works there into one line; what is finished is kept.

    Raises
    ------
    JobError
        It fails or refuses.
    """
    try:
        yield
    except Exception as error:  # only what disks and the clients of storages raise is turned
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in STORAGE_CLIENTS:
            raise
        failed = (
            f"{place}: the storage fails ({first_line(error)})"
            if is_remote(place)
            else f"{place} cannot be finished ({error}): free some space, or make it writable"
        )
        raise JobError(f"{failed}; what is finished is kept, run the same command again for the rest.") from error


# ── single files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def put(path: Path, content: bytes) -> None:
    """Write an object, in place of whatever has its name: whole or not at all."""
    system, name = _system(path)
    system.pipe_file(name, content)


def put_new(path: Path, content: bytes) -> None:
    """Write an object where there is none; a storage that cannot promise it is asked first.

    Raises
    ------
    FileExistsError
        There is one.
    """
    system, name = _system(path)
    try:
        system.pipe_file(name, content, mode="create")
    except (NotImplementedError, OSError) as error:
        if content_of(path) is not None:
            raise FileExistsError(str(path)) from error
        if isinstance(error, OSError) and error.errno != errno.ENOSYS:
            raise
        put(path, content)


def content_of(path: Path) -> bytes | None:
    """The bytes of a file, None if there is none; of an object, in one request."""
    try:
        if not is_remote(path):
            check_plain_file(path)
            return path.read_bytes()
        system, name = _system(path)
        return bytes(system.cat_file(name))
    except FileNotFoundError:
        return None


def fetch_file(path: Path, target: Path) -> None:
    """Copy an object to a file here."""
    system, name = _system(path)
    system.get_file(name, str(target))


@contextmanager
def binary(place: str) -> Iterator[BinaryIO]:
    """The bytes of a file, closed at the end; InputError for a pipe, socket or device."""
    if not is_remote(place):
        check_plain_file(place)
        with Path(place).open("rb") as file:
            yield file
        return
    with fsspec.open(place, "rb") as remote:
        yield cast(BinaryIO, remote)


def suffix_of(place: str) -> str:
    """The last suffix of the name, with the one before it if it is .gz; small letters."""
    suffixes = Path(name_of(place)).suffixes
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:]).lower()


def in_utf8(path: str) -> str:
    """A path for a store or a file to hold: signs that the locale could not decode are read as UTF-8."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def name_of(place: str) -> str:
    """The last part of the path."""
    return place.rstrip("/").rsplit("/", 1)[-1]


def stamp_of(place: str) -> tuple[int, int]:
    """Changes when the file is replaced: what is cached of it is then read anew. Of a URL it is always the same."""
    if is_remote(place):
        return 0, 0
    try:
        stat = Path(place).stat()
    except FileNotFoundError as error:
        raise moved(place) from error
    return stat.st_ino, stat.st_mtime_ns


def fingerprint(place: str) -> str:
    """Hex sha256 over names, sizes and times of change of the file, or of all files below the folder.

    As git's index does, equal fingerprints are taken for equal content, which is never read. It costs one look at each
    file; who changes a file and sets back its time, at the same size, is not seen. Of a URL the server tells the size
    and the version of each file.
    """
    total = hashlib.sha256()
    if is_remote(place):
        with reaching(place):
            system, name = _system(place)
            found: dict[str, Any] = system.find(name, detail=True) or {name: system.info(name)}
        for name, facts in sorted(found.items()):
            version = next((facts[key] for key in VERSIONS if key in facts), "")
            total.update(f"{name}\0{facts.get('size')}\0{version}\n".encode())
        return total.hexdigest()
    path = Path(place)
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        stat = file.stat()
        total.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return total.hexdigest()


# ── folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_folder(place: str) -> bool:
    """Whether a folder lies there, and not a file.

    Raises
    ------
    InputError
        Nothing does, it may not be read, or the URL cannot be reached.
    """
    if is_remote(place):
        with reaching(place):
            system, path = _system(place)
            if not system.exists(path):
                raise InputError(f"{place} does not exist: check the URL")
            return bool(system.isdir(path))
    if not Path(place).exists():
        raise InputError(f"{place} does not exist: check the path (the working folder is {Path.cwd()})")
    check_plain_file(place)
    folder = Path(place).is_dir()
    if not os.access(place, os.R_OK | os.X_OK if folder else os.R_OK):
        raise InputError(f"{place} may not be read: ask its owner for permission, or copy it")
    return folder


def listed(folder: str) -> list[str]:
    """The names of what a folder holds, sorted."""
    if not is_remote(folder):
        return sorted(path.name for path in Path(folder).iterdir())
    system, path = _system(folder)
    return sorted(name_of(found) for found in system.ls(path, detail=False))


def inside(folder: str, name: str) -> str:
    """The place of what a folder holds under that name."""
    return f"{folder.rstrip('/')}/{name}"


def beside(place: str, name: str) -> str:
    """The place of that name in the same folder."""
    return f"{place.rstrip('/').rpartition('/')[0] or '.'}/{name}"


def expanded(place: Any) -> list[str]:
    """The places that a pattern with * ? or [ names, sorted; any other place, or one that exists, is itself alone.

    Raises
    ------
    InputError
        Nothing fits the pattern.
    """
    place = spelled(place)
    if not glob.has_magic(place) or (not is_remote(place) and Path(place).exists()):
        return [place]
    if is_remote(place):
        system, path = _system(place)
        found = [system.unstrip_protocol(name) for name in system.glob(path)]
    else:
        found = glob.glob(place)  # noqa: PTH207 — Path.glob takes no absolute pattern
    if not found:
        raise InputError(f"{place} fits no file: check the pattern (the working folder is {Path.cwd()})")
    return sorted(found)


def file_sizes(folder: Path) -> dict[str, int]:
    """Sizes of all objects below a URL, by path within it: one listing, not a request for each."""
    system, path = _system(folder)
    system.invalidate_cache()
    return {_within(name, path): int(info["size"]) for name, info in system.find(path, detail=True).items()}


def small_files(folder: Path) -> dict[str, bytes]:
    """Contents of all objects below a URL, by path within it; a storage that can serves them together."""
    system, path = _system(folder)
    system.invalidate_cache()
    names = system.find(path)
    found = system.cat(names) if len(names) > 1 else {name: system.cat_file(name) for name in names}
    return {_within(name, path): content for name, content in found.items()}


def _within(name: str, folder: str) -> str:
    return name.lstrip("/").removeprefix(folder.strip("/")).lstrip("/")


def remove_tree(path: Path) -> None:
    """Remove a folder, or all objects below a URL, if there are any."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        _remove(path, list(file_sizes(path)))


def remove_files(folder: Path, names: list[str]) -> None:
    """Remove those of some objects below a URL that are there, by their names within it."""
    there = file_sizes(folder)
    _remove(folder, [name for name in names if name in there])


def copy_objects(source: Path, target: Path, names: list[str]) -> None:
    """Have the storage copy some objects below a URL to another one of its own."""
    (system, old), (_, new) = _system(source), _system(target)
    system.copy([f"{old}/{name}" for name in names], [f"{new}/{name}" for name in names])


def _remove(folder: Path, names: list[str]) -> None:
    if names:
        system, path = _system(folder)
        system.rm([f"{path.rstrip('/')}/{name}" for name in names])


# ── stores ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def holds_store(path: Path) -> bool:
    """Whether something lies there; at a URL, whether a store does, of any kind: half of one is none.

    Raises
    ------
    InputError
        At the URL lie objects that are no store, or the storage refuses.
    """
    if not is_remote(path):
        return path.exists()
    with reaching(path):
        if content_of(path / ROOT) is not None:
            return True
        names = sorted(file_sizes(path))
        if names and content_of(path / MARK) is None:
            raise InputError(
                f"{path} holds objects that are no store ({names[0]}), which a store there would be mixed with; give "
                "another name, or remove them."
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
    try:
        with reaching(path):
            content = content_of(path / ROOT)
    except PermissionError as error:
        raise InputError(f"{path} may not be read: ask its owner for permission, or copy it") from error
    return dict(json.loads(content or b"")["attributes"])
