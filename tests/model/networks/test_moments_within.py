"""Moments and correlations beyond strata are those of the cells, each counted by itself."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from pairscape.model.evaluation.association import associations, dependence, spearman
from pairscape.model.networks.bundled import run_folder
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.fast import Scorer
from pairscape.model.networks.momentnet import (
    DEGREE,
    NOT_MONOTONE,
    SMALLEST_VARIANCE,
    UPWARD,
    rank_functions,
    rank_moments,
    strength,
)
from pairscape.model.networks.moments import moments_within
from pairscape.pipeline.heatmaps.strata import StratifiedMargins

RULES = (DEGREE, SMALLEST_VARIANCE, UPWARD, NOT_MONOTONE)
BINS = 32


def drawn(seed, n_cells=900, strata=3, shift=8):
    """Bins of the cells in three genes that the strata shift, two of them dependent within, and the strata."""
    rng = np.random.default_rng(seed)
    stratum = np.sort(rng.integers(0, strata, n_cells))
    noise = rng.integers(-12, 20, (3, n_cells))
    noise[1] = noise[0] // 2 + rng.integers(-6, 10, n_cells)
    return np.clip(noise + shift * stratum, 0, BINS - 1), stratum


def of_cells(bins, stratum):
    """Images of the pairs (0, 1), (0, 2), (1, 2), (2, 2), and their margins by stratum."""
    row_a, row_b = np.array([0, 0, 1, 2]), np.array([1, 2, 2, 2])
    edges, strata = np.arange(BINS + 1), range(stratum.max() + 1)
    images = [np.histogram2d(bins[b], bins[a], edges)[0] for a, b in zip(row_a, row_b, strict=True)]
    margins = [[np.histogram(gene[stratum == s], edges)[0] for s in strata] for gene in bins]
    return np.array(images, np.uint32), StratifiedMargins(np.array(margins, np.uint32), row_a, row_b)


def within_covariance(x, y, stratum):
    """Σ over the cells of the product of deviations from the means of the strata, and its variance if they differ."""
    together, variance = 0.0, 0.0
    for s in np.unique(stratum):
        own = stratum == s
        together += ((x[own] - x[own].mean()) * (y[own] - y[own].mean())).sum()
        variance += own.sum() * x[own].var() * y[own].var()
    return together, variance


@pytest.mark.parametrize("strata", [2, 3, 12])
def test_moments_are_those_of_the_cells(strata):
    bins, stratum = drawn(0, strata=strata, shift=16 // strata)
    images, within = of_cells(bins, stratum)
    moments, _, known = moments_within(images, within, *RULES)
    functions = rank_functions(torch.from_numpy(within.cells.sum(1).astype(np.float32))).numpy().astype(np.float64)
    for p, (a, b) in enumerate(zip(within.row_a, within.row_b, strict=True)):
        for g in range(DEGREE + 1):
            for f in range(DEGREE + 1):
                together, variance = within_covariance(functions[a, f][bins[a]], functions[b, g][bins[b]], stratum)
                assert moments[p, g, f] == pytest.approx(together / np.sqrt(variance), abs=3e-3)
    cells, zeros = (bins[0] >= 0).sum(), (bins == 0).sum(1)
    assert known[:, :3].tolist() == [
        [cells, zeros[a], zeros[b]] for a, b in zip(within.row_a, within.row_b, strict=True)
    ]


def test_strength_is_of_scores_less_their_means_in_the_strata():
    bins, stratum = drawn(1)
    images, within = of_cells(bins, stratum)
    _, close, _ = moments_within(images, within, *RULES)
    for p, (a, b) in enumerate(zip(within.row_a, within.row_b, strict=True)):
        found = []
        for x, weight in zip(scores_of(bins[a]), (1, 0), strict=True):
            for y, other in zip(scores_of(bins[b]), (1, 0), strict=True):
                of_a, of_b = (within_covariance(gene, gene, stratum)[0] for gene in (x, y))
                size = abs(within_covariance(x, y, stratum)[0]) / np.sqrt(of_a * of_b)
                found.append(size if weight and other else NOT_MONOTONE * size)
        assert close[p] == pytest.approx(max(found), abs=1e-5)


def scores_of(bins):
    rank = (rankdata(bins) - 0.5) / bins.size
    return rank + UPWARD * rank**2, (rank - 0.5) ** 2


def test_correlation_and_deviation_are_those_of_ranks_less_their_means_in_the_strata():
    bins, stratum = drawn(2)
    images, within = of_cells(bins, stratum)
    correlation, deviation = associations(images, within)
    for p, (a, b) in enumerate(zip(within.row_a, within.row_b, strict=True)):
        x, y = rankdata(bins[a]), rankdata(bins[b])
        together, variance = within_covariance(x, y, stratum)
        scale = np.sqrt(within_covariance(x, x, stratum)[0] * within_covariance(y, y, stratum)[0])
        assert correlation[p] == pytest.approx(together / scale, rel=1e-9)
        assert deviation[p] >= abs(together) / np.sqrt(variance) * (1 - 1e-9)
        if p == 0:  # which rises, so that the likelihood ratio says less
            assert deviation[p] == pytest.approx(abs(together) / np.sqrt(variance), rel=1e-9)


def test_the_likelihood_ratio_sees_a_u_within_strata_and_none_that_strata_make():
    rng = np.random.default_rng(3)
    stratum = np.repeat([0, 1, 2], 400)
    a, free = rng.integers(0, 32, (2, 1200))
    bent = np.clip(np.abs(2 * a - 31) + rng.integers(-4, 5, 1200), 0, 31)
    made = [np.clip(rng.integers(0, 8, 1200) + shift, 0, 31) for shift in (8 * (stratum == 1), 16 * (stratum > 0))]
    for genes, low, high in [((a, bent, free), 10, 99), ((made[0], made[1], free), 0, 4)]:
        images, within = of_cells(np.array(genes), stratum)
        assert low <= associations(images, within)[1][0] < high
    assert associations(images)[1][0] > 15


def test_one_stratum_is_none():
    bins, _ = drawn(4)
    images, within = of_cells(bins, np.zeros(bins.shape[1], int))
    moments, close, _ = moments_within(images, within, *RULES)
    counts = torch.from_numpy(images.astype(np.float32))
    torch.testing.assert_close(torch.from_numpy(moments), rank_moments(counts), atol=5e-3, rtol=1e-3)
    torch.testing.assert_close(torch.from_numpy(close), strength(counts), atol=1e-4, rtol=1e-3)
    correlation = spearman(images)
    np.testing.assert_allclose(associations(images, within), [correlation, dependence(images, correlation)], rtol=1e-6)


def test_genes_without_variance_in_any_common_stratum_have_no_moments():
    stratum = np.repeat([0, 1], 300)
    rng = np.random.default_rng(5)
    only = [rng.integers(0, 32, 600) * (stratum == s) for s in (0, 1)]
    images, within = of_cells(np.array([*only, rng.integers(0, 32, 600)]), stratum)
    moments, close, _ = moments_within(images, within, *RULES)
    assert np.abs(moments[0]).max() == 0
    assert close[0] == pytest.approx(0, abs=1e-6)
    assert associations(images, within)[1][0] < 1
    assert abs(rank_moments(torch.from_numpy(images[:1].astype(np.float32)))).max() > 10


def test_moments_of_genes_that_the_strata_alone_move_have_mean_0_and_variance_1():
    parts = []
    for seed in range(200):
        bins, stratum = drawn(seed)
        parts.append(moments_within(*of_cells(np.array([bins[0], bins[2], bins[2]]), stratum), *RULES)[0][0])
    moments = np.array(parts)
    assert np.abs(moments.mean(0)).max() < 0.35
    assert np.abs(moments.std(0) - 1).max() < 0.25


def test_the_network_scores_pairs_alike_in_any_company():
    bins, stratum = drawn(6)
    images, within = of_cells(bins, stratum)
    scorer = Scorer.of(TrainedNetwork.load(run_folder("universal")), 0.5, "cpu")
    together = scorer(images, np.zeros(4, np.uint32), None, within)
    alone = [scorer(images[[p]], np.zeros(1, np.uint32), None, within.take(np.array([p])))[0] for p in range(4)]
    np.testing.assert_array_equal(together, alone)
    plain = scorer(images, np.zeros(4, np.uint32))
    assert plain[1, 0] < 0.01  # dependent by the strata alone
    assert together[1, 0] > 0.5
    assert together[0, 0] < 0.01
