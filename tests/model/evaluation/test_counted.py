"""Statistics of raw counts are those of the cells that were counted; depth alone is no dependence; and what cannot be
had says why."""

import shutil

import numpy as np
import pytest
from scipy import sparse

import pairscape
from model_fixtures import HERE, as_anndata
from pairscape.model.evaluation.association import spearman
from pairscape.model.evaluation.count_statistics import cscore_z, residual_correlation, residual_factors
from pairscape.model.evaluation.counted import CellCounts, find_counts
from pairscape.model.evaluation.depth_null import depth_null
from pairscape.model.evaluation.rivals import FIGURES, count_rivals
from pairscape.model.networks.pairnet import FACTORS
from pairscape.pipeline.genes.labels import split_cells
from pairscape.pipeline.heatmaps.drawn import draw_images
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.options import Binning, PairSource


def negative_binomial(n_cells, n_genes, seed):
    """Counts of independent genes in cells of very unequal depth; genes 0 and 1 share a factor, gene 2 has no count."""
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.8, n_cells)
    rate = rng.uniform(0.5, 4, n_genes)
    factor = rng.gamma(2, 0.5, (n_cells, n_genes))
    factor[:, 1] = factor[:, 0]
    counts = rng.poisson(depth[:, None] * rate * factor)
    counts[:, 2] = 0
    return counts.astype(np.float32)


def cell_counts(counts):
    return CellCounts(sparse.csr_matrix(counts), counts.sum(1).astype(float), counts.sum(0).astype(float), "scanpy")


def every_pair(n_genes):
    return np.triu_indices(n_genes, 1)


# ---------------------------------------------------------------- the formulas


def test_residuals_are_lauses():
    counts = negative_binomial(90, 8, seed=1)
    mu = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    with np.errstate(invalid="ignore"):
        wanted = np.clip((counts - mu) / np.sqrt(mu + mu**2 / 100), -np.sqrt(90), np.sqrt(90))
    wanted[:, 2] = 0
    cells, (a, b) = cell_counts(counts), every_pair(8)
    found = residual_correlation(cells, a, b)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found, np.nan_to_num(np.corrcoef(wanted.T))[a, b], atol=1e-5)


def brute_cscore(counts, j, k):
    """From the formulas, for one pair of genes, with loops of least squares of its own."""
    s, x = counts.sum(1).astype(float), counts[:, [j, k]].astype(float)
    w = np.ones_like(x)
    for _ in range(50):
        mu = (w * x * s[:, None]).sum(0) / (w * s[:, None] ** 2).sum(0)
        beyond = (x - np.outer(s, mu)) ** 2 - np.outer(s, mu)
        sigma = np.maximum((w**2 * beyond * s[:, None] ** 2).sum(0) / (w**2 * s[:, None] ** 4).sum(0), 0)
        w = 1 / (np.outer(s, mu) + np.outer(s**2, sigma))
    r = x - np.outer(s, mu)
    return (s**2 * (r * w).prod(1)).sum() / np.sqrt((s**4 * w.prod(1)).sum())


def test_the_statistic_of_cs_core_is_that_of_its_formulas_and_about_normal_without_dependence():
    counts = negative_binomial(400, 150, seed=2)
    cells, (a, b) = cell_counts(counts), every_pair(150)
    found = cscore_z(cells, a, b)
    empty = (a == 2) | (b == 2)
    wanted = [brute_cscore(counts, j, k) for j, k in zip(a[~empty][:40], b[~empty][:40], strict=True)]
    np.testing.assert_allclose(found[~empty][:40], wanted, rtol=1e-3, atol=1e-3)
    assert found[0] > 8  # of the pair that shares a factor
    independent = found[~empty][1:]
    assert abs(independent.mean()) < 0.25
    assert 0.8 < independent.std() < 1.25
    assert (np.abs(found[empty]) < 1e-2).all()


