"""Folders of results, such as a run: written under a lock, finished only when a receipt says so, replaced only whole.

A new result grows under its own name, where its history can be followed. Its `receipt.json` says that it is unfinished
until all of it is there, and then has the size and sha256 of its files; it also says of which job the result is, so
that the same job goes on with what an interrupted call has left. A result that is replaced stays until the new one is
whole, which is made in `.NAME.wip` beside it. Results of earlier versions have no receipt: they are told by
their `config.toml` or journal, and count as finished with their last file.
"""

import json
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.digests import describe
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.ownership import files_below, refuse_foreign
from pairscape.pipeline.storage.paths import content_of, file_sizes, is_remote
from pairscape.pipeline.storage.write import clear_unfinished, put_in_place, remove_empty, write_file

Holds = Literal["network", "repeats", "evaluation", "study"]

RECEIPT, FORMAT, FORMAT_VERSION = "receipt.json", "pairscape-result", 1
CHECKPOINT = "checkpoint.safetensors"  # from which an unfinished training goes on; a finished result has none
REMADE = ("report.html", "model-card.md")  # by `pairscape report`, at any time
OWN = frozenset({
    RECEIPT, CHECKPOINT, *REMADE, "config.toml", "history.csv", "predictions.parquet", "metrics.json", "examples.npz",
    "model.safetensors", "reference.safetensors", "journal.log", "trials.csv", "study.json",
})  # fmt: skip
JOURNAL_LOCK = r"journal\.log\.lock([0-9a-f-]{36}\.rename)?"  # Optuna renames it before it removes it
PART = r"on-.+|seed-\d+(-fold-\d+)?|fold-\d+|best|trials|\d{4,}"  # folders of a result that are results, or hold some
ASIDE = re.compile(r"\.(?P<name>.+)\.(lock|wip|\d{10,19})")  # what a killed writer of one of these leaves
TABLES = {"seed", "rendering", "splitting", "training", "store"}  # of the config.toml of every run
IN_WORDS = {
    "network": "a trained network",
    "repeats": "several repeats",
    "evaluation": "an evaluation",
    "study": "a search",
}


@dataclass(frozen=True)
class Found:
    """A result that lies somewhere: what it holds, whether it is finished, files and job as its receipt has them."""

    holds: Holds
    finished: bool
    files: dict[str, list[Any]] | None = None
    job: str = ""


@contextmanager
def result_folder(
    target: Path, holds: Holds, *, overwrite: bool = False, resume: bool = False, job: str = ""
) -> Iterator[tuple[Path, bool]]:
    """A folder to write a result to, which is at `target` and finished when the block ends without an error.

    Parameters
    ----------
    overwrite
        Whether a finished result may be replaced, or an unfinished one of another job.
    resume
        Whether what an earlier call has left there is kept, to go on with.
    job
        Digest of all that decides the result: what an interrupted call of the same job has left is kept, also of one
        that was replacing a result. Absent: it is not.

    Yields
    ------
    The folder, and whether an unfinished result was there.

    Raises
    ------
    InputError
        As `check_result`; a training of another job is unfinished there.
    JobError
        Another process writes there, or nothing can be written there.
    """
    found = check_result(target, holds, overwrite=overwrite, resume=resume)  # before a lock makes any folder
    with locked(target):
        found = check_result(target, holds, overwrite=overwrite, resume=resume)
        replaces = found is not None and found.finished and overwrite
        wip = target.with_name(f".{target.name}.wip")
        folder = wip / target.name if replaces else target
        left = look(folder) if replaces else found
        kept = left is not None and bool(job) and left.job == job
        if replaces:
            _require_own_wip(wip)
        elif found is not None and not (kept or resume or overwrite):
            _refuse_another_training(target)
        if kept:
            clear_unfinished(folder)
        elif replaces:
            shutil.rmtree(wip, ignore_errors=True)
        elif found is not None and not resume:
            _clear(target)
        before = content_of(folder / RECEIPT)
        _begin(folder, holds, job)
        try:
            yield folder, left is not None and (kept or not left.finished)
            _finish(folder, holds, job)
            if replaces:
                put_in_place(folder, target)
        except BaseException as error:
            if isinstance(error, InputError):  # nothing was made: the folder is as it was found
                _unmark(folder, before)
            if replaces and not (kept if isinstance(error, InputError) else job):
                shutil.rmtree(wip, ignore_errors=True)
            raise
        if replaces:
            shutil.rmtree(wip, ignore_errors=True)
        (target / CHECKPOINT).unlink(missing_ok=True)


