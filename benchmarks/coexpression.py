"""Statistics of co-expression that `benchmarks.biology` compares.

Each takes `Cells` and pairs of genes and gives signed scores, (G, G), row = first gene, of these pairs at least.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.cells import Cells
from pairscape.model.edges.factors import loadings
from pairscape.model.evaluation.association import associations
from pairscape.model.evaluation.count_statistics import cscore_z, residual_factors
from pairscape.model.networks.bundled import bundled_folder
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.device import one_thread
from pairscape.model.networks.fast import Probabilities, prepare
from pairscape.model.networks.gene_context import lowered, noise_edge, normal_scores, principal_loadings
from pairscape.model.networks.pairnet import FACTORS
from pairscape.pipeline.genes.residuals import Residuals
from pairscape.pipeline.heatmaps.drawn import bins_of, joint_counts
from pairscape.pipeline.heatmaps.pairwise import strata_of
from pairscape.pipeline.heatmaps.strata import StratifiedMargins, count_margins
from pairscape.pipeline.options import Binning

AT_ONCE = 4096  # images
LEAST = 1e-30  # probability whose logarithm is taken

Matrix = NDArray[np.floating]
Index = NDArray[np.int64]
Score = Callable[[Cells, Index], Matrix]
Strata = Callable[[Cells], NDArray[np.integer]]


@dataclass(frozen=True)
class Statistic:
    """One row of the tables.

    Attributes
    ----------
    score
        Cells and pairs (P, 2) to scores (G, G).
    correlation
        Whether √n times the score is a number of standard deviations; else the score itself is added up over sets.
    by_pair
        Whether its time grows with the pairs, so that it takes fewer where not all are needed.
    """

    score: Score
    correlation: bool = True
    by_pair: bool = False


def correlate(values: Matrix) -> Matrix:
    """Pearson's correlation of rows, (G, N) to (G, G); 0 where one is constant."""
    centred = (values - values.mean(axis=1, keepdims=True)).astype(np.float32)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    scaled = centred / np.where(length > 0, length, np.inf)
    return np.asarray(scaled @ scaled.T)


def centre_within(values: Matrix, stratum: NDArray[np.integer]) -> Matrix:
    """Values (G, N) less their means over each stratum of the cells."""
    left = values.astype(np.float64)
    for number in np.unique(stratum):
        own = stratum == number
        left[:, own] -= left[:, own].mean(axis=1, keepdims=True)
    return left


def depth_strata(cells: Cells) -> NDArray[np.integer]:
    """Strata of like depth, as decoys are dealt within them."""
    return strata_of(cells.detected, 0)


def types(cells: Cells) -> NDArray[np.integer]:
    """Cell types, or clusters."""
    return cells.kind


def _spearman(cells: Cells, _: Index) -> Matrix:
    return correlate(rankdata(cells.values, axis=1))


def _spearman_raw(cells: Cells, _: Index) -> Matrix:
    return correlate(rankdata(cells.dense, axis=1))


def _spearman_within_depth(cells: Cells, _: Index) -> Matrix:
    return correlate(centre_within(rankdata(cells.values, axis=1), depth_strata(cells)))


def _spearman_within_type(cells: Cells, _: Index) -> Matrix:
    return correlate(centre_within(rankdata(cells.values, axis=1), types(cells)))


def _residuals(cells: Cells, _: Index) -> Matrix:
    made = Residuals(cells.counts.tocsc(), cells.depth, cells.counted.share)
    z = made.dense(np.arange(len(cells.genes))).astype(np.float32)
    return np.asarray(z @ z.T)


def _cscore(cells: Cells, pairs: Index) -> Matrix:
    return _as_matrix(cells, pairs, cscore_z(cells.counted, *pairs.T))


def _as_matrix(cells: Cells, pairs: Index, score: Matrix) -> Matrix:
    """Scores of undirected pairs as a matrix; no number where a pair has none."""
    found = np.full((len(cells.genes),) * 2, np.nan, np.float32)
    found[pairs[:, 0], pairs[:, 1]] = found[pairs[:, 1], pairs[:, 0]] = score
    return found


