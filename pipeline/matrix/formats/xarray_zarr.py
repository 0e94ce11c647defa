"""xarray's Zarr: an array with two named dimensions, and coordinates that name the cells and the genes."""

from typing import Any

import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.formats.dense import dense
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened, texts
from pairscape.pipeline.matrix.source import Rows, Stored
from pairscape.pipeline.storage.paths import fingerprint

CELLS = {"cell", "cells", "obs", "obs_names", "barcode", "barcodes", "cell_id"}
GENES = {"gene", "genes", "var", "var_names", "feature", "features", "gene_id"}


def open_array(place: str, key: str | None) -> Stored:
    """An array of a Zarr group, formats 2 and 3.

    Parameters
    ----------
    key
        Its name; absent: the only one with two dimensions and numbers.

    Raises
    ------
    InputError
        No such array, or several and no key; no dimension names, or no names of cells and genes; packed values.
    """
    with opened(place) as root:
        name = _chosen(root, place, key)
        values, dims = dense(root, name, place), _dims(root[name])
        if len(dims) != 2 or dims[0] == dims[1]:
            raise InputError(
                f"{place}: {name!r} has the dimensions {dims or 'without names'}: cells and genes are told by the names"
                " of their dimensions; write it with xarray's to_zarr"
            )
        if {"scale_factor", "add_offset"} & set(root[name].attrs):
            raise InputError(f"{place}: {name!r} holds packed values (scale_factor): write it unpacked, as float32")
        rows, columns = (_named(root, dim, length, place) for dim, length in zip(dims, values.shape, strict=True))
    rows_are = _rows_are(dims)
    return Stored(
        place, rows, columns, values, None, rows_are or "cells-by-genes", "format" if rows_are else "assumption",
        fingerprint(place),
    )  # fmt: skip


def is_annotated(root: Any) -> bool:
    """Whether a Zarr group is an AnnData."""
    return "X" in root or "obs" in root or str(root.attrs.get("encoding-type", "")) == "anndata"


def _chosen(root: Any, place: str, key: str | None) -> str:
    known = [name for name, array in sorted(root.arrays()) if len(array.shape) == 2 and array.dtype.kind in "biuf"]
    if not known:
        held = ", ".join(list(root)[:5]) or "nothing"
        raise InputError(f"{place} holds neither an AnnData nor an array with two dimensions but {held}: is it whole?")
    if key is None and len(known) > 1:
        raise InputError(f"{place} holds several arrays, {', '.join(known[:6])}: name one of them with --key")
    if key is not None and key not in known:
        raise InputError(f"{place} has no array {key!r}, but {', '.join(known[:6])}: name one of them with --key")
    return known[0] if key is None else key


def _dims(array: Any) -> tuple[str, ...]:
    """The names of an array's dimensions, from format 3 itself or as xarray writes them into format 2."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return tuple(str(name) for name in names)


def _named(root: Any, dim: str, length: int, place: str) -> pd.DataFrame:
    """The coordinates along a dimension, indexed by the one that bears its name."""
    found: dict[str, Any] = {}
    for name, array in root.arrays():
        if array.shape == (length,) and _dims(array) == (dim,):
            found[name] = texts(array) if array.dtype.kind not in "biuf" else array[:]
    if dim not in found:
        known = ", ".join(found) or "no coordinate at all"
        raise InputError(
            f"{place}: nothing names the {length} along {dim!r} ({known}); add the names as coordinate {dim!r} "
            "(assign_coords) and write it again"
        )
    names = pd.Index([str(name) for name in found.pop(dim)], dtype=object)
    return pd.DataFrame(found, index=names)


def _rows_are(dims: tuple[str, ...]) -> Rows | None:
    """What the rows are, as far as the names of the dimensions tell."""
    first, second = (dim.lower() for dim in dims)
    if first in CELLS or second in GENES:
        return "cells-by-genes" if first not in GENES and second not in CELLS else None
    return "genes-by-cells" if first in GENES or second in CELLS else None
