"""Public data sets and files by URL, each checked by sha256: from the folder PAIRSCAPE_DATA, else downloaded by pooch.

`PAIRSCAPE_DATA` is looked at first and never written to. A cache folder is laid out like it, so that one may serve as
the other on a machine without internet access. Files whose sum nobody publishes are recorded in `fetched.json` beside
them at first, and held to that from then on.
"""

import difflib
import json
import os
import shlex
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pooch

from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.datasets.registry import SHA256, DataSet, RemoteFile
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.storage.paths import local_target
from pairscape.pipeline.storage.write import replaced, write_file

LOCK = "fetched.json"
CHUNK_BYTES = 2**20
HEADERS = {"User-Agent": "pairscape"}  # some hosts refuse clients that do not say who they are


@dataclass(frozen=True)
class Place:
    """Where fetched files lie.

    Attributes
    ----------
    folder
        The cache: data sets lie below it as below `PAIRSCAPE_DATA`.
    offline
        The folder that `PAIRSCAPE_DATA` names; None: not set.
    copy
        Whether what lies there is copied into the folder, or used where it is.
    """

    folder: Path
    offline: Path | None = None
    copy: bool = False

    @classmethod
    def given(cls, to: Any) -> "Place":
        """The place a user asks for; absent, the user's cache, and files of `PAIRSCAPE_DATA` stay where they are.

        Raises
        ------
        InputError
            `PAIRSCAPE_DATA` names no folder.
        """
        folder = Path(pooch.os_cache("pairscape")) if to is None else local_target(to)
        return cls(folder, offline_folder(), copy=to is not None)


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes
    ----------
    files
        Path of each file by its name; of an archive, the unpacked folder.
    notes
        In words, where each comes from and what its sum rests on.
    """

    files: dict[str, Path]
    notes: tuple[str, ...]


def find_set(name: str, registry: dict[str, DataSet]) -> DataSet:
    """The data set of that name.

    Raises
    ------
    InputError
        There is none.
    """
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(name, registry, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise InputError(f"no data set is named {name!r}.{meant} Known: {', '.join(registry)}, and any https:// address.")


def fetch_set(found: DataSet, place: Place, progress: Progress) -> Fetched:
    """Every file of a data set, checked.

    Raises
    ------
    InputError
        A file that is there already has another sum than it must have, or is served nowhere.
    JobError
        No address answers, a download has another sum than it must have, or the disk refuses.
    """
    files, notes = {}, []
    for file in found.files:
        relative = Path(found.folder) / file.name
        if not (file.urls or _is_here(relative, place)):
            raise InputError(
                f"{file.name} has no address that it could be fetched from: put it at {_by_hand(relative)}."
                f" {found.note or ''}"
            )
        path, note = _obtain(file, relative, place.folder / relative, place, progress)
        files[file.name] = path if file.unpack is None else _unpacked(path, file.unpack, place.folder / found.folder)
        notes.append(f"{file.name}: {note}")
    return Fetched(files, tuple(notes))


def fetch_url(url: str, sha256: str | None, place: Place, progress: Progress) -> Fetched:
    """A file of any address, such as an .h5ad of CELLxGENE: in the folder given, or in the cache below its host.

    Raises
    ------
    InputError
        The address names no file, the sum is none, or a file of that name is there from another address.
    JobError
        The address does not answer, the download has another sum, or the disk refuses.
    """
    host, name = _address(url)
    if sha256 is not None and not SHA256.fullmatch(sha256 := sha256.lower()):
        raise InputError(f"sha256 {sha256!r} is not 64 hexadecimal digits; leave it out to be told the one found.")
    relative = Path("urls") / host / name
    target = place.folder / (name if place.copy else relative)
    held = _read_lock(target.parent).get(name)
    if held is not None and held["url"] != url and target.exists():
        raise InputError(f"{target} was fetched from {held['url']}, another address; give another folder (--to).")
    path, note = _obtain(RemoteFile(name, (url,), sha256=sha256), relative, target, place, progress)
    return Fetched({name: path}, (f"{name}: {note}",))


def _address(url: str) -> tuple[str, str]:
    """Host and file of an address."""
    try:
        parts = urlsplit(url)
        host, name = parts.hostname, Path(unquote(parts.path)).name
    except ValueError as error:
        raise InputError(f"{url} is no address ({error}); give one such as https://example.org/cells.h5ad.") from error
    if name in ("", "..") or not host:
        raise InputError(f"{url}: the address names no file; give one that ends in it, such as https://…/cells.h5ad.")
    return host, name


def is_local(found: DataSet, place: Place) -> bool:
    """Whether all files of a data set are there, unchecked."""
    return all(_is_here(Path(found.folder) / file.name, place) for file in found.files)


def _is_here(relative: Path, place: Place) -> bool:
    return any((root / relative).is_file() for root in (place.offline, place.folder) if root is not None)


def _obtain(file: RemoteFile, relative: Path, target: Path, place: Place, progress: Progress) -> tuple[Path, str]:
    """Path of a checked file, and in words what that rests on."""
    served = None if place.offline is None else place.offline / relative
    if served is not None and served.is_file():
        note = f"from {VARIABLE}, {_checked(served, file)}"
        if not place.copy or (target.exists() and served.samefile(target)):
            return served, note
        if not target.exists():
            _copy(served, target)
            return target, note
    if target.is_file():
        return target, f"there already, {_checked(target, file)}"
    return target, _download(file, relative, target, progress)


def _expected(path: Path, file: RemoteFile) -> tuple[str | None, str]:
    """The sum that a file must have, and in words what that rests on."""
    locked = _read_lock(path.parent).get(path.name)
    if file.sha256 is not None or locked is None:
        return file.sha256, "sha256 as it must be"
    return locked["sha256"], f"sha256 as first fetched on {locked['date']}"


def _checked(path: Path, file: RemoteFile) -> str:
    """In words, what the sum of a file that is there was compared with."""
    expected, rests = _expected(path, file)
    found = pooch.file_hash(str(path), alg="sha256")
    if expected is None:
        return f"not checked, as no sum is known: sha256 {found}"
    if found != expected:
        raise InputError(
            f"{path} has sha256 {found} and must have {expected}: it is damaged, or another version; remove it and "
            "fetch it again."
        )
    return rests


def _copy(served: Path, target: Path) -> None:
    try:
        with replaced(target) as part:
            shutil.copyfile(served, part)
    except OSError as error:
        raise _refused(target, error) from error


def _download(file: RemoteFile, relative: Path, target: Path, progress: Progress) -> str:
    """Bring a file from the first address that has it, whole and with the right sum; in words, where from."""
    expected, rests = _expected(target, file)
    failures = []
    for url in file.urls:
        try:
            with replaced(target) as part:
                found = _bring(url, part, expected, _Bar(file.name, progress))
        except (_OtherSumError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk; errors of the network have none
                raise _refused(target, error) from error
            failures.append(f"{url}: {_reason(error)}")
        else:
            return f"from {url}, {rests if expected else _recorded(target, url, found)}"
    raise _out_of_reach(file.name, relative, failures)


def _bring(url: str, part: Path, expected: str | None, bar: "_Bar") -> str:
    """Download to a path; the sum found, which is the expected one if that is known."""
    pooch.HTTPDownloader(bar, CHUNK_BYTES, headers=HEADERS)(url, str(part), None)
    found: str = pooch.file_hash(str(part), alg="sha256")
    if expected not in (None, found):
        raise _OtherSumError(f"sha256 {found} where {expected} is expected, so it is not kept")
    return found


class _OtherSumError(ValueError):
    """A download is not what it must be."""


def _out_of_reach(name: str, relative: Path, failures: list[str]) -> JobError:
    return JobError(
        f"{name} cannot be fetched ({'; '.join(failures)}). Without internet access bring it by other means: put it at "
        f"{_by_hand(relative)}."
    )


def _by_hand(relative: Path) -> str:
    return f"{VARIABLE}/{relative.as_posix()} and set {VARIABLE} to that folder"


def _refused(target: Path, error: OSError) -> JobError:
    return JobError(
        f"{target} cannot be written ({error.strerror or error}): free some space, or give another folder (--to)."
    )


def _reason(error: Exception) -> str:
    """Why an address did not answer, without the layers of the libraries in between."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    return getattr(cause, "strerror", None) or str(cause)


