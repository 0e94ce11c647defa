"""Replicate co-expression labels: a pair is positive if it is correlated in cells that its image never shows. Pure.

The cells are split at random into two halves. |Spearman| over the label half makes the label; the image is counted
over the other half. A classifier can then only score well by reading dependence from the picture. It is the positive
control that any working system must pass, and it needs nothing but the matrix.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from pipeline.pairs import Pairs

MAX_LABEL_CELLS = 20_000  # standard error of rho 0.007: more cells would cost memory and change no label worth having
BLOCK = 256


def split_cells(n_cells: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two random halves of the cells, each in ascending order: (label half, image half).

    The label half is at most `MAX_LABEL_CELLS`; the image half is always n_cells − n_cells // 2 cells.
    """
    order = np.random.default_rng([seed, 1]).permutation(n_cells)
    half = n_cells // 2
    return np.sort(order[:half][:MAX_LABEL_CELLS]), np.sort(order[half:])


def standard_ranks(expression: csr_matrix) -> NDArray[np.float64]:
    """Ranks of each gene over cells, ties averaged, centred and scaled to length 1: (N, G) → (G, N) float64.

    The scalar product of two rows is Spearman's rho. A constant gene is a row of zeros: correlated with nothing.
    """
    columns = expression.tocsc()
    ranks = np.zeros((expression.shape[1], expression.shape[0]))
    for gene in range(ranks.shape[0]):
        row = rankdata(columns[:, [gene]].toarray().ravel())
        row -= row.mean()
        length = np.sqrt(row @ row)
        ranks[gene] = row / length if length > 0 else 0
    return ranks


def spearman(pairs: Pairs, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rho of every pair, (P,), from `standard_ranks`."""
    rho = np.empty(len(pairs))
    order = np.argsort(pairs.gene_a, kind="stable")
    genes, starts = np.unique(pairs.gene_a[order], return_index=True)
    stops = np.append(starts[1:], len(pairs))
    for block in range(0, genes.size, BLOCK):
        rows = order[starts[block] : stops[min(block + BLOCK, genes.size) - 1]]
        table = ranks[genes[block : block + BLOCK]] @ ranks.T
        rho[rows] = table[np.searchsorted(genes[block : block + BLOCK], pairs.gene_a[rows]), pairs.gene_b[rows]]
    return rho


def replicate_labels(pairs: Pairs, label_cells: csr_matrix, threshold: float) -> Pairs:
    """The pairs with label 1 where |Spearman| over the label half reaches the threshold, 0 elsewhere.

    Parameters
    ----------
    label_cells : (N, G)
        Expression of the label half, cells × genes.
    """
    positive = np.abs(spearman(pairs, standard_ranks(label_cells))) >= threshold
    return Pairs(pairs.gene_a, pairs.gene_b, positive.astype(np.int8))
