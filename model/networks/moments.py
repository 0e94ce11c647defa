"""Rank moments of images by compiled code: what `model.networks.momentnet` defines, for scoring on a CPU. Pure."""

import numba
import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.heatmaps.strata import StratifiedMargins

Floats = NDArray[np.float32]

LEAST_LEFT = 1e-6  # of the variance of a moment, within strata: less is rounding


def moments_and_strength(
    counts: NDArray[np.number], degree: int, smallest_variance: float, upward: float, not_monotone: float
) -> tuple[Floats, Floats, Floats]:
    """Moments, strength and numbers of cells of pairs, as `momentnet` defines them (`log_sizes` takes the last).

    Parameters
    ----------
    counts : (P, K, K)
        Cells, row = bin of gene b.
    degree, smallest_variance, upward, not_monotone
        The constants of `momentnet`.

    Returns
    -------
    (P, degree + 1, degree + 1), (P,), (P, 4)
    """
    shapes = (len(counts), degree + 1, degree + 1), (len(counts),), (len(counts), 4)
    found = np.empty(shapes[0], np.float32), np.empty(shapes[1], np.float32), np.empty(shapes[2], np.float32)
    _moments(counts, degree, smallest_variance, upward, not_monotone, *found)
    return found


def moments_within(
    counts: NDArray[np.number],
    within: StratifiedMargins,
    degree: int,
    smallest_variance: float,
    upward: float,
    not_monotone: float,
) -> tuple[Floats, Floats, Floats]:
    """The same beyond what strata of the cells explain.

    A moment of functions f of gene a and g of gene b, which are those of all cells, is
    (Σ f g over the cells − Σ_s n_s mean_s(f) mean_s(g)) / √(Σ_s n_s var_s(f) var_s(g)), over strata s of n_s cells: of
    genes that are independent within each stratum it has mean 0 and variance 1. It is 0 where one of the two does not
    vary within any stratum. The strength is of correlations of the scores less their means within the strata.

    Parameters
    ----------
    within
        Margins by stratum of the pairs, in the bins of `counts`.
    """
    n_genes, n_strata, bins = within.cells.shape
    functions = np.zeros((n_genes, bins, degree + 3))
    mean, variance = np.zeros((n_genes, n_strata, degree + 3)), np.zeros((n_genes, n_strata, degree + 3))
    _describe(within.cells, degree, smallest_variance, upward, functions, mean, variance)
    moments, strength = np.empty((len(counts), degree + 1, degree + 1), np.float32), np.empty(len(counts), np.float32)
    # √n_s goes to either side, so that products of two genes are sums over cells
    root = np.sqrt(within.cells.sum(2, dtype=np.float64))[:, :, None]  # (G, S, 1)
    mean, variance, rows = mean * root, variance * root, (within.row_a, within.row_b)
    left = (variance * root).sum(1)  # (G, functions)
    _moments_within(counts, functions, mean, variance, left, *rows, not_monotone, moments, strength)
    margin = within.cells.sum(1, dtype=np.int64)
    of_a, of_b, filled = margin[rows[0]], margin[rows[1]], (margin[:, 1:] > 0).sum(1)
    known = [of_a.sum(1), of_a[:, 0], of_b[:, 0], filled[rows[0]] * filled[rows[1]]]
    return moments, strength, np.stack(known, axis=1).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _describe(cells, degree, smallest_variance, upward, functions, mean, variance):  # type: ignore[no-untyped-def]
    """Functions of each gene's bins over all cells, and their means and variances in each stratum."""
    n_genes, n_strata, bins = cells.shape
    margin, shown, room = np.empty(bins), np.full(bins, -1.0), np.empty((3, degree + 2, bins))
    own = np.zeros((bins, degree + 3))
    for gene in range(n_genes):
        margin[:] = 0
        for s in range(n_strata):
            for k in range(bins):
                margin[k] += cells[gene, s, k]
        _functions(margin, shown, degree, smallest_variance, upward, room, own)
        functions[gene] = own
        for s in range(n_strata):
            total = 0.0
            for k in range(bins):
                number = np.float64(cells[gene, s, k])
                total += number
                if number != 0:
                    for f in range(degree + 3):
                        mean[gene, s, f] += number * own[k, f]
                        variance[gene, s, f] += number * own[k, f] ** 2
            for f in range(degree + 3):
                mean[gene, s, f] /= max(total, 1.0)
                variance[gene, s, f] = max(variance[gene, s, f] / max(total, 1.0) - mean[gene, s, f] ** 2, 0.0)


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _moments_within(  # type: ignore[no-untyped-def]
    counts, functions, mean, variance, left, row_a, row_b, not_monotone, moments, strength
):
    bins, n_strata, width = counts.shape[1], mean.shape[1], mean.shape[2]
    m, along = width - 2, np.empty(width)
    total, spread = np.empty((width, width)), np.empty((width, width))
    for p in range(counts.shape[0]):
        a, b, cells = row_a[p], row_b[p], 0.0
        of_a, of_b = functions[a], functions[b]
        total[:], spread[:] = 0, 0
        for kb in range(bins):
            along[:], row = 0, 0.0
            for ka in range(bins):
                number = np.float64(counts[p, kb, ka])
                if number != 0:
                    row += number
                    for f in range(width):
                        along[f] += number * of_a[ka, f]
            if row != 0:
                cells += row
                for g in range(width):
                    for f in range(width):
                        total[g, f] += of_b[kb, g] * along[f]
        for s in range(n_strata):
            for g in range(width):
                mean_b, variance_b = mean[b, s, g], variance[b, s, g]
                for f in range(width):
                    total[g, f] -= mean_b * mean[a, s, f]
                    spread[g, f] += variance_b * variance[a, s, f]
        for g in range(m):
            for f in range(m):
                there = spread[g, f] > LEAST_LEFT * cells
                moments[p, g, f] = total[g, f] / np.sqrt(spread[g, f]) if there else 0.0
        strength[p] = 0
        for g in range(m, width):
            for f in range(m, width):
                weight = 1.0 if g == f == m else not_monotone
                scale = np.sqrt(left[a, f] * left[b, g])
                if scale > LEAST_LEFT * cells:
                    strength[p] = max(strength[p], min(weight * abs(total[g, f]) / scale, 1.0))


