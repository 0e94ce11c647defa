"""The small files of a store, which no receipt of a shard covers: digests of all, and a second copy of each.

A lost chunk of `label` or `gene_a` would read as its fill value, a flipped bit of `edges` as another number, both
without a word. So `receipts/layout.json` has size and sha256 of every file that a store is laid out with, and `spare/`
has their copies, about one part in a hundred of the store; what is damaged is restored from what is not. An attribute
that says where something lies (`free`) may change, and is not covered.
"""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pairscape.pipeline.storage.ownership import ASIDE_FILE, files_below, refuse_foreign
from pairscape.pipeline.storage.paths import is_remote
from pairscape.pipeline.storage.write import write_file

RECORD, SPARE, ROOT = "receipts/layout.json", "spare", "zarr.json"
SHARD = re.compile(
    r"(counts|both_zero|codes)/c/|receipts/\d+\.json|(.*/)?\."
)  # big files, receipts, what killed writers left
OF_SHARDS = re.compile(r"(counts|both_zero|codes)/c/[\d/]+|receipts/\d+\.json|(.*/)?\.[^/]+\.\d{10,19}")
Described = dict[str, list[Any]]  # bytes and sha256 by file within the store
Free = tuple[str, ...]  # keys that lead to an attribute that is not covered


def keep_layout(store: Path, free: Free, shards: Described | None = None) -> None:
    """Describe every file that a store has now, and copy it to `spare/`.

    Parameters
    ----------
    shards
        Big files, described by who wrote them; they are not copied. Absent: none are there yet.
    """
    shards = shards or {}
    contents = {name: (store / name).read_bytes() for name in _files(store) if name not in shards}
    for name, content in contents.items():
        write_file(_copy(store, name), _copied(name, content, free))
    small = {name: describe(_normal(name, content, free)) for name, content in contents.items()}
    record = _rendered(small | shards)
    for file in (_copy(store, RECORD), store / RECORD):
        write_file(file, record)


def describe(content: bytes) -> list[Any]:
    """Size and sha256."""
    return [len(content), hashlib.sha256(content).hexdigest()]


def has_layout(store: Path) -> bool:
    """Whether a store has such a record, or had one; those of earlier versions have none."""
    return (store / RECORD).exists() or (store / SPARE).is_dir()


def layout_damage(store: Path, free: Free, *, copies: bool = True) -> dict[str, str]:
    """Small files that are not what they were, and what is wrong with each; empty also where there is no record.

    Parameters
    ----------
    copies
        Whether the copies are looked at too; without them it is told whether the store reads right.
    """
    if not has_layout(store):
        return {}
    known = {name: _described(store / name) for name in _records(store)}
    found = {name: "is not what was written" for name, described in known.items() if described is None}
    if not copies:
        found.pop(str(_copy(store, RECORD).relative_to(store)), None)
    described = next((described for described in known.values() if described is not None), {})
    for name, wanted in described.items():
        if not _is_small(name):
            continue
        if wrong := _difference(name, store / name, wanted, free):
            found[name] = wrong
        if copies and (wrong := _difference(name, _copy(store, name), wanted, free)):
            found[str(_copy(store, name).relative_to(store))] = wrong
    return found


def restore_layout(store: Path, free: Free, value: Any) -> list[str]:
    """Restore small files from their copies, and copies from the files; returns what could not be restored.

    Parameters
    ----------
    value
        Of the free attribute, where neither the damaged file nor its copy says it any more.
    """
    records = _records(store)
    described = next((known for name in records if (known := _described(store / name)) is not None), None)
    if described is None:
        return [RECORD]
    for name in records:
        write_file(store / name, _rendered(described))
    lost = []
    for name, wanted in described.items():
        copy = _copy(store, name)
        if not _is_small(name):
            continue
        if not _difference(name, store / name, wanted, free):
            if _difference(name, copy, wanted, free):
                write_file(copy, _copied(name, (store / name).read_bytes(), free))
        elif not _difference(name, copy, wanted, free):
            content = copy.read_bytes()
            write_file(store / name, _complete(store / name, content, free, value) if name == ROOT else content)
        else:
            lost.append(name)
    return lost


