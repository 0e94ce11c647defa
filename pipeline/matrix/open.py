"""Any matrix file → `Source`: its format, which axis is cells, and a reader of blocks of cells."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique

from pairscape.pipeline.compute.progress import Progress, Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.columns import name_genes
from pairscape.pipeline.genes.names import looks_like_barcodes, looks_like_genes
from pairscape.pipeline.matrix.annotations import storable
from pairscape.pipeline.matrix.formats.anndata import no_layer, open_annotated, open_memory
from pairscape.pipeline.matrix.formats.by_cells import turn
from pairscape.pipeline.matrix.formats.containers import contained, open_contained
from pairscape.pipeline.matrix.formats.foreign import refuse_folder, refuse_kind
from pairscape.pipeline.matrix.formats.hdf5_zarr import opened
from pairscape.pipeline.matrix.formats.joined import joined
from pairscape.pipeline.matrix.formats.loom import open_loom
from pairscape.pipeline.matrix.formats.mtx import holds_mtx, open_mtx
from pairscape.pipeline.matrix.formats.pandas_hdf5 import frames_in, open_frame
from pairscape.pipeline.matrix.formats.tenx import genomes_in, open_tenx
from pairscape.pipeline.matrix.formats.text import TEXT_SUFFIXES, read_table
from pairscape.pipeline.matrix.formats.xarray_zarr import is_annotated, open_array
from pairscape.pipeline.matrix.source import (
    IN_MEMORY,
    Axis,
    Matrix,
    Reader,
    Rows,
    Source,
    Stored,
    check_names,
    check_not_transposed,
    check_values,
)
from pairscape.pipeline.matrix.vet import left_out, vetted
from pairscape.pipeline.options import Features, Join, Orientation
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.paths import expanded, fingerprint, is_folder, suffix_of


def open_source(
    source: Any,
    *,
    orientation: Orientation = "auto",
    layer: str | None = None,
    key: str | None = None,
    join: Join = "inner",
    gene_column: str | None = None,
    features: Features = "genes",
    scratch: Path,
    progress: Progress,
) -> Source:
    """Open one matrix, or several as one; docs/formats.md says what of each format is read and how.

    Parameters
    ----------
    source
        A path, a pattern such as `atlas/*.h5ad`, a URL that fsspec knows, an AnnData, or a list of these.
    orientation
        What the rows of the source are. "auto": as the format has it; where a format leaves it open, as the names of
        the axes tell, and where they do not, genes × cells for text and cells × genes for all else.
    layer
        This layer in place of the main matrix; "raw" takes an AnnData's `.raw` with its genes. Absent: the main matrix.
    key
        Which matrix, where a file holds several: a key of pandas, an array of Zarr, a genome of Cell Ranger. Absent:
        the only one.
    join
        The genes of several sources: those that all have ("inner") or that any has ("outer").
    gene_column
        The column that has the symbols of the genes. Absent: the first of those in use.
    features
        "genes": rows and columns that are no genes or cells are left out. "all": nothing is.
    scratch
        A folder of the caller, who also removes it: what is not stored by cells is turned there once, and found again
        as long as the source is the same. It is made if it is needed.
    progress
        Told of the turning.

    Raises
    ------
    InputError
        There is no such thing, it is of unknown kind, damaged, or cannot be a matrix of genes and cells; values of
        several kinds are mixed.
    JobError
        The disk refuses what has to be turned.
    """
    named = (("orientation", orientation, Orientation), ("join", join, Join), ("features", features, Features))
    for name, value, choices in named:
        if value not in get_args(choices):
            raise InputError(f"{name} {value!r} is unknown: give one of {', '.join(get_args(choices))}")
    given = _listed(source)
    rest = (orientation, (layer, key), gene_column, features, scratch, progress)
    sources = [arranged(_stored(one, layer, key), *rest) for one in given]
    return sources[0] if len(sources) == 1 else joined(sources, join)


def source_stamp(source: Any) -> str:
    """Changes when one source does; of its values nothing is read.

    Raises
    ------
    InputError
        As `open_source`; a pattern or list names several.
    """
    given = _listed(source)
    if len(given) > 1:
        raise InputError(f"{len(given)} matrices are given, the first {given[0]}: join them with `pairscape ingest`")
    return _stored(given[0], None, None).stamp


def read_any(source: Any, *, orientation: Orientation = "auto", layer: str | None = None) -> AnnData:
    """Read a matrix that `open_source` opens into memory as cells × genes, for the jobs that need all of it at once.

    Returns
    -------
    AnnData
        X CSR float32 without explicit zeros, obs under unique names, var, layers["counts"] where the source has it, and
        uns["pairscape"] = {source, orientation, orientation_from, value_kind, told_by}: what its values are, and why.

    Raises
    ------
    InputError
        It cannot be opened; values are NaN, infinite or negative.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = open_source(source, orientation=orientation, layer=layer, scratch=Path(scratch), progress=Silent())
        x = found.values.rows(0, len(found.obs))
        check_values(x, found.var.index, found.name)
        layers = {} if found.counts is None else {"counts": found.counts.rows(0, len(found.obs))}
    # Cells of several samples may share barcodes. Nothing of ours goes by a cell's name, but AnnData wants them unique.
    obs = found.obs.set_axis(make_index_unique(found.obs.index), axis=0)
    adata = AnnData(x, obs=obs, var=found.var, layers=layers)
    adata.uns["pairscape"] = {
        "source": found.name if found.name == IN_MEMORY else Path(found.name).name,
        "orientation": found.orientation,
        "orientation_from": found.orientation_from,
        "value_kind": found.judged.kind,
        "told_by": found.judged.why,
    }
    return adata