def test_blocks_of_cells_and_genes_change_nothing(monkeypatch):
    cells, (a, b) = cell_counts(negative_binomial(300, 9, seed=3)), every_pair(9)
    whole = residual_correlation(cells, a, b), cscore_z(cells, a, b)
    monkeypatch.setattr("pairscape.model.evaluation.count_statistics.LAID_OUT", 500)
    for found, wanted in zip((residual_correlation(cells, a, b), cscore_z(cells, a, b)), whole, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_factors_of_residuals_hold_what_genes_share():
    rng = np.random.default_rng(0)
    program = rng.gamma(2, 0.5, (300, 2))[:, np.arange(40) % 2]
    counts = rng.poisson(program * rng.lognormal(0, 0.8, (300, 1)) * 2).astype(np.float32)
    loading = residual_factors(cell_counts(counts), np.arange(40))
    assert loading.shape == (40, FACTORS)
    product, (a, b) = loading @ loading.T, every_pair(40)
    same = a % 2 == b % 2
    assert product[a, b][same].min() > 0.1 > np.abs(product[a, b][~same]).max() - 0.3


# ---------------------------------------------------------------- of a store


def counted_store(folder, counts, source=PairSource(all_pairs=True), binning=Binning("rank", 16), preset="scanpy"):
    folder.mkdir(parents=True)
    matrix, images = folder / "expression.zarr", folder / "images.zarr"
    pairscape.ingest(as_anndata(counts), matrix, preset=preset, quiet=True)
    pairscape.heatmaps(
        matrix, images, source=source, binning=binning, codes=folder / "codes.zarr", compute=HERE, seed=3, quiet=True
    )
    return open_images(images)


@pytest.fixture(scope="module")
def counts():
    made = negative_binomial(160, 14, seed=4)
    made[:, 2] = 1 + np.arange(160) % 2
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory, counts):
    return counted_store(tmp_path_factory.mktemp("counted") / "store", counts)


def test_counts_are_those_of_the_matrix_and_genes_that_are_not_asked_for_are_left_out(store, counts):
    found = find_counts(store, np.array([5, 0, 5]))
    np.testing.assert_array_equal(found.counts.toarray()[:, [0, 5]], counts[:, [0, 5]])
    assert found.counts[:, 1].nnz == 0
    np.testing.assert_array_equal(found.depth, counts.sum(1))
    np.testing.assert_array_equal(found.total, counts.sum(0))
    assert found.preset == "scanpy"


def test_under_replicate_labels_they_are_of_the_image_half(tmp_path, counts):
    images = counted_store(tmp_path / "store", counts, PairSource(all_pairs=True, labels="replicate"))
    found = find_counts(images, np.arange(14))
    np.testing.assert_array_equal(found.counts.toarray(), counts[split_cells(160, 3)[1]])


def test_depth_is_that_of_all_genes_where_only_the_most_variable_are_kept(tmp_path, counts):
    matrix, images = tmp_path / "expression.zarr", tmp_path / "images.zarr"
    pairscape.ingest(as_anndata(counts), matrix, highly_variable=6, quiet=True)
    pairscape.heatmaps(matrix, images, source=PairSource(all_pairs=True), compute=HERE, quiet=True)
    found = find_counts(open_images(images), np.arange(6))
    assert found.total.size < 10
    np.testing.assert_array_equal(found.depth, counts.sum(1))


@pytest.mark.parametrize("total", ["text", 1.0, np.nan])
def test_a_column_that_is_no_total_is_passed_over(tmp_path, counts, total):
    adata = as_anndata(counts)
    adata.obs["total_counts"] = total
    adata.write_h5ad(matrix := tmp_path / "counts.h5ad")
    pairscape.heatmaps(matrix, tmp_path / "images.zarr", source=PairSource(all_pairs=True), compute=HERE, quiet=True)
    np.testing.assert_array_equal(find_counts(open_images(tmp_path / "images.zarr"), np.arange(3)).depth, counts.sum(1))


def test_of_many_cells_some_are_read_at_even_distances(store, counts):
    found = find_counts(store, np.arange(14), most=20)
    np.testing.assert_array_equal(found.counts.toarray(), counts[np.linspace(0, 159, 20).astype(int)])


def without_counts(folder):
    """The store keeps its expression alone, as one that was made of logarithms does."""
    shutil.rmtree(folder / "expression.zarr/layers/counts")


