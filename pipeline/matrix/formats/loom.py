"""Loom: a dense genes × cells matrix in HDF5 chunks, with attributes of its rows and columns."""

from typing import Any

import h5py
import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.annotations import unread
from pairscape.pipeline.matrix.formats.dense import Dense, dense
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened, texts
from pairscape.pipeline.matrix.source import Stored
from pairscape.pipeline.storage.paths import fingerprint

GENE_NAMES = ("Gene", "var_names", "gene_names", "GeneName")  # the specification's, anndata's, older tools'
CELL_NAMES = ("CellID", "obs_names", "cell_names", "CellName")


def open_loom(place: str, layer: str | None) -> Stored:
    """A loom file. Genes are named by `Accession` where it names each once, with `Gene` as their symbol.

    Parameters
    ----------
    layer
        In place of the main matrix; absent: the main matrix. The layer `counts` also comes along as counts.

    Raises
    ------
    InputError
        It has no matrix or no names; parts do not fit each other; no such layer.
    """
    with opened(place) as root:
        if not isinstance(root.get("matrix"), h5py.Dataset):
            held = ", ".join(list(root)[:5]) or "nothing"
            raise InputError(f"{place} is no loom file: it has no array 'matrix' but {held}; write it with loompy")
        layers = list(root.get("layers", {}))
        if layer is not None and layer not in layers:
            cure = f"give {' or '.join(layers)}, or no --layer" if layers else "it has none: give no --layer"
            raise InputError(f"{place} has no layer {layer!r}; {cure} to use its main matrix")
        values = dense(root, "matrix" if layer is None else f"layers/{layer}", place)
        counts = dense(root, "layers/counts", place) if "counts" in layers else None
        rows, of_genes = _attributes(root, "row_attrs", values.shape[0], GENE_NAMES, place)
        columns, of_cells = _attributes(root, "col_attrs", values.shape[1], CELL_NAMES, place)
    _check_shape(values, counts, place)
    notes, genes = (*unread("genes", of_genes), *unread("cells", of_cells)), _by_accession(rows)
    return Stored(place, genes, columns, values, counts, "genes-by-cells", "format", fingerprint(place), notes)


def _attributes(
    root: Any, name: str, length: int, names: tuple[str, ...], place: str
) -> tuple[pd.DataFrame, list[str]]:
    """The attributes of an axis that have one value a row, indexed by its names, and those that are no plain values.

    SCENIC keeps regulons as structured arrays, one field each.
    """
    group = root.get(name, {})
    named = next((n for n in names if n in group), None)
    if named is None:
        held = ", ".join(list(group)[:6]) or "nothing"
        raise InputError(
            f"{place}: {name} has no {names[0]!r} but {held}, so nothing names that axis; add it with loompy"
        )
    if getattr(group[named], "shape", ()) != (length,):
        raise InputError(
            f"{place}: {name}/{named} has the shape {group[named].shape} for an axis of {length}: it is damaged; "
            "write it again"
        )
    of_rows = [n for n in group if n != named and getattr(group[n], "shape", ()) == (length,)]
    plain = [n for n in of_rows if group[n].dtype.kind in "biufSU" or h5py.check_string_dtype(group[n].dtype)]
    columns = {n: _values(group[n]) for n in plain}
    left = [n for n in of_rows if n not in plain]
    return pd.DataFrame(columns, index=pd.Index(texts(group[named]), dtype=object, name=named)), left


def _values(array: Any) -> Any:
    return texts(array) if array.dtype.kind in "OS" else array[:]


def _by_accession(genes: pd.DataFrame) -> pd.DataFrame:
    """Named by `Accession`, which is unique where symbols are not; by symbol where there is none."""
    ids = genes.get("Accession")
    if ids is not None and not ids.duplicated().any() and (ids != "").all():
        genes = (
            genes.drop(columns="Accession").assign(symbol=genes.index.to_numpy()).set_index(pd.Index(ids, dtype=object))
        )
    return genes.rename_axis(index=None)


def _check_shape(values: Dense, counts: Dense | None, place: str) -> None:
    if counts is not None and counts.shape != values.shape:
        raise InputError(
            f"{place}: the layer 'counts' has the shape {counts.shape}, the matrix {values.shape}: it is damaged; "
            "write it again"
        )
