"""Dependence of the two genes of a pair from their joint counts alone: no label, no network. Pure.

The audit sets these beside the network's scores, the screen ranks by them.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.heatmaps.strata import StratifiedMargins

Counts = NDArray[np.integer]
Values = NDArray[np.float64]

SCREEN_BINS = 3  # low, middle, high: fewest that see a rise and a fall; more bins are more noise (docs/predict.md)
KERNEL_WIDTH = 0.15  # of the Gaussian of HSIC, as a share of the cells: about a half of the deviation of ranks


def spearman(counts: Counts) -> Values:
    """Spearman's correlation over the binned cells, signed, (P,); 0 where a gene has all cells in one bin.

    `counts`: (P, bins, bins) cells, row = bin of gene b, column = bin of gene a. Cells of a bin share the average of
    their ranks.
    """
    return np.asarray(_spearman(_contiguous(counts)))


def mutual_information(counts: Counts, bins: int) -> Values:
    """Mutual information of (P, K, K) counts in nats, (P,), less the bias of Miller (1955): it may be below 0.

    Neighbouring bins are summed until at most `bins` are left of each gene: finer ones measure the number of empty
    bins.
    """
    counts = _contiguous(counts)
    likelihood, freedom = _likelihood_ratio(counts, _groups(counts.shape[1], bins))
    cells = counts.sum(axis=(1, 2), dtype=np.float64)
    return np.asarray((likelihood - freedom / 2) / cells)


def dependence(counts: Counts, correlation: Values) -> Values:
    """Standard deviations of a pair from independence, (P,), at least 0; the screen ranks by it.

    The larger of two: √n |Spearman| (`correlation`), and √(2 G) − √(2 f − 1) of the likelihood ratio G of the cells in
    3 × 3 bins, with f degrees of freedom (Fisher's approximation), which sees a pair that rises and falls again.
    """
    counts = _contiguous(counts)
    likelihood, freedom = _likelihood_ratio(counts, _groups(counts.shape[1], SCREEN_BINS))
    cells = counts[:1].sum(dtype=np.float64)  # as many in every image
    ratio = np.sqrt(np.maximum(4 * likelihood, 0)) - np.sqrt(np.maximum(2 * freedom - 1, 0))
    return np.asarray(np.maximum(np.sqrt(cells) * np.abs(correlation), ratio))


def associations(counts: Counts, within: StratifiedMargins | None = None) -> tuple[Values, Values]:
    """Spearman's correlation, and `dependence`, (P,) each; beyond strata of the cells where `within` is given.

    Within strata the correlation is that of the ranks over all cells less their means in each stratum, and the
    deviation of their covariance is that of genes which are independent within each; the likelihood ratio is taken
    against the counts that such genes would have, and its freedom stays, which is more than it has.
    """
    if within is None:
        correlation = spearman(counts)
        return correlation, dependence(counts, correlation)
    counts, group = _contiguous(counts), _groups(counts.shape[1], SCREEN_BINS)
    correlation, deviation = np.zeros(len(counts)), np.zeros(len(counts))
    rows = within.row_a.astype(np.int64), within.row_b.astype(np.int64)
    _spearman_within(counts, within.cells, *rows, correlation, deviation)
    likelihood, freedom = _likelihood_ratio_within(counts, group, within.cells, *rows)
    ratio = np.sqrt(np.maximum(4 * likelihood, 0)) - np.sqrt(np.maximum(2 * freedom - 1, 0))
    return correlation, np.asarray(np.maximum(np.abs(deviation), ratio))


def distance_correlation(counts: Counts) -> Values:
    """Distance correlation (Székely 2007) of the ranks of the cells, (P,), 0 to 1; 0 for a gene with one bin.

    Cells of a bin share the average of their ranks, and all pairs of cells count (the V-statistic). Cells of one cell
    of the image are alike, so it is exact from `counts` (P, bins, bins) in the time of bins³.
    """
    return np.sqrt(np.asarray(_kernel_correlation(_contiguous(counts), 0.0)))


def hsic(counts: Counts) -> Values:
    """Hilbert-Schmidt independence criterion (Gretton 2005) of the ranks of the cells, (P,), 0 to 1; as above.

    Of Gaussian kernels as wide as `KERNEL_WIDTH` of the cells, over the root of the product of each gene's own.
    """
    return np.asarray(_kernel_correlation(_contiguous(counts), KERNEL_WIDTH))


def _contiguous(counts: Counts) -> NDArray[np.uint32]:
    return np.ascontiguousarray(counts, np.uint32)  # one type: each would be compiled anew


def _groups(bins: int, pooled: int) -> NDArray[np.int64]:
    """The group of neighbouring bins that each bin belongs to, (bins,); at most so many groups of about equal size."""
    first = np.zeros(bins, np.int64)
    first[np.linspace(0, bins, min(pooled, bins), endpoint=False).astype(np.int64)[1:]] = 1
    return np.cumsum(first)


@numba.njit(nogil=True, cache=True)
def _margins(image, margin_a, margin_b):  # type: ignore[no-untyped-def]
    margin_a[:] = 0
    for kb in range(image.shape[0]):
        row, total = image[kb], 0.0
        for ka in range(row.size):
            total += row[ka]
            margin_a[ka] += row[ka]
        margin_b[kb] = total


@numba.njit(nogil=True, cache=True)
def _rank(margin, cells, rank):  # type: ignore[no-untyped-def]
    """Average rank of the cells of each bin, from the middle one; returns the sum of squares over cells."""
    before, squares = 0.0, 0.0
    for k in range(margin.size):
        rank[k] = before + margin[k] / 2 - cells / 2
        before += margin[k]
        squares += margin[k] * rank[k] * rank[k]
    return squares


@numba.njit(nogil=True, cache=True)
def _spearman(counts):  # type: ignore[no-untyped-def]
    bins = counts.shape[1]
    found = np.zeros(counts.shape[0])
    margin_a, margin_b, rank_a, rank_b = np.empty(bins), np.empty(bins), np.empty(bins), np.empty(bins)
    for p in range(counts.shape[0]):
        image = counts[p]
        _margins(image, margin_a, margin_b)
        cells = margin_b.sum()
        scale = np.sqrt(_rank(margin_a, cells, rank_a) * _rank(margin_b, cells, rank_b))
        together = 0.0
        for kb in range(bins):
            row, along = image[kb], 0.0
            for ka in range(bins):
                along += row[ka] * rank_a[ka]
            together += along * rank_b[kb]
        if scale > 0:
            found[p] = together / scale
    return found


@numba.njit(nogil=True, cache=True)
def _ranks_by_stratum(cells):  # type: ignore[no-untyped-def]
    """Ranks of the bins over all cells, (G, K); √n_s × mean, √n_s × variance and n_s × variance of them, (G, S) each.

    Products of the first two of two genes are sums over the cells of a stratum.
    """
    n_genes, n_strata, bins = cells.shape
    rank, margin = np.empty((n_genes, bins)), np.empty(bins)
    mean, variance, squares = np.zeros((3, n_genes, n_strata))
    for g in range(n_genes):
        margin[:] = 0
        for s in range(n_strata):
            margin += cells[g, s]
        _rank(margin, margin.sum(), rank[g])
        for s in range(n_strata):
            number, total = 0.0, 0.0
            for k in range(bins):
                number += cells[g, s, k]
                total += cells[g, s, k] * rank[g, k]
            for k in range(bins):
                squares[g, s] += cells[g, s, k] * (rank[g, k] - total / number) ** 2
            mean[g, s], variance[g, s] = total / np.sqrt(number), squares[g, s] / np.sqrt(number)
    return rank, mean, variance, squares


@numba.njit(nogil=True, cache=True)
def _spearman_within(counts, cells, row_a, row_b, correlation, deviation):  # type: ignore[no-untyped-def]
    bins, n_strata = counts.shape[1], cells.shape[1]
    rank, mean, spread, squares = _ranks_by_stratum(cells)
    for p in range(counts.shape[0]):
        a, b, together, variance = row_a[p], row_b[p], 0.0, 0.0
        for kb in range(bins):
            along = 0.0
            for ka in range(bins):
                along += counts[p, kb, ka] * rank[a, ka]
            together += along * rank[b, kb]
        for s in range(n_strata):
            together -= mean[a, s] * mean[b, s]
            variance += spread[a, s] * spread[b, s]
        scale = np.sqrt(squares[a].sum() * squares[b].sum())
        if scale > 0:
            correlation[p] = together / scale
        if variance > 0:
            deviation[p] = together / np.sqrt(variance)


@numba.njit(nogil=True, cache=True)
def _likelihood_ratio_within(counts, group, cells, row_a, row_b):  # type: ignore[no-untyped-def]
    """As `_likelihood_ratio`, against independence within every stratum."""
    bins, n_groups, (n_genes, n_strata, _) = counts.shape[1], group[-1] + 1, cells.shape
    found, freedom = np.empty(counts.shape[0]), np.empty(counts.shape[0])
    margin, share = np.zeros((n_genes, n_strata, n_groups)), np.zeros((n_genes, n_strata, n_groups))
    for g in range(n_genes):
        for s in range(n_strata):
            for k in range(bins):
                margin[g, s, group[k]] += cells[g, s, k]
            share[g, s] = margin[g, s] / margin[g, s].sum()
    pooled, expected = np.empty((n_groups, n_groups)), np.empty((n_groups, n_groups))
    for p in range(counts.shape[0]):
        pooled[:], expected[:] = 0, 0
        of_a, of_b, total = margin[row_a[p]], share[row_b[p]], 0.0
        for kb in range(bins):
            for ka in range(bins):
                pooled[group[kb], group[ka]] += counts[p, kb, ka]
        for s in range(n_strata):
            for kb in range(n_groups):
                for ka in range(n_groups):
                    expected[kb, ka] += of_b[s, kb] * of_a[s, ka]
        for kb in range(n_groups):
            for ka in range(n_groups):
                if pooled[kb, ka] > 0 and expected[kb, ka] > 0:
                    total += pooled[kb, ka] * np.log(pooled[kb, ka] / expected[kb, ka])
        there_a, there_b = (of_a.sum(0) > 0).sum(), (of_b.sum(0) > 0).sum()
        found[p], freedom[p] = total, (there_a - 1) * (there_b - 1)
    return found, freedom


@numba.njit(nogil=True, cache=True)
def _likelihood_ratio(counts, group):  # type: ignore[no-untyped-def]
    """Half of G, which is cells × information, and the degrees of freedom, of cells in groups of bins: (P,) each."""
    bins, n_groups = counts.shape[1], group[-1] + 1
    found, freedom = np.empty(counts.shape[0]), np.empty(counts.shape[0])
    pooled, margin_a, margin_b = np.empty((n_groups, n_groups)), np.empty(n_groups), np.empty(n_groups)
    for p in range(counts.shape[0]):
        pooled[:] = 0
        for kb in range(bins):
            row, into = counts[p, kb], pooled[group[kb]]
            for ka in range(bins):
                into[group[ka]] += row[ka]
        _margins(pooled, margin_a, margin_b)
        cells, total = margin_b.sum(), 0.0
        for kb in range(n_groups):
            for ka in range(n_groups):
                if pooled[kb, ka] > 0:
                    total += pooled[kb, ka] * np.log(pooled[kb, ka] * cells / (margin_a[ka] * margin_b[kb]))
        found[p], freedom[p] = total, ((margin_a > 0).sum() - 1) * ((margin_b > 0).sum() - 1)
    return found, freedom


@numba.njit(nogil=True, cache=True)
def _likeness(margin, width, rank, centred):  # type: ignore[no-untyped-def]
    """Distance of the bins' ranks, or their Gaussian, less its means over the cells; returns its sum of squares."""
    cells = margin.sum()
    _rank(margin, cells, rank)
    for k in range(rank.size):
        for other in range(rank.size):
            apart = np.abs(rank[k] - rank[other]) / cells
            centred[k, other] = apart if width == 0 else np.exp(-((apart / width) ** 2) / 2)
    mean = centred @ margin / cells
    grand = (mean * margin).sum() / cells
    squares = 0.0
    for k in range(rank.size):
        for other in range(rank.size):
            centred[k, other] += grand - mean[k] - mean[other]
            squares += centred[k, other] ** 2 * margin[k] * margin[other]
    return squares


@numba.njit(nogil=True, cache=True)
def _kernel_correlation(counts, width):  # type: ignore[no-untyped-def]
    """Sum over all pairs of cells of what they are alike in both genes, over the root of each gene's own: (P,)."""
    bins = counts.shape[1]
    found = np.zeros(counts.shape[0])
    margin_a, margin_b, rank = np.empty(bins), np.empty(bins), np.empty(bins)
    like_a, like_b, image = np.empty((bins, bins)), np.empty((bins, bins)), np.empty((bins, bins))
    of_a, squares = np.zeros(bins), 0.0  # pairs of one gene a follow each other, and what margins decide stays
    for p in range(counts.shape[0]):
        image[:] = counts[p]
        _margins(image, margin_a, margin_b)
        if (margin_a > 0).sum() < 2 or (margin_b > 0).sum() < 2:
            continue
        if (margin_a != of_a).any():
            squares = _likeness(margin_a, width, rank, like_a)
            of_a[:] = margin_a
        scale = np.sqrt(squares * _likeness(margin_b, width, rank, like_b))
        found[p] = max(_together(image, like_a, like_b) / scale, 0.0)
    return found


@numba.njit(nogil=True, cache=True)
def _together(image, like_a, like_b):  # type: ignore[no-untyped-def]
    """Σ image[b, a] image[d, c] like_a[a, c] like_b[b, d]."""
    bins = image.shape[0]
    along, across, total = np.empty(bins), np.empty(bins), 0.0
    for b in range(bins):
        along[:], across[:] = 0, 0
        for k in range(bins):
            cells, weight = image[b, k], like_b[b, k]
            if cells > 0:
                for c in range(bins):
                    along[c] += cells * like_a[k, c]
            for c in range(bins):
                across[c] += weight * image[k, c]
        for c in range(bins):
            total += along[c] * across[c]
    return total
