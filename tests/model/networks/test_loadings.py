"""Loadings are those of the images' cells, noise has none, and a network that is told them needs no more than codes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from model_fixtures import (
    gene_names,
    make_store,
    module_expression,
    module_pairs,
    moved_store,
    small_store,
    write_pairs,
)
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation.bootstrap import against_baseline
from pairscape.model.networks import gene_context
from pairscape.model.networks.classifier import PairClassifier, TrainedNetwork, score_rows
from pairscape.model.networks.gene_context import (
    factor_codes,
    gene_loadings,
    lowered,
    noise_edge,
    normal_scores,
    principal_loadings,
    store_loadings,
)
from pairscape.model.networks.pairnet import FACTOR_FEATURES, FACTORS, GENE_LOADINGS, LEVELS, factor_features
from pairscape.model.networks.weights import load_weights, write_config
from pairscape.model.options import Recipe, Rendering, Splitting, Training
from pairscape.model.training.run import evaluate_run, train_run
from pairscape.model.training.train import fit
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.labels import split_cells
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, PairSource

RECIPE = Recipe(
    splitting=Splitting("pair"), training=Training(network="pairnet-factors", epochs=1, batch_size=24, ratio=2.0)
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def images(root):
    return small_store(root)


def coded(expression):
    """Codes of few values a gene, as (G, N) uint8: 0 unexpressed, then whole numbers up to 8."""
    return np.ceil(np.minimum(np.asarray(expression).T * 2, 8)).astype(np.uint8)


def oracle_scores(codes):
    """scipy's ranks as quantiles of a normal distribution, standardised gene by gene."""
    quantile = stats.norm.ppf((stats.rankdata(codes, axis=1) - 0.5) / codes.shape[1])
    centred = quantile - quantile.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_scores_are_normal_quantiles_of_mid_ranks():
    codes = coded(module_expression(70, 3, 5, seed=1)[0])
    np.testing.assert_allclose(normal_scores(codes, 8), oracle_scores(codes), atol=1e-6)


def test_a_constant_gene_is_correlated_with_nothing():
    codes = coded(module_expression(70, 3, 5, seed=1)[0])
    codes[4] = 3
    scores = normal_scores(codes, 8)
    assert not scores[4].any()
    assert np.isfinite(principal_loadings(scores, 8)).all()


@pytest.mark.parametrize("n_cells", [9, 200])  # fewer cells than genes, and more
def test_all_factors_together_are_the_correlations(n_cells):
    scores = normal_scores(coded(module_expression(n_cells, 3, 6, seed=2)[0]), 8)
    found = principal_loadings(scores, 40)
    np.testing.assert_allclose(found @ found.T, scores @ scores.T, atol=1e-5)
    eigenvalues = np.square(found).sum(0)
    assert (np.diff(eigenvalues) <= 1e-6).all()
    assert not found[:, min(scores.shape) :].any() or np.abs(found[:, min(scores.shape) :]).max() < 1e-3


def test_every_eigenvalue_is_lowered_by_shares_of_the_edge():
    scores = normal_scores(coded(module_expression(80, 3, 6, seed=2)[0]), 8)
    plain = principal_loadings(scores, FACTORS)
    found = lowered(plain, edge=1.3).reshape(18, len(LEVELS), FACTORS)
    before = np.square(plain).sum(0)
    for level, of_level in zip(LEVELS, found.transpose(1, 0, 2), strict=True):
        np.testing.assert_allclose(np.square(of_level).sum(0), np.maximum(before - level * 1.3, 0), atol=1e-4)


def test_genes_that_share_nothing_have_next_to_no_factors():
    rng = np.random.default_rng(0)
    scores = normal_scores(coded(np.clip(rng.normal(size=(300, 150)), 0, None)), 8)
    largest = np.square(principal_loadings(scores, 4)).sum(0)[0]
    assert largest == pytest.approx(noise_edge(150, 300), rel=0.1)


