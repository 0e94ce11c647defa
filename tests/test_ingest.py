"""From any file to the expression store: what is written, and that nothing is when something is wrong."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from pipeline import ingest as module
from pipeline.errors import InputError, JobError
from pipeline.ingest import ingest
from pipeline.matrix import open_expression

COUNTS = np.array([[3, 0, 1, 0], [0, 2, 5, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
GENES = ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419", "ENSG00000000457"]


def adata() -> ad.AnnData:
    """Four cells × four genes of counts; the last cell and the last gene have none."""
    obs = pd.DataFrame({"batch": pd.Categorical(list("aabb"))}, index=["AAACCTGA", "AAACCTGC", "AAACCTGG", "AAACCTGT"])
    var = pd.DataFrame({"feature_name": pd.Categorical(["TSPAN6", "TNMD", "DPM1", "SCYL3"])}, index=GENES)
    return ad.AnnData(sparse.csr_matrix(COUNTS), obs=obs, var=var)


def test_the_store(tmp_path: Path) -> None:
    steps: list[str] = []
    summary = ingest(adata(), tmp_path / "new" / "e.zarr", progress=steps.append)
    store = ad.read_zarr(tmp_path / "new" / "e.zarr")
    assert zarr.open_group(str(tmp_path / "new" / "e.zarr"), mode="r").metadata.zarr_format == 3
    np.testing.assert_array_equal(store.layers["counts"].toarray(), COUNTS[:3, :3])
    np.testing.assert_allclose(store.X.toarray()[0], np.log1p([7500, 0, 2500]), rtol=1e-6)
    assert (store.X.format, store.X.dtype) == ("csr", np.float32)
    assert list(store.var["symbol"]) == ["TSPAN6", "TNMD", "DPM1"]
    assert list(store.obs["batch"]) == list("aab")
    assert store.uns["pairscape"]["preset"] == "scanpy"
    assert steps == ["reading and checking", "filtering and normalising", "writing"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["e.zarr"]
    assert (summary.cells, summary.genes, summary.dropped_cells, summary.dropped_genes) == (3, 3, 1, 1)
    assert (summary.value_kind, summary.id_kind, summary.counts_kept) == ("raw counts", "ensembl", True)
    assert summary.density == pytest.approx(6 / 9)
    assert "raw counts kept" in "\n".join(summary.lines())
    expression = open_expression(tmp_path / "new" / "e.zarr")
    np.testing.assert_array_equal(expression.rows(0, 3).toarray(), store.X.toarray())


def test_ingesting_the_store_again_changes_nothing(tmp_path: Path) -> None:
    ingest(adata(), tmp_path / "a.zarr")
    summary = ingest(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert (summary.preset, summary.counts_kept) == ("none", True)
    first, second = (open_expression(tmp_path / f"{name}.zarr").content_hash() for name in "ab")
    assert first == second


def test_an_assumed_orientation_is_said(tmp_path: Path) -> None:
    pd.DataFrame(COUNTS, index=list("abcd"), columns=list("wxyz")).to_csv(tmp_path / "m.csv")
    assert "assumed" in "\n".join(ingest(tmp_path / "m.csv", tmp_path / "e.zarr").lines())


def test_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_VALUES", 4)
    monkeypatch.setattr(module, "SHARD_VALUES", 8)
    x: Any = sparse.random(30, 20, density=0.3, format="csr", dtype=np.float32, random_state=0)
    names = [pd.DataFrame(index=[f"{k}{i}" for i in range(n)]) for k, n in (("c", 30), ("g", 20))]
    ingest(ad.AnnData(x, obs=names[0], var=names[1]), tmp_path / "e.zarr", preset="none")
    np.testing.assert_array_equal(open_expression(tmp_path / "e.zarr").rows(7, 23).toarray(), x.toarray()[7:23])


def test_odd_annotations_are_kept(tmp_path: Path) -> None:
    cells = adata()
    cells.obs["nullable text"] = pd.array(["a", None, "c", "d"], dtype="string")
    cells.obs["mixed"] = np.array(["a", None, 3, "d"], dtype=object)
    cells.obs["nullable flag"] = pd.array([True, None, False, True], dtype="boolean")
    ingest(cells, tmp_path / "e.zarr")
    assert set(open_expression(tmp_path / "e.zarr").obs()) == {"batch", "nullable text", "mixed", "nullable flag"}


def test_overwriting_replaces_the_store(tmp_path: Path) -> None:
    ingest(adata(), tmp_path / "e.zarr")
    ingest(adata(), tmp_path / "e.zarr", preset="none", overwrite=True)
    assert open_expression(tmp_path / "e.zarr").rows(0, 1).toarray().max() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["e.zarr"]


def dated() -> ad.AnnData:
    cells = adata()
    cells.obs["date"] = pd.date_range("2020-01-01", periods=4)
    return cells


BAD: dict[str, tuple[Callable[[], ad.AnnData | str], dict[str, Any], str]] = {
    "missing source": (lambda: "none.h5ad", {}, "does not exist"),
    "negative": (lambda: ad.AnnData(COUNTS - 1), {}, "negative"),
    "all zero": (lambda: ad.AnnData(COUNTS * 0), {}, "0 of 4 cells and 0 of 4 genes are left"),
    "filters too strict": (adata, {"min_cells": 4}, "are left with min_cells=4"),
    "unknown preset": (adata, {"preset": "seurat"}, "preset 'seurat' is unknown"),
    "missing layer": (adata, {"layer": "spliced"}, "no layer 'spliced'"),
    "annotation of no known kind": (dated, {}, "an annotation cannot be stored"),
}


@pytest.mark.parametrize("case", BAD)
def test_nothing_is_left_of_a_failure(case: str, tmp_path: Path) -> None:
    make, options, message = BAD[case]
    with pytest.raises(InputError) as refused:
        ingest(make(), tmp_path / "e.zarr", **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("e.h5ad", {}, "does not end in .zarr"),
        ("full.zarr", {}, "exists: give another name"),
        ("full.zarr", {"overwrite": True}, "is not a Zarr store, so it is not overwritten"),
    ],
)
def test_bad_targets(name: str, options: dict[str, bool], message: str, tmp_path: Path) -> None:
    (tmp_path / "full.zarr").mkdir()
    (tmp_path / "full.zarr" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=message):
        ingest(adata(), tmp_path / name, overwrite=options.get("overwrite", False))
    assert [p.name for p in tmp_path.iterdir()] == ["full.zarr"]
    assert (tmp_path / "full.zarr" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("fault", "raised"), [(OSError("disk full"), JobError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_the_old_store_survives_a_failed_overwrite(
    fault: BaseException, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(adata(), tmp_path / "e.zarr")
    before = open_expression(tmp_path / "e.zarr").content_hash()

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(module, "_layout", fail)
    with pytest.raises(raised):
        ingest(adata(), tmp_path / "e.zarr", preset="none", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["e.zarr"]
    assert open_expression(tmp_path / "e.zarr").content_hash() == before


@pytest.mark.skipif("PAIRSCAPE_DATA" not in os.environ, reason="PAIRSCAPE_DATA does not name the folder of real data")
@pytest.mark.parametrize(
    ("file", "shape", "preset"),
    [
        ("beeline_mdc/ExpressionData.csv", (383, 821), "none"),
        ("mesc_hayashi/NormalizedData.csv", (421, 642), "none"),
        ("pbmc4k/pbmc4k_raw.h5ad", (2170, 18368), "scanpy"),
    ],
)
def test_real_files(file: str, shape: tuple[int, int], preset: str, tmp_path: Path) -> None:
    summary = ingest(Path(os.environ["PAIRSCAPE_DATA"]) / file, tmp_path / "e.zarr")
    assert ((summary.cells, summary.genes), summary.preset, summary.id_kind) == (shape, preset, "symbol")
