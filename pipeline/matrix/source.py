"""A matrix as it lies on disk, before it is known which axis is genes, how it is read, and what holds for any source.

A reader reads lines: rows where the disk keeps rows together, columns where it keeps columns together. What cannot be
read by cells gives all its entries once, in parts, to be turned (`pipeline.matrix.formats.by_cells`).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.columns import name_genes
from pairscape.pipeline.genes.names import looks_like_barcodes, looks_like_genes
from pairscape.pipeline.matrix.value_kinds import Judged

LONGEST_NAME = 1000  # characters of the name of a gene or cell
IN_MEMORY = "the AnnData in memory"
UNJUDGED = Judged("unclear", "not looked at yet")


class Reader(Protocol):
    """Values of a matrix on disk. Small and picklable: workers receive it and open the file themselves."""

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Cells start..stop, (stop - start, gene) float32 CSR, indices sorted, no explicit zeros, values unchecked.

        Raises
        ------
        InputError
            The file is damaged, or has changed since it was opened.
        """


@dataclass(frozen=True, eq=False)
class Source:
    """A cells × genes matrix that can be ingested, whatever its format and orientation on disk.

    Attributes
    ----------
    name
        Where it lies, for messages.
    obs, var
        Annotations of the cells and of the genes, indexed by their names as text, repeated ones included.
    values
        What becomes the expression.
    counts
        Raw counts that came beside it, of the same shape; None where there are none, or where `values` may be them.
    orientation
        What the rows of the source are: "genes-by-cells" or "cells-by-genes".
    orientation_from
        What told so: the "names", a "request", the "format" or an "assumption".
    stamp
        Changes when a file of the source changes: an interrupted ingest goes on only with the same one.
    block_cells
        Cells that are best read together; a multiple of it costs no part of the file twice.
    notes
        What was left out or decided in opening it, a sentence each, to be told to the user.
    judged
        What the values are.
    """

    name: str
    obs: pd.DataFrame
    var: pd.DataFrame
    values: Reader
    counts: Reader | None
    orientation: Literal["genes-by-cells", "cells-by-genes"]
    orientation_from: str
    stamp: str
    block_cells: int = 1
    notes: tuple[str, ...] = ()
    judged: Judged = UNJUDGED


Axis = Literal[0, 1]
Rows = Literal["genes-by-cells", "cells-by-genes"]
Lines = tuple[Reader, int]  # and how many lines are best read together

PART = 2**22  # entries that are turned at a time: 48 MiB


@dataclass(frozen=True, eq=False)
class Entries:
    """Some entries of a matrix, in any order, no zeros among them.

    Attributes
    ----------
    rows, columns : (entry,) integers
    values : (entry,) float32
    weight
        How much of the matrix's `weight` it is.
    """

    rows: NDArray[Any]
    columns: NDArray[Any]
    values: NDArray[np.float32]
    weight: int