def test_factors_tell_sparse_genes_apart_that_their_own_correlation_does_not():
    """Sixty cells, seven in ten without expression: what a module shares is seen in all of its thirty genes."""
    expression, module = module_expression(60, 4, 30, seed=5)
    codes = coded(expression * (np.random.default_rng(6).random(expression.shape) < 0.6))
    scores, (a, b) = normal_scores(codes, 8), np.triu_indices(module.size, 1)
    of_level = lowered(principal_loadings(scores, FACTORS), noise_edge(*scores.shape))[:, :FACTORS]
    same = module[a] == module[b]
    alone, shared = ((x @ x.T)[a, b] for x in (scores, of_level))
    wrong = [1 - roc_auc_score(same, np.abs(correlation)) for correlation in (alone, shared)]
    assert wrong[1] < wrong[0] / 2


# ---------------------------------------------------------------- of a store


def test_under_replicate_labels_the_label_half_is_never_seen(tmp_path):
    expression, _ = module_expression(61, 3, 4, seed=4)
    source = PairSource(all_pairs=True, labels="replicate")
    images = make_store(tmp_path, expression, source, Binning("rank", 64), seed=5)
    _, counted = split_cells(61, 5)
    matrix = open_expression(images.path.with_name("expression.zarr")).select(counted).toarray()
    scores = oracle_scores(matrix.T).astype(np.float32)  # 64 rank bins hold at most one cell each, or its ties
    wanted = lowered(principal_loadings(scores, FACTORS), noise_edge(*scores.shape))
    found, want = (part.reshape(12, len(LEVELS), FACTORS) for part in (gene_loadings(factor_codes(images)), wanted))
    products = [np.einsum("glf,hlf->lgh", part, part) for part in (found, want)]  # signs of factors mean nothing
    np.testing.assert_allclose(*products, atol=1e-4)


def test_many_cells_are_sampled_at_even_distances(images, monkeypatch):
    codes = factor_codes(images)
    whole = codes.read(np.arange(12), slice(0, 60))
    monkeypatch.setattr(gene_context, "MAX_FACTOR_CELLS", 20)
    scores = normal_scores(whole[:, np.linspace(0, 59, 20).astype(int)], 16)
    np.testing.assert_array_equal(
        gene_loadings(codes), lowered(principal_loadings(scores, FACTORS), noise_edge(12, 20))
    )


def test_a_pair_is_given_those_of_its_two_genes(images):
    found, pairs = store_loadings(images), images.pairs()
    rows = np.array([3, 40, 65])
    assert found.of(rows).shape == (3, 2, GENE_LOADINGS)
    np.testing.assert_array_equal(found.of(rows)[:, 0], found.gene[pairs.gene_a[rows]])
    np.testing.assert_array_equal(found.of(rows)[:, 1], found.gene[pairs.gene_b[rows]])


@pytest.mark.parametrize("kind", ["gone", "others"])
def test_lost_codes_are_told_before_anything_is_written(images, tmp_path, refuses, monkeypatch, kind):
    store = moved_store(images, tmp_path / "moved")
    monkeypatch.setattr(gene_context, "_kept_loadings", {})
    if kind == "gone":
        shutil.rmtree(tmp_path / "moved/codes.zarr")
    else:
        store = replace(store, spec=replace(store.spec, codes_hash="0" * 64))
    with refuses("codes.zarr no longer holds the codes", "pairnet-factors reads what all genes share", "--network"):
        train_run(store, tmp_path / "run", RECIPE, 0, Session())
    assert not (tmp_path / "run").exists()


def test_ten_genes_share_too_little(tmp_path, refuses):
    expression, _module = module_expression(60, 2, 5, seed=2)
    pairs = write_pairs(tmp_path / "pairs.csv", gene_names(10)[:-1], gene_names(10)[1:], [0, 1, 0] * 3)
    store = make_store(tmp_path, expression, PairSource(pairs=pairs), Binning("max", 16))
    with refuses("of 10 genes", "11 genes or more", "--network"):
        factor_codes(store)


# ---------------------------------------------------------------- the network on them


