"""Analytic Pearson residuals of counts, whose correlation is a second measure of co-expression. Pure.

Lause, Berens & Kobak, Genome Biology 22:258 (2021): with the depth s of a cell and the share p of a gene in all
molecules, μ = s·p is what is expected, and

    z = (x − μ) / sqrt(μ + μ² / 100), clipped at ±sqrt(N).

Depth is in the expectation, so that unlike ranks of normalised values they correlate no two genes by it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

OVERDISPERSION = 100.0  # θ of the negative binomial distribution, one for all genes
Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """Counts, and what makes residuals of them; only the counts above zero are stored.

    Attributes
    ----------
    counts : (N, G) CSC
        Cells × genes.
    depth : (N,) float64
        Molecules of each cell.
    share : (G,) float64
        Of each gene, in all molecules.
    """

    counts: csc_matrix
    depth: Real
    share: Real

    @property
    def n_cells(self) -> int:
        """Cells, N."""
        return int(self.counts.shape[0])

    def dense(self, genes: NDArray[np.integer]) -> Real:
        """Centred residuals scaled to length 1, (g, N): the scalar product of two rows is their correlation.

        A gene without any molecule is a row of zeros.
        """
        expected = self.share[genes][:, None] * self.depth
        rows = -expected
        for row, gene in zip(rows, genes, strict=True):
            entries = slice(self.counts.indptr[gene], self.counts.indptr[gene + 1])
            row[self.counts.indices[entries]] += self.counts.data[entries]
        variance = expected + expected**2 / OVERDISPERSION
        rows /= np.sqrt(np.where(variance > 0, variance, 1))
        np.clip(rows, -np.sqrt(self.n_cells), np.sqrt(self.n_cells), out=rows)
        rows -= rows.mean(axis=1, keepdims=True)
        length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
        rows /= np.where(length > 0, length, np.inf)
        return np.asarray(rows)


def residuals_of(counts: csr_matrix, depth: Real | None = None) -> Residuals:
    """Residuals over the cells of a matrix of counts, (N, G).

    `depth`, (N,): counts of each cell over all genes. Absent: over those of the matrix.
    """
    if depth is None:
        depth = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    of_gene = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
    return Residuals(counts.tocsc(), depth, of_gene / max(depth.sum(), 1.0))
