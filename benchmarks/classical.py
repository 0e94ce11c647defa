"""Classical tests of dependence, of many pairs of genes over the same cells: the rivals of `benchmarks.independence`.

Each takes the pairs of `Sample` and gives a value per pair, the higher the less independent. Those that would take
minutes take the first so many pairs (`MOST`), of which kinds and independent pairs come in turns.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chatterjeexi, kendalltau, multiscale_graphcorr, rankdata
from sklearn.feature_selection import mutual_info_regression

from pairscape.model.evaluation import association

MOST = {"KSG mutual information": 1000, "MGC": 60}  # pairs; others take all
MGC_CELLS = 400  # its time grows with the square of the cells, so it takes the first so many of them

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Pairs of genes.

    Attributes
    ----------
    a, b : (P, N) float32
        Expression.
    counts : (P, bins, bins) uint32
        The image of each pair.
    both_zero : (P,) uint32
        Cells in which neither gene is expressed.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    counts: NDArray[np.uint32]
    both_zero: NDArray[np.uint32]

    def first(self, number: int) -> "Sample":
        """The first pairs."""
        return Sample(self.a[:number], self.b[:number], self.counts[:number], self.both_zero[:number])


def _correlation(a: Values, b: Values) -> Values:
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.abs(np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 0))


def pearson(sample: Sample) -> Values:
    return _correlation(sample.a.astype(np.float64), sample.b.astype(np.float64))


def spearman(sample: Sample) -> Values:
    return _correlation(rankdata(sample.a, axis=1), rankdata(sample.b, axis=1))


def kendall(sample: Sample) -> Values:
    found = [kendalltau(a, b).statistic for a, b in zip(sample.a, sample.b, strict=True)]
    return np.abs(np.nan_to_num(found))


def chatterjee(sample: Sample) -> Values:
    """The larger of both directions."""
    with np.errstate(all="ignore"):  # of its p-value, which is not used
        found = [max(_xi(a, b), _xi(b, a)) for a, b in zip(sample.a, sample.b, strict=True)]
    return np.nan_to_num(found)


def _xi(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(chatterjeexi(a, b, y_continuous=False).statistic)


def hoeffding(sample: Sample) -> Values:
    """Hoeffding's D (1948) of the binned cells; ties count a half in one gene, a quarter in both."""
    counts = sample.counts.astype(np.float64)
    n = counts.sum(axis=(1, 2))
    rank_b, rank_a = (_midrank(counts.sum(axis=axis)) for axis in (2, 1))
    below = counts.cumsum(1).cumsum(2)
    lower = np.pad(below, [(0, 0), (1, 0), (1, 0)])
    corners = lower[:, :-1, :-1] + lower[:, 1:, :-1] + lower[:, :-1, 1:] + lower[:, 1:, 1:]
    q = corners / 4 + 0.75  # points below in both, ties shared, as ranks count the point itself as one and a half less
    r, s = rank_a[:, None, :], rank_b[:, :, None]
    d1 = (counts * (q - 1) * (q - 2)).sum(axis=(1, 2))
    d2 = (counts * (r - 1) * (r - 2) * (s - 1) * (s - 2)).sum(axis=(1, 2))
    d3 = (counts * (r - 2) * (s - 2) * (q - 1)).sum(axis=(1, 2))
    return 30 * ((n - 2) * (n - 3) * d1 + d2 - 2 * (n - 2) * d3) / (n * (n - 1) * (n - 2) * (n - 3) * (n - 4))


def _midrank(margin: Values) -> Values:
    return margin.cumsum(axis=1) - margin / 2 + 0.5


def ksg(sample: Sample) -> Values:
    """Mutual information by nearest neighbours (Kraskov 2004), as scikit-learn has it."""
    pairs = zip(sample.a, sample.b, strict=True)
    return np.array([mutual_info_regression(a[:, None], b, random_state=0)[0] for a, b in pairs])


def likelihood_ratio(sample: Sample, groups: int) -> Values:
    """G test of the cells in groups × groups of bins, as standard deviations from independence."""
    bins = sample.counts.shape[1]
    at = np.linspace(0, bins, groups, endpoint=False).astype(int)
    pooled = np.add.reduceat(np.add.reduceat(sample.counts.astype(np.float64), at, axis=1), at, axis=2)
    a, b = pooled.sum(axis=1), pooled.sum(axis=2)
    expected = a[:, None, :] * b[:, :, None] / pooled.sum(axis=(1, 2))[:, None, None]
    ratio = np.divide(pooled, expected, out=np.ones_like(pooled), where=pooled > 0)
    freedom = ((a > 0).sum(1) - 1) * ((b > 0).sum(1) - 1)
    return np.sqrt(4 * np.maximum((pooled * np.log(ratio)).sum((1, 2)), 0)) - np.sqrt(np.maximum(2 * freedom - 1, 0))


def screen(sample: Sample) -> Values:
    return association.dependence(sample.counts, association.spearman(sample.counts))


def mgc(sample: Sample) -> Values:
    """Multiscale graph correlation of the first cells (Vogelstein 2019), of ranks."""
    a, b = (rankdata(x[:, :MGC_CELLS], axis=1)[:, :, None] for x in (sample.a, sample.b))
    return np.array([_mgc(x, y) if np.ptp(x) and np.ptp(y) else 0.0 for x, y in zip(a, b, strict=True)])


def _mgc(a: Values, b: Values) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one permutation is too few for a p-value, which is not used
        return float(multiscale_graphcorr(a, b, reps=1, random_state=0).statistic)


CLASSICAL: dict[str, Callable[[Sample], Values]] = {
    "Pearson": pearson,
    "Spearman": spearman,
    "Kendall": kendall,
    "distance correlation": lambda sample: association.distance_correlation(sample.counts),
    "HSIC": lambda sample: association.hsic(sample.counts),
    "Chatterjee's xi": chatterjee,
    "Hoeffding's D": hoeffding,
    "KSG mutual information": ksg,
    "G 3 × 3": lambda sample: likelihood_ratio(sample, 3),
    "G 5 × 5": lambda sample: likelihood_ratio(sample, 5),
    "the screen": screen,
    "MGC": mgc,
}
