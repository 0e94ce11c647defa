"""The audit finds what it is there to find: labels that give themselves away, marginals that do, and correlation."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mutual_info_score

from model_fixtures import curved_store, make_pairs, make_store, module_expression, sharded_store, write_pairs
from pairscape.model.batches.folds import TEST, TRAIN, assign_folds
from pairscape.model.evaluation.association import mutual_information
from pairscape.model.evaluation.baselines import (
    INFORMATION_BINS,
    SMOOTHING,
    bin_centres,
    direction_from_labels,
    direction_from_marginals,
    heatmap_statistics,
    labels_of_one_side,
    labels_only,
    marginals_only,
)
from pairscape.model.evaluation.metrics import auroc, direction_accuracy
from pairscape.model.options import Splitting
from pairscape.pipeline.datasets.demo import demo_cells
from pairscape.pipeline.genes.pairs import all_pairs
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.options import Binning, PairSource


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


# ---------------------------------------------------------------- labels only


def hub_pairs(n_genes=60, n_hubs=12):
    """All pairs; those with a hub gene are mostly positive. What a gene does not tell, chance does."""
    pairs = all_pairs(n_genes)
    rng = np.random.default_rng(0)
    hub = (pairs.gene_a % 5 == 0) & (pairs.gene_a < 5 * n_hubs)
    pairs.label[:] = rng.random(len(pairs)) < np.where(hub, 0.8, 0.03)
    return pairs


def labels_only_auroc(pairs, split, directed, n_genes=60):
    folds = assign_folds(pairs, n_genes, Splitting(split), seed=1)
    train, test = np.flatnonzero(folds == TRAIN), np.flatnonzero(folds == TEST)
    return auroc(pairs.label[test], labels_only(pairs, train, test, n_genes, directed))


@pytest.mark.parametrize("directed", [True, False])
def test_labels_alone_find_a_hub_until_both_genes_are_unseen(directed):
    pairs = hub_pairs()
    assert labels_only_auroc(pairs, "pair", directed) > 0.85
    assert labels_only_auroc(pairs, "both", directed) == 0.5


def test_popular_targets_leak_through_a_split_by_regulator():
    """SCIENCE's trap: splitting by regulator is not enough where some targets are always hit."""
    regulator, target = np.repeat(np.arange(20), 40), np.tile(np.arange(20, 60), 20)
    label = np.random.default_rng(0).random(800) < np.where(target % 4 == 0, 0.8, 0.05)
    pairs = make_pairs(regulator, target, label)
    assert labels_only_auroc(pairs, "regulator", directed=True) > 0.8
    assert labels_only_auroc(pairs, "target", directed=True) < 0.65


def test_a_gene_counts_on_the_side_where_it_stood_if_labels_have_direction():
    pairs = make_pairs([0, 0, 0, 1, 2, 3], [4, 5, 6, 4, 5, 0], [1, 1, 1, 0, 0, 0])
    train, rows = np.arange(5), np.array([5])
    directed = labels_only(pairs, train, rows, 7, directed=True)
    undirected = labels_only(pairs, train, rows, 7, directed=False)
    mean_odds = np.log(3 / 2)
    assert directed == pytest.approx([2 * mean_odds])  # 3 → 0: neither was seen on that side
    assert undirected[0] > 2 * mean_odds  # 0 was positive three times out of three


def directed_pairs(seed=0, n_regulators=12, n_targets=60):
    """Regulator × target rows, positive by the regulator's own rate; the second half of the rows for the test."""
    rng = np.random.default_rng(seed)
    regulator, target = np.repeat(np.arange(n_regulators), n_targets), np.tile(np.arange(n_targets), n_regulators)
    label = rng.random(regulator.size) < np.where(regulator % 3 == 0, 0.7, 0.05)
    return make_pairs(regulator, n_regulators + target, label), rng.permutation(regulator.size)


