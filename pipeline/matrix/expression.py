"""Open an expression matrix of any common format, check it, and read it a block of cells at a time.

On disk nothing is changed: `open_expression` accepts what others wrote, `pipeline.matrix.ingest` writes our own stores.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.columns import name_genes
from pairscape.pipeline.matrix.formats.anndata import check_shape, stored_matrix
from pairscape.pipeline.matrix.formats.dense import Dense, DenseLines
from pairscape.pipeline.matrix.formats.elements import read_element
from pairscape.pipeline.matrix.formats.hdf5_zarr import (
    canonical_csr,
    existing,
    group_of,
    layout_of,
    member,
    opened,
    read_frame,
    row_pointers,
    shape_of,
    with_text_names,
)
from pairscape.pipeline.matrix.source import (
    IN_MEMORY,
    Held,
    Reader,
    check_names,
    check_not_transposed,
    check_values,
    in_memory,
    is_anndata,
)
from pairscape.pipeline.options import HASH_CELLS
from pairscape.pipeline.storage.paths import stamp_of

if TYPE_CHECKING:
    from anndata import AnnData

LAYERS = "layers/"
SELECT_BLOCK = 4096  # cells that are read together to pick some of them
SELECT_GAP = 256  # unwanted cells in a row from which on they are passed over rather than read
SAMPLED_ROWS = 64  # of a dense matrix, whose density nothing on disk tells


@dataclass(frozen=True, eq=False)
class Expression:
    """A cells × genes expression matrix, read a block of cells at a time.

    It is small and picklable when it lies on disk: workers receive it and open the file themselves. No file stays open
    between calls, so that the file can be replaced while an Expression lives.

    Parameters
    ----------
    path : where the matrix lies, absolute, since workers have other working folders; None for an AnnData in memory,
        which then travels with the Expression
    genes : (gene,) ids, unique
    symbols : (gene,) symbols, "" where a gene has none; None when the matrix has none
    n_cells : number of cells
    memory : the AnnData, when path is None
    others : (gene,) further ids by which lists may name the genes; None when the matrix has none
    notes : what was understood of the genes' names that has to be told, a sentence each
    values : what kind of values it holds, such as "log" or "counts"; "" where that is unknown
    element : which matrix of the AnnData it is
    """

    path: str | None
    genes: tuple[str, ...]
    symbols: tuple[str, ...] | None
    n_cells: int
    memory: "AnnData | None" = field(default=None, repr=False, compare=False)
    others: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    values: str = ""
    element: str = "X"

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Expression of the cells start..stop: (stop - start, gene) float32, indices sorted, no explicit zeros.

        Raises
        ------
        IndexError
            not 0 <= start <= stop <= n_cells
        InputError
            a value is NaN, infinite or negative, or the file has changed its shape since it was opened
        """
        if not 0 <= start <= stop <= self.n_cells:
            raise IndexError(f"cells {start}..{stop} of a matrix of {self.n_cells}")
        block = canonical_csr(self._slice(start, stop))
        if block.shape != (stop - start, len(self.genes)):
            raise InputError(f"{self.path} has changed since it was opened (block of {block.shape}): open it again")
        check_values(block, self.genes, self.path or IN_MEMORY)
        return block

    def select(self, cells: NDArray[np.int64]) -> sparse.csr_matrix:
        """Expression of some cells, ascending: (cell, gene) float32 CSR, read a run of neighbours at a time."""
        if cells.size and int(cells[-1]) - int(cells[0]) == cells.size - 1:
            return self.rows(int(cells[0]), int(cells[-1]) + 1)
        apart = (np.diff(cells // SELECT_BLOCK) > 0) | (np.diff(cells) > SELECT_GAP)
        starts = np.append(0, np.flatnonzero(apart) + 1)
        runs = [cells[a:b] for a, b in zip(starts, np.append(starts[1:], cells.size), strict=True)]
        parts = [self.rows(int(run[0]), int(run[-1]) + 1)[run - run[0]] for run in runs]
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")

    def content_hash(self) -> str:
        """sha256 over shape, gene ids and values; the same for any container, chunks and compression.

        The serial form: the encoding job has its workers digest the blocks, with the same result.
        """
        blocks = hash_blocks(self.n_cells)
        return matrix_hash(self.n_cells, self.genes, (block_digest(self.rows(b.start, b.stop)) for b in blocks))

    def layout(self) -> "DiskLayout":
        """How the matrix lies on disk, for planning the memory of tasks; no more of it is read than tells so.

        Only of a matrix on disk.
        """
        path = str(self.path)
        with opened(path) as root:
            x = root["X"]
            kind = layout_of(x, path)
            if kind == "dense":
                rows = np.linspace(0, self.n_cells - 1, min(SAMPLED_ROWS, self.n_cells)).astype(int)
                filled = sum(np.count_nonzero(x[int(row)]) for row in rows) / rows.size
                return DiskLayout(np.arange(self.n_cells + 1) * int(np.ceil(filled)), 8, 0)
            stored = x["data"].dtype.itemsize + x["indices"].dtype.itemsize
            if kind == "csr":
                return DiskLayout(row_pointers(path, stamp_of(path)), stored, 0)
            entries = int(x["data"].shape[0])
            return DiskLayout(np.linspace(0, entries, self.n_cells + 1).astype(np.int64), 8, entries * (stored + 8))

    def obs(self) -> pd.DataFrame:
        """Annotations of the cells, one row each."""
        if self.memory is not None:
            return pd.DataFrame(self.memory.obs)
        with opened(str(self.path)) as root:
            return read_frame(root["obs"])

    def _slice(self, start: int, stop: int) -> Any:
        if self.memory is not None:
            held = self.memory.X if self.element == "X" else self.memory.layers[self.element.removeprefix(LAYERS)]
            return in_memory(held[start:stop])
        path = str(self.path)
        return _reader(path, stamp_of(path), self.element).rows(start, stop)

    def layer(self, name: str) -> "Expression | None":
        """A layer of the same cells and genes; None where there is none of that name.

        Raises
        ------
        InputError
            It has another shape, or cannot be read.
        """
        if self.memory is not None:
            return replace(self, element=f"{LAYERS}{name}", values="") if name in self.memory.layers else None
        path = str(self.path)
        with opened(path) as root:
            if name not in (layers := group_of(root, "layers")):
                return None
            layout_of(layers[name], path)
            check_shape(layers[name], f"{LAYERS}{name}", path, (self.n_cells, len(self.genes)))
        return replace(self, element=f"{LAYERS}{name}", values="")


@dataclass(frozen=True, eq=False)
class DiskLayout:
    """How a matrix lies on disk, as far as it decides what a task needs in memory.

    Parameters
    ----------
    pointers : (cell + 1,) int64, where each cell's entries start; exact for CSR, evenly spread for CSC and dense
    entry_bytes : of one entry as it is read, value and index together
    kept_bytes : what each process that reads the matrix keeps of it: CSC has to be turned as a whole
    """

    pointers: NDArray[np.int64]
    entry_bytes: int
    kept_bytes: int

    def fullest(self, blocks: Iterable[NDArray[np.int64] | slice]) -> int:
        """Entries of the fullest of some blocks of cells."""
        lengths = np.diff(self.pointers)
        return max(int(lengths[block].sum()) for block in blocks)


@lru_cache(maxsize=2)
def _reader(path: str, stamp: tuple[int, int], element: str) -> Reader:
    """The reader of a matrix by cells, opened once a process, and again when another file lies there."""
    with opened(path) as root:
        matrix = stored_matrix(root, element, path)
    if isinstance(matrix, Dense):
        return DenseLines(matrix, 0)
    if matrix.axis == 0:
        return matrix
    genes = matrix.rows(0, matrix.shape[1])  # stored by genes: each block of cells needs all of it
    return Held(canonical_csr(genes.T))


def hash_blocks(n_cells: int) -> list[slice]:
    """The blocks of cells whose digests make the content hash."""
    return [slice(i, min(i + HASH_CELLS, n_cells)) for i in range(0, n_cells, HASH_CELLS)]


def block_digest(rows: sparse.csr_matrix) -> str:
    """Hex sha256 of a block of cells: row lengths, gene indices and values, little-endian i8, i4 and f4."""
    total = hashlib.sha256(np.diff(rows.indptr).astype("<i8").data)
    total.update(np.ascontiguousarray(rows.indices, "<i4").data)
    total.update(np.ascontiguousarray(rows.data, "<f4").data)
    return total.hexdigest()


def matrix_hash(n_cells: int, genes: tuple[str, ...], digests: Iterable[str]) -> str:
    """Content hash of a matrix from the digests of its `hash_blocks`, in order."""
    total = hashlib.sha256(json.dumps([n_cells, genes]).encode())
    for digest in digests:
        total.update(bytes.fromhex(digest))
    return total.hexdigest()


def reopen_expression(path: str) -> Expression:
    """A matrix that `open_expression` has accepted, without the names of its cells: what a worker needs to read it."""
    with opened(path) as root:
        genes, n_cells = name_genes(read_frame(root["var"])).ids, shape_of(root["X"])[0]
    return Expression(path, genes, None, n_cells)


def open_counts(path: str) -> tuple[Expression, str]:
    """Raw counts of a matrix that `open_expression` has accepted, and the preset that made X of them.

    They are `layers["counts"]`, or X itself where nothing was made of it, which whoever reads them has to check. The
    preset is "" where the matrix does not say how its X was made.

    Raises
    ------
    InputError
        The file cannot be read, or has no counts of the shape of X beside an X that was made of some.
    """
    held = reopen_expression(path)
    with opened(path) as root:
        preset = str(own_record(root).get("preset", ""))
    if (counts := held.layer("counts")) is not None:
        return counts, preset
    if preset not in ("", "none"):
        raise InputError(f"{path} keeps no counts beside its expression; ingest raw counts, and they are kept.")
    return held, "none"


def whole_depth(counts: Expression, cells: NDArray[np.integer], here: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts of cells over all genes there were, (n,): obs["total_counts"], if it can be that.

    Parameters
    ----------
    here : (n,)
        Counts of these cells over the genes that the matrix has, maybe the most variable ones alone.
    """
    obs = counts.obs()
    if not pd.api.types.is_numeric_dtype(obs.get("total_counts")):
        return here
    total = obs["total_counts"].to_numpy(np.float64, na_value=np.nan)[cells]
    return total if (total >= here * (1 - 1e-6)).all() else here  # false too where one is not known


def own_record(root: Any) -> Mapping[str, Any]:
    """What `ingest` or a simulation says in an AnnData of how it was made; empty where neither has made it."""
    uns = group_of(root, "uns")
    return as_record(read_element(uns["pairscape"])) if "pairscape" in uns else {}


def as_record(said: Any) -> Mapping[str, Any]:
    """What uns["pairscape"] says of how X was made; empty where it says something else, such as scores."""
    return said if isinstance(said, Mapping) and {"preset", "value_kind"} & set(said) else {}


def values_of(record: Mapping[str, Any]) -> str:
    """The kind of values that an AnnData with such a record holds, as `Expression.values`."""
    preset = str(record.get("preset", ""))
    if preset == "none":
        kind = str(record.get("value_kind", ""))
        return "counts" if "counts" in kind else "log" if kind == "log" else ""
    return "log" if preset in ("scanpy", "log1p") else preset


def open_expression(source: Any, gene_column: str | None = None) -> Expression:
    """Open an AnnData-Zarr (format 2 or 3) or .h5ad as it is, with X as CSR, CSC or dense, or an AnnData in memory.

    A store may lie behind a URL.

    CSR and dense matrices are never loaded whole. CSC stores genes, not cells, contiguously: a block of cells touches
    all of it, so it is converted in memory once per process; `pairscape ingest` writes CSR and spares that.

    Parameters
    ----------
    gene_column
        The column of var that has the symbols. Absent: the first of those in use.

    Raises
    ------
    InputError
        the file is missing, of another kind, damaged or no AnnData; it has no X, fewer than two cells or genes, genes
        without a name or with the same name, or genes where cells belong
    """
    if is_anndata(source):
        return _open_memory(source, gene_column)
    path = existing(source, (".h5ad", ".zarr"))
    with opened(path) as root:
        layout_of(member(root, "X", path), path)
        genes, obs_names = read_frame(member(root, "var", path)), read_frame(member(root, "obs", path)).index
        check_shape(root["X"], "X", path, (len(obs_names), len(genes)))
        values = values_of(own_record(root))
    named = name_genes(genes, gene_column)
    check_names(obs_names, named.ids, path)
    check_not_transposed(obs_names, named.ids, path)
    return Expression(
        path, named.ids, named.symbols, len(obs_names), others=named.others, notes=named.notes, values=values
    )


def _open_memory(adata: "AnnData", gene_column: str | None) -> Expression:
    named = name_genes(with_text_names(pd.DataFrame(adata.var)), gene_column)
    check_names(adata.obs_names, named.ids, IN_MEMORY)
    check_not_transposed(tuple(map(str, adata.obs_names)), named.ids, IN_MEMORY)
    if adata.X is None or getattr(adata.X, "format", "csr") != "csr":  # a block of rows of CSC costs a pass over all
        from anndata import AnnData

        adata = AnnData(canonical_csr(in_memory(adata.X)), obs=adata.obs, var=adata.var)
    return Expression(None, named.ids, named.symbols, adata.n_obs, adata, named.others, named.notes)
