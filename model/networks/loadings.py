"""What each gene shares with all others: its loadings on the leading factors of the matrix, for `pairnet-factors`.

Genes that follow the same few programs of expression (cell types, states, depth) are correlated through them, and a
program shows in hundreds of genes at once. So the correlation that two genes have through the leading factors is known
far better than that of the pair alone, above all where cells are few and genes sparse.

The factors are principal components of the normal scores: mid-ranks of each gene over the cells, as quantiles of a
normal distribution, of mean 0 and length 1. Noise alone has components too, with eigenvalues up to an edge that random
matrix theory knows (Marchenko & Pastur 1967). Every eigenvalue is lowered by a share of that edge, and none is below 0:
so what counts as a factor adapts to the numbers of cells and genes. Labels play no part, and the cells are those of the
images: under replicate labels the image half, the label half is never seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from pairscape.model.networks.gene_context import evenly_coded
from pairscape.model.networks.pairnet import FACTORS, LEVELS
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images, counted_codes

MAX_FACTOR_CELLS = 2048  # standard error of one correlation 0.022, of a factor far less; some seconds of one core
AT_ONCE = 2**16  # pairs whose loadings are multiplied together: 16 MB
FEWEST_GENES = 11  # as deepdrim needs: of fewer, what they share is the pair itself

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Loadings:
    """Loadings of the genes of a store.

    Attributes
    ----------
    gene : (G, GENE_LOADINGS) float32
        Of all genes of the matrix, as `gene_loadings` has them.
    pairs : (P, 2) int32
        gene_a and gene_b of each pair of the store.
    """

    gene: Floats
    pairs: NDArray[np.int32]

    def of(self, rows: NDArray[np.int64]) -> Floats:
        """Of both genes of some pairs, (R, 2, GENE_LOADINGS)."""
        return self.gene[self.pairs[rows]]

    def correlation(self, rows: NDArray[np.int64]) -> Floats:
        """Absolute correlation of some pairs through the factors alone, least lowered, (R,): nothing is learned."""
        first = self.gene[:, :FACTORS]
        parts = np.array_split(self.pairs[rows], rows.size // AT_ONCE + 1)
        return np.concatenate([np.abs((first[pair[:, 0]] * first[pair[:, 1]]).sum(1)) for pair in parts])


_kept: dict[str, Loadings] = {}  # of the last store: training, validation and test ask again and again


def store_loadings(images: Images) -> Loadings:
    """Loadings of a store; made at the first call, those of the last store are kept.

    Raises
    ------
    InputError
        As `factor_codes`.
    """
    if images.spec.plan_hash not in _kept:
        pairs = np.stack([images.array("gene_a"), images.array("gene_b")], axis=1)
        made = Loadings(gene_loadings(factor_codes(images)), pairs)
        _kept.clear()
        _kept[images.spec.plan_hash] = made
    return _kept[images.spec.plan_hash]


def factor_codes(images: Images) -> Codes:
    """The codes that a store was counted from, for the factors of their matrix.

    Raises
    ------
    InputError
        As `pipeline.heatmaps.images.counted_codes`, or `require_factor_genes`.
    """
    codes = counted_codes(
        images, "pairnet-factors reads what all genes share from them", otherwise="choose another --network"
    )
    require_factor_genes(codes)
    return codes


def require_factor_genes(codes: Codes) -> None:
    """Refuse a matrix of too few genes to share factors.

    Raises
    ------
    InputError
        It has fewer than eleven.
    """
    if codes.n_genes < FEWEST_GENES:
        raise InputError(
            f"{codes.path} is of {codes.n_genes} genes, and pairnet-factors reads what many genes share; give a matrix "
            f"of {FEWEST_GENES} genes or more, best of hundreds, or choose another --network."
        )


def gene_loadings(codes: Codes) -> Floats:
    """Loadings of all genes of a matrix on its factors, level by level of `LEVELS`: (G, GENE_LOADINGS).

    The scalar product of two genes' loadings of a level is their correlation through the factors.
    """
    with threadpool_limits(limits=1):  # sums of floats depend on how many share them
        scores = normal_scores(evenly_coded(codes, MAX_FACTOR_CELLS), codes.binning.bins)
        loadings = principal_loadings(scores, FACTORS)
    return lowered(loadings, noise_edge(*scores.shape))


def normal_scores(coded: NDArray[np.uint8], bins: int) -> Floats:
    """Codes (G, N) to normal scores of each gene's mid-ranks, of mean 0 and length 1; a constant gene is all 0."""
    scores = np.empty(coded.shape, np.float32)
    for gene, row in enumerate(coded):
        count = np.bincount(row, minlength=bins + 1)
        score = np.where(count > 0, ndtri((np.cumsum(count) - count / 2) / row.size), 0)
        score -= (count * score).sum() / row.size
        length = np.sqrt((count * score**2).sum())
        scores[gene] = (score / length if (count > 0).sum() > 1 else np.zeros_like(score))[row]
    return scores


def principal_loadings(scores: Floats, factors: int) -> Floats:
    """Loadings on the first principal components of (G, N) scores, (G, factors): zero beyond the rank."""
    by_gene = scores.shape[0] <= scores.shape[1]
    gram = (scores @ scores.T if by_gene else scores.T @ scores).astype(np.float64)
    value, vector = eigh(gram, subset_by_index=[max(len(gram) - factors, 0), len(gram) - 1])
    found = vector * np.sqrt(np.maximum(value, 0)) if by_gene else scores @ vector
    return np.pad(found[:, ::-1], [(0, 0), (0, factors - found.shape[1])]).astype(np.float32)


def noise_edge(n_genes: int, n_cells: int) -> float:
    """About the largest eigenvalue of the correlations of independent genes, if there are so many of them and cells."""
    return float((1 + np.sqrt(n_genes / n_cells)) ** 2)


def lowered(loadings: Floats, edge: float) -> Floats:
    """Loadings (G, factors) with every eigenvalue lowered by shares of the noise edge: (G, levels × factors)."""
    eigenvalue = np.maximum(np.square(loadings.astype(np.float64)).sum(0), 1e-12)
    left = [np.sqrt(np.maximum(1 - level * edge / eigenvalue, 0)) for level in LEVELS]
    return np.concatenate([loadings * share for share in left], axis=1).astype(np.float32)
