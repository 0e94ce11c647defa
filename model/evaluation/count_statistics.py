"""Correlation of two genes from their raw counts, with the depth of the cells taken out.

Two statistics, both of cells with the depths s_i (all counts of a cell) and counts x_ij:

- Pearson residuals (Lause, Berens & Kobak, Genome Biology 22:258, 2021): with μ_ij = s_i Σx_j / Σs, residuals
  (x − μ) / √(μ + μ² / 100), clipped at ±√n, then correlated.
- CS-CORE's test statistic (Su et al., Nature Communications 14:4846, 2023): E x = s μ_j and Var x = s μ_j + s² σ_jj by
  weighted least squares; then Σ s² r_j r_k / (v_j v_k) over the root of Σ s⁴ / (v_j v_k), with r the deviation and v
  the variance. It is about normal where genes are independent; CS-CORE's estimate of the correlation ranks no pairs.

Cells are taken a block at a time, so that what is laid out densely stays small.
"""

from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from pairscape.model.evaluation.counted import CellCounts
from pairscape.model.networks.gene_context import lowered, noise_edge, principal_loadings
from pairscape.model.networks.pairnet import FACTORS
from pairscape.pipeline.genes.labels import correlations
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.genes.residuals import Residuals

Real = NDArray[np.float64]
Dense = NDArray[np.float32]
Genes = NDArray[np.integer]

STEPS = 10  # of weighted least squares; the fifth hardly changes anything
LAID_OUT = 2**23  # values of a dense block, 32 MB in float32


def residual_correlation(cells: CellCounts, gene_a: Genes, gene_b: Genes) -> Real:
    """Correlation of the Pearson residuals of pairs, signed, (P,); 0 where a gene has no count."""
    pairs = Pairs(gene_a.astype(np.int32), gene_b.astype(np.int32), np.zeros(gene_a.size, np.int8))
    return correlations(pairs, _residuals(cells))


def residual_factors(cells: CellCounts, genes: Genes) -> Dense:
    """Loadings of genes on the factors of the Pearson residuals of all genes, (G, FACTORS).

    The scalar product of two genes' loadings is their correlation through the factors; as `gene_loadings` makes them of
    normal scores, the eigenvalues least lowered.
    """
    made, at_once = _residuals(cells), max(LAID_OUT // cells.depth.size, 1)
    parts = [made.dense(genes[start : start + at_once]) for start in range(0, genes.size, at_once)]
    with threadpool_limits(limits=1):  # sums of floats depend on how many share them
        z = np.concatenate([part.astype(np.float32) for part in parts])
        return lowered(principal_loadings(z, FACTORS), noise_edge(*z.shape))[:, :FACTORS]


def _residuals(cells: CellCounts) -> Residuals:
    return Residuals(cells.counts.tocsc(), cells.depth, cells.share)


def cscore_z(cells: CellCounts, gene_a: Genes, gene_b: Genes) -> Real:
    """CS-CORE's test statistic of pairs, signed, (P,), about standard normal where they are independent given depth."""
    genes, (a, b) = _numbered(gene_a, gene_b)
    mean, excess = _moments(cells, genes)
    above, below = np.zeros(a.size), np.zeros(a.size)
    for some in _blocks(cells.depth.size, genes.size):
        depth = cells.depth[some] / cells.depth.mean()  # one scale: none of it changes the statistic
        variance = _variance(depth, mean, excess)
        deviation = _laid_out(cells.counts[some], genes) - np.outer(mean, depth)
        weight = depth / np.sqrt(variance)
        scaled, square = (weight * deviation / np.sqrt(variance)).astype(np.float32), (weight**2).astype(np.float32)
        _add_products(scaled, a, b, above)
        _add_products(square, a, b, below)
    return np.divide(above, np.sqrt(below), out=np.zeros(a.size), where=below > 0)


def _moments(cells: CellCounts, genes: Genes) -> tuple[Real, Real]:
    """CS-CORE's μ and σ of genes, (G,) each, by weighted least squares; σ at least 0, a Poisson gene's."""
    mean, excess = np.zeros(genes.size), np.zeros(genes.size)
    depth = cells.depth / cells.depth.mean()
    by_gene, at_once = cells.counts.tocsc(), max(LAID_OUT // depth.size, 1)
    for start in range(0, genes.size, at_once):
        own = slice(start, start + at_once)
        x = _laid_out(by_gene, genes[own]).astype(np.float64)
        weight = np.ones_like(x)
        for _ in range(STEPS):
            mean[own] = (weight * x) @ depth / (weight @ depth**2)
            beyond = (x - np.outer(mean[own], depth)) ** 2 - np.outer(mean[own], depth)
            excess[own] = np.maximum((weight**2 * beyond) @ depth**2 / (weight**2 @ depth**4), 0)
            weight = 1 / _variance(depth, mean[own], excess[own])
    return mean, excess


def _variance(depth: Real, mean: Real, excess: Real) -> Real:
    """Of the counts, (G, N); a gene without counts has that of one of very few, so that nothing is divided by 0."""
    return np.maximum(np.outer(mean, depth) + np.outer(excess, depth**2), 1e-9)


def _numbered(gene_a: Genes, gene_b: Genes) -> tuple[Genes, NDArray[np.int64]]:
    """Genes that occur, ascending, and where both ends of the pairs stand among them, (2, P)."""
    genes, place = np.unique(np.stack([gene_a, gene_b]), return_inverse=True)
    return genes, place.reshape(2, -1)


def _blocks(n_cells: int, n_genes: int) -> Iterator[slice]:
    at_once = max(LAID_OUT // max(n_genes, 1), 1)
    return (slice(start, min(start + at_once, n_cells)) for start in range(0, n_cells, at_once))


def _laid_out(counts: sparse.csr_matrix | sparse.csc_matrix, genes: Genes) -> Dense:
    """Counts of genes, (G, N) float32, from (N, all genes)."""
    return np.ascontiguousarray(counts[:, genes].toarray().T, np.float32)


@numba.njit(nogil=True, cache=True)
def _add_products(values, a, b, sums):  # type: ignore[no-untyped-def]
    """Add the scalar product of rows a and b, for every pair."""
    for p in range(a.size):
        one, other, total = values[a[p]], values[b[p]], np.zeros(8, np.float32)
        whole = one.size // 8 * 8
        for i in range(0, whole, 8):
            for lane in range(8):
                total[lane] += one[i + lane] * other[i + lane]
        rest = np.float64(total.sum())
        for i in range(whole, one.size):
            rest += one[i] * other[i]
        sums[p] += rest
