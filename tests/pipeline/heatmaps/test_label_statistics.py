"""Replicate labels by sign and by Pearson residuals, from an expression store: which counts, and none that are not."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csc_matrix, csr_matrix

from conftest import counted
from pairscape.pipeline.genes.labels import replicate_labels, split_cells
from pairscape.pipeline.genes.pairs import all_pairs
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.job import resolve_request
from pairscape.pipeline.heatmaps.tiles import storage_order
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import PairSource
from typed import run_command

COUNTS = counted(300, 25)
COUNTS = COUNTS[:, COUNTS.any(axis=0)][:, :20]
RESIDUAL = PairSource(all_pairs=True, labels="replicate", threshold=0.1, label_statistic="residual")


def annotated(**layers):
    names = [f"c{i}" for i in range(300)], [f"G{i}" for i in range(20)]
    logs, frames = np.log1p(COUNTS / COUNTS.sum(axis=1, keepdims=True) * 1e4), [pd.DataFrame(index=n) for n in names]
    return AnnData(csr_matrix(logs), obs=frames[0], var=frames[1], layers=layers)


def expected_labels(source=RESIDUAL):
    label_half, _ = split_cells(300, 7)
    rows = csr_matrix(COUNTS)[label_half]
    pairs, _ = replicate_labels(all_pairs(20), rows, source.threshold, sign=source.sign, statistic="residual")
    return storage_order(pairs).label


@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix, np.asarray])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr", "memory"])
def test_residuals_are_made_of_the_counts_of_the_label_half(kind, suffix, tmp_path):
    matrix, path = annotated(counts=kind(COUNTS)), tmp_path / f"m.{suffix}"
    if suffix != "memory":
        with anndata.settings.override(zarr_write_format=3), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that shards will be the default
            (matrix.write_h5ad if suffix == "h5ad" else matrix.write_zarr)(path)
    request = resolve_request(open_expression(matrix if suffix == "memory" else path), RESIDUAL, 7)
    assert 0 < request.chosen.pairs.label.sum() < 190
    np.testing.assert_array_equal(request.chosen.pairs.label, expected_labels())
    assert "labels |correlation of Pearson residuals| >= 0.1" in request.provenance["cells"]
    assert request.provenance["pairs"]["label_statistic"] == "residual"


def test_ingested_counts_serve_and_so_do_stores_of_counts_alone(tmp_path):
    counts = AnnData(csr_matrix(COUNTS), var=annotated().var)
    for preset in ("auto", "none"):
        ingest(counts, tmp_path / f"{preset}.zarr", preset=preset)
        matrix = open_expression(tmp_path / f"{preset}.zarr")
        np.testing.assert_array_equal(resolve_request(matrix, RESIDUAL, 7).chosen.pairs.label, expected_labels())


@pytest.mark.parametrize(("layers", "words"), [
    ({}, ["holds no raw counts", "pairscape ingest", "--label-statistic"]),
    ({"spliced": csr_matrix(COUNTS)}, ["holds no raw counts"]),
    ({"counts": annotated().X}, ["layers['counts'] holds natural logarithms"]),
])  # fmt: skip
def test_without_counts_there_are_no_residuals(layers, words, tmp_path, refuses):
    annotated(**layers).write_h5ad(tmp_path / "m.h5ad")
    with refuses("m.h5ad", *words):
        resolve_request(open_expression(tmp_path / "m.h5ad"), RESIDUAL, 7)


@pytest.mark.parametrize(("options", "words"), [
    ({"sign": "±", "labels": "replicate"}, ["'±'", "+ or -"]),
    ({"sign": "+"}, ["--sign", "--labels replicate"]),
    ({"label_statistic": "pearson", "labels": "replicate"}, ["'pearson'", "spearman or residual"]),
    ({"label_statistic": "residual"}, ["--label-statistic", "--labels replicate"]),
])  # fmt: skip
def test_choices_of_labels_that_fit_nothing_are_refused(options, words, refuses):
    with refuses(*words):
        PairSource(all_pairs=True, **options)


@pytest.mark.parametrize("sign", ["+", "-"])
def test_the_options_on_the_command_line(sign, tmp_path):
    annotated(counts=csr_matrix(COUNTS)).write_h5ad(tmp_path / "m.h5ad")
    options = ["--all-pairs", "--labels", "replicate", "--threshold", 0.05, "--label-statistic", "residual"]
    options += ["--sign", sign, "--seed", 7, "--scheduler", "synchronous", "--quiet"]
    assert run_command("heatmaps", tmp_path / "m.h5ad", tmp_path / "i.zarr", *options) == 0
    source = PairSource(all_pairs=True, labels="replicate", threshold=0.05, label_statistic="residual", sign=sign)
    assert expected_labels(source).sum() > 0
    images = open_images(tmp_path / "i.zarr")
    np.testing.assert_array_equal(images.array("label"), expected_labels(source))
    assert images.provenance["pairs"]["sign"] == sign


def test_without_the_options_nothing_new_is_recorded(tmp_path):
    annotated().write_h5ad(tmp_path / "m.h5ad")
    request = resolve_request(open_expression(tmp_path / "m.h5ad"), PairSource(all_pairs=True, labels="replicate"), 7)
    assert request.provenance["pairs"] == {"all_pairs": "True", "labels": "replicate", "negatives": "random"}


@pytest.mark.parametrize("known", [True, False], ids=["with the counts of each cell", "without"])
def test_depth_is_that_of_all_genes_where_only_some_are_left(known):
    """As in a store of the most variable genes: residuals of these are what they were among all."""
    matrix = annotated(counts=csr_matrix(COUNTS))
    if known:
        matrix.obs["total_counts"] = COUNTS.sum(axis=1)
    left = matrix[:, :6].copy()
    found = resolve_request(open_expression(left), RESIDUAL, 7).chosen.pairs
    whole = resolve_request(open_expression(matrix), RESIDUAL, 7).chosen.pairs
    among = {(a, b): label for a, b, label in zip(whole.gene_a, whole.gene_b, whole.label, strict=True)}
    same = [among[a, b] == label for a, b, label in zip(found.gene_a, found.gene_b, found.label, strict=True)]
    assert all(same) == known
