"""Strata of cells within which two genes are compared: each gene's margins, stratum by stratum. Pure.

Two genes that are independent within every stratum have, over all cells, Σ_s row_s · column_s / n_s cells in each bin,
where row_s and column_s are their margins in stratum s of n_s cells. So the margins by stratum are all that it takes to
tell from counts of all cells what is left beyond the strata; no image is counted again.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class StratifiedMargins:
    """Cells in each bin, stratum by stratum, of the genes of some pairs.

    Attributes
    ----------
    cells : (G, S, bins) uint32
        Of the genes; no stratum is empty.
    row_a, row_b : (P,)
        Where the genes of each pair stand among them.
    """

    cells: NDArray[np.uint32]
    row_a: Numbers
    row_b: Numbers

    def take(self, pairs: slice | Numbers) -> "StratifiedMargins":
        """Those of some of the pairs, without the genes that do not come up in them."""
        rows = np.stack([self.row_a[pairs], self.row_b[pairs]])
        used, at = np.unique(rows, return_inverse=True)
        row_a, row_b = at.reshape(rows.shape)
        return StratifiedMargins(self.cells[used], row_a, row_b)

    def followed(self, pairs: int) -> "StratifiedMargins":
        """The same with so many pairs after it, of no matter which genes."""
        return StratifiedMargins(self.cells, *(np.pad(row, (0, pairs)) for row in (self.row_a, self.row_b)))

    def pooled(self, bins: int) -> "StratifiedMargins":
        """The same with so many neighbouring bins summed."""
        if bins == 1:
            return self
        genes, strata, all_bins = self.cells.shape
        summed = self.cells.reshape(genes, strata, all_bins // bins, bins).sum(3, dtype=np.uint32)
        return StratifiedMargins(summed, self.row_a, self.row_b)


def count_margins(codes: NDArray[np.uint8], zero_bin: Numbers, stratum: Numbers, cells: NDArray[np.uint32]) -> None:
    """Add cells to the margins of genes by stratum.

    Parameters
    ----------
    codes : (G, N)
        As a code store has them: 0, not expressed, or 1 + the bin.
    zero_bin : (G,)
        Bin in which each gene's unexpressed cells are counted.
    stratum : (N,)
        Of each cell, below S.
    cells : (G, S, bins)
        Takes them in.
    """
    _count(codes, zero_bin.astype(np.int64), stratum.astype(np.int64), cells)


@numba.njit(nogil=True, cache=True)
def _count(codes, zero_bin, stratum, cells):  # type: ignore[no-untyped-def]
    for g in range(codes.shape[0]):
        for i in range(codes.shape[1]):
            code = np.int64(codes[g, i])
            cells[g, stratum[i], code - 1 if code > 0 else zero_bin[g]] += np.uint32(1)


def refined(stratum: Numbers, within: Numbers) -> NDArray[np.uint16]:
    """Strata that two divisions of the cells make together, (N,), numbered from 0; none is empty."""
    _, number = np.unique(stratum.astype(np.int64) * (int(within.max()) + 1) + within, return_inverse=True)
    return number.astype(np.uint16)
