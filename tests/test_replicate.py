"""Replicate labels: halves of the cells that share none, and scipy's Spearman."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr

from pipeline import replicate
from pipeline.pairs import Pairs, all_pairs
from pipeline.replicate import replicate_labels, spearman, split_cells, standard_ranks


@given(st.integers(2, 500), st.integers(0, 2**40))
def test_the_halves_are_disjoint_and_cover_all_cells(n_cells, seed):
    labelling, counted = split_cells(n_cells, seed)
    assert (labelling.size, counted.size) == (n_cells // 2, n_cells - n_cells // 2)
    np.testing.assert_array_equal(np.sort(np.append(labelling, counted)), np.arange(n_cells))
    for half in (labelling, counted):
        assert (np.diff(half) > 0).all()


def test_a_seed_always_gives_the_same_halves_and_another_gives_others():
    for first, again in zip(split_cells(100, 3), split_cells(100, 3), strict=True):
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(split_cells(100, 3)[0], split_cells(100, 4)[0])
    assert split_cells(6, 0)[1].tolist() == [0, 2, 5]  # these numbers are part of every published result


def test_many_cells_limit_the_label_half_and_never_the_images(monkeypatch):
    monkeypatch.setattr(replicate, "MAX_LABEL_CELLS", 10)
    labelling, counted = split_cells(101, 0)
    assert (labelling.size, counted.size) == (10, 51)
    assert np.intersect1d(labelling, counted).size == 0


@pytest.fixture
def matrix():
    """(40, 9) with many ties; gene 3 is constant, gene 4 expressed nowhere, gene 8 mirrors gene 0."""
    rng = np.random.default_rng(0)
    x = np.round(rng.gamma(2.0, 1.0, (40, 9)), 1).astype(np.float32) * (rng.random((40, 9)) < 0.7)
    x[:, 1] = x[:, 0] ** 2
    x[:, 3], x[:, 4] = 2, 0
    x[:, 8] = x[:, 0].max() - x[:, 0]
    return x.astype(np.float32)


@pytest.mark.parametrize("block", [1, 2, 256])
def test_rho_is_that_of_scipy(matrix, block, monkeypatch):
    monkeypatch.setattr(replicate, "BLOCK", block)
    pairs = all_pairs(9)
    order = np.random.default_rng(1).permutation(np.tile(np.arange(len(pairs)), 2))  # any order, pairs repeated
    pairs = Pairs(np.append(pairs.gene_a, pairs.gene_b), np.append(pairs.gene_b, pairs.gene_a), np.tile(pairs.label, 2))
    pairs = pairs.take(order)
    found = spearman(pairs, standard_ranks(csr_matrix(matrix)))
    constant = np.isin(pairs.gene_a, [3, 4]) | np.isin(pairs.gene_b, [3, 4])
    assert (found[constant] == 0).all()
    for rho, a, b in zip(found[~constant], pairs.gene_a[~constant], pairs.gene_b[~constant], strict=True):
        assert rho == pytest.approx(spearmanr(matrix[:, a], matrix[:, b]).statistic, abs=1e-12)


def test_labels_are_strong_correlations_of_either_sign(matrix):
    labelled = replicate_labels(all_pairs(9), csr_matrix(matrix), 0.25)
    varied = [0, 1, 2, 5, 6, 7, 8]
    rho = np.zeros((9, 9))
    rho[np.ix_(varied, varied)] = spearmanr(matrix[:, varied]).statistic
    expected = np.abs(rho[labelled.gene_a, labelled.gene_b]) >= 0.25
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(labelled.label, expected)
    assert labelled.label.dtype == np.int8
    label = {(a, b): c for a, b, c in zip(labelled.gene_a, labelled.gene_b, labelled.label, strict=True)}
    assert (label[0, 1], label[0, 8], label[0, 3], label[3, 4]) == (1, 1, 0, 0)
