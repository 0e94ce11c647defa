"""Genes of a sparse matrix one by one: a dense column of it, and a matrix of such columns. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Values = NDArray[np.floating[Any]]
Stored = tuple[NDArray[np.int32], Values]
"""Cells that express a gene, ascending, and its value there."""


def column_of(expression: sparse.csc_matrix, gene: int) -> Values:
    """Values of a gene in every cell, (N,) float32."""
    entries = slice(expression.indptr[gene], expression.indptr[gene + 1])
    return dense((expression.indices[entries], expression.data[entries]), expression.shape[0])


def dense(column: Stored, n_cells: int) -> Values:
    """The same in every cell, (N,) float32."""
    values = np.zeros(n_cells, np.float32)
    values[column[0]] = column[1]
    return values


def stored(column: Values) -> Stored:
    """What is above zero of a gene's values, (N,)."""
    cells = np.flatnonzero(column).astype(np.int32)
    return cells, column[cells]


def joined(columns: Sequence[Stored], n_cells: int) -> sparse.csc_matrix:
    """The columns side by side: (N, G) float32."""
    indptr = np.cumsum([0, *(cells.size for cells, _ in columns)])
    cells = np.concatenate([np.empty(0, np.int32), *(cells for cells, _ in columns)])
    values = np.concatenate([np.empty(0, np.float32), *(values for _, values in columns)])
    return sparse.csc_matrix((values, cells, indptr), shape=(n_cells, len(columns)))
