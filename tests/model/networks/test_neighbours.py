"""Neighbour images are those of the store's own cells, counted exactly, and a pair's are the mirror's turned round."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

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
from pairscape.model.networks import gene_context
from pairscape.model.networks.classifier import PairClassifier, TrainedNetwork, describe_batch, score_rows
from pairscape.model.networks.gene_context import codes_of, nearest_genes, neighbourhoods
from pairscape.model.networks.published import IMAGES_PER_GENE, NEIGHBOURS
from pairscape.model.networks.weights import load_weights, write_config
from pairscape.model.options import Recipe, Rendering, Splitting, Training
from pairscape.model.training.run import evaluate_run, train_run
from pairscape.model.training.train import fit
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.labels import split_cells
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, PairSource
from reference import joint_counts

DEEPDRIM = Recipe(
    splitting=Splitting("pair"), training=Training(network="deepdrim", epochs=1, batch_size=24, ratio=2.0)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def images(root):
    return small_store(root)


def dense_expression(images):
    matrix = open_expression(images.path.with_name("expression.zarr"))
    return matrix.select(np.arange(matrix.n_cells)).toarray()


def test_the_images_are_those_of_the_oracle(images):
    found, edges, x = neighbourhoods(images), images.array("edges"), dense_expression(images)
    assert found.counts.shape == (12, IMAGES_PER_GENE, 16, 16)
    for place, gene in enumerate(found.gene):
        others = [gene, *found.neighbour[place]]
        want = joint_counts(x, edges, np.repeat(gene, IMAGES_PER_GENE), others)
        np.testing.assert_array_equal(found.counts[place], want)
        neither = [((x[:, gene] == 0) & (x[:, other] == 0)).sum() for other in others]
        np.testing.assert_array_equal(found.both_zero[place], neither)


def test_they_are_those_of_the_store_where_the_pair_is_there(images):
    found, pairs = neighbourhoods(images), images.pairs()
    stored = images.counts(slice(0, len(pairs))).astype(np.int64)
    for row, (a, b) in enumerate(found.rows):
        assert (found.gene[a], found.gene[b]) == (pairs.gene_a[row], pairs.gene_b[row])
        for gene, other, image in ((a, b, stored[row]), (b, a, stored[row].T)):  # column = bin of the gene itself
            for at in np.flatnonzero(found.neighbour[gene] == found.gene[other]):
                np.testing.assert_array_equal(found.counts[gene, at + 1], image)


def covariance_order(x):
    """Genes by covariance with each, highest first, itself left out."""
    covariance = np.cov(x.T.astype(np.float64))
    np.fill_diagonal(covariance, -np.inf)
    return np.argsort(-covariance, axis=1)[:, :NEIGHBOURS]


def binned(codes):
    edges, dense = codes.array("edges"), codes.read(np.arange(codes.n_genes), slice(0, codes.n_cells))
    middle = np.pad((edges[:, 1:] + edges[:, :-1]) / 2, [(0, 0), (1, 0)])
    return np.stack([middle[g][dense[g]] for g in range(codes.n_genes)], axis=1)  # (cell, gene)


@pytest.mark.parametrize("scale", ["max", "rank"])
def test_the_neighbours_are_the_ten_of_highest_covariance(tmp_path, scale):
    expression, module = module_expression(150, 4, 10, seed=3)
    pairs = write_pairs(tmp_path / "pairs.csv", gene_names(40)[:-1], gene_names(40)[1:], [0, 1, 0] * 13)
    codes = codes_of(make_store(tmp_path, expression, PairSource(pairs=pairs), Binning(scale, 32)))
    found = nearest_genes(codes, np.array([3, 17, 30]))
    np.testing.assert_array_equal(found, covariance_order(binned(codes))[[3, 17, 30]])
    assert (module[found[:, :9]] == module[[3, 17, 30]][:, None]).all()  # the other nine of the module come first


def test_many_cells_are_sampled_at_even_distances(images, monkeypatch):
    monkeypatch.setattr(gene_context, "MAX_COVARIANCE_CELLS", 20)
    monkeypatch.setattr(gene_context, "GENES_AT_ONCE", 5)
    codes = codes_of(images)
    chosen = np.linspace(0, 59, 20).astype(int)
    np.testing.assert_array_equal(nearest_genes(codes, np.arange(12)), covariance_order(binned(codes)[chosen]))


def test_under_replicate_labels_the_label_half_is_never_seen(tmp_path):
    expression, _ = module_expression(61, 3, 4, seed=4)
    images = make_store(
        tmp_path, expression, PairSource(all_pairs=True, labels="replicate"), Binning("max", 16), seed=5
    )
    _, counted = split_cells(61, 5)
    found, x = neighbourhoods(images), dense_expression(images)[counted]
    gene, neighbour = int(found.gene[4]), int(found.neighbour[4, 2])
    np.testing.assert_array_equal(found.counts[4, 3], joint_counts(x, images.array("edges"), [gene], [neighbour])[0])


# ---------------------------------------------------------------- codes that are gone


def test_a_store_that_was_moved_with_its_codes_finds_them(images, tmp_path):
    assert codes_of(moved_store(images, tmp_path / "moved")).path == str(tmp_path / "moved/codes.zarr")


@pytest.mark.parametrize("kind", ["gone", "others"])
def test_lost_codes_are_told_before_anything_is_written(images, tmp_path, refuses, monkeypatch, kind):
    store = moved_store(images, tmp_path / "moved")
    monkeypatch.setattr(gene_context, "_kept", {})
    if kind == "gone":
        shutil.rmtree(tmp_path / "moved/codes.zarr")
    else:
        store = replace(store, spec=replace(store.spec, codes_hash="0" * 64))
    with refuses("codes.zarr no longer holds the codes", "run the same `pairscape heatmaps` again", "--network"):
        train_run(store, tmp_path / "run", DEEPDRIM, 0, Session())
    assert not (tmp_path / "run").exists()


def test_ten_genes_are_too_few(tmp_path, refuses):
    expression, _module = module_expression(60, 2, 5, seed=2)
    pairs = write_pairs(tmp_path / "pairs.csv", gene_names(10)[:-1], gene_names(10)[1:], [0, 1, 0] * 3)
    store = make_store(tmp_path, expression, PairSource(pairs=pairs), Binning("max", 16))
    with refuses("of 10 genes", "11 genes or more", "--network"):
        codes_of(store)


# ---------------------------------------------------------------- the network on them


def made(images, classes=2, mirror=False):
    torch.manual_seed(0)
    return PairClassifier("deepdrim", Rendering(), images.spec.binning.bins, classes, mirror).eval()


def batch_of(images, rows):
    counts = torch.from_numpy(np.stack([images.counts(slice(r, r + 1))[0] for r in rows]).astype(np.int32))
    return counts, torch.zeros(len(rows), dtype=torch.int32)


def test_a_pair_scores_as_its_mirror_and_a_direction_turns_round(images):
    rows, around = torch.tensor([0, 7, 31, 65]), neighbourhoods(images)
    counts, neither = batch_of(images, rows.tolist())
    for classes, mirror in ((2, True), (3, True), (2, False)):
        classifier = made(images, classes, mirror)
        with torch.inference_mode():
            genes = describe_batch(classifier, around, rows, torch.device("cpu"))
            one = classifier.probabilities(counts, neither, genes)
            other = classifier.probabilities(counts.mT, neither, genes.flip(1))
        turned = other[:, [0, 2, 1]] if classes == 3 else other
        assert torch.allclose(one, turned, atol=1e-6) is mirror


def test_genes_described_once_score_as_those_described_with_their_pair(images):
    classifier, rows = made(images), np.array([3, 9, 10, 44])
    scored = score_rows(classifier, images, rows, lambda _: None)
    around = neighbourhoods(images)
    with torch.inference_mode():
        place = torch.from_numpy(around.rows[rows].astype(np.int64))  # (4, 2)
        genes = classifier.describe(around.counts[place].flatten(0, 1), around.both_zero[place].flatten(0, 1))
        alone = classifier.probabilities(*batch_of(images, rows), genes.unflatten(0, (4, 2)))
    np.testing.assert_allclose(scored, alone, atol=1e-5)


def test_what_the_neighbours_show_reaches_the_score(images):
    classifier, rows, around = made(images), torch.tensor([0, 7]), neighbourhoods(images)
    counts, neither = batch_of(images, rows.tolist())
    genes = describe_batch(classifier, around, rows, torch.device("cpu"))
    logits = classifier(counts, neither, genes)
    assert not torch.allclose(logits, classifier(counts, neither, genes.roll(1, 0)))
    logits.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in classifier.parameters())


def test_deepdrim_trains_and_predicts_on_another_store_with_neighbours_of_its_own(images, tmp_path):
    folds = make_folds(images, DEEPDRIM, 0)
    train_run(images, tmp_path / "run", DEEPDRIM, 0, Session())
    (tmp_path / "again").mkdir()
    fit(images, folds, DEEPDRIM, tmp_path / "again", 0, Silent())
    weights = [load_weights(tmp_path / name / "model.safetensors")[0] for name in ("run", "again")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    expression, module = module_expression(50, 4, 4, seed=9)
    pairs = module_pairs(tmp_path / "pairs.csv", module)
    other = make_store(tmp_path / "other", expression, PairSource(pairs=pairs), Binning("rank", 16))
    evaluate_run(tmp_path / "run", other, tmp_path / "out", Session())
    assert set(gene_context._kept) == {other.spec.plan_hash}
    classifier = TrainedNetwork.load(tmp_path / "run").classifier
    assert classifier.needs_neighbours


def test_another_store_without_codes_is_refused_before_anything_is_written(images, tmp_path, refuses, monkeypatch):
    (tmp_path / "run").mkdir()
    fit(images, make_folds(images, DEEPDRIM, 0), DEEPDRIM, tmp_path / "run", 0, Silent())
    write_config(tmp_path / "run/config.toml", DEEPDRIM, {}, 0)
    (tmp_path / "run/metrics.json").write_text("{}")  # a finished run
    store = moved_store(images, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved/codes.zarr")
    with refuses("no longer holds the codes"):
        evaluate_run(tmp_path / "run", store, tmp_path / "out", Session())
    assert not (tmp_path / "out").exists()