def test_each_side_alone_is_the_rate_of_its_gene_in_training():
    """Beside a count with pandas."""
    pairs, order = directed_pairs()
    train, rows = np.sort(order[:400]), np.sort(order[400:])
    found = labels_of_one_side(pairs, train, rows, 72)
    table = pd.DataFrame({"a": pairs.gene_a, "b": pairs.gene_b, "y": pairs.label}).iloc[train]
    for name, side, genes in (("regulator", "a", pairs.gene_a[rows]), ("target", "b", pairs.gene_b[rows])):
        counted = table.groupby(side)["y"].agg(["sum", "size"]).reindex(genes, fill_value=0)
        rate = (counted["sum"] + SMOOTHING * table["y"].mean()) / (counted["size"] + SMOOTHING)
        np.testing.assert_allclose(found[f"labels_only_{name}"], rate.clip(1e-9, 1 - 1e-9), rtol=1e-9)
    both = labels_only(pairs, train, rows, 72, directed=True)
    odds = [np.log(rate / (1 - rate)) for rate in found.values()]
    np.testing.assert_allclose(both, odds[0] + odds[1], rtol=1e-9)


def test_the_side_that_gives_labels_away_is_named():
    pairs, order = directed_pairs()
    train, rows = np.sort(order[:400]), np.sort(order[400:])
    found = labels_of_one_side(pairs, train, rows, 72)
    assert auroc(pairs.label[rows], found["labels_only_regulator"]) > 0.8
    assert auroc(pairs.label[rows], found["labels_only_target"]) < 0.6


def with_mirrors(pairs):
    """Each edge as (a, b) with label 1 and as (b, a) with label 2, as CNNC's lists have it."""
    edge = pairs.label == 1
    a, b = np.append(pairs.gene_a, pairs.gene_b[edge]), np.append(pairs.gene_b, pairs.gene_a[edge])
    return make_pairs(a, b, np.append(pairs.label, np.full(edge.sum(), 2)))


def test_labels_alone_tell_direction_until_both_genes_are_unseen():
    """A regulator is never a target: whoever knows that knows every direction, and no cell was looked at."""
    pairs = with_mirrors(directed_pairs()[0])
    for split, right in (("pair", 1.0), ("both", 0.5)):
        folds = assign_folds(pairs, 72, Splitting(split), seed=1)
        train, test = np.flatnonzero(folds == TRAIN), np.flatnonzero(folds == TEST)
        forward = direction_from_labels(pairs, train, test, 72)
        assert direction_accuracy(pairs.label[test], forward) == right
    one_side = labels_of_one_side(pairs, train, test, 72)
    assert all(np.ptp(score) < 1e-12 for score in one_side.values())


def test_one_side_of_mirrored_labels_is_the_same_for_both_images_of_an_edge():
    pairs = with_mirrors(directed_pairs()[0])
    train, n = np.arange(0, len(pairs), 2), int((pairs.label == 2).sum())
    edges, mirrors = np.flatnonzero(pairs.label == 1), np.arange(len(pairs) - n, len(pairs))
    for name, score in labels_of_one_side(pairs, train, edges, 72).items():
        np.testing.assert_allclose(score, labels_of_one_side(pairs, train, mirrors, 72)[name])


# ---------------------------------------------------------------- marginals only


