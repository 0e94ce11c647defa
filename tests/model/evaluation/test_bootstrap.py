"""Intervals of the difference of two rankings: exact under weights, paired, and as wide as shared genes ask for."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from pairscape.model.evaluation.bootstrap import Ranking, against_baseline, gene_units, interval, pair_units, resampled


def some_rows(n=300, seed=0, decimals=1):
    """Labels, 10 % positive, and informative scores with ties."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.1).astype(np.int8)
    return label, (rng.normal(size=n) + label).round(decimals)


@pytest.mark.parametrize("decimals", [0, 1, 12], ids=["hardly any value", "ties", "no ties"])
def test_weighted_figures_are_scikit_learns(decimals):
    label, score = some_rows(decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, (20, label.size)).astype(np.int32)
    ranking = Ranking.of(label, score)
    found = ranking.figures(weights[:, ranking.order])
    auroc = [roc_auc_score(label, score, sample_weight=w) for w in weights]
    precision = [average_precision_score(label, score, sample_weight=w) for w in weights]
    np.testing.assert_allclose(found["auroc"], auroc, rtol=1e-12)
    np.testing.assert_allclose(found["average_precision"], precision, rtol=1e-12)


def test_a_weight_of_two_is_the_row_twice():
    label, score = some_rows()
    times = np.random.default_rng(2).integers(0, 3, label.size)
    ranking = Ranking.of(label, score)
    found = ranking.figures(times[None, ranking.order].astype(np.int32))
    label, score = label.repeat(times), score.repeat(times)
    assert found["auroc"][0] == pytest.approx(roc_auc_score(label, score), rel=1e-12)
    assert found["average_precision"][0] == pytest.approx(average_precision_score(label, score), rel=1e-12)


def test_a_resample_without_one_class_has_no_figures():
    label, score = np.array([1, 0, 0]), np.array([0.5, 0.2, 0.7])
    ranking = Ranking.of(label, score)
    for weights in ([0, 1, 2], [2, 0, 0]):
        found = ranking.figures(np.array([weights], np.int32)[:, ranking.order])
        assert np.isnan([found["auroc"][0], found["average_precision"][0]]).all()


def test_mirrors_are_one_unit_and_genes_are_numbered_across_both_sides():
    a, b = np.array([5, 9, 5, 7]), np.array([9, 5, 7, 9])
    assert gene_units(a, b).tolist() == [[0, 2], [2, 0], [0, 1], [1, 2]]
    mirror = pair_units(a, b)[:, 0]
    assert mirror[0] == mirror[1]
    assert np.unique(mirror).size == 3


def test_a_row_counts_as_often_as_the_product_of_its_genes():
    """With three genes, a resample that holds one gene three times has no pair at all; the share is that of chance."""
    label, units = np.array([1, 0, 0], np.int8), gene_units(np.array([0, 0, 1]), np.array([1, 2, 2]))
    found = resampled(label, {"x": np.array([0.9, 0.1, 0.2])}, units, seed=0, resamples=4_000)
    # both classes have weight where all three genes were drawn: 3!/27
    assert np.isfinite(found["x"]["auroc"]).mean() == pytest.approx(6 / 27, abs=0.03)


def test_the_same_ranking_never_differs_from_itself():
    """Resamples are shared: a monotone copy of a score has the difference 0 in every one."""
    label, score = some_rows(decimals=12)
    a, b = np.random.default_rng(3).integers(0, 40, (2, label.size))
    found = resampled(label, {"x": score, "y": np.exp(score)}, gene_units(a, b), seed=0, resamples=50)
    np.testing.assert_array_equal(found["x"]["auroc"], found["y"]["auroc"])
    assert found["x"]["auroc"].std() > 0


def test_one_seed_one_interval_whatever_the_batches(monkeypatch):
    label, score = some_rows()
    a, b = np.random.default_rng(3).integers(0, 40, (2, label.size))
    told = []
    for weights_at_once in (2**22, 700):
        monkeypatch.setattr("pairscape.model.evaluation.bootstrap.BATCH_WEIGHTS", weights_at_once)
        told.append(against_baseline(label, score, {"pearson": np.roll(score, 1)}, (a, b), 4, resamples=60))
    assert told[0] == told[1]
    other = against_baseline(label, score, {"pearson": np.roll(score, 1)}, (a, b), 5, resamples=60)
    assert other["auroc"]["low"] != told[0]["auroc"]["low"]


# ---------------------------------------------------------------- coverage