@numba.njit(nogil=True, cache=True)
def _moments(counts, degree, smallest_variance, upward, not_monotone, moments, strength, known):  # type: ignore[no-untyped-def]
    n_pairs, bins = counts.shape[0], counts.shape[1]
    m = degree + 1
    margin_a, margin_b = np.zeros(bins), np.zeros(bins)
    of_a, of_b = np.zeros((bins, m + 2)), np.zeros((bins, m + 2))
    shown_a, shown_b = np.full(bins, -1.0), np.full(bins, -1.0)  # the margins that the functions are of
    room = np.empty((3, degree + 2, bins))
    along, total = np.empty(m + 2), np.empty((m + 2, m + 2))
    for p in range(n_pairs):
        image = counts[p]
        margin_a[:] = 0
        for kb in range(bins):
            row = 0.0
            for ka in range(bins):
                row += image[kb, ka]
                margin_a[ka] += image[kb, ka]
            margin_b[kb] = row
        _functions(margin_a, shown_a, degree, smallest_variance, upward, room, of_a)
        _functions(margin_b, shown_b, degree, smallest_variance, upward, room, of_b)
        total[:] = 0
        for kb in range(bins):
            if margin_b[kb] == 0:
                continue
            along[:] = 0
            for ka in range(bins):
                cells = image[kb, ka]
                if cells != 0:
                    for f in range(m + 2):
                        along[f] += cells * of_a[ka, f]
            for g in range(m + 2):
                for f in range(m + 2):
                    total[g, f] += of_b[kb, g] * along[f]
        cells = max(margin_b.sum(), 1.0)
        for g in range(m):
            for f in range(m):
                moments[p, g, f] = total[g, f] / np.sqrt(cells)
        other = max(abs(total[m + 1, m]), abs(total[m, m + 1]), abs(total[m + 1, m + 1]))
        strength[p] = max(abs(total[m, m]), not_monotone * other) / cells
        known[p, 0], known[p, 1], known[p, 2] = margin_b.sum(), margin_a[0], margin_b[0]
        known[p, 3] = _filled(margin_a) * _filled(margin_b)


@numba.njit(nogil=True, cache=True)
def _filled(margin):  # type: ignore[no-untyped-def]
    """Bins with cells, but for the lowest."""
    filled = 0
    for k in range(1, margin.size):
        filled += margin[k] > 0
    return filled


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _functions(margin, shown, degree, smallest_variance, upward, room, functions):  # type: ignore[no-untyped-def]
    """Functions of the bins, (K, degree + 3): those of the moments, then the two standard scores of the strength.

    `room` (3, degree + 2, K): polynomials, the same times the cells' shares, and the scores.
    """
    bins, same, cells = margin.size, True, 0.0
    for k in range(bins):
        same &= margin[k] == shown[k]
        cells += margin[k]
    if same:
        return
    share, own, weighed, scores = room[2, 2], room[0], room[1], room[2]
    for k in range(bins):
        shown[k] = margin[k]
        share[k] = margin[k] / max(cells, 1.0)
    expressed = max(1 - share[0], 0.0) if cells > 0 else 0.0
    spread = share[0] * expressed**2 + expressed * (1 - expressed) ** 2
    scale, level, before = 1 / np.sqrt(spread + 1e-9), 1 / np.sqrt(max(expressed, 1e-9)), 0.0
    for k in range(bins):
        functions[k, 0] = ((1.0 if k else 0.0) - expressed) * scale
        rank = before + share[k] / 2
        scores[0, k], scores[1, k] = rank + upward * rank**2, (rank - 0.5) ** 2
        own[0, k] = 1.0
        own[1, k] = 2 * (rank - share[0]) / max(expressed, 1e-9) - 1
        before += share[k]
    for d in range(1, degree):
        for k in range(bins):
            own[d + 1, k] = ((2 * d + 1) * own[1, k] * own[d, k] - d * own[d - 1, k]) / (d + 1)
    own[:, 0] = 0
    for k in range(bins):
        own[0, k] *= level
        weighed[0, k] = own[0, k] * share[k]
    for d in range(1, degree + 1):
        for e in range(d):
            onto = 0.0
            for k in range(bins):
                onto += own[d, k] * weighed[e, k]
            for k in range(bins):
                own[d, k] -= onto * own[e, k]
        variance = 0.0
        for k in range(bins):
            variance += own[d, k] ** 2 * share[k]
        scale = 1 / np.sqrt(variance) if variance > smallest_variance * expressed else 0.0
        for k in range(bins):
            own[d, k] *= scale
            weighed[d, k] = own[d, k] * share[k]
            functions[k, d] = own[d, k]
    for s in range(2):
        mean, variance = 0.0, 0.0
        for k in range(bins):
            mean += scores[s, k] * share[k]
        for k in range(bins):
            variance += (scores[s, k] - mean) ** 2 * share[k]
        for k in range(bins):
            functions[k, degree + 1 + s] = (scores[s, k] - mean) / np.sqrt(variance + 1e-9)