def _factors(cells: Cells, _: Index) -> Matrix:
    scores = normal_scores(bins_of(cells.values, BINNING), BINNING.bins)
    loading = lowered(principal_loadings(scores, FACTORS), noise_edge(*scores.shape))[:, :FACTORS]
    return np.asarray(loading @ loading.T)


def _residual_factors(cells: Cells, _: Index) -> Matrix:
    loading = residual_factors(cells.counted, np.arange(len(cells.genes)))
    return np.asarray(loading @ loading.T)


def _proportionality(cells: Cells, _: Index) -> Matrix:
    """Rho_p of propr (Quinn 2017): 1 − var(a − b) / (var a + var b) of centred log ratios, with 1 for a count of 0."""
    logs = np.log(np.maximum(cells.dense, 1)).astype(np.float64)
    logs -= logs.mean(axis=0)
    covariance = np.cov(logs)
    variance = np.diag(covariance)
    together = variance[:, None] + variance
    return np.asarray(np.divide(2 * covariance, together, out=np.zeros_like(covariance), where=together > 0))


# ── the universal network ────────────────────────────────────────────────────────────────────────────────────────────

BINNING = Binning("rank", 32)


def universal(strata: Strata | None = None) -> Score:
    """The network that comes with the package: sign of the correlation × −log p(none), which orders as its score does.

    With `strata`, beyond what these explain, as `predict --within` scores.
    """

    def score(cells: Cells, pairs: Index) -> Matrix:
        coded, found = bins_of(cells.values, BINNING), np.empty(len(pairs))
        margins = None if strata is None else _margins(coded, strata(cells))
        for start in range(0, len(pairs), AT_ONCE):
            a, b = pairs[start : start + AT_ONCE].T
            counts = joint_counts(coded[a], coded[b], BINNING.bins)
            within = None if margins is None else StratifiedMargins(margins, a, b)
            images = (torch.from_numpy(part.astype(np.int32)) for part in (counts, counts[:, 0, 0]))
            with torch.inference_mode(), one_thread():
                none = _network()(*images, within)[:, 0].numpy().astype(np.float64)
            sign = np.sign(associations(counts, within)[0])
            found[start : start + AT_ONCE] = -np.log(np.maximum(none, LEAST)) * sign
        return _as_matrix(cells, pairs, found)

    return score


@lru_cache(maxsize=1)
def _network() -> Probabilities:
    classifier = TrainedNetwork.load(bundled_folder()).classifier
    return prepare(classifier, torch.device("cpu"))


def _margins(coded: NDArray[np.uint8], stratum: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Cells of each gene in each bin by stratum, (G, S, bins)."""
    kept, number = np.unique(stratum, return_inverse=True)
    found = np.zeros((len(coded), kept.size, BINNING.bins), np.uint32)
    count_margins(coded + np.uint8(1), np.zeros(len(coded), np.int64), number, found)
    return found


def through_factors(score: Score) -> Score:
    """What `combine --rule factors` makes of one set's correlations of all pairs."""

    def shared(cells: Cells, pairs: Index) -> Matrix:
        found = np.nan_to_num(np.asarray(score(cells, pairs), np.float64))
        np.fill_diagonal(found, 0)
        mean = found.sum(axis=1) / (len(found) - 1)
        loading = loadings(np.triu(found - mean[:, None] - mean + mean.mean(), 1).astype(np.float32))
        return np.asarray(loading @ loading.T)

    return shared


def statistics() -> dict[str, Statistic]:
    """All rows by name."""
    return {
        "Spearman": Statistic(_spearman),
        "Spearman of raw counts": Statistic(_spearman_raw),
        "Spearman within depth": Statistic(_spearman_within_depth),
        "Spearman within type": Statistic(_spearman_within_type),
        "Pearson residuals": Statistic(_residuals),
        "CS-CORE z": Statistic(_cscore, correlation=False, by_pair=True),
        "propr": Statistic(_proportionality),
        "factors": Statistic(_factors),
        "factors over residuals": Statistic(_residual_factors),
        "universal": Statistic(universal(), correlation=False, by_pair=True),
        "universal within depth": Statistic(universal(depth_strata), correlation=False, by_pair=True),
        "universal within type": Statistic(universal(types), correlation=False, by_pair=True),
        "through factors within depth": Statistic(through_factors(_spearman_within_depth), correlation=False),
    }