class Matrix(Protocol):
    """Numbers on disk, or in memory, with two axes that nobody has named yet."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def weight(self) -> int:
        """What reading all of it costs, in units of its own: the sum over its parts."""

    def lines(self, axis: Axis) -> Lines | None:
        """A reader of its rows (0) or columns (1); None where each block would read most of the file."""

    def parts(self) -> Iterator[Entries]:
        """All entries, once, in parts of bounded size.

        Raises
        ------
        InputError
            The file is damaged.
        """


@dataclass(frozen=True, eq=False)
class Stored:
    """A source as it lies on disk.

    Attributes
    ----------
    name
        Where, for messages.
    rows, columns
        Annotations, indexed by names as text.
    values, counts
        What becomes the expression, and raw counts beside it (None: there are none), of the same shape.
    rows_are
        What the rows are, unless the user says something else.
    told_by
        How that is known. After "names" and "assumption" the names of both axes are looked at.
    stamp
        Changes when the file does.
    notes
        What was left out in opening it, a sentence each.
    """

    name: str
    rows: pd.DataFrame
    columns: pd.DataFrame
    values: Matrix
    counts: Matrix | None
    rows_are: Rows
    told_by: Literal["format", "assumption"]
    stamp: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Positioned:
    """Lines of another reader with some of their entries left out and the others moved.

    Attributes
    ----------
    lines
        The reader.
    position : (entry of a line,) int32
        Where each goes; -1 where it is left out.
    length
        Of a line afterwards.
    """

    lines: Reader
    position: NDArray[np.int32] = field(repr=False)
    length: int

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """The lines start..stop, as `Reader.rows`."""
        found = self.lines.rows(start, stop)
        moved = self.position[found.indices]
        kept = moved >= 0
        pointers = np.concatenate([[0], np.cumsum(kept)])[found.indptr]
        shape = (stop - start, self.length)
        block = sparse.csr_matrix((found.data[kept], moved[kept], pointers), shape=shape)
        block.sort_indices()
        return block


@dataclass(frozen=True, eq=False)
class SomeRows:
    """A matrix of which only some rows are looked at: genes among antibodies and guides.

    Attributes
    ----------
    matrix
        All rows.
    position : (row,) int32
        Where each goes, in the same order; -1 where it is left out.
    """

    matrix: Matrix
    position: NDArray[np.int32] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows that are left, and columns."""
        return int((self.position >= 0).sum()), self.matrix.shape[1]

    @property
    def weight(self) -> int:
        """As that of all rows: they are all read."""
        return self.matrix.weight

    def lines(self, axis: Axis) -> Lines | None:
        """Columns, if the matrix has them; rows would be needed only by a request that no file of 10x meets."""
        found = self.matrix.lines(1) if axis == 1 else None
        return None if found is None else (Positioned(found[0], self.position, self.shape[0]), found[1])

    def parts(self) -> Iterator[Entries]:
        """The entries of the rows that are left."""
        for part in self.matrix.parts():
            moved = self.position[part.rows]
            kept = moved >= 0
            yield Entries(moved[kept], part.columns[kept], part.values[kept], part.weight)


