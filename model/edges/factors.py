"""Correlations of genes through the main factors of the matrix that all pairs of several sets make.

A pair's own evidence is a few hundred cells of one set; programs of expression are seen in all pairs of their genes.
Of each set the z of all pairs, less what either gene has with all others (z_ij − m_i − m_j + m: a gene that goes along
with every gene, as depth of cells makes it, has nothing left), is added up over the sets. The leading eigenvectors of
that matrix, each times the root of its eigenvalue, are the genes' loadings; h_i = Σ_f l_if² is what the factors tell of
gene i. Two genes correlate through the factors by Σ_f l_if · l_jf / √((h_i + c)(h_j + c)), c = SHRUNKEN · median of h:
their cosine, less where the factors tell little of a gene, whose cosines are noise. No label plays a part.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pairscape.model.edges.score_sets import Pool
from pairscape.pipeline.compute.session import Session

MAIN_FACTORS = 30  # 20 to 40 are the same within 0.002 of AUROC
SHRUNKEN = 2.0  # 0 orders pairs over many sets a little better (0.002), and comes again less in few cells
FEWEST_GENES, MOST_GENES = 100, 20_000  # the latter take 1.6 GB
LEAST_PAIRS = 0.5  # share of all pairs of the genes that the files have to hold

Reals = NDArray[np.float64]
Keys = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Factors:
    """Loadings of the genes.

    Attributes
    ----------
    loading : (G, MAIN_FACTORS) float64
        Of each gene of the union, below 1 in length; 0 of a gene without any.
    """

    loading: Reals

    def correlation(self, key: Keys) -> Reals:
        """(P,) correlations of pairs through the factors, −1 to 1; 0 where a gene has no loadings."""
        a, b = np.divmod(key, len(self.loading))
        return np.asarray(np.einsum("pf,pf->p", self.loading[a], self.loading[b]))


def find_factors(sources: Pool, session: Session) -> Factors | str:
    """The main factors of all pairs of some sets, or why there are none, in words.

    Memory: 4 bytes for each pair of the union's genes.
    """
    n_genes = len(sources.union.names)
    if n_genes > MOST_GENES:
        return f"the files have {n_genes:,} genes, whose matrix would take {4 * n_genes**2 / 1e9:.1f} GB"
    upper = np.zeros((n_genes, n_genes), np.float32)
    session.progress.start("reading pairs for the factors", len(sources.sources))
    for number in range(len(sources.sources)):
        _add(upper.ravel(), sources, number)
        session.progress.advance(1)
    used = int((upper.any(0) | upper.any(1)).sum())
    share = np.count_nonzero(upper) / max(used * (used - 1) / 2, 1)
    if used < FEWEST_GENES:
        return f"the files have pairs of {used:,} genes, and what many genes share takes {FEWEST_GENES} or more"
    if share < LEAST_PAIRS:
        return f"the files hold {share:.2g} of all pairs of their {used:,} genes, and the factors take {LEAST_PAIRS:g}"
    return Factors(loadings(upper))


def _add(total: NDArray[np.float32], sources: Pool, number: int) -> None:
    """Add the z of a set, less the means of either gene, to the matrix, gene_a · G + gene_b."""
    n_genes = len(sources.union.names)
    sums, pairs = np.zeros(n_genes), np.zeros(n_genes)
    for a, b, z in _z_of(sources, number):
        for gene in (a, b):
            sums += np.bincount(gene, z, n_genes)
            pairs += np.bincount(gene, minlength=n_genes)
    mean, of_all = sums / np.maximum(pairs, 1), sums.sum() / max(pairs.sum(), 1)
    for a, b, z in _z_of(sources, number):
        total[a * n_genes + b] += (z - mean[a] - mean[b] + of_all).astype(np.float32)


def _z_of(sources: Pool, number: int) -> Iterator[tuple[Keys, Keys, Reals]]:
    """Genes and z of the rows of a set, in blocks."""
    root = float(np.sqrt(sources.sets.cells[number]))
    for block in sources.blocks(number, ("gene_a", "gene_b", "correlation")):
        yield *np.divmod(block["key"], len(sources.union.names)), root * np.nan_to_num(block["correlation"])


def loadings(upper: NDArray[np.float32]) -> Reals:
    """Shrunken loadings (G, factors) by the upper triangle (G, G) of a symmetric matrix, with a diagonal of 0."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    def times(vector: NDArray[np.float32]) -> NDArray[np.float32]:
        vector = vector.ravel().astype(np.float32)
        return np.asarray(upper @ vector + vector @ upper)

    matrix, number = LinearOperator(upper.shape, times, dtype=np.float32), min(MAIN_FACTORS, len(upper) - 1)
    start = np.random.default_rng(0).normal(size=len(upper)).astype(np.float32)
    with threadpool_limits(limits=1):  # sums of floats depend on how many share them
        value, vector = eigsh(matrix, number, which="LA", v0=start)
    loading = vector.astype(np.float64) * np.sqrt(np.maximum(value, 0))
    told = np.square(loading).sum(1)
    some = told[told > 0]
    return loading / np.sqrt(told + SHRUNKEN * (np.median(some) if some.size else 1.0))[:, None]