def _recorded(target: Path, url: str, found: str) -> str:
    """Hold a file without a known sum to the one just found; said in words."""
    facts = {"url": url, "sha256": found, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    held = {**_read_lock(target.parent), target.name: facts}
    write_file(target.with_name(LOCK), f"{json.dumps(held, indent=2)}\n".encode())
    return f"taken on trust, as no sum was given, and recorded in {LOCK}: sha256 {found}"


def _read_lock(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / LOCK
    if not path.is_file():
        return {}
    try:
        held: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        whole = all({"url", "sha256", "date"} <= facts.keys() for facts in held.values())
    except (ValueError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{path} is damaged, and says what the files beside it must be; restore it, or remove them.")
    return held


def _unpacked(archive: Path, wanted: str, folder: Path) -> Path:
    """The wanted folder of an archive, unpacked once into a folder of the archive's name."""
    target = folder / archive.name.split(".")[0]
    if not target.is_dir():
        try:
            with replaced(target) as part:
                shutil.unpack_archive(archive, part, filter="data")
        except OSError as error:
            raise _refused(target, error) from error
    return target / wanted


class _Bar:
    """Our progress in the form in which pooch tells how far a download is: pieces, and the total again at the end."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self._total = self._told = self._seen = 0

    @property
    def total(self) -> int:
        """Bytes of the download; 0 where the host does not say."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._progress.start(f"fetch {self._name}", total)

    def update(self, n_bytes: int) -> None:
        """So many bytes more, or a few too many: the last piece is counted whole."""
        self._seen += n_bytes
        new = min(self._seen, self._total) - self._told
        if new > 0:
            self._told += new
            self._progress.advance(new)

    def reset(self) -> None:
        """The total comes next, as pieces do; what is beyond it does not count."""

    def close(self) -> None:
        """Nothing is open."""


VARIABLE = "PAIRSCAPE_DATA"


def offline_folder() -> Path | None:
    """The folder that PAIRSCAPE_DATA names, which serves public data without internet; None where it is not set.

    Raises
    ------
    InputError
        It names no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"{VARIABLE} is {named!r}, no folder, so nothing can be served from it; correct or unset it.")
    return Path(named)


def list_sets_of(registry: dict[str, DataSet], place: Place) -> list[str]:
    """Two lines for each known data set: name and title; organism, contents, size, whether it is here."""
    lines = []
    for found in registry.values():
        size = "size unknown" if found.bytes is None else _size(found.bytes)
        there = ", here already" if is_local(found, place) else ""
        lines += [f"{found.name:<21} {found.title}", f"{'':<21} {found.organism}, {found.contents}, {size}{there}"]
    return lines


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.0f} kB"


def describe_set(found: DataSet, files: dict[str, Path]) -> list[str]:
    """Title, contents, labels, licence and citation of a fetched data set, and the commands that go on with it."""
    lines = [f"{what:<9} {getattr(found, what)}" for what in ("title", "contents", "labels", "licence", "citation")]
    lines += [f"note      {found.note}"] if found.note else []
    for command in found.use:
        for name, path in files.items():
            command = command.replace(f"{{{name}}}", shlex.quote(str(path)))
        lines.append(command)
    return lines
