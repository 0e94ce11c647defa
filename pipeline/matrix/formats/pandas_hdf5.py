"""pandas' HDF5, as CNNC distributes its matrices (key `rpkm`): read by h5py, so that pytables is not needed."""

from typing import Any

import h5py
import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.formats.dense import dense
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened, with_text_names
from pairscape.pipeline.matrix.source import Stored
from pairscape.pipeline.storage.paths import fingerprint


def open_frame(place: str, key: str | None) -> Stored:
    """A DataFrame in pandas' fixed format.

    Parameters
    ----------
    key
        Under which it was written; absent: the only one.

    Raises
    ------
    InputError
        No such key, or several and no key; a table format; columns of several types; names of several levels.
    """
    with opened(place) as root:
        group = _chosen(root, place, key)
        _check_format(group, place)
        element = f"{group.name.strip('/')}/block0_values"
        values = dense(root, element, place)
        columns, rows = (_names(group, axis, place) for axis in ("block0_items", "axis1"))
    if values.shape != (len(rows), len(columns)):
        raise InputError(
            f"{place}: {element} has the shape {values.shape} and {len(rows)} × {len(columns)} names: it is damaged; "
            "write it again"
        )
    return Stored(place, rows, columns, values, None, "cells-by-genes", "assumption", fingerprint(place))


def frames_in(root: Any) -> list[str]:
    """The keys of all that pandas has written into a file."""
    found: list[str] = []

    def note(name: str, member: Any) -> None:
        if isinstance(member, h5py.Group) and "pandas_type" in member.attrs:
            found.append(name)

    root.visititems(note)
    return found


def _chosen(root: Any, place: str, key: str | None) -> Any:
    known = frames_in(root)
    if not known:
        held = ", ".join(list(root)[:5]) or "nothing"
        raise InputError(f"{place} holds no table of pandas but {held}; write one with DataFrame.to_hdf")
    if key is None and len(known) > 1:
        raise InputError(f"{place} holds several tables, {', '.join(known[:6])}: name one of them with --key")
    name = known[0] if key is None else key.strip("/")
    if name not in known:
        raise InputError(f"{place} has no table {key!r}, but {', '.join(known[:6])}: name one of them with --key")
    return root[name]


def _check_format(group: Any, place: str) -> None:
    kind, name = _text(group.attrs["pandas_type"]), group.name.strip("/")
    if kind != "frame":
        raise InputError(
            f"{place}: {name!r} is in pandas' format {kind!r}: write the DataFrame with to_hdf(..., format='fixed')"
        )
    blocks = int(group.attrs.get("nblocks", 1))
    if blocks != 1:
        raise InputError(
            f"{place}: the columns of {name!r} have {blocks} types: leave only numbers of one type (astype('float32'))"
        )
    for member in ("axis1", "block0_items", "block0_values"):
        if member not in group and f"{member}_nlevels" not in group.attrs:
            raise InputError(f"{place}: {name!r} has no {member!r}: it is damaged; write it again")


def _names(group: Any, axis: str, place: str) -> pd.DataFrame:
    """Names of an axis, as text; numbers, such as Entrez ids, as their digits."""
    array = group.get(axis)
    if array is None or array.dtype.kind not in "Siuf":
        kind = "several levels" if array is None else f"the type {_text(array.attrs.get('kind', array.dtype))!r}"
        raise InputError(
            f"{place}: the names in {group.name.strip('/')}/{axis} have {kind}: make them text (index.astype(str))"
        )
    return with_text_names(pd.DataFrame(index=pd.Index(array[:])))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
