"""Margins by stratum are the histograms of each stratum's cells; strata of depth lie inside those of columns."""

import numpy as np
import pytest

from pairscape.model.prediction.within import by_depth
from pairscape.pipeline.heatmaps.strata import StratifiedMargins, count_margins, refined

BINS = 8


@pytest.fixture
def cells():
    """Codes of 5 genes in 700 cells of 3 strata, and where each gene's unexpressed cells are counted."""
    rng = np.random.default_rng(0)
    codes = (rng.integers(0, BINS + 1, (5, 700)) * (rng.random((5, 700)) < 0.6)).astype(np.uint8)
    return codes, np.array([0, 0, 3, 1, 0]), rng.integers(0, 3, 700).astype(np.uint16)


def test_margins_are_histograms_of_each_stratum(cells):
    codes, zero, stratum = cells
    found = np.zeros((5, 3, BINS), np.uint32)
    for part in (slice(0, 300), slice(300, 700)):  # blocks of cells add up
        count_margins(codes[:, part], zero, stratum[part], found)
    bins = np.where(codes > 0, codes - 1.0, zero[:, None])
    for s in range(3):
        wanted = [np.histogram(gene[stratum == s], np.arange(BINS + 1))[0] for gene in bins]
        np.testing.assert_array_equal(found[:, s], wanted)


def test_some_pairs_hold_only_their_genes():
    margins = StratifiedMargins(
        np.arange(4 * 2 * 4, dtype=np.uint32).reshape(4, 2, 4), *np.array([[3, 0, 3], [1, 1, 0]])
    )
    for some in (slice(0, 1), np.array([0, 2]), slice(0, 0)):
        few = margins.take(some)
        np.testing.assert_array_equal(few.cells[few.row_a], margins.cells[margins.row_a[some]])
        np.testing.assert_array_equal(few.cells[few.row_b], margins.cells[margins.row_b[some]])
        assert len(few.cells) == np.union1d(margins.row_a[some], margins.row_b[some]).size
    np.testing.assert_array_equal(margins.pooled(2).cells[1], [[8 + 9, 10 + 11], [12 + 13, 14 + 15]])
    assert margins.followed(2).row_a.tolist() == [3, 0, 3, 0, 0]


def test_strata_of_depth_lie_inside_the_others_and_are_not_too_small():
    rng = np.random.default_rng(1)
    stratum, depth = np.repeat([0, 1, 2], [400, 70, 25]), rng.integers(100, 5000, 495)
    found = by_depth(stratum, depth, seed=0)
    assert np.unique(found).tolist() == list(range(10 + 3 + 1))
    assert np.bincount(found).min() >= 20
    for number in np.unique(found):
        members = found == number
        assert np.unique(stratum[members]).size == 1
        among = depth[stratum == stratum[members][0]]
        assert ((among > depth[members].min()) & (among < depth[members].max())).sum() <= members.sum()
    np.testing.assert_array_equal(refined(np.array([0, 0, 5]), np.array([1, 0, 1])), [1, 0, 2])
