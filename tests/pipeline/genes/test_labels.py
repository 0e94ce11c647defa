"""Replicate labels: halves of the cells that share none, and scipy's Spearman."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random
from scipy.stats import false_discovery_control, spearmanr

from pairscape.pipeline.genes import labels
from pairscape.pipeline.genes.labels import correlations, rank_genes, replicate_labels, significant, split_cells
from pairscape.pipeline.genes.pairs import Pairs, all_pairs, cross_pairs
from pairscape.pipeline.genes.residuals import residuals_of


@given(st.integers(4, 500), st.integers(0, 2**40))
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
    monkeypatch.setattr(labels, "MAX_LABEL_CELLS", 10)
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


@pytest.mark.parametrize(("block", "part"), [(1, 2**22), (2, 5), (4, 7), (256, 2**22)])
def test_rho_is_that_of_scipy(matrix, block, part, monkeypatch):
    monkeypatch.setattr(labels, "BLOCK", block)
    monkeypatch.setattr(labels, "PART", part)
    pairs = all_pairs(9)
    order = np.random.default_rng(1).permutation(np.tile(np.arange(len(pairs)), 2))  # any order, pairs repeated
    pairs = Pairs(np.append(pairs.gene_a, pairs.gene_b), np.append(pairs.gene_b, pairs.gene_a), np.tile(pairs.label, 2))
    pairs = pairs.take(order)
    found = correlations(pairs, rank_genes(csr_matrix(matrix)))
    constant = np.isin(pairs.gene_a, [3, 4]) | np.isin(pairs.gene_b, [3, 4])
    assert (found[constant] == 0).all()
    for rho, a, b in zip(found[~constant], pairs.gene_a[~constant], pairs.gene_b[~constant], strict=True):
        assert rho == pytest.approx(spearmanr(matrix[:, a], matrix[:, b]).statistic, abs=1e-12)


def test_labels_are_strong_correlations_of_either_sign(matrix):
    labelled, rule = replicate_labels(all_pairs(9), csr_matrix(matrix), 0.25)
    varied = [0, 1, 2, 5, 6, 7, 8]
    rho = np.zeros((9, 9))
    rho[np.ix_(varied, varied)] = spearmanr(matrix[:, varied]).statistic
    expected = np.abs(rho[labelled.gene_a, labelled.gene_b]) >= 0.25
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(labelled.label, expected)
    assert labelled.label.dtype == np.int8
    label = {(a, b): c for a, b, c in zip(labelled.gene_a, labelled.gene_b, labelled.label, strict=True)}
    assert (label[0, 1], label[0, 8], label[0, 3], label[3, 4]) == (1, 1, 0, 0)
    assert rule == "|Spearman| >= 0.25"


def test_ranking_leaves_the_matrix_as_it_was(matrix):
    given = csr_matrix(matrix)
    rank_genes(given)
    np.testing.assert_array_equal(given.toarray(), matrix)


@pytest.mark.parametrize("fdr", [0.01, 0.2, 0.9])
def test_the_rate_is_that_of_benjamini_and_hochberg_over_all_candidates(fdr):
    rng = np.random.default_rng(3)
    common = rng.normal(size=(60, 1))
    x = np.maximum(rng.normal(size=(60, 12)) + common * np.linspace(0, 1, 12), 0)  # half of the cells are ties
    pairs = all_pairs(12)
    p = spearmanr(x).pvalue[pairs.gene_a, pairs.gene_b]
    labelled, least = significant(pairs, rank_genes(csr_matrix(x)), fdr)
    np.testing.assert_array_equal(labelled.label, false_discovery_control(p) <= fdr)
    assert 0 < labelled.label.sum() < len(pairs)
    rho = np.abs(spearmanr(x).statistic[pairs.gene_a, pairs.gene_b])
    assert least == pytest.approx(rho[labelled.label == 1].min())


def test_independent_genes_are_hardly_ever_significant():
    x = np.random.default_rng(0).random((100, 40))
    labelled, rule = replicate_labels(all_pairs(40), csr_matrix(x), fdr=0.05)
    assert labelled.label.sum() <= 4  # of 780, of which 39 have p below 0.05
    one, _ = replicate_labels(Pairs(*np.zeros((2, 1), np.int32), np.zeros(1, np.int8)), csr_matrix(x), fdr=0.05)
    assert one.label.tolist() == [1]  # a gene with itself: rho is 1, and p does not divide by zero
    assert rule.startswith("Spearman significant at FDR 0.05")


def test_cells_for_the_images_are_some_of_the_image_half_and_nested():
    labelling, half = split_cells(101, 5)
    few, more = (split_cells(101, 5, n) for n in (10, 30))
    assert (few[1].size, more[1].size) == (10, 30)
    assert set(few[1]) < set(more[1]) < set(half)
    np.testing.assert_array_equal(few[0], labelling)
    assert (np.diff(few[1]) > 0).all()


@pytest.mark.parametrize(("cells", "image_cells", "words"), [
    (3, None, ["there are 3", "4 or more"]),
    (100, 51, ["image cells is 51", "of 100 cells has 50"]),
])  # fmt: skip
def test_cells_that_cannot_be_split_are_refused(cells, image_cells, words, refuses):
    with refuses(*words):
        split_cells(cells, 0, image_cells)


def test_a_rate_over_a_few_cells_is_refused(refuses):
    with refuses("over 9 cells", "--threshold"):
        replicate_labels(all_pairs(3), csr_matrix(np.eye(9, 3)), fdr=0.05)


def test_memory_is_two_blocks_and_not_all_ranks(monkeypatch):
    """Dense ranks of these genes would be 64 MB."""
    monkeypatch.setattr(labels, "BLOCK", 32)
    expression = random(4000, 2000, density=0.02, format="csr", dtype=np.float32, random_state=0)
    pairs = cross_pairs(np.arange(5, dtype=np.int32), np.arange(2000, dtype=np.int32))
    tracemalloc.start()
    replicate_labels(pairs, expression, 0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


@pytest.mark.parametrize(("sign", "rule"), [
    (None, "|Spearman| >= 0.25"), ("+", "Spearman >= 0.25"), ("-", "Spearman <= -0.25"),
])  # fmt: skip
def test_a_sign_takes_only_the_correlations_that_have_it(sign, rule, matrix):
    labelled, said = replicate_labels(all_pairs(9), csr_matrix(matrix), 0.25, sign=sign)
    rho = correlations(labelled, rank_genes(csr_matrix(matrix)))
    wanted = {None: np.abs(rho), "+": rho, "-": -rho}[sign] >= 0.25
    assert 0 < wanted.sum() < wanted.size
    np.testing.assert_array_equal(labelled.label, wanted)
    assert said == rule


def test_a_sign_at_a_rate_takes_those_of_the_pairs_that_are_significant(matrix):
    found = {sign: replicate_labels(all_pairs(9), csr_matrix(matrix), fdr=0.2, sign=sign) for sign in (None, "+", "-")}
    both, up, down = (found[sign][0].label for sign in (None, "+", "-"))
    np.testing.assert_array_equal(both, up + down)
    assert min(up.sum(), down.sum()) > 0
    assert found["-"][1].startswith("Spearman significant at FDR 0.2 and negative (|rho| >= ")


@pytest.fixture
def counts():
    """(60, 8) counts of cells of unlike depth; gene 6 has one molecule, gene 7 none, cell 5 nothing."""
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(1.0, 1.0, (60, 1)) * rng.gamma(1.0, 2.0, 8) * rng.gamma(0.5, 2.0, (60, 8)))
    x[:, 6:], x[5] = 0, 0
    x[9, 6] = 300  # beyond the clip
    return x.astype(np.float32)


@pytest.mark.parametrize("block", [2, 256])
def test_correlations_of_residuals_are_those_of_the_formula(counts, block, monkeypatch):
    monkeypatch.setattr(labels, "BLOCK", block)
    x = counts.astype(np.float64)
    expected = np.outer(x.sum(axis=1), x.sum(axis=0)) / x.sum()
    with np.errstate(invalid="ignore"):
        z = np.nan_to_num((x - expected) / np.sqrt(expected + expected**2 / 100))
    z = np.clip(z, -np.sqrt(60), np.sqrt(60))
    pairs = all_pairs(8)
    found = correlations(pairs, residuals_of(csr_matrix(counts)))
    known = pairs.gene_b < 7
    reference = np.corrcoef(z[:, :7].T)[pairs.gene_a[known], pairs.gene_b[known]]
    np.testing.assert_allclose(found[known], reference, atol=1e-12)
    assert (found[~known] == 0).all()
    labelled, rule = replicate_labels(pairs, csr_matrix(counts), 0.2, sign="-", statistic="residual")
    np.testing.assert_array_equal(labelled.label, found <= -0.2)
    assert labelled.label.sum() > 0
    assert rule == "correlation of Pearson residuals <= -0.2"


def test_residuals_correlate_no_genes_by_depth():
    rng = np.random.default_rng(0)
    counts = csr_matrix(rng.poisson(rng.lognormal(0, 1, (2000, 1)) * rng.gamma(1.0, 2.0, 30)).astype(np.float32))
    pairs = all_pairs(30)
    assert correlations(pairs, rank_genes(counts)).mean() > 0.3
    assert np.abs(correlations(pairs, residuals_of(counts))).max() < 0.12


def test_memory_of_residuals_is_two_blocks(monkeypatch):
    """Dense residuals of these genes would be 64 MB."""
    monkeypatch.setattr(labels, "BLOCK", 32)
    expression = random(4000, 2000, density=0.02, format="csr", dtype=np.float32, random_state=0).ceil()
    pairs = cross_pairs(np.arange(5, dtype=np.int32), np.arange(2000, dtype=np.int32))
    tracemalloc.start()
    replicate_labels(pairs, expression, 0.3, statistic="residual")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
