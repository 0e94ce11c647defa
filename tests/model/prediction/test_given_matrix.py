"""Predictions of a matrix as a user has it: counts are treated as those of the training, and nothing else is scored."""

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import pairscape
from conftest import counted
from model_fixtures import facts_of
from pairscape.model.edges.scores import read_scores
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.weights import save_weights
from pairscape.model.options import Rendering

BINS = 16


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Raw counts in three forms, with spike-ins in one of them."""
    cells = ad.AnnData(sparse.csr_matrix(counted(120, 24, seed=5)))
    cells.obs_names, cells.var_names = [f"cell_{i}" for i in range(120)], [f"GENE{i}" for i in range(24)]
    cells.write_h5ad(tmp_path / "m.h5ad")
    table = cells.to_df().T.astype(int)
    table.loc["ERCC-00002"] = np.arange(120) + 50
    table.to_csv(tmp_path / "spiked.csv")
    return {"h5ad": tmp_path / "m.h5ad", "csv with spike-ins": tmp_path / "spiked.csv", "AnnData": cells}


def trained(folder: Path, values: str | None) -> Path:
    """A run of fresh weights whose store held values of a kind."""
    folder.mkdir()
    classifier = PairClassifier("pairnet", Rendering(), BINS, 2, mirror=True).eval()
    save_weights(
        folder / "model.safetensors",
        classifier.state_dict(),
        facts_of(classifier, "pairnet", scale="max", natural=0.02),
    )
    store = {} if values is None else {"values": values}
    (folder / "metrics.json").write_text(json.dumps({"store": store}))
    return folder


def scores(run: Path, matrix: Any, out: Path) -> pd.DataFrame:
    pairscape.predict(run, matrix, out, all_pairs=True, scheduler="synchronous", quiet=True)
    return read_scores(out).to_pandas().astype({"gene_a": str, "gene_b": str})


@pytest.mark.parametrize("form", ["h5ad", "csv with spike-ins", "AnnData"])
@pytest.mark.parametrize(("values", "preset"), [(None, "auto"), ("log", "auto"), ("counts", "none")])
def test_counts_score_as_the_store_that_ingest_makes_of_them(
    given: dict[str, Any], values: str | None, preset: Any, form: str, tmp_path: Path
) -> None:
    run = trained(tmp_path / "run", values)
    pairscape.ingest(given["h5ad"], tmp_path / "e.zarr", preset=preset, quiet=True)
    wanted = scores(run, tmp_path / "e.zarr", tmp_path / "wanted.parquet")
    found = scores(run, given[form], tmp_path / "found.parquet")
    pd.testing.assert_frame_equal(found, wanted, rtol=0, atol=1e-6)
    assert len(wanted) > 200


def test_raw_and_normalised_counts_do_not_score_alike(given: dict[str, Any], tmp_path: Path) -> None:
    """So that the tests above would see it."""
    found = [
        scores(trained(tmp_path / name, name), given["h5ad"], tmp_path / f"{name}.parquet")
        for name in ("log", "counts")
    ]
    assert np.abs(found[0]["correlation"] - found[1]["correlation"]).max() > 0.05


@pytest.mark.parametrize(
    ("values", "preset"), [("cnnc", "auto"), ("log", "none"), ("counts", "scanpy"), ("deep-cell", "log1p")]
)
def test_values_that_a_network_never_saw_are_refused(
    given: dict[str, Any], values: str, preset: Any, tmp_path: Path, refuses: Any
) -> None:
    run = trained(tmp_path / "run", values)
    matrix = given["h5ad"]
    if preset != "auto":
        pairscape.ingest(matrix, matrix := tmp_path / "e.zarr", preset=preset, quiet=True)
    with refuses("run was trained on ", " holds ", "--preset"):
        scores(run, matrix, tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()