@lru_cache
def marginal_store(folder: Path) -> Images:
    """Independent genes of different strength; a pair of two strong ones is positive."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    strength = rng.uniform(0.2, 3, 80)
    scale = rng.uniform(0.95, 1.05, 80)  # so that no two genes have exactly the same mean
    expression = (scale * rng.poisson(strength, (200, 80))).astype(np.float32)
    a, b = np.triu_indices(80, 1)
    names = np.array([f"GENE{i:03d}" for i in range(80)])
    strong = strength > np.median(strength)
    pairs = write_pairs(folder / "pairs.csv", names[a], names[b], (strong[a] & strong[b]).astype(int))
    return make_store(folder, expression, PairSource(pairs=pairs), Binning("max", 16))


def marginals_auroc(images, directed=False):
    pairs = images.pairs()
    folds = assign_folds(pairs, images.array("gene").size, Splitting("both", 0.4, 0.1), seed=0)
    train, test = np.flatnonzero(folds == TRAIN), np.flatnonzero(folds == TEST)
    return auroc(pairs.label[test], marginals_only(images, pairs, train, test, directed, seed=0))


@pytest.mark.parametrize("directed", [True, False])
def test_marginals_alone_find_a_label_that_follows_from_them(root, directed):
    assert marginals_auroc(marginal_store(root / "marginal"), directed) > 0.9


def test_marginals_alone_do_not_find_dependence(root):
    assert 0.3 < marginals_auroc(curved_store(root), directed=True) < 0.7


def test_marginals_do_not_depend_on_the_order_of_an_undirected_pair(root):
    images = marginal_store(root / "marginal")
    pairs, rows = images.pairs(), np.arange(images.spec.n_pairs)
    train, test = rows[::2], rows[1::2]
    swap = rows % 2 == 1  # the test pairs, once they were learned from the others
    turned = np.where(swap, pairs.gene_b, pairs.gene_a), np.where(swap, pairs.gene_a, pairs.gene_b)
    both = [marginals_only(images, p, train, test, False, seed=0) for p in (pairs, make_pairs(*turned, pairs.label))]
    np.testing.assert_array_equal(*both)


def test_marginals_tell_direction_where_regulators_are_weakly_expressed(root):
    images = marginal_store(root / "marginal")
    mean, pairs = images.array("mean"), images.pairs()
    label = np.where(pairs.label > 0, np.where(mean[pairs.gene_a] < mean[pairs.gene_b], 1, 2), 0)
    pointed, rows = make_pairs(pairs.gene_a, pairs.gene_b, label), np.arange(len(pairs))
    forward = direction_from_marginals(images, pointed, rows[::2], rows[1::2], seed=0)
    assert direction_accuracy(pointed.label[1::2], forward) > 0.85
    one_way = make_pairs(pairs.gene_a, pairs.gene_b, pairs.label)
    assert (direction_from_marginals(images, one_way, rows[::2], rows[1::2], seed=0) == 0.5).all()


# ---------------------------------------------------------------- real cells


@pytest.fixture(scope="module")
def pbmc(root):
    """All pairs of 40 genes of real blood cells in 32 `rank` bins, and their expression as it was counted."""
    cells = demo_cells()
    cells = cells[:, np.linspace(0, cells.n_vars - 1, 40).astype(int)].copy()
    expression = np.asarray(cells.X.todense() if sparse.issparse(cells.X) else cells.X, np.float32)
    expression = expression[expression.sum(axis=1) > 0]
    expression = expression[:, expression.sum(axis=0) > 0]
    return make_store(root / "pbmc", expression, PairSource(all_pairs=True), Binning("rank", 32)), expression


def test_the_audit_on_real_cells_beside_scipy(pbmc):
    """Every pair from the cells themselves; 32 bins cost the statistics little, and their order nearly nothing."""
    images, expression = pbmc
    pairs = images.pairs()
    found = heatmap_statistics(images, pairs, np.arange(len(pairs)))
    columns = [(expression[:, a], expression[:, b]) for a, b in zip(pairs.gene_a, pairs.gene_b, strict=True)]
    truth = {"pearson": [pearsonr(x, y).statistic for x, y in columns],
             "spearman": [spearmanr(x, y).statistic for x, y in columns]}  # fmt: skip
    for name, exact in truth.items():
        np.testing.assert_allclose(found[name], np.abs(exact), atol=0.03)
        assert spearmanr(found[name], np.abs(exact)).statistic > 0.99


def test_mutual_information_of_real_cells_is_scikit_learns(pbmc):
    images, _ = pbmc
    pairs = images.pairs()
    found = heatmap_statistics(images, pairs, np.arange(50))["mutual_information"]
    for row, counts in enumerate(images.counts(slice(0, 50)).astype(int)):
        pooled = counts.reshape(8, 4, 8, 4).sum(axis=(1, 3))
        freedom = ((pooled.sum(0) > 0).sum() - 1) * ((pooled.sum(1) > 0).sum() - 1)
        plug_in = mutual_info_score(None, None, contingency=pooled)
        assert found[row] == pytest.approx(plug_in - freedom / (2 * pooled.sum()), abs=1e-12)


def test_marginals_of_real_cells_are_those_the_model_is_shown(pbmc):
    images, expression = pbmc
    np.testing.assert_allclose(images.array("mean"), expression.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(images.array("variance"), expression.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(images.array("dropout"), (expression == 0).mean(axis=0), atol=1e-6)


# ---------------------------------------------------------------- statistics of the heatmaps


@pytest.fixture(scope="module", params=["max", "range", "rank"])
def fine(request, root):
    """28 pairs of 8 genes over 500 cells, in 128 bins, and the expression they were counted from."""
    expression, _ = module_expression(500, 2, 4, seed=3)
    folder = root / f"fine-{request.param}"
    return make_store(folder, expression, PairSource(all_pairs=True), Binning(request.param, 128)), expression


def test_correlations_from_heatmaps_are_those_of_the_cells(fine):
    images, expression = fine
    pairs = images.pairs()
    found = heatmap_statistics(images, pairs, np.arange(len(pairs)))
    pearson = np.abs(np.corrcoef(expression.T))[pairs.gene_a, pairs.gene_b]
    spearman = np.abs(spearmanr(expression).statistic)[pairs.gene_a, pairs.gene_b]
    assert pearson.max() > 0.5  # there is something to get wrong
    assert pearson.min() < 0.05
    np.testing.assert_allclose(found["pearson"], pearson, atol=0.02)
    np.testing.assert_allclose(found["spearman"], spearman, atol=0.02)


def test_statistics_do_not_depend_on_which_rows_are_asked_for(root):
    images = sharded_store(root)
    pairs, everything = images.pairs(), np.arange(images.spec.n_pairs)
    some = np.flatnonzero(everything % 7 == 3)
    whole, part = heatmap_statistics(images, pairs, everything), heatmap_statistics(images, pairs, some)
    assert set(whole) == {"pearson", "spearman", "mutual_information", "distance_correlation", "hsic"}
    for name in whole:
        assert whole[name].shape == everything.shape
        np.testing.assert_allclose(part[name], whole[name][some], rtol=1e-12)


def test_a_constant_gene_correlates_with_nothing(root):
    expression, _ = module_expression(80, 2, 2, seed=0)
    expression[:, 1] = 2.0
    images = make_store(root / "constant", expression, PairSource(all_pairs=True))
    pairs = images.pairs()
    found = heatmap_statistics(images, pairs, np.arange(len(pairs)))
    constant = (pairs.gene_a == 1) | (pairs.gene_b == 1)
    for score in found.values():
        np.testing.assert_allclose(score[constant], 0, atol=1e-9)
        assert np.isfinite(score).all()
    assert found["pearson"][~constant].max() > 0.5


def test_the_bin_of_the_unexpressed_cells_stands_for_zero():
    edges = np.array([[0, 0.5, 1, 2], [-0.5, -0.2, 0.1, 0.4], [1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(bin_centres(edges), [[0, 0.75, 1.5], [-0.35, 0, 0.25], [1.5, 2.5, 3.5]], rtol=1e-6)


def images_of(joint, n_cells, n, seed=0):
    """(n, bins, bins) counts of cells drawn from a joint distribution."""
    drawn = np.random.default_rng(seed).multinomial(n_cells, joint.ravel(), n)
    return drawn.reshape(n, *joint.shape).astype(float)


def test_independent_genes_have_no_mutual_information_few_cells_or_many():
    margin = np.linspace(1, 3, 32) / np.linspace(1, 3, 32).sum()
    for n_cells, left in ((300, 0.01), (3_000, 0.001)):  # uncorrected, it would be 0.082 and 0.008
        found = mutual_information(images_of(np.outer(margin, margin), n_cells, 400), INFORMATION_BINS)
        assert abs(found.mean()) < left
        assert found.std() < 3 * left


def test_mutual_information_is_the_plug_in_estimate_less_its_bias():
    counts = images_of(np.full((8, 8), 1 / 64) * 0.5 + np.eye(8) / 16, 500, 20)
    plug_in = np.array([mutual_info_score(None, None, contingency=image) for image in counts.astype(int)])
    np.testing.assert_allclose(mutual_information(counts, INFORMATION_BINS), plug_in - 7 * 7 / (2 * 500), atol=1e-12)


def test_mutual_information_of_identical_genes_is_their_entropy():
    identical = np.eye(32)[None] * 1_000
    assert mutual_information(identical, INFORMATION_BINS)[0] == pytest.approx(np.log(8), abs=0.01)


def test_mutual_information_sees_what_correlation_does_not(root):
    images = curved_store(root)
    pairs = images.pairs()
    found = heatmap_statistics(images, pairs, np.arange(len(pairs)))
    scores = {name: auroc(pairs.label, score) for name, score in found.items()}
    assert scores["mutual_information"] > 0.95
    assert max(scores["pearson"], scores["spearman"]) < 0.6