def arranged(
    stored: Stored,
    orientation: Orientation,
    choice: tuple[str | None, str | None],
    gene_column: str | None,
    features: Features,
    scratch: Path,
    progress: Progress,
) -> Source:
    """Tell which axis is cells, refuse what cannot be right, and only then turn what is not stored by cells.

    What is no gene and no cell is left out.

    Parameters
    ----------
    choice
        Layer and key: what tells apart two matrices of one file.
    gene_column, features
        As in `open_source`.

    Raises
    ------
    InputError
        The axes cannot be those of cells and genes; as `vetted`.
    JobError
        The disk refuses.
    """
    rows_are, told = _told(stored, orientation)
    cell_axis: Axis = 0 if rows_are == "cells-by-genes" else 1
    obs, var = (stored.rows, stored.columns) if cell_axis == 0 else (stored.columns, stored.rows)
    var, notes = _with_names(var, gene_column)
    (obs, of_cells), (var, of_genes) = storable(obs, "cells"), storable(var, "genes")
    notes += of_cells + of_genes
    left = left_out(obs, var, features)
    without = f"{stored.name}, without {left.said}," if left.said else stored.name
    check_names(obs.index[left.cells == ""], var.index[left.genes == ""], without)
    if told != "request":
        check_not_transposed(obs.index, var.index, stored.name)
    facts = {"stamp": stored.stamp, "name": stored.name, "choice": choice, "cells": cell_axis}
    folder = scratch / f"turned-{digest(facts)[:16]}"
    values, unit = _by_cells(stored.values, cell_axis, folder / "values", progress, stored.name)
    counts, other = None, 1
    if stored.counts is not None:
        counts, other = _by_cells(stored.counts, cell_axis, folder / "counts", progress, stored.name)
    source = Source(
        stored.name, obs, var, values, counts, rows_are, told, stored.stamp, max(unit, other), (*stored.notes, *notes)
    )  # fmt: skip
    return vetted(source, left)


