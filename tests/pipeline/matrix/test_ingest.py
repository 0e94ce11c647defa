"""From any matrix to the expression store, out of core: what is written, what is kept, and nothing half-made."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import zarr
from scipy import sparse

from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.matrix import ingest as module
from pairscape.pipeline.matrix import intake, write
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import Compute
from pairscape.pipeline.storage.receipts import write_receipted

ROOT = Path(__file__).parents[3]
HERE = Compute("synchronous")
COUNTS = np.array([[3, 0, 1, 0], [0, 2, 5, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
GENES = ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419", "ENSG00000000457"]


def adata() -> ad.AnnData:
    """Four cells × four genes of counts; the last cell and the last gene have none."""
    obs = pd.DataFrame({"batch": pd.Categorical(list("aabb"))}, index=["AAACCTGA", "AAACCTGC", "AAACCTGG", "AAACCTGT"])
    var = pd.DataFrame({"feature_name": pd.Categorical(["TSPAN6", "TNMD", "DPM1", "SCYL3"])}, index=GENES)
    return ad.AnnData(sparse.csr_matrix(COUNTS), obs=obs, var=var)


def some_counts(n_cells: int = 230, n_genes: int = 90, seed: int = 0) -> ad.AnnData:
    """Raw counts with rare and common genes, mitochondrial ones, cell types, an empty cell and an empty gene."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.4, 1.0, n_genes) * rng.gamma(2.0, 0.5, (n_cells, 1))).astype(np.float32)
    counts[17], counts[:, 23] = 0, 0
    genes = [f"MT-ND{i}" for i in range(3)] + [f"GENE{i}" for i in range(3, n_genes)]
    kind = pd.Categorical(rng.choice(["dendritic", "B cell", "T cell"], n_cells))
    obs = pd.DataFrame({"cell_type": kind, "depth": counts.sum(1)}, index=[f"cell{i}" for i in range(n_cells)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`some_counts` on disk."""
    path = tmp_path_factory.mktemp("source") / "counts.h5ad"
    some_counts().write_h5ad(path)
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and shards at little cost: cells lie on both sides of a cut."""
    monkeypatch.setattr(intake, "BLOCK_ENTRIES", 1200)
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 64)
    monkeypatch.setattr(module, "SHARD_ENTRIES", 768)


def files(store: Path) -> dict[str, str]:
    """Hash of every file of a store, by name."""
    paths = [path for path in sorted(store.rglob("*")) if path.is_file()]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def reference(cells: ad.AnnData, min_cells: int = 1, min_genes: int = 1) -> ad.AnnData:
    """What scanpy makes of counts in memory: filters until nothing more goes, 10,000 per cell, log1p."""
    before = None
    while before != cells.shape:
        before = cells.shape
        sc.pp.filter_genes(cells, min_cells=min_cells)
        sc.pp.filter_cells(cells, min_genes=min_genes)
    cells.layers["counts"] = cells.X.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_store(tmp_path: Path) -> None:
    said: list[str] = []
    session = Session(say=lambda *lines: said.extend(lines))
    summary = ingest(adata(), tmp_path / "new" / "e.zarr", session=session)
    store = ad.read_zarr(tmp_path / "new" / "e.zarr")
    assert zarr.open_group(str(tmp_path / "new" / "e.zarr"), mode="r").metadata.zarr_format == 3
    np.testing.assert_array_equal(store.layers["counts"].toarray(), COUNTS[:3, :3])
    np.testing.assert_allclose(store.X.toarray()[0], np.log1p([7500, 0, 2500]), rtol=1e-6)
    assert (store.X.format, store.X.dtype, store.X.has_canonical_format) == ("csr", np.float32, True)
    assert list(store.var["symbol"]) == ["TSPAN6", "TNMD", "DPM1"]
    assert list(store.obs["batch"]) == list("aab")
    assert store.uns["pairscape"]["preset"] == "scanpy"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["e.zarr"]
    assert said == summary.lines()
    assert (summary.cells, summary.genes, summary.dropped_cells, summary.dropped_genes) == (3, 3, 1, 1)
    assert (summary.value_kind, summary.id_kind, summary.counts_kept) == ("raw counts", "ensembl", True)
    assert (summary.density, summary.filled) == (pytest.approx(6 / 9), pytest.approx(6 / 16))
    said = "\n".join(summary.lines())
    assert all(words in said for words in ("raw counts kept", "1 cells and 1 genes", "raw counts, 1 to 5"))
    expression = open_expression(tmp_path / "new" / "e.zarr")
    np.testing.assert_array_equal(expression.rows(0, 3).toarray(), store.X.toarray())


@pytest.mark.parametrize(("min_cells", "min_genes"), [(1, 1), (40, 12), (60, 15)])
def test_it_is_what_scanpy_makes_in_memory(
    min_cells: int, min_genes: int, h5ad: Path, small: None, tmp_path: Path
) -> None:
    summary = ingest(h5ad, tmp_path / "e.zarr", compute=HERE, min_cells=min_cells, min_genes=min_genes)
    store, expected = ad.read_zarr(tmp_path / "e.zarr"), reference(some_counts(), min_cells, min_genes)
    assert list(store.obs_names) == list(expected.obs_names)
    assert list(store.var_names) == list(expected.var_names)
    np.testing.assert_array_equal(store.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(store.layers["counts"].toarray(), expected.layers["counts"].toarray())
    assert (summary.dropped_cells, summary.dropped_genes) == (230 - expected.n_obs, 90 - expected.n_vars)
    assert len(list((tmp_path / "e.zarr" / "X" / "data" / "c").iterdir())) > 1


def test_quality_figures_are_scanpys(h5ad: Path, small: None, tmp_path: Path) -> None:
    ingest(h5ad, tmp_path / "e.zarr", compute=HERE, min_cells=30)
    store, cells = ad.read_zarr(tmp_path / "e.zarr"), some_counts()
    cells.var["mt"] = cells.var_names.str.startswith("MT-")
    sc.pp.calculate_qc_metrics(cells, qc_vars=["mt"], percent_top=None, inplace=True)
    for name in ("n_genes_by_counts", "total_counts", "pct_counts_mt"):
        np.testing.assert_allclose(store.obs[name], cells.obs.loc[store.obs_names, name], rtol=1e-6)
    expected = cells.var.loc[store.var_names, "n_cells_by_counts"]
    np.testing.assert_array_equal(store.var["n_cells_by_counts"], expected)


def test_the_deep_cell_preset_is_the_originals_steps(small: None, tmp_path: Path) -> None:
    cells = some_counts()
    counts = cells.X.toarray()
    counts[:, 5], counts[17, 5] = 2, 0  # constant but for one cell
    counts[:, 6] = 3  # constant
    cells.X = sparse.csr_matrix(counts)
    cells.write_h5ad(tmp_path / "m.h5ad")
    ingest(tmp_path / "m.h5ad", tmp_path / "e.zarr", compute=HERE, preset="deep-cell")
    x = pd.DataFrame(cells.X.toarray(), index=cells.obs_names, columns=cells.var_names)
    x = x.loc[:, x.nunique() > 1]
    x = x[x.sum(axis=1) > 0]
    x = x.loc[:, (x > 0).mean() > 0.1]
    x = x[x.sum(axis=1) > 0]
    expected = np.log2(x.mul(100 / x.sum(axis=1), axis=0) + 1)
    store = ad.read_zarr(tmp_path / "e.zarr")
    assert list(store.var_names) == list(x.columns)
    assert "GENE6" not in x.columns
    np.testing.assert_allclose(store.X.toarray(), expected.loc[store.obs_names], rtol=1e-5)


def test_ingesting_the_store_again_changes_nothing(tmp_path: Path) -> None:
    ingest(adata(), tmp_path / "a.zarr")
    summary = ingest(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert (summary.preset, summary.counts_kept) == ("none", True)
    assert "natural logarithms of 10,000 per cell" in " ".join(summary.notes)
    first, second = (ad.read_zarr(tmp_path / f"{name}.zarr") for name in "ab")
    assert open_expression(tmp_path / "a.zarr").content_hash() == open_expression(tmp_path / "b.zarr").content_hash()
    pd.testing.assert_frame_equal(first.obs, second.obs)
    np.testing.assert_array_equal(first.layers["counts"].toarray(), second.layers["counts"].toarray())


def test_counts_beside_the_values_have_entries_of_their_own(small: None, tmp_path: Path) -> None:
    cells = some_counts()
    counts = cells.X.copy()
    cells.X = cells.X.log1p()
    cells.X.data[::3] = 0
    cells.X.eliminate_zeros()
    cells.layers["counts"] = counts
    cells.write_h5ad(tmp_path / "m.h5ad")
    summary = ingest(tmp_path / "m.h5ad", tmp_path / "e.zarr", compute=HERE, min_cells=30)
    store = ad.read_zarr(tmp_path / "e.zarr")
    kept = cells[store.obs_names, store.var_names]
    assert store.n_vars < 85
    np.testing.assert_array_equal(store.X.toarray(), kept.X.toarray())
    np.testing.assert_array_equal(store.layers["counts"].toarray(), kept.layers["counts"].toarray())
    assert (summary.preset, summary.counts_kept) == ("none", True)


def test_counts_that_are_none_are_left_out_and_said(tmp_path: Path) -> None:
    cells = some_counts()
    cells.layers["counts"] = cells.X * 0.5
    cells.X = cells.X.log1p()
    summary = ingest(cells, tmp_path / "e.zarr")
    assert not summary.counts_kept
    assert "no whole numbers" in " ".join(summary.notes)
    assert "counts" not in ad.read_zarr(tmp_path / "e.zarr").layers


def test_an_assumed_orientation_is_said(tmp_path: Path) -> None:
    pd.DataFrame(COUNTS, index=list("abcd"), columns=list("wxyz")).to_csv(tmp_path / "m.csv")
    assert "assumed" in "\n".join(ingest(tmp_path / "m.csv", tmp_path / "e.zarr").lines())


def test_odd_annotations_are_kept(tmp_path: Path) -> None:
    cells = adata()
    cells.obs["nullable text"] = pd.array(["a", None, "c", "d"], dtype="string")
    cells.obs["mixed"] = np.array(["a", None, 3, "d"], dtype=object)
    cells.obs["nullable flag"] = pd.array([True, None, False, True], dtype="boolean")
    cells.obs["total_counts"] = 7
    ingest(cells, tmp_path / "e.zarr")
    obs = open_expression(tmp_path / "e.zarr").obs()
    named = {"batch", "nullable text", "mixed", "nullable flag", "total_counts", "n_genes_by_counts"}
    assert set(obs) == named
    assert list(obs["total_counts"]) == [7, 7, 7]  # the source's own


# ── which cells and genes ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_choice_of_cells(h5ad: Path, small: None, tmp_path: Path) -> None:
    condition = "cell_type in ['dendritic', 'B cell'] and depth > 20"
    summary = ingest(h5ad, tmp_path / "e.zarr", compute=HERE, cells=condition)
    store, cells = ad.read_zarr(tmp_path / "e.zarr"), some_counts()
    expected = reference(cells[cells.obs.cell_type.isin(["dendritic", "B cell"]) & (cells.obs.depth > 20)].copy())
    assert list(store.obs_names) == list(expected.obs_names)
    np.testing.assert_array_equal(store.X.toarray(), expected.X.toarray())
    assert f"{expected.n_obs} of 230 cells meet {condition}" in summary.notes


def test_a_list_of_genes_is_cut_out_after_normalising(h5ad: Path, small: None, tmp_path: Path) -> None:
    (tmp_path / "genes.txt").write_text("GENE10\nMT-ND2\nGENE40\nNOTHERE\n")
    summary = ingest(h5ad, tmp_path / "e.zarr", compute=HERE, genes=tmp_path / "genes.txt")
    store, expected = ad.read_zarr(tmp_path / "e.zarr"), reference(some_counts())
    assert list(store.var_names) == ["MT-ND2", "GENE10", "GENE40"]
    np.testing.assert_array_equal(store.X.toarray(), expected[:, store.var_names].X.toarray())
    assert (summary.genes, summary.cells) == (3, expected.n_obs)
    assert "3 of 4 genes of genes.txt are in the matrix; not in it: NOTHERE" in summary.notes


@pytest.mark.parametrize("compute", [HERE, Compute("threads", workers=2)])
def test_highly_variable_genes_are_scanpys(compute: Compute, h5ad: Path, small: None, tmp_path: Path) -> None:
    expected = reference(some_counts())
    sc.pp.highly_variable_genes(expected, n_top_genes=20, flavor="seurat")
    # Two genes alone in a bin of means are tied at 0.7071, and rounding decides between such pairs.
    n = int((expected.var["dispersions_norm"] > 0.75).sum())
    assert n > 5
    sc.pp.highly_variable_genes(expected, n_top_genes=n, flavor="seurat")
    ingest(h5ad, tmp_path / "e.zarr", compute=compute, highly_variable=n)
    chosen = expected[:, expected.var["highly_variable"]]
    store = ad.read_zarr(tmp_path / "e.zarr")
    assert list(store.var_names) == list(chosen.var_names)
    np.testing.assert_array_equal(store.X.toarray(), chosen.X.toarray())


def test_listed_genes_beside_the_variable_ones(h5ad: Path, tmp_path: Path) -> None:
    ingest(h5ad, tmp_path / "some.zarr", highly_variable=10)
    variable = set(ad.read_zarr(tmp_path / "some.zarr").var_names)
    other = [name for name in reference(some_counts()).var_names if name not in variable][:3]
    (tmp_path / "genes.txt").write_text("\n".join(other))
    ingest(h5ad, tmp_path / "more.zarr", highly_variable=10, genes=tmp_path / "genes.txt")
    assert set(ad.read_zarr(tmp_path / "more.zarr").var_names) == variable | set(other)


def test_a_gene_map_gives_symbols(tmp_path: Path) -> None:
    cells = adata()
    del cells.var["feature_name"]
    (tmp_path / "map.tsv").write_text("symbol\tid\nTSPAN6\tENSG00000000003\nDPM1\tENSG00000000419\nX\tENSG1\n")
    summary = ingest(cells, tmp_path / "e.zarr", gene_map=tmp_path / "map.tsv")
    assert list(ad.read_zarr(tmp_path / "e.zarr").var["symbol"]) == ["TSPAN6", "", "DPM1"]
    assert "map.tsv gives 2 of the 4 genes a symbol" in summary.notes


def test_cells_of_one_name_are_told_apart_and_said(tmp_path: Path) -> None:
    cells = adata()
    cells.obs_names = ["A", "B", "A", "C"]
    with pytest.warns(UserWarning, match="not unique"):
        cells.copy()
    pd.DataFrame(COUNTS[:3], index=["A", "B", "A"], columns=GENES).to_csv(tmp_path / "m.csv")
    summary = ingest(tmp_path / "m.csv", tmp_path / "e.zarr")
    assert list(ad.read_zarr(tmp_path / "e.zarr").obs_names) == ["A", "B", "A-1"]
    assert summary.cells == 3


# ── whatever computes it ─────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_write_the_same_bytes(h5ad: Path, small: None, tmp_path: Path) -> None:
    ingest(h5ad, tmp_path / "here.zarr", compute=HERE, min_cells=30)
    ingest(h5ad, tmp_path / "there.zarr", compute=Compute("threads", workers=2), min_cells=30)
    assert files(tmp_path / "here.zarr") == files(tmp_path / "there.zarr")


def test_progress_and_usage(h5ad: Path, small: None, tmp_path: Path, stages: Any) -> None:
    usage = Usage()
    ingest(h5ad, tmp_path / "e.zarr", compute=HERE, session=Session(progress=stages, usage=usage))
    entries = ad.read_zarr(tmp_path / "e.zarr").X.nnz
    written = {"reading cells": [230, 230], "writing entries": [entries, entries]}
    assert stages.seen == {"looking at matrix": [0, 0], **written}
    assert usage.peak > 0


def test_a_dry_run_tells_and_writes_nothing(h5ad: Path, tmp_path: Path) -> None:
    said: list[str] = []
    session = Session(say=lambda *lines: said.extend(lines))
    summary = ingest(h5ad, tmp_path / "new" / "e.zarr", dry_run=True, session=session)
    assert said == summary.lines()
    assert (summary.cells, summary.genes) == reference(some_counts()).shape
    assert list(tmp_path.iterdir()) == []


def test_a_worker_with_too_little_memory_is_refused(h5ad: Path, tmp_path: Path, refuses: Any) -> None:
    with refuses("--memory-limit", "ingesting a block of cells"):
        ingest(h5ad, tmp_path / "e.zarr", compute=Compute("synchronous", memory_limit="300MB"))
    assert list(tmp_path.iterdir()) == []


def test_overwriting_replaces_the_store(tmp_path: Path) -> None:
    ingest(adata(), tmp_path / "e.zarr")
    ingest(adata(), tmp_path / "e.zarr", preset="none", overwrite=True)
    assert open_expression(tmp_path / "e.zarr").rows(0, 1).toarray().max() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["e.zarr"]


# ── interrupted ──────────────────────────────────────────────────────────────────────────────────────────────────────


def failing(function: Callable[..., Any], error: BaseException, after: int) -> Callable[..., Any]:
    """A function that fails from the call `after` on."""
    calls = iter(range(10_000))

    def fail(*arguments: Any) -> Any:
        if next(calls) >= after:
            raise error
        return function(*arguments)

    return fail


STEPS = {
    "scan": ("pairscape.pipeline.matrix.scan.scan", "scan0"),
    "write": ("pairscape.pipeline.matrix.write.write_receipted", "receipts"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "No space left on device"), JobError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_what_is_finished_is_kept(
    step: str, error: BaseException, raised: type[BaseException], h5ad: Path, small: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A full disk or an interrupt costs the block under way; the rest ends as if nothing had happened."""
    place, name = STEPS[step]
    whole, options = tmp_path / "whole.zarr", {"compute": HERE, "min_cells": 30}
    ingest(h5ad, whole, **options)
    original = sys.modules[place.rpartition(".")[0]].__dict__[place.rpartition(".")[2]]
    monkeypatch.setattr(place, failing(original, error, 3))
    with pytest.raises(raised) as caught:
        ingest(h5ad, tmp_path / "e.zarr", **options)
    if raised is JobError:
        assert "No space left" in str(caught.value)
        assert "what is finished is kept" in str(caught.value)
    assert not (tmp_path / "e.zarr").exists()
    left = tmp_path / ".e.zarr.wip"
    assert len(list((left / name).iterdir())) >= (2 if step == "scan" else 3)
    done = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in left.glob("store/*/data/c/*")}
    monkeypatch.setattr(place, original)
    ingest(h5ad, tmp_path / "e.zarr", **options)
    assert files(tmp_path / "e.zarr") == files(whole)
    kept = [tmp_path / "e.zarr" / path.relative_to(left / "store") for path in done]
    assert [(p.stat().st_ino, p.stat().st_mtime_ns) for p in kept] == list(done.values())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.zarr", "whole.zarr"]


def test_another_source_or_other_choices_begin_anew(
    h5ad: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "m.h5ad"
    source.write_bytes(h5ad.read_bytes())
    monkeypatch.setattr(write, "write_receipted", failing(write_receipted, KeyboardInterrupt(), 3))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ingest(source, tmp_path / "e.zarr", compute=HERE)
    monkeypatch.setattr(write, "write_receipted", write_receipted)
    some_counts(seed=1).write_h5ad(source)
    ingest(source, tmp_path / "e.zarr")
    np.testing.assert_array_equal(
        ad.read_zarr(tmp_path / "e.zarr").X.toarray(), reference(some_counts(seed=1)).X.toarray()
    )


def test_a_mistake_in_the_command_costs_nothing_that_is_finished(
    h5ad: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "write_receipted", failing(write_receipted, KeyboardInterrupt(), 3))
    with pytest.raises(KeyboardInterrupt):
        ingest(h5ad, tmp_path / "e.zarr", compute=HERE)
    monkeypatch.setattr(write, "write_receipted", write_receipted)
    left = files(tmp_path / ".e.zarr.wip")
    with pytest.raises(InputError):
        ingest(h5ad, tmp_path / "e.zarr", compute=HERE, cells="no_column > 3")
    with pytest.raises(InputError):
        ingest(h5ad, tmp_path / "e.zarr", compute=Compute("synchronous", memory_limit="300MB"))
    assert files(tmp_path / ".e.zarr.wip") == left


def test_a_damaged_shard_is_written_again(
    h5ad: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(h5ad, tmp_path / "whole.zarr", compute=HERE)
    monkeypatch.setattr(write, "write_receipted", failing(write_receipted, KeyboardInterrupt(), 4))
    with pytest.raises(KeyboardInterrupt):
        ingest(h5ad, tmp_path / "e.zarr", compute=HERE)
    monkeypatch.setattr(write, "write_receipted", write_receipted)
    shard = tmp_path / ".e.zarr.wip" / "store" / "X" / "data" / "c" / "2"
    shard.write_bytes(shard.read_bytes()[:-9])
    (tmp_path / ".e.zarr.wip" / "receipts" / "0-3.json").write_text("{")
    ingest(h5ad, tmp_path / "e.zarr", compute=HERE)
    assert files(tmp_path / "e.zarr") == files(tmp_path / "whole.zarr")


def test_a_source_that_changes_meanwhile_is_found_out(
    h5ad: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Any
) -> None:
    original = write._read
    monkeypatch.setattr(write, "_read", lambda *arguments: original(*arguments)[::-1])
    with refuses("changed while it was read", kind=JobError):
        ingest(h5ad, tmp_path / "e.zarr", compute=HERE)


@pytest.mark.parametrize(
    ("fault", "raised"), [(OSError("disk full"), JobError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_the_old_store_survives_a_failed_overwrite(
    fault: BaseException, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(adata(), tmp_path / "e.zarr")
    before = files(tmp_path / "e.zarr")
    monkeypatch.setattr(write, "write_receipted", failing(write_receipted, fault, 0))
    with pytest.raises(raised):
        ingest(adata(), tmp_path / "e.zarr", preset="none", overwrite=True)
    assert files(tmp_path / "e.zarr") == before


KILL = """
import sys
from pairscape.pipeline.matrix import ingest, intake
if __name__ == "__main__":
    intake.BLOCK_ENTRIES, ingest.CHUNK_ENTRIES, ingest.SHARD_ENTRIES = 20_000, 512, 2048
    import pairscape
    sys.argv = ["pairscape", "ingest", *sys.argv[1:]]
    pairscape.main()
"""


@pytest.mark.cluster
def test_a_kill_loses_at_most_the_shards_under_way(tmp_path: Path) -> None:
    """A real process with two workers, killed at a random moment of the second pass; the shards are small."""
    some_counts(3000, 200).write_h5ad(tmp_path / "m.h5ad")
    (tmp_path / "small.py").write_text(KILL)
    command = [sys.executable, "small.py", "m.h5ad", "e.zarr", "--workers", "2", "--memory-limit", "2GB", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    receipts, least = tmp_path / ".e.zarr.wip" / "receipts", int(np.random.default_rng().integers(5, 40))
    while running.poll() is None and (not receipts.exists() or len(list(receipts.glob("*.json"))) < least):
        time.sleep(0.002)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it ended before it could be killed"
    left = tmp_path / ".e.zarr.wip" / "store"
    done = [path.stem.split("-")[1] for path in receipts.glob("*.json")]
    paths = [
        Path(group, part, "c", n) for n in done for group in ("X", "layers/counts") for part in ("data", "indices")
    ]
    before = [((left / path).stat().st_ino, (left / path).stat().st_mtime_ns) for path in paths]
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    store = tmp_path / "e.zarr"
    assert [((store / path).stat().st_ino, (store / path).stat().st_mtime_ns) for path in paths] == before
    subprocess.run(
        [*command[:3], "whole.zarr", "--scheduler", "synchronous"], cwd=tmp_path, env=environment, check=True
    )
    assert files(store) == files(tmp_path / "whole.zarr")
    assert len(list((store / "X" / "data" / "c").iterdir())) > len(done) >= least
    assert not (tmp_path / ".e.zarr.wip").exists()


# ── refusals: the table of bad inputs is in tests/test_bad_inputs.py ─────────────────────────────────────────────────


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
