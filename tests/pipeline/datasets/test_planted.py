"""Planted truth: values kept, dependence where it was planted and nowhere else, Pearson blind where it should be."""

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from pairscape.pipeline.datasets.designs import Form, Planting, Shape
from pairscape.pipeline.datasets.planted import (
    copy_names,
    deal_genes,
    draw_forms,
    eligible_genes,
    replant,
    split_types,
    truth,
)
from pairscape.pipeline.datasets.responses import plant

KINDS = "linear,saturating,threshold,u-shaped,exclusive,simpson"
CELLS = 400


@pytest.fixture(scope="module")
def expression():
    """(400, 60) skewed log expression with a third of the values zero on average; genes 0 to 3 hardly expressed."""
    rng = np.random.default_rng(0)
    share = np.append(np.full(4, 0.1), np.linspace(0.3, 1.0, 56))
    values = np.log1p(rng.gamma(1.0, 2.0, (CELLS, 60))) + 0.01
    return csc_matrix(np.where(rng.random((CELLS, 60)) < share, values, 0).astype(np.float32))


def planted(expression, seed=0, **options):
    """New matrix dense, list of pairs by number of gene, and the deal."""
    planting, rng = Planting(**{"kinds": KINDS, "planted_pairs": 300, **options}), np.random.default_rng(seed)
    deal = deal_genes(eligible_genes(np.diff(expression.indptr), CELLS, planting), 60, planting, rng)
    forms, types = draw_forms(deal, planting, np.random.default_rng([seed, 1])), split_types(CELLS, rng)
    dense = replant(expression, deal, forms, types, planting.background == "real", rng).toarray()
    return dense, truth(range(deal.source.size), deal, planting, rng), deal


def test_every_gene_keeps_the_values_it_had(expression):
    dense, _, deal = planted(expression)
    np.testing.assert_array_equal(np.sort(dense, axis=0), np.sort(expression.toarray(), axis=0)[:, deal.source])
    assert not np.array_equal(dense[:, :60], expression.toarray())


def test_no_gene_is_in_two_planted_pairs_nor_planted_unless_many_cells_express_it(expression):
    _, _, deal = planted(expression)
    ends = np.concatenate([deal.driver, deal.target])
    assert np.unique(ends).size == ends.size == 600
    assert deal.source[ends].min() == 4
    np.testing.assert_array_equal(deal.source[:60], np.arange(60))
    assert np.bincount(deal.kind).tolist() == [50] * 6


def test_copies_are_named_after_their_gene(expression):
    _, _, deal = planted(expression, planted_pairs=60)
    copies = deal.source[60:]
    names = copy_names([f"G{i}" for i in range(60)], copies)
    assert names[:60] == [f"G{i}" for i in range(60)]
    assert len(set(names)) == len(names) == 60 + 64
    assert {name.split("~")[1] for name in names[60:]} <= {"2", "3"}
    assert all(name.startswith(f"G{parent}~") for name, parent in zip(names[60:], copies, strict=True))
    assert len(set(copy_names(["G4~2", *names[1:60]], copies))) == len(names)  # a gene may be named like a copy


def test_few_pairs_need_no_copies(expression):
    dense, _, _ = planted(expression, planted_pairs=28)
    assert dense.shape == (CELLS, 60)


def correlations(x, table):
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    return np.abs((z[:, table["gene_a"].to_numpy(int)] * z[:, table["gene_b"].to_numpy(int)]).mean(axis=0))


@pytest.mark.parametrize(("kind", "low", "high"), [
    ("linear", 0.99, 1), ("saturating", 0.99, 1), ("threshold", 0.99, 1), ("exclusive", 0.99, 1),
    ("u-shaped", 0.42, 0.58), ("simpson", 0.42, 0.58),
    ("rising", 0.99, 1), ("falling", 0.97, 1), ("opposite", 0.42, 0.58),
])  # fmt: skip
def test_what_pearson_sees_and_what_it_is_blind_to(kind, low, high, expression):
    dense, table, _ = planted(expression, kinds=kind, planted_pairs=300)
    assert low <= roc_auc_score(table["label"], correlations(dense, table)) <= high


