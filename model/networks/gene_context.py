"""What a network takes of each gene beside the image of the pair: images with its neighbours, or its loadings.

DeepDRIM takes images of each gene with itself and with the genes of highest covariance; `pairnet-factors` takes the
loadings of each gene on the leading factors of the matrix. Both depend on one gene alone and are made once for a store,
from its own codes: the cells are those of its images, under replicate labels the image half. Labels play no part.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from pairscape.model.networks.pairnet import FACTORS, LEVELS
from pairscape.model.networks.published import IMAGES_PER_GENE, NEIGHBOURS
from pairscape.pipeline.codes.store import CHUNK_GENES, Codes, block_cells, cell_blocks
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.images import Images, counted_codes

MAX_COVARIANCE_CELLS = 8192  # standard error of a correlation 0.011: more cells would hardly change the ten genes
GENES_AT_ONCE = 256  # rows of the covariance matrix that are held

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Images of every gene of a store's pairs with itself, then with its neighbours.

    Attributes
    ----------
    gene : (G,) int64
        Genes of the matrix, ascending.
    neighbour : (G, 10) int64
        Genes of the matrix of highest covariance with each, the highest first.
    counts : (G, 11, bins, bins) int16 or int32
        Joint counts; column = bin of the gene, row = bin of itself, then of each neighbour.
    both_zero : (G, 11) int32
        Cells in which neither gene is expressed.
    rows : (P, 2) int32
        For each pair of the store, where gene_a and gene_b stand in `gene`.
    """

    gene: Index
    neighbour: Index
    counts: Tensor
    both_zero: Tensor
    rows: NDArray[np.int32]


_kept: dict[str, Neighbourhoods] = {}  # of the last store, for training, validation and test


def neighbourhoods(images: Images) -> Neighbourhoods:
    """Neighbour images of a store, counted once; those of the last store are kept. Raises like `codes_of`."""
    if images.spec.plan_hash not in _kept:
        made = _count(codes_of(images), images)
        _kept.clear()
        _kept[images.spec.plan_hash] = made
    return _kept[images.spec.plan_hash]


def codes_of(images: Images) -> Codes:
    """The codes that a store was counted from, for the images of its genes' neighbours.

    Raises
    ------
    InputError
        The codes are gone or others, or their matrix has too few genes for ten neighbours.
    """
    codes = counted_codes(
        images, "deepdrim counts the neighbours' images from them", otherwise="choose another --network"
    )
    require_genes(codes, images.path)
    return codes


def require_genes(codes: Codes, source: Path | str) -> None:
    """Refuse (InputError) a matrix of fewer than eleven genes; `source` names it."""
    if codes.n_genes < IMAGES_PER_GENE:
        raise InputError(
            f"{source} is of {codes.n_genes} genes, and deepdrim looks at {NEIGHBOURS} neighbours of each; give a "
            f"matrix of {IMAGES_PER_GENE} genes or more, or choose another --network."
        )


def _count(codes: Codes, images: Images) -> Neighbourhoods:
    pairs = np.stack([images.array("gene_a"), images.array("gene_b")], axis=1)
    gene, rows = np.unique(pairs, return_inverse=True)
    neighbour = nearest_genes(codes, gene.astype(np.int64))
    counted = neighbour_images(codes, gene.astype(np.int64), neighbour)
    return Neighbourhoods(gene.astype(np.int64), neighbour, *counted, rows.reshape(pairs.shape).astype(np.int32))


def neighbour_images(codes: Codes, gene: Index, neighbour: Index) -> tuple[Tensor, Tensor]:
    """Joint counts of genes with themselves and their neighbours, (G, 11, bins, bins), and both zeros, (G, 11)."""
    others = np.concatenate([gene[:, None], neighbour], axis=1)  # (G, 11)
    counts, both_zero = count_pairs(codes, np.repeat(gene, IMAGES_PER_GENE), others.ravel())
    shape, bins = others.shape, codes.binning.bins
    return torch.from_numpy(counts).view(*shape, bins, bins), torch.from_numpy(both_zero).view(shape)


def nearest_genes(codes: Codes, genes: Index) -> Index:
    """The ten genes of highest covariance with each of some genes, highest first: (G,) to (G, 10).

    Covariance of log expression as binned in the codes, over all cells or `MAX_COVARIANCE_CELLS` at even distances.
    Signed, as published: a gene that falls where the other rises is no neighbour. Ties go to the gene that comes first.
    """
    expression = _binned_expression(codes)
    expression -= expression.mean(axis=1, keepdims=True)
    found = np.empty((genes.size, NEIGHBOURS), np.int64)
    for start in range(0, genes.size, GENES_AT_ONCE):
        some = genes[start : start + GENES_AT_ONCE]
        covariance = expression[some] @ expression.T  # times the number of cells, which orders nothing
        covariance[np.arange(some.size), some] = -np.inf
        found[start : start + some.size] = np.argsort(-covariance, axis=1, kind="stable")[:, :NEIGHBOURS]
    return found