SPOILT = {
    "no codes": (lambda folder: shutil.rmtree(folder / "codes.zarr"), "codes that the images were"),
    "no matrix": (lambda folder: shutil.rmtree(folder / "expression.zarr"), "expression.zarr, is not where it was"),
    "another matrix": (
        lambda folder: (folder / "expression.zarr/zarr.json").write_text("{}"), "has changed since the images",
    ),
    "layer lost": (without_counts, "has changed since the images"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_cannot_be_had_says_why_in_every_row(tmp_path, counts, spoil):
    images = counted_store(tmp_path / "store", counts)
    act, words = SPOILT[spoil]
    act(tmp_path / "store")
    pairs, rows = images.pairs(), np.arange(20)
    scores, missing = count_rivals(images, pairs, rows, factors=True)
    assert scores == {}
    assert list(missing) == ["residual_correlation", "cscore_z", "factors_residual"]
    for row in missing.values():
        assert words in row["reason"]
        assert str(tmp_path) not in row["reason"]
        assert {name: row[name] for name in FIGURES} == dict.fromkeys(FIGURES)
    null = depth_null(images, pairs, rows, {}, "no network", 0)
    assert (null["network"], null["spearman"]) == (None, None)
    assert words in null["reason"]


def test_values_that_are_no_counts_are_not_taken_for_some(tmp_path, counts):
    images = counted_store(tmp_path / "store", np.log1p(counts), preset="none")
    assert "expression.zarr holds no raw counts" in find_counts(images, np.arange(3))


def test_raw_counts_that_were_drawn_as_they_are_and_an_h5ad_of_others(tmp_path, counts):
    as_they_are = find_counts(counted_store(tmp_path / "raw", counts, preset="none"), np.arange(14))
    assert as_they_are.preset == "none"
    np.testing.assert_array_equal(as_they_are.counts.toarray(), counts)
    adata = as_anndata(np.log1p(counts))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.write_h5ad(others := tmp_path / "others.h5ad")
    source, codes = PairSource(all_pairs=True), tmp_path / "codes.zarr"
    pairscape.heatmaps(others, tmp_path / "images.zarr", source=source, codes=codes, compute=HERE, quiet=True)
    images = open_images(tmp_path / "images.zarr")
    np.testing.assert_array_equal(find_counts(images, np.arange(14)).counts.toarray(), counts)
    pairs, rows = images.pairs(), np.arange(30)
    assert "does not say how" in depth_null(images, pairs, rows, {}, "no network", 0)["reason"]


def test_the_rivals_of_a_store(store):
    pairs, rows = store.pairs(), np.arange(0, 90, 2)
    scores, missing = count_rivals(store, pairs, rows, factors=True)
    assert missing == {}
    cells = find_counts(store, np.arange(14))
    a, b = pairs.gene_a[rows], pairs.gene_b[rows]
    np.testing.assert_allclose(scores["residual_correlation"], np.abs(residual_correlation(cells, a, b)))
    np.testing.assert_allclose(scores["cscore_z"], np.abs(cscore_z(cells, a, b)))
    loading = residual_factors(cells, np.arange(14))
    np.testing.assert_allclose(scores["factors_residual"], np.abs((loading[a] * loading[b]).sum(1)), atol=1e-6)


# ---------------------------------------------------------------- the depth null


@pytest.mark.parametrize("scale", ["max", "range", "rank", "quantile"])
def test_images_of_held_values_are_those_that_a_job_counts(tmp_path, counts, scale):
    images = counted_store(tmp_path / "store", counts, binning=Binning(scale, 16), preset="none")
    pairs, values = images.pairs(), np.ascontiguousarray(counts.T)
    found, both_zero = draw_images(values[pairs.gene_a], values[pairs.gene_b], Binning(scale, 16))
    np.testing.assert_array_equal(found, images.counts(slice(0, len(pairs))))
    np.testing.assert_array_equal(both_zero, images.both_zero(slice(0, len(pairs))))


def test_depth_alone_is_seen_by_a_correlation_of_counts_and_hardly_by_one_of_normalised_ones(tmp_path, counts):
    """The null keeps depth: where expression is the bare counts, cells of great depth are high in every gene."""
    shifts = {}
    for preset in ("none", "scanpy"):
        images = counted_store(tmp_path / preset, counts, preset=preset)
        pairs, rows = images.pairs(), np.arange(90)
        real = {name: np.random.default_rng(0).uniform(0, 0.2, 90) for name in ("network", "spearman")}
        found = depth_null(images, pairs, rows, real, lambda counts, _: np.abs(spearman(counts)), seed=0)
        assert (found["n_pairs"], found["n_cells"]) == (90, 160)
        assert found["network"] == found["spearman"]  # the same statistic of the same images
        assert found == depth_null(images, pairs, rows, real, lambda counts, _: np.abs(spearman(counts)), seed=0)
        shifts[preset] = found["spearman"]
    assert shifts["none"]["beyond_99th_percentile"] > 0.5
    assert shifts["none"]["mean_in_sd"] > shifts["scanpy"]["mean_in_sd"] + 1
    unscored = depth_null(images, pairs, rows, real, "it reads other genes", seed=0)
    assert (unscored["network"], unscored["spearman"], unscored["reason"]) == (
        None, found["spearman"], "it reads other genes",
    )  # fmt: skip