def test_what_is_not_planted_is_independent(expression):
    dense, table, _ = planted(expression, planted_pairs=300)
    none = table[table["label"] == 0]
    assert correlations(dense, none).max() < 0.25
    assert (correlations(dense, none) ** 2).mean() == pytest.approx(1 / (CELLS - 1), rel=0.1)


def test_a_real_background_keeps_drivers_and_unplanted_genes_in_their_cells(expression):
    dense, _, deal = planted(expression, planted_pairs=20, background="real")
    kept = np.setdiff1d(np.arange(60), deal.target)
    np.testing.assert_array_equal(dense[:, kept], expression.toarray()[:, kept])
    assert not (dense[:, deal.target] == expression.toarray()[:, deal.target]).all(axis=0).any()


DRIVER = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 500)
VALUES = np.sort(np.random.default_rng(5).random(3000))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("shape", "holds"), [
    ("linear", lambda m: (np.diff(m) > 0.05).all()),
    ("saturating", lambda m: m[2] - m[0] > 3 * (m[5] - m[3]) > 0),
    ("threshold", lambda m: abs(m[3] - m[0]) < 0.05 < 0.3 < m[4] - m[3]),
    ("exclusive", lambda m: m[:3].min() > 0.3 + m[3:].max()),
    ("u-shaped", lambda m: min(m[0], m[5]) > 0.3 + max(m[2], m[3])),
])  # fmt: skip
def test_shapes_are_what_they_are_called_also_upside_down(shape: Shape, holds, turned):
    dealt = plant(DRIVER, VALUES, Form(shape, 0.9, turned), DRIVER > 9, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(dealt), VALUES)
    assert holds((-1 if turned else 1) * dealt.reshape(6, 500).mean(axis=1))


def test_simpson_is_opposite_in_the_two_types():
    rng = np.random.default_rng(0)
    driver, types = rng.gamma(1.0, 1.0, 1000), split_types(1000, rng)
    dealt = plant(driver, np.sort(rng.gamma(1.0, 1.0, 1000)), Form("simpson", 0.9), types, rng)
    within = [np.corrcoef(rankdata(driver[t]), rankdata(dealt[t]))[0, 1] for t in (types, ~types)]
    assert types.sum() == 500
    assert within[0] > 0.5
    assert within[1] < -0.5
    assert abs(np.corrcoef(driver, dealt)[0, 1]) < 0.1


def test_the_list_pairs_each_gene_once_and_shuffles_the_others(expression):
    _, table, deal = planted(expression, planted_pairs=40, negatives_per_positive=5)
    positive, negative = table[table["label"] == 1], table[table["label"] == 0]
    assert list(table.columns) == ["gene_a", "gene_b", "label", "kind"]
    assert (len(positive), len(negative)) == (40, 200)
    assert set(zip(positive["gene_a"], positive["gene_b"], strict=True)) == set(
        zip(deal.driver, deal.target, strict=True)
    )
    assert negative["gene_a"].value_counts().tolist() == [5] * 40
    assert negative["gene_b"].value_counts().tolist() == [5] * 40
    assert not table.duplicated(["gene_a", "gene_b"]).any()
    assert set(negative["kind"]) == {"none"}


def test_a_directed_list_names_positives_both_ways(expression):
    _, table, _ = planted(expression, planted_pairs=40, directed=True)
    forth, back = (table[table["label"] == label] for label in (1, 2))
    assert len(forth) == len(back) == 40
    np.testing.assert_array_equal(forth[["gene_a", "gene_b"]].to_numpy(), back[["gene_b", "gene_a"]].to_numpy())
    assert forth["kind"].tolist() == back["kind"].tolist()