def _binned_expression(codes: Codes) -> NDArray[np.float32]:
    """Expression of all genes in some cells, to within half a bin: (G, cells) float32."""
    coded = evenly_coded(codes, MAX_COVARIANCE_CELLS)
    edges = codes.array("edges").astype(np.float32)
    middle = np.concatenate([np.zeros_like(edges[:, :1]), (edges[:, :-1] + edges[:, 1:]) / 2], axis=1)  # (G, bins + 1)
    expression = np.empty(coded.shape, np.float32)
    for gene, row in enumerate(coded):
        expression[gene] = middle[gene][row]
    return expression


def evenly_coded(codes: Codes, most: int) -> NDArray[np.uint8]:
    """Codes of all genes in all cells, or in so many of them at even distances: (G, cells) uint8."""
    chosen = np.arange(codes.n_cells)
    if codes.n_cells > most:
        chosen = np.linspace(0, codes.n_cells - 1, most).astype(np.int64)
    coded = np.empty((codes.n_genes, chosen.size), np.uint8)
    for start in range(0, codes.n_genes, CHUNK_GENES):
        some = np.arange(start, min(start + CHUNK_GENES, codes.n_genes))
        for number, cells in enumerate(cell_blocks(codes.n_cells)):
            inside = np.searchsorted(chosen, [cells.start, cells.stop])
            own = slice(int(inside[0]), int(inside[1]))
            coded[some, own] = codes.read(some, cells)[:, chosen[own] - block_cells(number).start]
    return coded


# ---------------------------------------------------------------- loadings on the factors of a matrix

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
        """Absolute correlation of some pairs through the factors alone, least lowered, (R,)."""
        first = self.gene[:, :FACTORS]
        parts = np.array_split(self.pairs[rows], rows.size // AT_ONCE + 1)
        return np.concatenate([np.abs((first[pair[:, 0]] * first[pair[:, 1]]).sum(1)) for pair in parts])


_kept_loadings: dict[str, Loadings] = {}  # of the last store


def store_loadings(images: Images) -> Loadings:
    """Loadings of a store; made at the first call, those of the last store are kept. Raises like `factor_codes`."""
    if images.spec.plan_hash not in _kept_loadings:
        pairs = np.stack([images.array("gene_a"), images.array("gene_b")], axis=1)
        made = Loadings(gene_loadings(factor_codes(images)), pairs)
        _kept_loadings.clear()
        _kept_loadings[images.spec.plan_hash] = made
    return _kept_loadings[images.spec.plan_hash]


def factor_codes(images: Images) -> Codes:
    """The codes that a store was counted from, for the factors of their matrix.

    Raises
    ------
    InputError
        The codes are gone or others, or their matrix has fewer than eleven genes.
    """
    codes = counted_codes(
        images, "pairnet-factors reads what all genes share from them", otherwise="choose another --network"
    )
    require_factor_genes(codes)
    return codes


def require_factor_genes(codes: Codes) -> None:
    """Refuse (InputError) a matrix of fewer than eleven genes: they share no factors."""
    if codes.n_genes < FEWEST_GENES:
        raise InputError(
            f"{codes.path} is of {codes.n_genes} genes, and pairnet-factors reads what many genes share; give a matrix "
            f"of {FEWEST_GENES} genes or more, best of hundreds, or choose another --network."
        )


def gene_loadings(codes: Codes) -> Floats:
    """Loadings of all genes of a matrix on its factors, level by level of `LEVELS`: (G, GENE_LOADINGS).

    The scalar product of two genes' loadings of a level is their correlation through the factors: the programs of
    expression (cell types, states, depth) that hundreds of genes share, known far better than the correlation of the
    pair alone where cells are few and genes sparse. The factors are principal components of the normal scores. Noise
    alone has components too, with eigenvalues up to an edge (Marchenko & Pastur 1967); every eigenvalue is lowered by a
    share of that edge.
    """
    with threadpool_limits(limits=1):  # sums of floats depend on how many share them
        scores = normal_scores(evenly_coded(codes, MAX_FACTOR_CELLS), codes.binning.bins)
        loadings = principal_loadings(scores, FACTORS)
    return lowered(loadings, noise_edge(*scores.shape))


def normal_scores(coded: NDArray[np.uint8], bins: int) -> Floats:
    """Codes (G, N) to normal scores of each gene's mid-ranks, of mean 0 and length 1; a constant gene is all 0."""
    from scipy.special import ndtri

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
    from scipy.linalg import eigh

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