def scored_pairs(rng, n_genes, gene_effect, strengths=(3.0, 2.0)):
    """All pairs of some genes, 40 % positive, and two scorers of known AUROC whose errors come from genes and pairs."""
    a, b = np.triu_indices(n_genes, 1)
    label = (rng.random(a.size) < 0.4).astype(np.int8)
    gene = rng.normal(size=(2, n_genes)) * gene_effect
    noise = rng.normal(size=(2, a.size))
    scores = [s * label + gene[k, a] + gene[k, b] + noise[k] for k, s in enumerate(strengths)]
    return a, b, label, scores


def expected_difference(gene_effect, strengths=(3.0, 2.0)):
    """AUROC of the first less that of the second: a positive and a negative differ by s + noise of known variance."""
    deviation = np.sqrt(2 * (2 * gene_effect**2 + 1))
    first, second = norm.cdf(np.array(strengths) / deviation)
    return first - second


def coverage(gene_effect, n_genes, repetitions=120):
    """How often intervals by genes, and by pairs, hold the known difference in AUROC."""
    truth, held = expected_difference(gene_effect), np.zeros((repetitions, 2), bool)
    for i in range(repetitions):
        a, b, label, scores = scored_pairs(np.random.default_rng([i, 1]), n_genes, gene_effect)
        found = against_baseline(label, scores[0], {"pearson": scores[1]}, (a, b), i, resamples=150)["auroc"]
        held[i] = [found[f"low{by}"] <= truth <= found[f"high{by}"] for by in ("", "_by_pairs")]
    return held.mean(axis=0)


def test_intervals_by_genes_hold_the_truth_where_those_by_pairs_do_not():
    """120 repetitions of a 95 % interval: two standard errors are 0.04. Resampling pairs overlooks the shared genes."""
    by_genes, by_pairs = coverage(gene_effect=1.5, n_genes=30)
    assert by_genes >= 0.91
    assert by_pairs < 0.85


def test_without_gene_effects_intervals_by_pairs_are_right_and_those_by_genes_wide():
    by_genes, by_pairs = coverage(gene_effect=0.0, n_genes=30)
    assert by_genes >= 0.97
    assert 0.88 <= by_pairs <= 0.99


# ---------------------------------------------------------------- the verdict


def test_a_clear_winner_a_clear_loser_and_a_draw():
    a, b, label, (strong, weak) = scored_pairs(np.random.default_rng(0), 60, 0.2, (3.0, 0.5))
    told = {
        "ahead": against_baseline(label, strong, {"pearson": weak}, (a, b), 0, resamples=100),
        "behind": against_baseline(label, weak, {"pearson": strong}, (a, b), 0, resamples=100),
        "level": against_baseline(label, strong, {"pearson": strong.copy()}, (a, b), 0, resamples=100),
    }
    for standing, found in told.items():
        assert found["verdict"] == f"{standing} on AUROC, {standing} on average precision"
        for key in ("auroc", "average_precision"):
            assert found[key]["low"] <= found[key]["difference"] <= found[key]["high"]


def test_each_figure_has_its_own_best_baseline():
    """One baseline knows the very best pairs and nothing else, the other a little about all."""
    label = np.repeat([1, 0], [20, 380]).astype(np.int8)
    rng = np.random.default_rng(0)
    top = rng.normal(size=400) + 10 * (np.arange(400) < 8)
    broad = rng.normal(size=400) + 1.2 * label
    a, b = np.triu_indices(30, 1)
    shuffle = rng.permutation(a.size)[:400]
    found = against_baseline(label, broad, {"top": top, "broad": broad}, (a[shuffle], b[shuffle]), 0, resamples=50)
    assert found["baseline"] == found["average_precision"]["baseline"] == "top"
    assert found["auroc"]["baseline"] == "broad"
    assert found["auroc"]["difference"] == 0


@pytest.mark.parametrize("label", [np.zeros(6, np.int8), np.ones(6, np.int8)], ids=["negatives", "positives"])
def test_nothing_is_compared_without_both_classes(label):
    a, b = np.triu_indices(4, 1)
    found = against_baseline(label, np.arange(6.0), {"pearson": np.ones(6)}, (a, b), 0, resamples=10)
    assert found["auroc"] is found["average_precision"] is found["baseline"] is None
    assert "not defined" in found["verdict"]


def test_no_interval_where_most_resamples_lack_a_class():
    assert interval(np.array([0.1, np.nan, np.nan])) == (None, None)
    assert interval(np.array([0.1, 0.1, np.nan])) == (0.1, 0.1)