@dataclass(frozen=True, eq=False)
class Held:
    """A matrix in memory, cells × genes or the other way round, canonical CSR.

    Workers receive small ones with their tasks; a large one goes to disk as whatever has to be turned.
    """

    matrix: sparse.csr_matrix = field(repr=False)

    LARGEST = 2**16  # entries: half a MiB in each message

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.matrix.shape[0]), int(self.matrix.shape[1])

    @property
    def weight(self) -> int:
        """Its entries."""
        return int(self.matrix.nnz)

    def lines(self, axis: Axis) -> Lines | None:
        """Itself or its transpose; None for a large one."""
        if self.matrix.nnz > self.LARGEST:
            return None
        if axis == 0:
            return self, 1
        turned = sparse.csr_matrix(self.matrix.T)
        turned.sort_indices()
        return Held(turned), 1

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """The lines start to stop as canonical CSR, see `Reader.rows`."""
        return self.matrix[start:stop]

    def parts(self) -> Iterator[Entries]:
        """Some millions of entries at a time."""
        yield from compressed_parts(self.matrix.indptr, lambda low, high: self._entries(low, high), 0)

    def _entries(self, low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.matrix.indices[low:high], self.matrix.data[low:high]


def compressed_parts(pointers: NDArray[Any], entries: Any, axis: Axis) -> Iterator[Entries]:
    """The parts of a CSR (axis 0) or CSC (axis 1) matrix.

    Parameters
    ----------
    pointers : (line + 1,) integers
        Where the entries of each line start.
    entries
        `entries(low, high)`: the indices and values of a range of entries.
    """
    for low in range(0, int(pointers[-1]), PART):
        high = min(low + PART, int(pointers[-1]))
        indices, values = entries(low, high)
        first, last = (int(np.searchsorted(pointers, at, side="right")) - 1 for at in (low, high - 1))
        bounds = np.clip(pointers[first : last + 2], low, high)
        lines = np.repeat(np.arange(first, last + 1, dtype=np.int32), np.diff(bounds))
        with np.errstate(over="ignore"):  # infinite then, which the survey of the values reports
            numbers = np.asarray(values, np.float32)
        kept = numbers != 0
        places = (lines[kept], indices[kept]) if axis == 0 else (indices[kept], lines[kept])
        yield Entries(*places, numbers[kept], high - low)


# ── what holds for any source ────────────────────────────────────────────────────────────────────────────────────────


def check_values(x: sparse.csr_matrix, genes: Any, source: str) -> None:
    """Refuse values that are no expression.

    Raises
    ------
    InputError
        a value is NaN or infinite, or is negative
    """
    bad = ~np.isfinite(x.data)
    if bad.any():
        gene = genes[x.indices[bad.argmax()]]
        raise InputError(
            f"{source}: values that are NaN or infinite: {int(bad.sum())}, the first in gene {gene}; a heatmap cannot"
            " place such cells: set them to 0 or drop the gene"
        )
    if x.nnz and x.data.min() < 0:
        gene, low = genes[x.indices[x.data.argmin()]], float(x.data.min())
        raise InputError(
            f"{source}: gene {gene} has the negative value {low:.3g}; scaled data have lost that 0 means not expressed:"
            " ingest the unscaled matrix, such as --layer counts or --layer raw"
        )


def check_names(cells: Any, genes: Any, source: str) -> None:
    """Refuse axes that cannot be right.

    Raises
    ------
    InputError
        fewer than two cells or genes; a gene without a name, or with an endless one; genes of the same name
    """
    if len(cells) < 2 or len(genes) < 2:
        raise InputError(f"{source} has {len(cells)} cells × {len(genes)} genes: gene pairs need at least two of each")
    index = pd.Index(genes)
    if (index == "").any():
        raise InputError(f"{source}: gene {int((index == '').argmax()) + 1} has no name; name every gene")
    for what, names in (("gene", genes), ("cell", cells)):
        if (longest := max(map(len, names))) > LONGEST_NAME:
            raise InputError(
                f"{source}: the name of a {what} has {longest:,} characters, more than {LONGEST_NAME:,}: is it a name?"
            )
    if index.has_duplicates:
        twice = index[index.duplicated()].unique()
        raise InputError(
            f"{source}: gene names that occur more than once: {len(twice)}, such as {', '.join(twice[:3])}; a pair must"
            " name one gene each: use Ensembl ids, or make them unique (anndata's var_names_make_unique)"
        )


def check_not_transposed(cells: Any, genes: Any, source: str) -> None:
    """Refuse a matrix whose cells are named like genes and whose genes are named like cells; either alone may be right.

    Raises
    ------
    InputError
        both are so
    """
    if looks_like_genes(cells) and looks_like_barcodes(genes):
        raise InputError(
            f"{source} looks transposed: its cells are named {cells[0]}, {cells[1]}, its genes {genes[0]}, {genes[1]};"
            " transpose it, or ingest it with --orientation genes-by-cells"
        )


def gene_symbols(var: pd.DataFrame) -> tuple[str, ...] | None:
    """(gene,) symbols from the first column known to hold them, "" where missing; None when no column does."""
    return name_genes(var).symbols


def is_anndata(x: Any) -> bool:
    """Whether this is an AnnData: only where anndata was imported is there one."""
    return "anndata" in sys.modules and isinstance(x, sys.modules["anndata"].AnnData)


def in_memory(x: Any) -> Any:
    """Numbers from whatever an AnnData may hold as X: arrays, sparse matrices, backed or Dask ones.

    Raises
    ------
    InputError
        There is no X.
    """
    if x is None:
        raise InputError(f"{IN_MEMORY} has no X: set it, or name a layer that holds the expression")
    x = x.compute() if hasattr(x, "compute") else x
    return x.to_memory() if hasattr(x, "to_memory") else x
