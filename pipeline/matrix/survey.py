"""What one pass over the cells tells of a matrix: facts of every cell, of every gene and of the values. Pure.

Blocks of cells are scanned apart, by any number of workers, and merged in order. The same scan is repeated with fewer
genes where strict filters have to be applied until nothing more goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

CELL = np.dtype([("expressed", "i4"), ("counted", "i4"), ("entries", "i4"), ("total", "f8"), ("mitochondrial", "f8")])
GENE = np.dtype([("expressed", "i8"), ("kept", "i8"), ("low", "f4"), ("high", "f4")])


@dataclass(frozen=True, eq=False)
class GeneMasks:
    """Which genes a scan looks at.

    Attributes
    ----------
    counted : (gene,) bool
        Genes that are still in: a cell's `counted` is over these.
    stored : (gene,) bool
        Genes that are going to be stored: a cell's `entries` are over the counted ones among these.
    mitochondrial : (gene,) bool
        Genes of the mitochondrion.
    min_genes
        Cells with fewer counted genes are left out of a gene's `kept`.
    """

    counted: NDArray[np.bool_]
    stored: NDArray[np.bool_]
    mitochondrial: NDArray[np.bool_]
    min_genes: int


@dataclass(frozen=True)
class Values:
    """What the values of a matrix are like; -1 as gene where there is none.

    Attributes
    ----------
    entries
        Values other than 0.
    bad, bad_gene
        How many are NaN or infinite, and the gene of the first.
    low, low_gene, high, high_gene
        The smallest and the largest finite value, zeros of unexpressed genes left aside, and the first gene with it.
    whole
        Whether all are whole numbers.
    """

    entries: int = 0
    bad: int = 0
    bad_gene: int = -1
    low: float = np.inf
    low_gene: int = -1
    high: float = -np.inf
    high_gene: int = -1
    whole: bool = True

    def merge(self, later: "Values") -> "Values":
        """Those of these cells and of later ones."""
        lowest = self if self.low <= later.low else later
        highest = self if self.high >= later.high else later
        return Values(
            self.entries + later.entries,
            self.bad + later.bad,
            self.bad_gene if self.bad else later.bad_gene,
            lowest.low,
            lowest.low_gene,
            highest.high,
            highest.high_gene,
            self.whole and later.whole,
        )


@dataclass(frozen=True, eq=False)
class Facts:
    """All that a scan tells of some cells.

    Attributes
    ----------
    cells : (N,) of CELL
        `expressed`: genes that the cell expresses; `counted` and `entries`: those of them that `GeneMasks` names;
        `total` and `mitochondrial`: sum of its values, over all genes and over those of the mitochondrion.
    genes : (G,) of GENE
        `expressed`: cells that express the gene; `kept`: those of them that express `min_genes` counted genes; `low`
        and `high`: its smallest and largest value where it is expressed, +inf and -inf where nowhere.
    values
        Of all values together.
    """

    cells: NDArray[Any]
    genes: NDArray[Any]
    values: Values

    def merge(self, later: "Facts") -> "Facts":
        """Those of these cells and of later ones."""
        cells = np.concatenate([self.cells, later.cells])
        return Facts(cells, merge_genes([self.genes, later.genes]), self.values.merge(later.values))


def merge_genes(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Facts of genes, (G,) of GENE, over all cells, from those over parts of them."""
    merged = parts[0].copy()
    for part in parts[1:]:
        merged["expressed"] += part["expressed"]
        merged["kept"] += part["kept"]
        merged["low"] = np.minimum(merged["low"], part["low"])
        merged["high"] = np.maximum(merged["high"], part["high"])
    return merged


def no_facts(n_genes: int) -> Facts:
    """Facts of no cells, with which any others merge."""
    genes = np.zeros(n_genes, GENE)
    genes["low"], genes["high"] = np.inf, -np.inf
    return Facts(np.zeros(0, CELL), genes, Values())


def scan(rows: sparse.csr_matrix, wanted: GeneMasks) -> Facts:
    """Facts of some cells, (N, G) CSR without explicit zeros; values may be anything, NaN included."""
    facts = no_facts(rows.shape[1])
    cells = np.zeros(rows.shape[0], CELL)
    # Unlike `Values`, an array can be changed by the kernel: bad, bad_gene, low, low_gene, high, high_gene, whole.
    found = np.array([0, -1, np.inf, -1, -np.inf, -1, 1], np.float64)
    masks = wanted.counted, wanted.stored, wanted.mitochondrial
    _scan((rows.indptr, rows.indices, rows.data), masks, wanted.min_genes, (cells, facts.genes), found)
    return Facts(cells, facts.genes, values_from_array(np.append(rows.nnz, found)))


@numba.njit(nogil=True, cache=True)
def _scan(rows, masks, min_genes, facts, found):  # type: ignore[no-untyped-def]
    (indptr, indices, data), (counted, stored, mitochondrial), (cells, genes) = rows, masks, facts
    for cell in range(cells.size):
        start, stop = indptr[cell], indptr[cell + 1]
        n_counted, n_entries, total, mito = 0, 0, 0.0, 0.0
        for i in range(start, stop):
            gene, value = indices[i], data[i]
            if not np.isfinite(value):
                if found[0] == 0:
                    found[1] = gene
                found[0] += 1
                continue
            if value < found[2]:
                found[2], found[3] = value, gene
            if value > found[4]:
                found[4], found[5] = value, gene
            if value != np.rint(value):
                found[6] = 0
            total += value
            genes[gene]["low"] = min(genes[gene]["low"], value)
            genes[gene]["high"] = max(genes[gene]["high"], value)
            if mitochondrial[gene]:
                mito += value
            if counted[gene]:
                n_counted += 1
                if stored[gene]:
                    n_entries += 1
        for i in range(start, stop):
            genes[indices[i]]["expressed"] += 1
            if n_counted >= min_genes and counted[indices[i]]:
                genes[indices[i]]["kept"] += 1
        cells[cell]["expressed"], cells[cell]["counted"], cells[cell]["entries"] = stop - start, n_counted, n_entries
        cells[cell]["total"], cells[cell]["mitochondrial"] = total, mito


def values_as_array(values: Values) -> NDArray[np.float64]:
    """The same as numbers, to be kept in a file."""
    return np.array([float(getattr(values, field.name)) for field in fields(Values)])


def values_from_array(numbers: NDArray[np.float64]) -> Values:
    """`values_as_array` turned back."""
    entries, bad, bad_gene, low, low_gene, high, high_gene, whole = numbers.tolist()
    return Values(
        int(entries), int(bad), int(bad_gene), low, int(low_gene), high, int(high_gene), bool(whole)
    )  # fmt: skip
