"""AnnData as a source: .h5ad and .zarr of every generation, or in memory; layers, .raw and counts."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.annotations import unread
from pairscape.pipeline.matrix.formats.dense import Dense, dense
from pairscape.pipeline.matrix.formats.hdf5_zarr import (
    canonical_csr,
    group_of,
    layout_of,
    member,
    opened,
    raw_of,
    read_annotations,
    shape_of,
    with_text_names,
)
from pairscape.pipeline.matrix.formats.sparse import Compressed, compressed
from pairscape.pipeline.matrix.source import IN_MEMORY, Held, Stored, in_memory
from pairscape.pipeline.storage.paths import fingerprint

if TYPE_CHECKING:
    from anndata import AnnData


def open_annotated(place: str, layer: str | None, within: str = "") -> Stored:
    """An AnnData on disk; embeddings, graphs and other layers stay unread.

    Parameters
    ----------
    layer
        In place of X; "raw" takes `.raw` with its own genes. Absent: X.
    within
        The group of the file that is the AnnData. Absent: its root.

    Raises
    ------
    InputError
        It has no matrix, or one of unknown kind; no such layer; parts do not fit each other.
    """
    with opened(place) as file:
        root = file[within] if within else file
        layers, raw = group_of(root, "layers"), raw_of(root)
        home, element = _chosen(list(layers), raw is not None, layer, place)
        if home == "" and layer is None:
            member(root, "X", place)
        var, of_genes = read_annotations(raw["var"] if home == "raw" else member(root, "var", place))
        obs, of_cells = read_annotations(member(root, "obs", place))
        if home == "raw" and "raw.X" in root:
            element = "raw.X"
        wanted = [element, *(["layers/counts"] if home == "" and "counts" in layers else [])]
        for name in wanted:
            layout_of(root[name], place)
            check_shape(root[name], name, place, (len(obs), len(var)))
        values, *counts = (stored_matrix(file, f"{within}/{name}".lstrip("/"), place) for name in wanted)
    notes = (*unread("cells", of_cells), *unread("genes", of_genes))
    return Stored(
        place, obs, var, values, counts[0] if counts else None, "cells-by-genes", "format", fingerprint(place), notes
    )


def open_memory(adata: "AnnData", layer: str | None) -> Stored:
    """Open an AnnData in memory, which is left untouched; `layer` chooses as in `open_annotated`."""
    home, element = _chosen([name for name in adata.layers if name], adata.raw is not None, layer, IN_MEMORY)
    source: Any = adata.raw if home == "raw" else adata
    x = adata.layers[str(layer)] if element.startswith("layers/") else source.X
    counts = adata.layers.get("counts") if home == "" else None
    kept = None if counts is None else Held(canonical_csr(in_memory(counts)))
    obs, var = with_text_names(pd.DataFrame(adata.obs)), with_text_names(pd.DataFrame(source.var))
    values = Held(canonical_csr(in_memory(x)))
    return Stored(IN_MEMORY, obs, var, values, kept, "cells-by-genes", "format", _stamp(values, obs, var))


def _chosen(layers: list[str], has_raw: bool, layer: str | None, name: str) -> tuple[str, str]:
    """Whether the matrix is of "raw" or of the AnnData itself (""), and which element it is."""
    known = [*layers, *(["raw"] if has_raw and "raw" not in layers else [])]
    if layer is None:
        return "", "X"
    if layer not in known:
        raise no_layer(layer, known, name)
    return ("", f"layers/{layer}") if layer in layers else ("raw", "raw/X")


def no_layer(layer: str, known: list[str], name: str) -> InputError:
    """The error for a layer that is not there."""
    cure = f"give {' or '.join(known)}, or no --layer" if known else "it has none: give no --layer"
    return InputError(f"{name} has no layer {layer!r}; {cure} to use its main matrix")


def _stamp(values: Held, obs: pd.DataFrame, var: pd.DataFrame) -> str:
    total = hashlib.sha256("\0".join([*obs.index, "", *var.index]).encode())
    for part in (values.matrix.indptr, values.matrix.indices, values.matrix.data):
        total.update(part.data)
    return total.hexdigest()


def stored_matrix(root: Any, element: str, place: str) -> Dense | Compressed:
    """A matrix of an AnnData that is open, as it lies on disk.

    Raises
    ------
    InputError
        It is of unknown kind, or its members do not fit each other.
    """
    layout = layout_of(root[element], place)
    if layout == "dense":
        return dense(root, element, place)
    return compressed(root, element, place, shape_of(root[element]), 0 if layout == "csr" else 1)


def check_shape(x: Any, element: str, place: str, named: tuple[int, int]) -> None:
    """Refuse a matrix of another shape than obs and var name.

    Raises
    ------
    InputError
        It has another one.
    """
    if (shape := shape_of(x)) != named:
        raise InputError(
            f"{place}: {Path(element).name} has the shape {shape}, but obs and var name {named[0]} cells and {named[1]}"
            " genes; it is damaged, write it again"
        )