def test_the_features_are_correlations_level_by_level_and_know_no_order():
    genes = torch.randn(5, 2, GENE_LOADINGS, generator=torch.Generator().manual_seed(0))
    found = factor_features(genes)
    assert found.shape == (5, FACTOR_FEATURES)
    for level in range(len(LEVELS)):
        own = slice(level * FACTORS, (level + 1) * FACTORS)
        wanted = (genes[:, 0, own] * genes[:, 1, own]).sum(1)
        torch.testing.assert_close(found[:, level], wanted)
        torch.testing.assert_close(found[:, level + len(LEVELS)], wanted.abs())
    torch.testing.assert_close(factor_features(genes.flip(1)), found)


def test_what_genes_share_reaches_the_score(images):
    torch.manual_seed(0)
    classifier = PairClassifier("pairnet-factors", Rendering(), 16, 2, mirror=False).eval()
    rows = np.array([0, 7, 31, 65])
    scored = score_rows(classifier, images, rows, lambda _: None)
    counts = torch.from_numpy(np.stack([images.counts(slice(r, r + 1))[0] for r in rows]).astype(np.int32))
    genes, neither = torch.from_numpy(store_loadings(images).of(rows)), torch.zeros(4, dtype=torch.int32)
    with torch.inference_mode():
        np.testing.assert_allclose(scored, classifier.probabilities(counts, neither, genes), atol=1e-6)
        assert not np.allclose(scored, classifier.probabilities(counts, neither, genes.roll(1, 0)))


def test_it_trains_to_the_same_bytes_and_predicts_on_another_store_with_factors_of_its_own(
    images, tmp_path, monkeypatch
):
    rivals = list[str]()

    def compared(label, network, baselines, *others):
        rivals.extend(baselines)
        return against_baseline(label, network, baselines, *others)

    monkeypatch.setattr("pairscape.model.evaluation.evaluate.against_baseline", compared)
    train_run(images, tmp_path / "run", RECIPE, 0, Session())
    (tmp_path / "again").mkdir()
    gene_context._kept_loadings.clear()
    fit(images, make_folds(images, RECIPE, 0), RECIPE, tmp_path / "again", 0, Silent())
    weights = [load_weights(tmp_path / name / "model.safetensors")[0] for name in ("run", "again")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    expression, module = module_expression(50, 4, 4, seed=9)
    pairs = module_pairs(tmp_path / "pairs.csv", module)
    other = make_store(tmp_path / "other", expression, PairSource(pairs=pairs), Binning("rank", 16))
    evaluate_run(tmp_path / "run", other, tmp_path / "out", Session())
    assert set(gene_context._kept_loadings) == {other.spec.plan_hash}
    assert_audited(other, tmp_path / "out")
    assert rivals.count("factors_only") == 2  # of training, and of the other store
    classifier = TrainedNetwork.load(tmp_path / "run").classifier
    assert classifier.needs_loadings
    assert not classifier.needs_neighbours
    assert "beside the images: how the two genes are correlated" in (tmp_path / "run/model-card.md").read_text()


def assert_audited(images, out):
    """What the network was told stands beside its score, as a score of its own."""
    told, gene = pd.read_parquet(out / "predictions.parquet"), images.array("gene").tolist()
    place = [[gene.index(name) for name in told[side]] for side in ("gene_a", "gene_b")]
    a, b = (store_loadings(images).gene[genes, :FACTORS] for genes in place)
    np.testing.assert_allclose(told["factors_only"], np.abs((a * b).sum(1)), atol=1e-6)
    metrics = json.loads((out / "metrics.json").read_text())
    auroc = metrics["audit"]["factors_only"]["auroc"]
    assert auroc == pytest.approx(roc_auc_score(told["label"] > 0, told["factors_only"]))
    assert "Factors only" in (out / "report.html").read_text()


def test_another_store_without_codes_is_refused_before_anything_is_written(images, tmp_path, refuses):
    (tmp_path / "run").mkdir()
    fit(images, make_folds(images, RECIPE, 0), RECIPE, tmp_path / "run", 0, Silent())
    write_config(tmp_path / "run/config.toml", RECIPE, {}, 0)
    (tmp_path / "run/metrics.json").write_text("{}")  # a finished run
    store = moved_store(images, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved/codes.zarr")
    with refuses("no longer holds the codes"):
        evaluate_run(tmp_path / "run", store, tmp_path / "out", Session())
    assert not (tmp_path / "out").exists()
