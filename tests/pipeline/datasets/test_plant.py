"""The planting job: a store, a list beside it that `--pairs` reads, and nothing where it is refused."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy.sparse import csr_matrix

from conftest import counted, simulated
from pairscape.pipeline.datasets.designs import Planting
from pairscape.pipeline.datasets.plant import plant_truth
from pairscape.pipeline.genes.pairs import candidates
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import PairSource
from typed import run_command

PLANTING = Planting("u-shaped,linear", 40)


def test_the_store_and_the_list_fit(expression_path, dense, tmp_path):
    done = plant_truth(expression_path, tmp_path / "p.zarr", PLANTING)
    store, matrix = anndata.read_zarr(tmp_path / "p.zarr"), open_expression(tmp_path / "p.zarr")
    assert (done.cells, done.genes, done.positives, done.negatives) == (150, len(matrix.genes), 40, 400)
    assert done.copies == done.genes - 46 > 0
    np.testing.assert_array_equal(np.sort(store.X.toarray()[:, :46], axis=0), np.sort(dense, axis=0))
    assert store.obs["planted_type"].value_counts().tolist() == [75, 75]
    assert store.uns["pairscape"]["planted"]["kinds"] == "u-shaped,linear"
    assert "counts" not in store.layers
    found = candidates(PairSource(pairs=done.pairs), matrix.genes)
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert found.pairs.label.tolist() == table["label"].tolist()
    assert (np.array(matrix.genes)[found.pairs.gene_a] == table["gene_a"]).all()
    assert found.notes == (
        "p.tsv: columns 'gene_a', 'gene_b', 'label'; 440 of 440 pairs have both genes in the matrix; "
        "80 of 80 genes are in the matrix",
    )
    assert done.line().startswith(
        f"150 cells × {done.genes} genes ({done.copies} of them copies), values kept as they are; "
    )


def test_raw_counts_are_normalised_before_anything_is_planted(tmp_path):
    counts = AnnData(csr_matrix(counted(300, 60)))
    done = plant_truth(counts, tmp_path / "p.zarr", PLANTING)
    store, normal = anndata.read_zarr(tmp_path / "p.zarr"), counts.copy()
    sc.pp.normalize_total(normal, target_sum=1e4)
    sc.pp.log1p(normal)
    np.testing.assert_allclose(
        np.sort(store.X.toarray()[:, :60], axis=0), np.sort(normal.X.toarray(), axis=0), rtol=1e-5
    )
    assert "values scaled to 10,000 per cell, log1p" in done.line()
    assert open_expression(tmp_path / "p.zarr").values == "log"


def test_a_seed_gives_the_same_content(expression_path, tmp_path):
    for name in ("a", "b"):
        plant_truth(expression_path, tmp_path / f"{name}.zarr", PLANTING)
    first, again = (open_expression(tmp_path / f"{name}.zarr").content_hash() for name in ("a", "b"))
    assert first == again
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_the_command_from_end_to_end(expression_path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = ["--kinds", "u-shaped", "--planted-pairs", "20", "--directed"]
    assert run_command("plant", expression_path, "p.zarr", *options) == 0
    assert "p.tsv lists 40 planted and 200 other pairs" in capfd.readouterr().out
    counting = ["--scale", "rank", "--scheduler", "synchronous"]
    assert run_command("heatmaps", "p.zarr", "i.zarr", "--pairs", "p.tsv", *counting) == 0
    assert run_command("plant", expression_path, "p.zarr", *options) == 2
    assert "p.zarr exists" in capfd.readouterr().err
    assert run_command("plant", expression_path, "p.zarr", *options, "--overwrite", "--quiet") == 0


@pytest.mark.parametrize(("n_cells", "name", "words"), [
    (49, "p.zarr", ["has 49 cells", "50 at least"]),
    (150, "p.h5ad", ["does not end in .zarr"]),
    (150, "there.zarr", ["there.tsv exists", "--overwrite"]),
])  # fmt: skip
def test_what_cannot_be_planted_leaves_nothing(n_cells, name, words, tmp_path, refuses):
    (tmp_path / "there.tsv").write_text("mine")
    with refuses(*words):
        plant_truth(AnnData(csr_matrix(simulated(n_cells))), tmp_path / name, PLANTING)
    assert [path.name for path in tmp_path.iterdir()] == ["there.tsv"]


def test_a_source_that_is_not_there_is_refused(tmp_path, refuses):
    with refuses("does not exist"):
        plant_truth(tmp_path / "none.zarr", tmp_path / "p.zarr", PLANTING)