def check_result(target: Path, holds: Holds, *, overwrite: bool = False, resume: bool = False) -> Found | None:
    """What lies where a result is to be written, of a path or a URL; None: nothing.

    Raises
    ------
    InputError
        It is no result of ours, holds something of somebody else, is of another kind, or is finished and may neither be
        replaced nor gone on with.
    """
    if not is_remote(target):
        for path in (target, *target.parents):
            if path.exists() and not path.is_dir():
                raise InputError(f"{path} is a file, and {target} has to be a folder: give another path.")
    names = sorted(file_sizes(target)) if is_remote(target) else files_below(target)
    if not names:
        return None
    found = look(target)
    if found is None and holds == "repeats" and all("/" in name and _belongs(target, name) for name in names):
        return Found("repeats", finished=False)  # repeats that were trained one by one
    if found is None:
        raise InputError(
            f"{target} exists and is not empty, and Pairscape did not make it: two things would be mixed; give another "
            "folder."
        )
    trained = ("network", "repeats")
    if found.holds != holds and not (overwrite and found.holds in trained and holds in trained):
        raise InputError(
            f"{target} holds {IN_WORDS[found.holds]}, which {IN_WORDS[holds]} would be mixed with; give another folder"
            f"{' or --overwrite' if found.holds in trained and holds in trained else ''}."
        )
    refuse_foreign(target, _foreign(target, names))
    if found.finished and not overwrite and not resume:
        raise InputError(
            f"{target} exists and is not empty: two runs would be mixed; give another folder or --overwrite."
        )
    return found


def require_result(folder: Path, *names: str) -> None:
    """Refuse a result that is unfinished, or of which some files are not those that were written.

    Parameters
    ----------
    names
        Of the files that are used; one that is gone is left to its reader.

    Raises
    ------
    InputError
        It is, or they are not.
    """
    found = look(folder)
    if found is None:  # a network that was passed on without the rest of its run
        return
    if not found.finished:
        raise InputError(
            f"{folder} is unfinished: it was interrupted before its network was evaluated, or is being made; run the "
            "same command again, or give a finished one."
        )
    if found.files is None:  # an earlier version wrote it
        return
    for name in names:
        content = content_of(folder / name)
        if content is not None and describe(content) != found.files.get(name):
            raise InputError(
                f"{folder / name} is not the file that was written there, so it may belong to something else; restore "
                f"it, or make {folder} again."
            )


def look(folder: Path) -> Found | None:
    """What a folder holds, by its receipt, else by what earlier versions left; None: no result.

    Raises
    ------
    InputError
        It is a result of a version that is not known here.
    """
    if not is_remote(folder) and not folder.is_dir():
        return None
    content = content_of(folder / RECEIPT)
    if content is None:
        return _earlier(folder)
    try:
        said = json.loads(content)
        form, version, holds = said["format"], said["format_version"], said["holds"]
        finished, files, job = bool(said["finished"]), dict(said["files"]), str(said.get("job", ""))
    except (ValueError, KeyError, TypeError):
        return None
    if form != FORMAT:
        return None
    if version != FORMAT_VERSION or holds not in IN_WORDS:
        raise InputError(
            f"{folder} is a {FORMAT} version {version} of {holds}, this Pairscape reads version {FORMAT_VERSION}; use "
            "the Pairscape that wrote it."
        )
    return Found(holds, finished, files, job)