def test_a_seed_always_plants_the_same(expression):
    first, again, other = (planted(expression, seed, planted_pairs=30) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1].equals(again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(("options", "words"), [
    ({"kinds": "linear,cubic"}, ["'cubic'", "u-shaped"]),
    ({"kinds": ""}, ["kind ''"]),
    ({"strength": 0.0}, ["strength is 0"]),
    ({"strength": 1.0}, ["strength is 1"]),
    ({"negatives_per_positive": 0}, ["negatives per positive is 0"]),
    ({"planted_pairs": 10}, ["planted pairs is 10", "more pairs"]),
    ({"background": "none"}, ["'none'", "independent or real"]),
    ({"kinds": "rising,none"}, ["'none'", "opposite"]),
    ({"strength": "0.06:1"}, ["strength is 0.06:1"]),
    ({"strength": "0:0.5"}, ["strength is 0:0.5"]),
    ({"strength": "0.8:0.06"}, ["strength is 0.8:0.06", "least and the most"]),
    ({"strength": "0.1:0.2:0.3"}, ["0.1:0.2:0.3", "joined by a colon"]),
    ({"strength": "0.1:"}, ["strength is ''"]),
    ({"strength": "strong"}, ["'strong'", "no number"]),
    ({"strength": "nan"}, ["strength is nan"]),
    ({"turned": -0.1}, ["turned is -0.1"]),
    ({"turned": 1.1}, ["turned is 1.1"]),
    ({"min_expressing": 1}, ["min expressing is 1"]),
    ({"cells": 49}, ["cells is 49", "50 cells or more"]),
    ({"cells": "20:300"}, ["cells is 20:300"]),
    ({"cells": "300:100"}, ["300:100"]),
    ({"cells": "99.5"}, ["99.5", "whole number"]),
    ({"cells": "inf"}, ["inf", "whole number"]),
    ({"cells": "all"}, ["'all'", "no number"]),
    ({"stores": 0}, ["stores is 0"]),
    ({"confounded": -0.1}, ["confounded is -0.1"]),
    ({"confounded": 1.0}, ["confounded is 1", "0.9"]),
    ({"confounded": float("nan")}, ["confounded is nan"]),
    ({"groups": "depth"}, ["--confounded SHARE"]),
])  # fmt: skip
def test_choices_that_plant_nothing_are_refused(options, words, refuses):
    with refuses(*words):
        Planting(**{"kinds": "linear", "planted_pairs": 100, **options})


@pytest.mark.parametrize(("least", "words"), [(None, "25% of the cells"), (30, "30 of 100 cells")])
def test_genes_that_hardly_any_cell_expresses_are_refused(least, words, refuses):
    with refuses("1 of 3 genes", words):
        eligible_genes(np.array([10, 20, 30]), 100, Planting("linear", 20, min_expressing=least))


def test_sparse_genes_are_planted_where_it_is_asked_for(expression):
    _, _, deal = planted(expression, min_expressing=20)
    assert set(range(4)) <= set(deal.source[np.concatenate([deal.driver, deal.target])])


def forms_of(**options):
    planting, rng = Planting(**{"planted_pairs": 400, **options}), np.random.default_rng(0)
    return draw_forms(deal_genes(np.arange(60), 60, planting, rng), planting, rng)


def test_strengths_of_a_range_are_drawn_evenly_from_it():
    strength = np.array([form.strength for form in forms_of(kinds="linear", strength="0.06:0.8")])
    assert 0.06 <= strength.min() < 0.08 < 0.78 < strength.max() <= 0.8
    assert abs(strength.mean() - 0.43) < 0.03
    assert {form.strength for form in forms_of(kinds="linear", strength="0.3")} == {0.3}


@pytest.mark.parametrize(("kind", "turned", "expected"), [
    ("rising", 0.5, {("linear", False), ("saturating", False)}),
    ("falling", 0.0, {("linear", True), ("saturating", True)}),
    ("opposite", 0.5, {("simpson", False)}),
    ("threshold", 0.0, {("threshold", False)}),
    ("threshold", 0.5, {("threshold", False), ("threshold", True)}),
    ("u-shaped", 0.5, {("u-shaped", False), ("u-shaped", True)}),
    ("exclusive", 0.5, {("exclusive", False)}),
    ("saturating", 0.5, {("saturating", False)}),
])  # fmt: skip
def test_what_a_kind_leaves_open_is_drawn(kind, turned, expected):
    assert {(form.shape, form.turned) for form in forms_of(kinds=kind, turned=turned)} == expected


def test_falling_pairs_fall_and_keep_their_name(expression):
    dense, table, _ = planted(expression, kinds="rising,falling", planted_pairs=60)
    for kind, sign in (("rising", 1), ("falling", -1)):
        rows = table[table["kind"] == kind]
        z = (dense - dense.mean(axis=0)) / dense.std(axis=0)
        r = (z[:, rows["gene_a"].to_numpy(int)] * z[:, rows["gene_b"].to_numpy(int)]).mean(axis=0)
        assert (sign * r > 0.2).all()
