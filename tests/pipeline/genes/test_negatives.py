"""Negatives: how many, which, and that matched ones leave nothing in the labels to go by."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow
from sklearn.metrics import roc_auc_score

from pairscape.model.batches.folds import TEST, TRAIN, assign_folds
from pairscape.model.evaluation.baselines import labels_only
from pairscape.model.options import Splitting
from pairscape.pipeline.genes.negatives import choose_negatives, matched
from pairscape.pipeline.genes.pairs import Candidates, Pairs, all_pairs, cross_pairs, label_edges
from pairscape.pipeline.options import PairSource

GENES = 120


def network(seed, shape=0.5):
    """178 edges among 30 regulators × 120 genes, on the fewer of them the smaller the shape. Some genes regulate."""
    rng = np.random.default_rng(seed)
    pairs = cross_pairs(np.arange(30, dtype=np.int32), np.arange(GENES, dtype=np.int32))
    weight = rng.gamma(shape, 1.0, 30)[pairs.gene_a] * rng.gamma(shape, 1.0, GENES)[pairs.gene_b]
    edges = rng.choice(len(pairs), 178, replace=False, p=weight / weight.sum())
    return label_edges(pairs, pairs.gene_a[edges], pairs.gene_b[edges], GENES)


def degrees(pairs, label):
    return [np.bincount(end[pairs.label == label], minlength=GENES) for end in (pairs.gene_a, pairs.gene_b)]


def chosen(pairs, seed=0, **options):
    return choose_negatives(Candidates(pairs), PairSource(pairs="p", **options), GENES, seed)


@pytest.mark.parametrize("seed", range(4))
def test_matched_negatives_have_the_degrees_of_the_positives(seed):
    pairs = network(seed, shape=1.5)
    found = chosen(pairs, seed, negatives="matched")
    np.testing.assert_array_equal(degrees(found.pairs, 0), degrees(pairs, 1))
    np.testing.assert_array_equal(found.pairs.label == 1, pairs.label == 1)
    edges = set(zip(pairs.gene_a[pairs.label == 1], pairs.gene_b[pairs.label == 1], strict=True))
    kept = found.pairs.take(np.flatnonzero(found.pairs.label == 0))
    assert not edges & set(zip(kept.gene_b, kept.gene_a, strict=True))  # no edge the other way round either
    assert found.notes == ("negatives: 178 matched to 178 positives by swapping partners",)


@pytest.mark.parametrize("seed", range(6))
def test_where_degrees_are_out_of_reach_as_many_are_matched_as_can_be(seed):
    """A maximum flow says how many can be."""
    rng = np.random.default_rng(seed)
    pairs = cross_pairs(np.arange(8, dtype=np.int32), np.arange(8, 28, dtype=np.int32))
    pairs = Pairs(pairs.gene_a, pairs.gene_b, (rng.random(160) < rng.random(8).repeat(20)).astype(np.int8))
    found = chosen(pairs, negatives="matched")
    capacity = np.zeros((30, 30), np.int32)
    capacity[pairs.gene_a, pairs.gene_b] = pairs.label == 0
    capacity[28, :8], capacity[8:28, 29] = (degrees(pairs, 1)[0][:8], degrees(pairs, 1)[1][8:28])
    most = maximum_flow(csr_matrix(capacity), 28, 29).flow_value
    assert most < pairs.label.sum()
    assert (found.pairs.label == 0).sum() == most
    assert f"{pairs.label.sum() - most} could not be matched" in found.notes[0]
    for kept, given in zip(degrees(found.pairs, 0), degrees(pairs, 1), strict=True):
        assert (kept <= given).all()


def test_triples_have_one_negative_for_each_edge_and_not_for_each_row():
    forth = network(1, shape=1.5)
    edges = np.flatnonzero(forth.label == 1)
    back = Pairs(forth.gene_b[edges], forth.gene_a[edges], np.full(edges.size, 2, np.int8))
    back = back.take(np.flatnonzero(back.gene_a >= 30))  # others are pairs of two regulators, listed already
    both = Pairs(*(np.concatenate(part) for part in zip(
        (forth.gene_a, forth.gene_b, forth.label), (back.gene_a, back.gene_b, back.label), strict=True)))  # fmt: skip
    rows, note = matched(both, GENES, np.random.default_rng(0))
    assert rows.size == edges.size
    assert (both.label[rows] == 0).all()
    assert "178 matched to 178 positives" in note


def test_undirected_pairs_are_matched_on_both_sides():
    rng = np.random.default_rng(0)
    pairs = all_pairs(GENES)
    pairs = Pairs(pairs.gene_a, pairs.gene_b, (rng.random(len(pairs)) < 0.02).astype(np.int8))
    found = chosen(pairs, negatives="matched")
    np.testing.assert_array_equal(degrees(found.pairs, 0), degrees(pairs, 1))


def scores_of_labels(pairs, split, negatives, seed):
    folds = assign_folds(pairs, GENES, Splitting(split, negatives=negatives), seed)
    train, test = np.flatnonzero(folds == TRAIN), np.flatnonzero(folds == TEST)
    return roc_auc_score(pairs.label[test] > 0, labels_only(pairs, train, test, GENES, directed=True))


@pytest.mark.parametrize("split", ["pair", "regulator", "target"])
def test_labels_alone_tell_nothing_once_negatives_are_matched(split):
    seeds = range(4)
    natural = np.mean([scores_of_labels(network(seed), split, "all", seed) for seed in seeds])
    assert natural > 0.65
    within = [scores_of_labels(network(seed), split, "matched", seed) for seed in seeds]
    assert np.mean(within) == pytest.approx(0.5, abs=0.05)
    whole = [scores_of_labels(chosen(network(seed), negatives="matched").pairs, split, "all", seed) for seed in seeds]
    assert np.mean(whole) < 0.55  # and below 0.5, since a gene's share of positives in the test is missing in training


def test_some_negatives_at_random_and_the_rest_unlabelled():
    pairs = network(0)
    found = chosen(pairs, negatives_per_positive=2.5)
    assert np.unique(found.pairs.label, return_counts=True)[1].tolist() == [2947, 445, 178]
    assert set(np.flatnonzero(found.pairs.label == 0)) < set(np.flatnonzero(pairs.label == 0))
    np.testing.assert_array_equal(found.pairs.gene_b, pairs.gene_b)
    assert chosen(pairs, negatives_per_positive=1000.0).pairs.label.tolist() == pairs.label.tolist()
    assert chosen(pairs).pairs is pairs


@pytest.mark.parametrize("options", [{"negatives": "matched"}, {"negatives_per_positive": 2.0}])
def test_a_seed_always_chooses_the_same(options):
    first, again, other = (chosen(network(0), seed, **options).pairs.label for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("options", [{"negatives": "matched"}, {"negatives_per_positive": 2.0}])
@pytest.mark.parametrize(("label", "words"), [
    (-1, ["0 are positive and 0 negative"]),
    (0, ["0 are positive and 10 negative"]),
    (1, ["10 are positive and 0 negative"]),
])  # fmt: skip
def test_labels_of_one_kind_are_refused(options, label, words, refuses):
    pairs = all_pairs(5)
    with refuses(*words):
        chosen(Pairs(pairs.gene_a, pairs.gene_b, np.full(10, label, np.int8)), **options)