def _earlier(folder: Path) -> Found | None:
    """What earlier versions left, which wrote no receipts."""
    journal = content_of(folder / "journal.log") or b""
    if b'"study_name": "tune"' in journal[:1000] or b'"study_name":"tune"' in journal[:1000]:
        return Found("study", _there(folder, "study.json"))
    try:
        config = tomllib.loads((content_of(folder / "config.toml") or b"").decode())
    except (ValueError, UnicodeDecodeError):
        return None
    if not config.keys() >= TABLES:
        return None
    finished, trained = _there(folder, "metrics.json"), _there(folder, "model.safetensors")
    if "seeds" in config:
        return Found("repeats", finished)
    if not finished and trained and not _there(folder, "history.csv"):  # a network that was passed on
        return Found("network", finished=True)
    return Found("network" if trained or not finished else "evaluation", finished)


def _there(folder: Path, name: str) -> bool:
    return (folder / name).exists()


def _foreign(target: Path, names: Iterable[str]) -> Iterator[str]:
    """Those of some files that no result consists of."""
    return (name for name in names if not _belongs(target, name))


def _belongs(target: Path, name: str) -> bool:
    """Whether a file is one that results consist of, in the folder of a result or of one of its parts."""
    *folders, last = name.split("/")
    for folder in folders:
        if re.fullmatch(PART, _plain(folder)) is None:
            return False
    if _plain(last) not in OWN and re.fullmatch(f"{PART}|{JOURNAL_LOCK}", _plain(last)) is None:
        return False
    return not folders or look(target.joinpath(*folders)) is not None


def _plain(name: str) -> str:
    """The name of what a killed writer left beside it; of anything else its own."""
    return found["name"] if (found := ASIDE.fullmatch(name)) else name


def _clear(folder: Path) -> None:
    """Remove all of an unfinished result but the folder itself, whose mark goes last."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == RECEIPT):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _refuse_another_training(target: Path) -> None:
    """Refuse to begin anew where epochs of another training would be lost."""
    if (target / CHECKPOINT).exists():
        raise InputError(
            f"{target} holds an unfinished training of another recipe, seed, store or version, whose epochs would be "
            "lost; give the same options as then, another folder, or --overwrite."
        )


def _require_own_wip(wip: Path) -> None:
    """Refuse what is not ours where a killed call was replacing a result."""
    for part in wip.iterdir() if wip.exists() else ():
        if not part.is_dir() or look(part) is None:
            refuse_foreign(wip, [part.name])
        refuse_foreign(part, _foreign(part, files_below(part)))


def _begin(folder: Path, holds: Holds, job: str) -> None:
    """Mark a folder as ours, and what it will hold as unfinished.

    Raises
    ------
    InputError
        The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}): a result needs a folder; give another path."
        ) from error
    _write_receipt(folder, Found(holds, False, {}, job))


def _unmark(folder: Path, receipt: bytes | None) -> None:
    """Put back the receipt that was there; where none was, a folder that holds nothing else goes too."""
    write_file(folder / RECEIPT, receipt or b"")
    if receipt is None:
        remove_empty([folder])


def _finish(folder: Path, holds: Holds, job: str) -> None:
    """Describe the files of a result in its receipt, which says that it is finished."""
    covered = OWN - {RECEIPT, CHECKPOINT, *REMADE}
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name in covered)
    _write_receipt(folder, Found(holds, True, {name: describe((folder / name).read_bytes()) for name in names}, job))


def unfinished(folder: Path) -> bytes:
    """The receipt of a result as it is before the result is finished."""
    found = look(folder)
    assert found is not None
    return _rendered(Found(found.holds, False, {}, found.job))


def _write_receipt(folder: Path, says: Found) -> None:
    write_file(folder / RECEIPT, _rendered(says))


def _rendered(says: Found) -> bytes:
    job = {"job": says.job} if says.job else {}
    mark = {"format": FORMAT, "format_version": FORMAT_VERSION, "holds": says.holds, "finished": says.finished}
    return json.dumps({**mark, **job, "files": says.files}, indent=2).encode()