def _with_names(var: pd.DataFrame, gene_column: str | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The genes under their ids, with their symbols in `symbol` where they are known, and what has to be said of it."""
    named = name_genes(var, gene_column)
    var = var.set_axis(pd.Index(named.ids, dtype=object), axis=0)
    return var if named.symbols is None else var.assign(symbol=list(named.symbols)), named.notes


def _by_cells(matrix: Matrix, cell_axis: Axis, folder: Path, progress: Progress, name: str) -> tuple[Reader, int]:
    """A reader of blocks of cells, and how many are best read together."""
    if (lines := matrix.lines(cell_axis)) is not None:
        return lines
    buckets = turn(matrix, cell_axis, folder, progress, name)
    return buckets, buckets.cells


def _told(stored: Stored, orientation: Orientation) -> tuple[Rows, str]:
    """What the rows are and how we know."""
    if orientation != "auto":
        return orientation, "request"
    if stored.told_by == "format":
        return stored.rows_are, "format"
    rows, columns = list(stored.rows.index), list(stored.columns.index)
    likely_rows = looks_like_genes(rows) - looks_like_barcodes(rows)
    likely_columns = looks_like_genes(columns) - looks_like_barcodes(columns)
    if likely_rows == likely_columns:
        return stored.rows_are, "assumption"
    return ("genes-by-cells" if likely_rows > likely_columns else "cells-by-genes"), "names"


def _listed(source: Any) -> list[Any]:
    """The sources one by one, patterns spelled out."""
    many = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    for named in many:
        if not isinstance(named, AnnData | str | Path) and not hasattr(named, "fs"):  # an object of a URL has its `fs`
            kind = type(named).__name__
            raise InputError(f"a source of the kind {kind!r} is unknown: give a path, a URL, an AnnData, or a list")
    given = [one for named in many for one in ([named] if isinstance(named, AnnData) else expanded(named))]
    if not given:
        raise InputError("the list of sources is empty: give at least one file")
    twice = [one for one in given if isinstance(one, str) and given.count(one) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given more than once: its cells would count twice; give it once")
    return given


def _stored(source: Any, layer: str | None, key: str | None) -> Stored:
    if isinstance(source, AnnData):
        if key is not None:
            raise InputError(f"{IN_MEMORY} has no --key: a layer of it is chosen with --layer")
        return open_memory(source, layer)
    return open_stored(source, layer, key)


# ── the format of a file, by its suffix and, where that leaves it open, by its content ───────────────────────────────

Format = Literal["annotated", "contained", "loom", "tenx", "mtx", "frame", "array", "text"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
BY_SUFFIX: dict[str, Format] = {
    ".h5ad": "annotated",
    ".h5mu": "contained",
    ".loom": "loom",
    **{f".mtx{end}": "mtx" for end in ("", ".gz")},
    **{f"{suffix}{end}": "text" for suffix in TEXT_SUFFIXES for end in ("", ".gz")},
}
LAYERED: dict[Format, Callable[[str, str | None], Stored]] = {"annotated": open_annotated, "loom": open_loom}
KEYED: dict[Format, Callable[[str, str | None], Stored]] = {
    "tenx": open_tenx,
    "mtx": open_mtx,
    "frame": open_frame,
    "array": open_array,
}


def open_stored(place: str, layer: str | None, key: str | None) -> Stored:
    """Open one file, folder or URL.

    Raises
    ------
    InputError
        There is none, its kind is unknown or not what its name says, it is damaged, or has no such layer or key.
    """
    kind = _kind(place)
    if kind == "contained":
        return open_contained(place, layer, key)
    if layer is not None and kind not in LAYERED:
        raise no_layer(layer, [], place)
    if key is not None and kind not in KEYED:
        raise InputError(
            f"{place} has no {key!r}: it holds one matrix, of which --layer may choose a layer; give no --key"
        )
    if kind == "text":
        return open_text(place)
    return LAYERED[kind](place, layer) if kind in LAYERED else KEYED[kind](place, key)


def open_text(place: str) -> Stored:
    """Delimited text, which tells its orientation by names only: genes × cells where they do not, BEELINE's way."""
    table = read_table(place)
    rows, columns = (pd.DataFrame(index=pd.Index(names, dtype=object)) for names in (table.rows, table.columns))
    if not table.annotations:
        return Stored(place, rows, columns, table.numbers, None, "genes-by-cells", "assumption", fingerprint(place))
    rows = rows.assign(**{name: list(column) for name, column in table.annotations.items()})
    described = f"annotations of genes ({len(table.annotations)}: {', '.join(table.annotations)})"
    notes = (f"left out, as no cells: {described}",)
    return Stored(place, rows, columns, table.numbers, None, "genes-by-cells", "format", fingerprint(place), notes)


def _kind(source: str) -> Format:
    suffix, folder = suffix_of(source), is_folder(source)
    if suffix == ".zarr":
        if not folder:
            raise InputError(
                f"{source} is a file, which its name does not say: a .zarr is a folder, all else is a file"
            )
        with opened(source) as root:
            return "annotated" if is_annotated(root) else "contained" if contained(root) else "array"
    if folder and suffix not in BY_SUFFIX and holds_mtx(source):
        return "mtx"
    if folder:
        raise refuse_folder(source)
    if suffix in HDF5_SUFFIXES:
        with opened(source) as root:
            return _of_hdf5(root, source)
    if suffix not in BY_SUFFIX:
        raise refuse_kind(source, [*BY_SUFFIX, ".zarr", *HDF5_SUFFIXES[:2]])
    return BY_SUFFIX[suffix]


def _of_hdf5(root: Any, source: str) -> Format:
    """An .h5 may be anything: its members tell."""
    if "X" in root:
        return "annotated"
    if "mod" in root and contained(root):
        return "contained"
    if isinstance(root.get("matrix"), h5py.Dataset):
        return "loom"
    if "matrix" in root or genomes_in(root):
        return "tenx"
    if frames_in(root):
        return "frame"
    held = ", ".join(list(root)[:5]) or "nothing"
    raise InputError(
        f"{source} holds {held}: neither a Cell Ranger matrix, a table of pandas, a loom file nor an AnnData; convert "
        "it to one of these"
    )
