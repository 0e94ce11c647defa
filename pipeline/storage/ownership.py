"""What may be replaced: only what carries a mark of ours, and holds nothing that somebody else put there.

An expression store is an AnnData, as anyone may write it, so that its encoding proves nothing. Ours has an attribute of
its root, which no other program copies: format, version, and the groups and arrays that it was written with. Stores of
earlier versions have no such mark; they are told by `uns["pairscape"]` together with the shards of the matrix, which
only this package lays out so. A file that cannot hold a mark, such as a table of another tool, is replaced by its
command's own rule. Folders of results have a rule of their own, in `results.py`.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.paths import ROOT, content_of, is_remote, located, remove_tree
from pairscape.pipeline.storage.write import write_file

EXPRESSION, EXPRESSION_VERSION = "pairscape-expression", 1
KEY = "pairscape"  # of the root's attribute
LOOKED_AT = 2**16  # bytes at each end of a file in which our sign has to stand
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # what file managers leave in any folder
NODE_FILE = re.compile(r"(?:(?P<node>.*)/)?(?:zarr\.json|c(?:/\d+)*)")  # metadata or a chunk of a group or array
ASIDE_FILE = re.compile(rf"{NODE_FILE.pattern}|(receipts|spare|sample)/[^/]+|(.*/)?\.[^/]+\.\d{{10,19}}(/.*)?")
EARLIER_NODES = re.compile(r"|X(/.*)?|layers(/counts(/.*)?)?|(obs|var)(/.*)?|uns(/pairscape(/.*)?)?|(obs|var)[mp]|raw")


def check_target(target: Path, *, overwrite: bool, sources: Iterable[Any] = ()) -> None:
    """Refuse, before any work, a name that no expression store may take.

    Parameters
    ----------
    overwrite
        Whether an expression store of ours that lies there may be replaced.
    sources
        Places that the store is made from, of which the target must be none.

    Raises
    ------
    InputError
        The name does not end in .zarr; it exists and may not be replaced; it exists and is not an expression store that
        Pairscape wrote, or holds something else besides; it is one of the sources.
    """
    if target.suffix != ".zarr":
        raise InputError(f"{target} does not end in .zarr: an expression store is a folder; name it {target.stem}.zarr")
    if not target.exists():
        return
    require_other(target, sources)
    if not overwrite:
        raise InputError(f"{target} exists: give another name, or allow to overwrite it (--overwrite)")
    if not any((target / name).is_file() for name in (ROOT, ".zgroup")):
        raise InputError(f"{target} is not a Zarr store, so it is not overwritten: give another name")
    nodes = _nodes(target)
    if nodes is None:
        raise InputError(
            f"{target} is not an expression store that Pairscape wrote, so it is not overwritten: give another name, "
            "or remove it yourself"
        )
    refuse_foreign(target, (name for name in files_below(target) if not _belongs(name, nodes)))


def require_other(target: Path, sources: Iterable[Any]) -> None:
    """Refuse a target that is one of the places that it is made from.

    Raises
    ------
    InputError
        It is.
    """
    places = [located(place) for place in sources if isinstance(place, str | Path) and not is_remote(place)]
    if any(place.exists() and place.resolve() == target.resolve() for place in places):
        raise InputError(f"{target} is what is read, and would be replaced by what is made of it: give another name")


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Refuse to replace a folder that holds files of somebody else.

    Parameters
    ----------
    names
        Those files, by path within the folder; what file managers leave does not count.

    Raises
    ------
    InputError
        There is one.
    """
    names = (name for name in names if name.rpartition("/")[2] not in LITTER)
    if (foreign := next(iter(names), None)) is not None:
        raise InputError(
            f"{folder} holds {foreign}, which Pairscape did not write there and which would be lost: move it away, "
            "or give another name"
        )


def require_own_file(path: Path, *signs: bytes) -> None:
    """Refuse to replace a file in which none of our signs stands, near its beginning or its end.

    Parameters
    ----------
    signs
        Bytes that only what we write to such files has.

    Raises
    ------
    InputError
        It is a file of somebody else, or a folder.
    """
    if path.exists() and not any(sign in ends_of(path) for sign in signs):
        raise InputError(
            f"{path} exists and Pairscape did not make it, so it is not overwritten: give another name, or remove it "
            "yourself."
        )


def ends_of(path: Path) -> bytes:
    """The first and the last bytes of a file; none of what is no file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        head = file.read(LOOKED_AT)
        file.seek(max(file.seek(0, os.SEEK_END) - LOOKED_AT, 0))
        return head + b"\n" + file.read()


def clear_aside(path: Path) -> None:
    """Remove what a killed job left of a store that it was making, and nothing else.

    Raises
    ------
    InputError
        It holds something of somebody else.
    """
    if not is_remote(path):
        refuse_foreign(path, (name for name in files_below(path) if not ASIDE_FILE.fullmatch(name)))
    remove_tree(path)


def files_below(folder: Path) -> list[str]:
    """Files below a folder by path within it, sorted; a link counts as one, whatever it leads to."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def mark_expression(store: Path) -> None:
    """Leave our mark in the root of an expression store, when all its groups and arrays are there."""
    metadata = json.loads((store / ROOT).read_bytes())
    nodes = sorted(path.parent.relative_to(store).as_posix() for path in store.rglob(ROOT))
    mark = {"format": EXPRESSION, "format_version": EXPRESSION_VERSION, "nodes": nodes}
    metadata["attributes"][KEY] = mark
    write_file(store / ROOT, json.dumps(metadata, indent=2).encode())


def _nodes(store: Path) -> "re.Pattern[str] | frozenset[str] | None":
    """Groups and arrays that a store of ours was written with; None: it is not ours."""
    root = _metadata(store)
    mark = root.get("attributes", {}).get(KEY)
    if isinstance(mark, dict) and (mark.get("format"), mark.get("format_version")) == (EXPRESSION, EXPRESSION_VERSION):
        return frozenset("" if node == "." else node for node in mark["nodes"])
    codecs = _metadata(store / "X" / "data").get("codecs") or [{}]
    earlier = codecs[0].get("name") == "sharding_indexed" and (store / "uns" / KEY / ROOT).is_file()
    return EARLIER_NODES if earlier and mark is None else None


def _metadata(node: Path) -> dict[str, Any]:
    """What a group or array says of itself; empty where it says nothing that can be read."""
    try:
        found = json.loads(content_of(node / ROOT) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _belongs(name: str, nodes: "re.Pattern[str] | frozenset[str]") -> bool:
    """Whether a file is part of one of those groups and arrays."""
    if (found := NODE_FILE.fullmatch(name)) is None:
        return False
    node = found["node"] or ""
    return node in nodes if isinstance(nodes, frozenset) else nodes.fullmatch(node) is not None
