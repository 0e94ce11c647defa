"""A simulated atlas on disk: any scheduler and any shards give the same store, and a failure gives none."""

import hashlib
import os

import anndata
import numpy as np
import pytest
import scanpy
import zarr

from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.datasets import simulate as module
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.datasets.simulate import Piece, ShardLayout, simulate_atlas, write_piece
from pairscape.pipeline.datasets.synthetic import cell_counts
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Compute
from typed import run_command

ATLAS = Atlas(250, 120, 0.1, types=4, seed=3)


def files(store):
    """Hash of every file of a store, by name."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def small(monkeypatch):
    """Many shards, chunks and blocks at little cost, in this process: a cell's entries lie on both sides of a cut."""
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 64)
    monkeypatch.setattr(module, "SHARD_ENTRIES", 256)
    monkeypatch.setattr(module, "BLOCK_CELLS", 37)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The atlas in one shard, as made in this process."""
    path = tmp_path_factory.mktemp("atlas") / "atlas.zarr"
    simulate_atlas(ATLAS, path, Session())
    return path


def test_anndata_reads_it_and_scanpy_agrees(plain):
    atlas = anndata.read_zarr(plain)
    assert atlas.shape == (250, 120)
    for matrix in (atlas.X, atlas.layers["counts"]):
        assert (matrix.format, matrix.dtype, matrix.has_canonical_format) == ("csr", np.float32, True)
    counts = anndata.AnnData(atlas.layers["counts"].copy())
    scanpy.pp.normalize_total(counts, target_sum=1e4)
    scanpy.pp.log1p(counts)
    np.testing.assert_array_equal(counts.X.indices, atlas.X.indices)
    np.testing.assert_allclose(counts.X.data, atlas.X.data, rtol=1e-5)
    assert atlas.X.nnz / 250 / 120 == pytest.approx(0.1, rel=0.05)


def test_what_was_planted_is_written(plain):
    atlas = anndata.read_zarr(plain)
    assert list(atlas.obs["cell_type"].cat.categories) == ["type 1", "type 2", "type 3", "type 4"]
    assert atlas.obs["cell_type"].value_counts().min() > 0
    assert set(atlas.var["marks"].dropna()) == set(atlas.obs["cell_type"])
    assert atlas.var["module"].value_counts().min() >= 4
    assert not (atlas.var["marks"].notna() & atlas.var["module"].notna()).any()
    assert (atlas.obs_names[0], atlas.var_names[-1]) == ("cell000", "GENE119")
    assert atlas.uns["pairscape"]["simulated"] == {
        "cells": 250, "genes": 120, "density": 0.1, "types": 4, "seed": 3,
    }  # fmt: skip


def test_the_encoding_is_anndatas(plain):
    root = zarr.open_group(str(plain), mode="r")
    assert root.metadata.zarr_format == 3
    for name in ("X", "layers/counts"):
        attributes = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [250, 120]}
        assert dict(root[name].attrs) == attributes
        assert {part: root[name][part].dtype.name for part in root[name]} == {
            "data": "float32", "indices": "int32", "indptr": "int64",
        }  # fmt: skip


def test_cuts_go_through_cells_and_change_nothing(small, plain, tmp_path, silent):
    done = simulate_atlas(ATLAS, tmp_path / "a.zarr", Session())
    assert len(list((tmp_path / "a.zarr" / "X" / "data" / "c").iterdir())) > 10
    indptr = zarr.open_array(tmp_path / "a.zarr", path="X/indptr", mode="r")[:]
    assert not set(range(256, done.entries, 256)) <= set(indptr.tolist())
    for key in ("X", "layers/counts"):
        one, many = (zarr.open_group(path, path=key, mode="r") for path in (plain, tmp_path / "a.zarr"))
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(one[part][:], many[part][:])
    assert open_expression(plain).content_hash() == open_expression(tmp_path / "a.zarr").content_hash()


def test_progress_and_the_outcome(small, tmp_path, stages):
    usage = Usage()
    done = simulate_atlas(ATLAS, tmp_path / "new" / "a.zarr", Session(progress=stages, usage=usage))
    entries = anndata.read_zarr(tmp_path / "new" / "a.zarr").X.nnz
    assert (done.cells, done.genes, done.entries) == (250, 120, entries)
    assert stages.seen == {"counting entries": [250, 250], "writing entries": [entries, entries]}
    assert done.size == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert usage.peak > 0
    assert done.line().startswith(f"250 cells × 120 genes, {entries:,} values above zero ({entries / 30_000:.2%}), ")


def test_threads_write_the_same_bytes(plain, tmp_path, silent):
    with open_client(Compute("threads", workers=2)) as client:
        simulate_atlas(ATLAS, tmp_path / "a.zarr", Session(client))
    assert files(tmp_path / "a.zarr") == files(plain)


@pytest.mark.cluster
def test_processes_write_the_same_bytes(small, tmp_path, silent):
    """Many shards, also where the worker has not heard of our small ones: the layout travels with the tasks."""
    simulate_atlas(ATLAS, tmp_path / "here.zarr", Session())
    with open_client(Compute("local", workers=2)) as client:
        simulate_atlas(ATLAS, tmp_path / "there.zarr", Session(client))
    assert files(tmp_path / "there.zarr") == files(tmp_path / "here.zarr")


def test_without_counts(plain, tmp_path, silent):
    simulate_atlas(ATLAS, tmp_path / "a.zarr", Session(), counts=False)
    assert "counts" not in anndata.read_zarr(tmp_path / "a.zarr").layers
    assert open_expression(tmp_path / "a.zarr").content_hash() == open_expression(plain).content_hash()


def test_a_last_shard_that_is_exactly_full(tmp_path, monkeypatch, silent):
    entries = simulate_atlas(ATLAS, tmp_path / "first.zarr", Session()).entries
    monkeypatch.setattr(module, "CHUNK_ENTRIES", entries)
    monkeypatch.setattr(module, "SHARD_ENTRIES", entries)
    simulate_atlas(ATLAS, tmp_path / "a.zarr", Session())
    assert [p.name for p in (tmp_path / "a.zarr" / "X" / "data" / "c").iterdir()] == ["0"]
    assert open_expression(tmp_path / "a.zarr").rows(249, 250).nnz > 0


def test_the_smallest_atlas(tmp_path, silent):
    """Silent genes are left in: the shape is what was asked for."""
    simulate_atlas(Atlas(2, 2, 0.9, types=2), tmp_path / "a.zarr", Session())
    assert open_expression(tmp_path / "a.zarr").rows(0, 2).shape == (2, 2)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def broken(error, after):
    """`cell_counts` that fails from the call `after` on."""
    calls = iter(range(10_000))

    def fail(*arguments):
        if next(calls) >= after:
            raise error
        return cell_counts(*arguments)

    return fail


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError("disk full"), JobError),
        (ValueError("cell 4 expresses another number"), JobError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_nothing_is_left_of_a_failure(error, raised, small, tmp_path, monkeypatch, silent):
    monkeypatch.setattr(module, "cell_counts", broken(error, 3))
    with pytest.raises(raised):
        simulate_atlas(ATLAS, tmp_path / "a.zarr", Session())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_task_is_one_line_and_leaves_the_old_store(small, tmp_path, monkeypatch, silent, refuses):
    simulate_atlas(ATLAS, tmp_path / "a.zarr", Session())
    before = files(tmp_path / "a.zarr")
    monkeypatch.setattr(module, "cell_counts", broken(OSError("disk full\nreally"), 3))
    expected = refuses("nothing of it is kept", "OSError: disk full;", kind=JobError)
    with open_client(Compute("threads", workers=2)) as client, expected:
        simulate_atlas(ATLAS, tmp_path / "a.zarr", Session(client), overwrite=True)
    assert files(tmp_path / "a.zarr") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_worker_that_draws_other_cells_is_found_out(plain, refuses):
    layout = ShardLayout(module.CHUNK_ENTRIES, module.CHUNK_ENTRIES, ("X",))
    with refuses("another number of genes", "same versions", kind=JobError):
        write_piece(str(plain), Atlas(250, 120, 0.1, types=4, seed=4), 12.0, layout, Piece(0, 0, 250))


def test_an_existing_target_is_refused(plain, silent, refuses):
    before = files(plain)
    with refuses("exists", "--overwrite"):
        simulate_atlas(ATLAS, plain, Session())
    assert files(plain) == before


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = {"--cells": "60", "--genes": "40", "--density": "0.2", "--scheduler": "synchronous"}


def simulate(target, **changes):
    options = {**GOOD, **{f"--{name.replace('_', '-')}": value for name, value in changes.items()}}
    return run_command("simulate", target, *[word for pair in options.items() for word in pair if word != ""])


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert simulate("a.zarr", no_counts="", types="3", seed="5") == 0
    line = capsys.readouterr().out
    assert line.startswith("wrote a.zarr: 60 cells × 40 genes, ")
    assert line.count("\n") == 1
    atlas = anndata.read_zarr("a.zarr")
    assert (atlas.shape, "counts" in atlas.layers, atlas.obs["cell_type"].nunique()) == ((60, 40), False, 3)
    assert simulate("a.zarr", overwrite="", quiet="") == 0
    assert capsys.readouterr().out == ""
    assert "counts" in anndata.read_zarr("a.zarr").layers
    assert os.listdir() == ["a.zarr"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        ("a.h5ad", {}, ["a.h5ad does not end in .zarr"]),
        ("old.zarr", {}, ["old.zarr exists", "--overwrite"]),
        ("old.zarr", {"overwrite": ""}, ["old.zarr is not a Zarr store"]),
        ("a.zarr", {"cells": "1"}, ["cells is 1"]),
        ("a.zarr", {"cells": "many"}, ["--cells", "many"]),
        ("a.zarr", {"genes": "1"}, ["genes is 1"]),
        ("a.zarr", {"density": "1"}, ["density is 1:"]),
        ("a.zarr", {"density": "5%"}, ["--density", "5%"]),
        ("a.zarr", {"density": "0.02"}, ["density is 0.02 of 40 genes"]),
        ("a.zarr", {"types": "61"}, ["types is 61"]),
        ("a.zarr", {"seed": "-1"}, ["seed is -1"]),
        ("a.zarr", {"workers": "0"}, ["workers is 0"]),
        ("a.zarr", {"scheduler": "slurmish"}, ["'slurmish'"]),
        ("a.zarr", {"sigma": "1"}, ["--sigma"]),
    ],
)
def test_the_command_refuses(target, changes, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.zarr").mkdir()
    (tmp_path / "old.zarr" / "thesis.txt").write_text("precious")
    assert simulate(target, **changes) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert [word for word in words if word not in err] == []
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["old.zarr", "old.zarr/thesis.txt"]


@pytest.mark.parametrize("missing", ["--cells", "--genes", "--density"])
def test_the_command_needs_a_shape_and_a_density(missing, tmp_path, capsys):
    options = [word for pair in GOOD.items() if pair[0] != missing for word in pair]
    assert run_command("simulate", tmp_path / "a.zarr", *options) == 2
    assert missing in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_simulated_atlas_goes_through_the_next_command_silent_genes_and_all(tmp_path):
    assert simulate(tmp_path / "a.zarr", density="0.04") == 0
    assert (anndata.read_zarr(tmp_path / "a.zarr").X.sum(0) == 0).any()
    stores = tmp_path / "a.zarr", tmp_path / "images.zarr"
    assert run_command("heatmaps", *stores, "--all-pairs", "--scheduler", "synchronous", "--quiet") == 0
    assert open_images(stores[1]).counts(slice(0, 780)).sum() == 780 * 60