def refuse_others_files(store: Path) -> None:
    """Refuse to replace a store of codes or images that holds files which it was not written with.

    Raises
    ------
    InputError
        It does; the storage behind a URL is not looked at.
    """
    if is_remote(store):
        return
    described = next((found for name in _records(store) if (found := _described(store / name)) is not None), None)
    copies = [str(_copy(store, name).relative_to(store)) for name in described or {}]
    written = {*(described or {}), *copies, *_records(store)}
    form = ASIDE_FILE if described is None else OF_SHARDS  # without a record by the names alone
    refuse_foreign(store, (name for name in files_below(store) if name not in written and not form.fullmatch(name)))


def described_shards(store: Path) -> Described:
    """The big files of the record, or of its copy; none where both are damaged."""
    known = next((known for name in _records(store) if (known := _described(store / name)) is not None), {})
    return {name: facts for name, facts in known.items() if not _is_small(name)}


def _records(store: Path) -> tuple[str, str]:
    return RECORD, str(_copy(store, RECORD).relative_to(store))


def _files(store: Path) -> list[str]:
    """Files below a store that are not copies."""
    names = sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())
    return [name for name in names if name != RECORD and not name.endswith(".copy")]


def _is_small(name: str) -> bool:
    return SHARD.match(name) is None


def _copy(store: Path, name: str) -> Path:
    return store / SPARE / f"{name.replace('/', '.')}.copy"


def _rendered(described: Described) -> bytes:
    """The record, which says of itself whether it is whole."""
    return json.dumps({"files": described, "sha256": digest(described)}).encode()


def _described(record: Path) -> Described | None:
    """What a record says; None if it is not what was written."""
    try:
        content = record.read_bytes()
        files: Described = json.loads(content)["files"]
        return files if _rendered(files) == content else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _difference(name: str, path: Path, wanted: list[Any], free: Free) -> str | None:
    try:
        found = describe(_normal(name, path.read_bytes(), free))
    except FileNotFoundError:
        return "is missing"
    return None if found == wanted else "is not what was written"


def _normal(name: str, content: bytes, free: Free) -> bytes:
    """A file as its digest takes it: as it is, the root's metadata with nothing for the free attribute."""
    if name != ROOT:
        return content
    try:
        return _with(json.loads(content), free, None)
    except (ValueError, KeyError, TypeError):  # damaged: its digest will be another one
        return content


def _copied(name: str, content: bytes, free: Free) -> bytes:
    """The copy of a file. Where the codes lie differs between stores that are the same else, so it is left out."""
    return _normal(name, content, free) if free[-1] == "codes" else content


def _complete(path: Path, copy: bytes, free: Free, value: Any) -> bytes:
    """The root's metadata, with the free attribute as the damaged file, its copy, or else the user says."""
    metadata = json.loads(copy)
    copied = _holder(metadata, free)[free[-1]]
    value = value if copied is None else copied
    with suppress(OSError, ValueError, KeyError, TypeError):
        said = _holder(json.loads(path.read_bytes()), free)[free[-1]]
        value = said if isinstance(said, type(value)) else value
    return _with(metadata, free, value)


def _with(metadata: dict[str, Any], free: Free, value: Any) -> bytes:
    _holder(metadata, free)[free[-1]] = value
    return json.dumps(metadata, indent=2).encode()


def _holder(metadata: dict[str, Any], free: Free) -> dict[str, Any]:
    """The dictionary that has the free attribute."""
    holder = metadata["attributes"]
    for key in free[:-1]:
        holder = holder[key]
    return holder


def digest(facts: dict[str, Any]) -> str:
    """Hex sha256 of JSON-able facts, the same on every machine and in every run."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
